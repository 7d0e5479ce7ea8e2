"""Process that cancels the jobs of a run whose driver is gone."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

from pyama_dask.launch.queue_commands import cancel_command, environment, listing_of
from pyama_dask.launch.queue_kinds import KINDS

CANCELLER = """
trap '' INT TERM HUP
said() { printf '%s\n' "$1" | grep -Eq "$2"; }
jobs=
while read -r job; do
  case $job in
    -*) jobs=$(printf '%s\n' $jobs | grep -vx "${job#-}") ;;
    *) jobs="$jobs $job" ;;
  esac
done
[ -n "$(echo $jobs)" ] || exit 0
lines="^ *($(echo $jobs | tr ' ' '|'))([^0-9]|$)"
for pause in 2 5 15 30 60 120; do
  CANCEL $jobs </dev/null >/dev/null 2>&1 && exit 0
  left=$(LIST 2>&1 </dev/null) || said "$left" NONE || left=unknown
  [ "$left" = unknown ] || said "$left" "$lines" || exit 0
  sleep $pause
done
"""
"""Reads numbers of jobs, with a minus of those that are gone, until its input ends, which it does when the driver ends
in any way; then cancels them.

Where not all could be cancelled, the others may have ended; that is so if the queue lists none of them any more.
"""


def _canceller(kind: str) -> Any:
    """Process that ends a run's jobs when this process ends, even if it is killed."""
    words = {"CANCEL": cancel_command(kind), "LIST": listing_of(kind), "NONE": [KINDS[kind].none]}
    script = CANCELLER
    for name, command in words.items():
        script = script.replace(name, shlex.join(command))
    return subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        text=True, start_new_session=True, cwd=Path("/"), env=environment(),
    )  # fmt: skip
