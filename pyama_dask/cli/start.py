"""Entry point of the program: imports little, so that Ctrl-C ends it quietly from the first moment on."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType

from pyama_dask.cli.signals import end_in_time
from pyama_dask.files.streams import open_closed

INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells."""


OBJECTS = 100_000
"""New objects after which Python looks for garbage; with its usual 700, it does so all the time during imports."""


def program() -> None:
    """Run the command line as a program, whose exit status Ctrl-C no longer changes while Python ends."""
    gc.set_threshold(OBJECTS)
    try:
        main()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> None:
    """Run the command line in this process; Ctrl-C ends it with status 130 and no traceback."""
    open_closed()
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        from pyama_dask.cli import commands

        commands.main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt(_number: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`; end at once during an import, where packages would report it as an import error."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(INTERRUPTED)
        frame = frame.f_back
    end_in_time([number for number in (1, 2) if os.isatty(number)], "Stopped at once")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise KeyboardInterrupt
