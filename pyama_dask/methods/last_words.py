"""Message about a function that kills this process when it is tried, or takes more memory than the system has."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

_WAITS = 'read -r end || printf "%s\\n" "$1" >&2'
"""Shell script that prints its argument if no line comes before its input is closed."""


@contextmanager
def named_if_killed(what: str) -> Iterator[None]:
    """Inside the block, a second process waits, and prints a message if this one is killed, which cannot do so itself.

    Parameters
    ----------
    what
        Where in the config the function is named, and its name.
    """
    message = (
        f"pyama-dask: {what} was being tried on synthetic data when the program was killed. Fix: if you have not "
        "killed it, see that the function sends no signals and takes less memory"
    )
    with ExitStack() as stack:
        with suppress(OSError):  # without a shell or a free process, there is no message
            waiting = subprocess.Popen(
                ["sh", "-c", _WAITS, "sh", message], stdin=subprocess.PIPE, bufsize=0, start_new_session=True
            )
            stack.enter_context(waiting)
            stack.callback(_let_go, waiting)
        yield


def _let_go(waiting: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):  # it was killed
        if waiting.stdin:
            waiting.stdin.write(b"\n")
