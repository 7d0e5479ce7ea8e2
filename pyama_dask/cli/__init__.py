"""The command line: parses, calls, and says what came of it."""

from pyama_dask.cli.signals import cancelled_by_signals as cancelled_by_signals
from pyama_dask.cli.start import main as main
