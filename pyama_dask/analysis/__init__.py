"""Analysis of results: traces, merging, quality, fits, figures, export."""
