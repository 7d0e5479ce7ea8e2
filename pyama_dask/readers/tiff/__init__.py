"""TIFF files: stacks, OME-TIFF, and folders of single images."""
