"""Results wherever they are: traces, merging, quality, fits, figures, export."""
