"""A process that has used Zarr ends without a word, however busy the machine is."""

import subprocess
import sys

BUSY = """
import time
import zarr
from pyama_dask.files import zarr_thread
zarr.zeros(3)
zarr_thread.sync.loop[0].call_soon_threadsafe(time.sleep, 0.5)
"""


def test_a_process_waits_for_the_thread_of_zarr():
    ended = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
