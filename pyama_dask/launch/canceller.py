"""Cancelling the jobs of a run, however it ends: by a subprocess that outlives it, or by the next run."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyama_dask.launch.queue_commands import cancel_command, cancel_jobs, environment, listing_of
from pyama_dask.launch.queue_kinds import KINDS

PAUSES = (2, 5, 15, 30, 60, 120)
"""Seconds after attempts to cancel jobs that the queue has not heard."""
NUMBERS_KEPT = 7 * 86400.0
"""Seconds after which a queue may have given the numbers of its jobs to others."""
MOST_LEFTOVER = 1000
"""Jobs of the run before that are cancelled at most, the newest."""
SCRIPT = """
trap '' INT TERM HUP
matches() { printf '%s\n' "$1" | grep -Eq "$2"; }
jobs=
while read -r job; do
  case $job in
    -*) jobs=$(printf '%s\n' $jobs | grep -vx "${job#-}") ;;
    *) jobs="$jobs $job" ;;
  esac
done
[ -n "$(echo $jobs)" ] || exit 0
lines="^ *($(echo $jobs | tr ' ' '|'))([^0-9]|$)"
for pause in PAUSES; do
  CANCEL $jobs </dev/null >/dev/null 2>&1 && exit 0
  left=$(LIST 2>&1 </dev/null) || matches "$left" NONE || left=unknown
  [ "$left" = unknown ] || matches "$left" "$lines" || exit 0
  sleep $pause
done
"""
"""Shell script that reads numbers of jobs, with a minus if they are gone, until its input ends, and cancels the rest.

Its input ends with the run, even if that is killed. If not all jobs can be cancelled, those may have ended meanwhile:
then the queue no longer lists them.
"""


class Canceller:
    """Subprocess that cancels the jobs of a run when the run ends, even if it is killed.

    Parameters
    ----------
    kind
        Kind of queue.
    numbers
        File for the numbers of the jobs: if the whole machine goes down, the next run cancels them.
    pauses
        Seconds after attempts that have failed.
    """

    def __init__(self, kind: str, numbers: Path, pauses: Sequence[float] = PAUSES) -> None:
        self._kind, self.numbers, self._pauses = kind, numbers, pauses
        self._jobs: list[str] = []
        self.process = self._start()

    def _start(self) -> Any:
        words = {
            "CANCEL": cancel_command(self._kind), "LIST": listing_of(self._kind), "NONE": [KINDS[self._kind].none],
            "PAUSES": [f"{pause:g}" for pause in self._pauses],
        }  # fmt: skip
        script = SCRIPT
        for name, command in words.items():
            script = script.replace(name, shlex.join(command))
        return subprocess.Popen(
            ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True, cwd=Path("/"), env=environment(),
        )  # fmt: skip

    def cancel_leftover(self) -> None:
        """Cancel jobs that the run before has left in the queue; the lock of the output proves that it is over.

        They may be in several files, of which this one's name is the shortest.
        """
        for numbers in self.numbers.parent.glob(f"{self.numbers.stem}*{self.numbers.suffix}"):
            with suppress(OSError):
                if time.time() - numbers.stat().st_mtime < NUMBERS_KEPT:
                    cancel_jobs(self._kind, numbers.read_text().split()[-MOST_LEFTOVER:])
                numbers.unlink()

    def add(self, number: str) -> None:
        """Cancel a job at the end of the run; at once if it is over."""
        self._jobs.append(number)
        if not self._write([number]):
            cancel_jobs(self._kind, [number])
        with suppress(OSError), self.numbers.open("a") as file:
            file.write(f"{number}\n")

    def remove(self, number: str) -> None:
        """Forget a job that is gone."""
        self._jobs.remove(number)
        self._write([f"-{number}"])

    def close(self) -> None:
        """Have all jobs cancelled."""
        with suppress(ValueError, OSError):
            if self.process.poll() is not None and not self.process.stdin.closed:
                self._write([])
            self.process.stdin.close()

    def wait(self, timeout: float) -> None:
        """Wait until the queue has cancelled all jobs, for some seconds at most."""
        with suppress(subprocess.TimeoutExpired):
            if self.process.wait(timeout) == 0:
                self.numbers.unlink(missing_ok=True)

    def _write(self, lines: Sequence[str]) -> bool:
        """Write to the subprocess, or to a new one with all jobs if it has ended; False if it cannot take them."""
        if self.process.poll() is not None and not self.process.stdin.closed:
            with suppress(OSError):
                self.process.stdin.close()
            self.process, lines = self._start(), self._jobs
        try:
            self.process.stdin.write("".join(f"{line}\n" for line in lines))
            self.process.stdin.flush()
        except (OSError, ValueError):  # it has ended just now, or the run was closed while the queue was busy
            return False
        return True
