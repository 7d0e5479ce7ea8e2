"""Models of traces and their fits: arrays in, arrays out; no files, no scheduler."""
