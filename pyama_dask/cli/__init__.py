"""Command line: parse arguments, call the package, print the result."""

from pyama_dask.cli.signals import cancelled_by_signals as cancelled_by_signals
from pyama_dask.cli.start import main as main
from pyama_dask.cli.start import program as program
