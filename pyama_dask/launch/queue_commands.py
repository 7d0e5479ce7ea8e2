"""Commands of a queue, which submit, list and cancel jobs."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import ConfigError, QueueError
from pyama_dask.files.threads import Threads
from pyama_dask.launch.job_scripts import job_class_of, job_script
from pyama_dask.launch.queue_kinds import ANSWERS, KINDS, NEVER, Queue, State
from pyama_dask.launch.script_checks import check_folder
from pyama_dask.launch.settings import user_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """Entry of a job in the list of a queue."""

    state: State
    reason: str = ""
    """Reason why it waits; '' if the queue gives none."""


def submit(job: Any) -> str:
    """Submit a job.

    Returns
    -------
    Number of the job, as the queue lists it.

    Raises
    ------
    QueueError
        If the queue rejects it.
    """
    # its `_call` does not end a command that hangs, which may then submit an unknown job
    job._call = _submitted
    try:
        with Threads(1, "queue") as thread:  # this thread may have an event loop, as in a notebook
            thread.submit(asyncio.run, job.start()).result()
    except ValueError as error:  # dask-jobqueue finds no number in the answer
        raise QueueError(f"{job.submit_command.strip()}: {' '.join(str(error).split())}", passing=False) from error
    return str(job.job_id).partition(".")[0]  # HTCondor: CLUSTER.PROCESS


async def _submitted(command: list[str], *, shell: bool = False) -> str:
    """Output of a command that submits; for LSF it is a shell line that discards its errors."""
    words = ["/bin/sh", "-c", f"exec {command[0].removesuffix(' 2> /dev/null')}"] if shell else command
    name = command[0].partition("<")[0]
    done = _run_command(words, name)
    if done.returncode:
        message = one_line(done.stderr) or one_line(done.stdout) or f"status {done.returncode}, without a message"
        raise QueueError(f"{name}: {message.removeprefix(f'{name}: ')}", passing=is_passing(message))
    return done.stdout


def one_line(text: str) -> str:
    """Join the lines of a message."""
    return " ".join(text.split())


def is_passing(message: str) -> bool:
    """True if a queue rejects a job for now only: its server does not answer, or the user has too many jobs."""
    if limit := re.search(r"(QOS|Assoc)\w*Max\w*", message):  # the hint that follows always names the submit limit
        return "Submit" in limit[0]
    return bool(
        re.search(
            r"(unable|failed|cannot|can't|could not) (to )?(connect|contact|send)|contact failed|timed out|temporar|"
            r"try again|not respond|no response|connection (refused|failure|reset)|no route|communication|"
            r"zero bytes|got (send|select|read) error|shutting down|"
            r"submit limit|SubmitJob|(per-user|pending job|job slot|job count|number of jobs) limit|would exceed|"
            r"too many|maximum number|jobs are allowed|limit .*reached|reached .*limit",
            message, re.IGNORECASE,
        )
    )  # fmt: skip


def listing_of(kind: str) -> list[str]:
    """Command that lists the jobs of the user."""
    return [word.replace("{user}", user_name()) for word in KINDS[kind].listing]


def listed(kind: str) -> dict[str, Listed]:
    """List the unfinished jobs of the user, by number.

    Raises
    ------
    QueueError
        If the queue does not answer, so that the state of its jobs is unknown.
    """
    queue = KINDS[kind]
    found = {}
    for line in _output_of(listing_of(kind), queue.none).splitlines():
        match = re.fullmatch(queue.line, line.strip())
        if match is not None and not re.fullmatch(queue.gone, match["state"]):
            found[match["id"]] = Listed(_state(queue, match["state"]), match.groupdict().get("reason") or "")
    return found


def _state(queue: Queue, word: str) -> State:
    if re.fullmatch(queue.stuck, word):
        return "stuck"
    return "pending" if re.fullmatch(queue.pending, word) else "running"


def more_of(kind: str, job: str) -> str:
    """Ask the queue how a job ended; '' if this queue does not know.

    Raises
    ------
    QueueError
        If it does not answer, or no longer knows the job.
    """
    queue = KINDS[kind]
    answer = _output_of([word.replace("{id}", job) for word in queue.more]) if queue.more else ""
    return " ".join(re.findall(queue.why, answer))


def _output_of(command: list[str], none: str = NEVER) -> str:
    """Output of a command of a queue."""
    done = _run_command(command, command[0])
    if done.returncode and not re.search(none, done.stdout + done.stderr):
        raise QueueError(f"{command[0]}: {one_line(done.stderr) or f'status {done.returncode}'}", passing=True)
    return done.stdout


def _run_command(command: list[str], name: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a queue, with a time limit."""
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=ANSWERS, check=False,
            stdin=subprocess.DEVNULL, env=environment(), start_new_session=True,  # Ctrl-C must not reach it
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise QueueError(f"{name} did not answer in {ANSWERS:.0f} s", passing=True) from None
    except OSError as error:
        raise QueueError(f"{name}: {error.strerror}", passing=False) from error


def environment() -> dict[str, str]:
    """Environment of the commands of a queue, without the variables that make squeue hide jobs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}


def check_queue(cluster: Cluster, output: Path) -> None:
    """Check that job scripts can be written, and that the commands of the queue are installed.

    Raises
    ------
    ConfigError
        If a setting or a command is missing.
    """
    job_script(cluster, {})
    check_folder(output.absolute())
    job_class = job_class_of(cluster.kind)
    commands = (job_class.submit_command, job_class.cancel_command, KINDS[cluster.kind].listing[0])
    for command in commands:
        if shutil.which(name := shlex.split(command)[0]) is None:
            raise ConfigError(
                f"cluster.kind: {cluster.kind} needs {name!r}, which is not on this machine. "
                "Fix: start the run where jobs are submitted, or choose another kind"
            )


def cancel_command(kind: str) -> list[str]:
    """Command that cancels jobs, to which their numbers are appended."""
    return shlex.split(job_class_of(kind).cancel_command)


def cancel_jobs(kind: str, numbers: Sequence[str]) -> None:
    """Cancel jobs, as far as the queue answers."""
    if numbers:
        with suppress(QueueError):
            _run_command([*cancel_command(kind), *numbers], "cancel")
