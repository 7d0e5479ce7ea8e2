"""Images in Zarr: OME-Zarr, and outputs of runs."""
