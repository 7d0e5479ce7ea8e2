"""Logs of jobs: which files they are, what they say, and the reasons that they give for the end of a job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

TAIL = 8
"""Lines of a log that are shown."""
READ = 2**16
"""Bytes at the end of a log that are read."""
REASONS: Mapping[str, str] = {
    "memory": r"OUT_OF_MEMORY|OutOfMemory|oom.?kill|out.of.memory handler|TERM_MEMLIMIT|"
    r"job killed: \w*mem .*exceeded|over (cgroup )?memory limit|memory usage (has )?exceeded",
    "pre-empted": r"State=PREEMPTED|DUE TO PREEMPTION|TERM_PREEMPT|Job was evicted",
    "its node failed": r"State=(NODE|BOOT)_FAIL|DUE TO NODE FAILURE",
    "walltime": r"State=(TIMEOUT|DEADLINE)|DUE TO TIME LIMIT|TERM_RUNLIMIT|job killed: walltime .*exceeded",
    "cancelled": r"State=CANCELLED|\*\*\* (JOB|STEP) .* CANCELLED AT|TERM_(OWNER|ADMIN|FORCE_\w+)|Job was aborted",
}
"""Reasons for the end of a job, and how queues word them in their answers and in logs.

The patterns must not match what workers themselves log about memory and timeouts.
"""


def read_logs(folder: Path, number: str) -> dict[str, str]:
    """Ends of the logs of a job, by file name; logs of other jobs may have similar names."""
    texts = {}
    for path in sorted(folder.glob(f"*{number}*")):
        if re.fullmatch(rf"(.*\D)?{number}(\.0)?(\.[a-z]+)?", path.name):
            with suppress(OSError), path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - READ))
                texts[path.name] = file.read().decode(errors="replace")
    return texts


def reason_in(text: str) -> str | None:
    """First of `REASONS` that a text gives; None if it gives no reason."""
    return next((reason for reason, words in REASONS.items() if re.search(words, text, re.IGNORECASE)), None)


def tail(logs: Mapping[str, str]) -> str:
    """Last lines of logs; only of those with errors, unless they are empty."""
    errors = [text for name, text in logs.items() if re.search(r"\.(err|e\d+)$", name) and text.strip()]
    lines = [line for text in errors or logs.values() for line in text.splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-TAIL:])
