"""All commands of the program."""

from pyama_dask.cli import labels, processing, results
from pyama_dask.cli.app import app, main

__all__ = ["app", "labels", "main", "processing", "results"]
