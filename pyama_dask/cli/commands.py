"""All commands of the program."""

from pyama_dask.cli import analysis, labels, preview, processing, training, view, watching
from pyama_dask.cli.app import app, main

__all__ = ["analysis", "app", "labels", "main", "preview", "processing", "training", "view", "watching"]
