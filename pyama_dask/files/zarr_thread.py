"""An orderly end of the thread in which Zarr reads and writes.

Every module that imports `zarr` imports this one: functions for the end of a process run in the reverse order of their
registration, so this one has to be registered after Zarr's.
"""

from __future__ import annotations

import atexit

from zarr.core import sync

ENDING = 30.0
"""Seconds to wait for the thread."""


@atexit.register
def end_zarr_thread() -> None:
    """Stop the event loop of Zarr and wait for its thread.

    Zarr itself waits for 0.2 s and then closes the loop even if it is running, which prints a traceback. On a busy
    machine, the thread takes longer.
    """
    loop, thread = sync.loop[0], sync.iothread[0]
    if loop is None or thread is None:
        return
    loop.call_soon_threadsafe(loop.stop)
    thread.join(ENDING)
    if not thread.is_alive():
        sync.cleanup_resources()  # now, so that whatever else still uses Zarr starts another thread
