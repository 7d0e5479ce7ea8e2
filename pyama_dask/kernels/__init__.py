"""Kernels: arrays in, arrays or tables out; no files, no scheduler."""
