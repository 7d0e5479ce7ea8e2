"""What goes wrong on purpose: bad input, damaged files, and more; `python -m chaos` counts it."""
