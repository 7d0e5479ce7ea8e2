"""Plugin for napari: opens outputs, marks cells, and corrects labels."""
