"""All commands of the program."""

from pyama_dask.cli import analysis, labels, processing, training, view
from pyama_dask.cli.app import app, main

__all__ = ["analysis", "app", "labels", "main", "processing", "training", "view"]
