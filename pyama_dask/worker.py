"""What Dask loads in every worker process that is started here, before its first task."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(_worker: Any) -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the driver: it ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
