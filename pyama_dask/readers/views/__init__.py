"""Views of a movie: stitched wells, and frames without shading."""
