"""The command line: parses, calls, and says what came of it."""

from pyama_dask.cli import processing as processing
from pyama_dask.cli import results as results
from pyama_dask.cli.app import app as app
from pyama_dask.cli.app import main as main
from pyama_dask.cli.signals import cancelled_by_signals as cancelled_by_signals
