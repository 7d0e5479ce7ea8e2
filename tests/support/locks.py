"""Locks as other runs leave them."""

import json
import os
import time

from pyama_dask.store import lock_file

ELSEWHERE = {"host": "elsewhere", "boot": "another", "namespace": "pid:[1]", "started": 5.0}
"""What the lock of a run on another host says."""


def left(path, *, ago=0.0, **changes):
    """Write the lock of another run, which it last touched some seconds ago."""
    path.write_text(json.dumps({"pid": 1234, "run": "other", "stopping": False} | changes))
    os.utime(path, (time.time() - ago,) * 2)


def here(**changes):
    """Record of a lock of this process, with some changes."""
    return lock_file.place() | {"pid": os.getpid(), "started": lock_file.started(os.getpid())} | changes
