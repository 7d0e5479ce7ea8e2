"""Training of segmentation models on annotated frames."""
