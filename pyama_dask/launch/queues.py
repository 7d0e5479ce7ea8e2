"""The queues of clusters: what a job of each is made of, through dask-jobqueue, and which jobs there are.

dask-jobqueue writes the job scripts, submits them and knows how jobs are cancelled. What it does not know is whether
a job is still there, which each queue tells in its own words.
"""

from __future__ import annotations

import asyncio
import getpass
import importlib
import inspect
import logging
import re
import shlex
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from distributed.security import Security

from pyama_dask.config import Cluster, QueueKind
from pyama_dask.errors import ConfigError, QueueError
from pyama_dask.quantities import walltime_seconds
from pyama_dask.walltime import JOB_ENDS

log = logging.getLogger(__name__)

State = Literal["pending", "running"]

ANSWERS = 60.0
"""Seconds to wait for a queue's command."""
DEATH_TIMEOUT = 60
"""Seconds after which a job gives up that finds no scheduler."""


@dataclass(frozen=True)
class Queue:
    """What is particular to one kind of queue."""

    job_class: str
    """In the module of dask-jobqueue that has its kind's name."""
    listing: tuple[str, ...]
    """Command that lists jobs; ``{user}`` is the user's name."""
    line: str
    """Regular expression of a line that it prints for a job: its ``id`` and ``state``."""
    pending: str
    """States of jobs that wait."""
    gone: str = ""
    """States of jobs that have ended, or never will begin."""
    none: str = r"(?!)"
    """What it says, as if it were an error, where there are no jobs."""
    why: tuple[str, ...] = ()
    """Command that says more of a job, ``{id}``; of an ended one, too."""
    account: str = "account"
    """Option of dask-jobqueue for `Cluster.account`."""
    walltime: Callable[[str], str] = str
    """Writes a time as the queue wants it."""
    memory: Callable[[Cluster], Mapping[str, Any]] = lambda _: {}
    """Options that make the queue keep a job's memory, where dask-jobqueue does not."""


KINDS: Mapping[QueueKind, Queue] = {
    "slurm": Queue(
        "SLURMJob",
        ("squeue", "--noheader", "--user={user}", "--format=%i %T %r"),
        r"(?P<id>\d+)\S* (?P<state>\w+)(?: (?P<reason>.+))?",
        pending="PENDING|CONFIGURING|REQUEUED|REQUEUE_HOLD|SUSPENDED",
        gone="BOOT_FAIL|CANCELLED|COMPLETED|COMPLETING|DEADLINE|FAILED|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED|TIMEOUT",
        why=("scontrol", "--oneliner", "show", "job", "{id}"),
        memory=lambda cluster: {"job_mem": f"{cluster.job_bytes // 2**20}M"},  # else it is rounded up to GiB
    ),
    "pbs": Queue(
        "PBSJob",
        ("qstat",),
        r"(?P<id>\d+)\S*\s.*\s(?P<state>[A-Z])\s+\S+",
        pending="[QWHSTU]",
        gone="[CFEX]",
    ),
    "lsf": Queue(
        "LSFJob",
        ("bjobs", "-noheader", "-u", "{user}", "-o", "jobid stat"),
        r"(?P<id>\d+)\s+(?P<state>\w+)",
        pending="PEND|PSUSP|WAIT|PROV",
        gone="DONE|EXIT|ZOMBI",
        none="No unfinished job found",
        account="project",
        walltime=lambda text: text.rpartition(":")[0],
    ),
    "sge": Queue(
        "SGEJob",
        ("qstat", "-u", "{user}"),
        r"(?P<id>\d+)\s+\S+\s+\S+\s+\S+\s+(?P<state>\w+)\s.*",
        pending=r"\w*q\w*",
        gone=r"E\w*|d\w*",
        account="project",
        memory=lambda cluster: {"resource_spec": f"h_vmem={cluster.job_bytes // cluster.cores // 2**20}M"},
    ),
    "oar": Queue(
        "OARJob",
        ("oarstat", "--user", "{user}"),
        r"(?P<id>\d+)\s.*?\b(?P<state>[A-Z])\b.*",
        pending="[WHSRL]".replace("R", ""),
        gone="[TEF]",
        account="project",
    ),
    "htcondor": Queue(
        "HTCondorJob",
        ("condor_q", "-allusers", "-constraint", 'Owner == "{user}"', "-autoformat", "ClusterId", "JobStatus"),
        r"(?P<id>\d+) (?P<state>\d)",
        pending="[157]",
        gone="[346]",
    ),
}  # fmt: skip
"""By `Cluster.kind`."""


@dataclass(frozen=True)
class Place:
    """Where the workers of a run's jobs find what they need."""

    scheduler: str
    """Address of the scheduler."""
    name: str
    """Of all jobs of the run."""
    logs: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the jobs."""
    security: Security | None = None
    """With keys in files, which the jobs can read."""


NOWHERE = Place("tls://SCHEDULER:PORT", "pyama-dask-RUN", Path("LOGS"))
"""Stands in for a scheduler that has not begun, in a job script to look at."""


def make_job(cluster: Cluster, place: Place, name: str) -> Any:
    """Make a job of dask-jobqueue, which knows its script and can be submitted.

    Parameters
    ----------
    cluster
        Part of the config, of a kind that is a queue.
    place
        Where the job's workers find the run.
    name
        Of its workers.

    Raises
    ------
    ConfigError
        If ``cluster.options`` are not dask-jobqueue's.
    """
    kind = queue_of(cluster)
    options = {**_options(cluster, kind), **cluster.options}
    extra = [str(word) for word in options.pop("worker_extra_args", [])]
    job_class = _job_class(cluster.kind)
    _check_options(cluster, job_class)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "OAR Job memory reserved", UserWarning)
        try:
            return job_class(
                scheduler=place.scheduler,
                name=name,
                **{
                    "job_name": place.name,
                    "log_directory": str(place.logs) if place is not NOWHERE else None,
                    "job_script_prologue": [*_prologue(cluster, place), *cluster.prologue],
                    "protocol": None,
                    "security": place.security,
                    "worker_extra_args": ["--memory-limit", str(cluster.worker_bytes), *extra],
                    **options,
                },
            )
        except (TypeError, ValueError, LookupError) as error:
            raise ConfigError(f"cluster: dask-jobqueue refuses a {cluster.kind} job: {error}") from error


def queue_of(cluster: Cluster) -> Queue:
    """What is particular to the queue of a config."""
    return next(queue for kind, queue in KINDS.items() if kind == cluster.kind)


def job_script(cluster: Cluster, environment: Mapping[str, str]) -> str:
    """Script of a job as it would be submitted, with names in capitals for what only a run knows."""
    place = Place(NOWHERE.scheduler, NOWHERE.name, NOWHERE.logs, environment)
    job = make_job(cluster, place, "WORKER")
    return str(job.job_script())


def _job_class(kind: str) -> type[Any]:
    found: type[Any] = getattr(importlib.import_module(f"dask_jobqueue.{kind}"), queue_of_kind(kind).job_class)
    return found


def queue_of_kind(kind: str) -> Queue:
    """What is particular to a kind of queue."""
    return next(queue for name, queue in KINDS.items() if name == kind)


def _options(cluster: Cluster, kind: Queue) -> dict[str, Any]:
    """Options of dask-jobqueue by its own names; None leaves them to its own configuration files."""
    named = {
        "queue": cluster.queue,
        kind.account: cluster.account,
        "walltime": kind.walltime(cluster.walltime) if cluster.walltime else None,
        "job_extra_directives": _directives(cluster),
    }
    if cluster.kind == "htcondor":  # of which it knows the directives only
        named = {"job_extra_directives": named["job_extra_directives"]}
    return {
        "cores": cluster.cores,
        "processes": cluster.worker_processes,
        "memory": f"{cluster.job_bytes}B",
        "interface": cluster.interface,
        "local_directory": cluster.local_directory,
        "death_timeout": DEATH_TIMEOUT,
        **kind.memory(cluster),
        **named,
    }


def _directives(cluster: Cluster) -> list[str] | dict[str, str] | None:
    """Directives as the queue takes them; those of HTCondor are ``name = value``."""
    if not cluster.directives:
        return None
    if cluster.kind == "htcondor":
        return {name.strip(): value.strip() for name, _, value in (one.partition("=") for one in cluster.directives)}
    return list(cluster.directives)


def _prologue(cluster: Cluster, place: Place) -> Iterator[str]:
    """Lines of a job before its workers: when it will end, and what they find in their environment."""
    if cluster.walltime:
        yield f"export {JOB_ENDS}=$(( $(date +%s) + {walltime_seconds(cluster.walltime)} ))"
    for name, value in place.environment.items():
        yield f"export {name}={shlex.quote(value)}"


def _check_options(cluster: Cluster, job_class: type[Any]) -> None:
    """Refuse options that dask-jobqueue does not have, which it would tell in many lines."""
    known = {
        name
        for base in job_class.__mro__
        if "__init__" in vars(base)
        for name, parameter in inspect.signature(base).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    } - {"scheduler", "name", "self"}
    for name in cluster.options:
        if name not in known:
            raise ConfigError(
                f"cluster.options.{name}: is no option of {job_class.__name__} in dask-jobqueue; those are "
                f"{', '.join(sorted(known))}"
            )


# -------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True)
class Listed:
    """A job that the queue lists."""

    state: State
    reason: str = ""
    """Why it waits, where the queue says so."""


def submit(job: Any) -> str:
    """Submit a job.

    Returns
    -------
    Its number in the queue.

    Raises
    ------
    QueueError
        If the queue does not take it.
    """
    try:
        asyncio.run(asyncio.wait_for(job.start(), ANSWERS))
    except TimeoutError:
        raise QueueError(f"{job.submit_command} has not answered for {ANSWERS:.0f} s", passing=True) from None
    except (OSError, RuntimeError, ValueError) as error:
        said = _said(str(error))
        raise QueueError(f"{job.submit_command}: {said}", passing=is_passing(said)) from error
    return str(job.job_id)


def _said(text: str) -> str:
    """What a command said when it failed, out of dask-jobqueue's message."""
    words = text.partition("stderr:\n")[2].strip() or text.strip()
    return " ".join(words.split())


def is_passing(said: str) -> bool:
    """Whether a queue's refusal is of the moment: its server does not answer, or has enough to do."""
    return bool(
        re.search(
            r"unable to contact|timed out|temporar|try again|not respond|connection refused|no route|"
            r"cannot connect|can't connect|failed to contact|communication|connection failure|"
            r"limit|too many|(?<!in)active",
            said, re.IGNORECASE,
        )
    )  # fmt: skip


def listed(kind: str) -> dict[str, Listed]:
    """Jobs of this user that wait or run, by number.

    Raises
    ------
    QueueError
        If the queue does not answer; which jobs there are is not known then.
    """
    queue = queue_of_kind(kind)
    answer = _asked([word.format(user=getpass.getuser()) for word in queue.listing], queue.none)
    found = {}
    for line in answer.splitlines():
        match = re.fullmatch(queue.line, line.strip())
        if match is None or re.fullmatch(queue.gone, match["state"]):
            continue
        state: State = "pending" if re.fullmatch(queue.pending, match["state"]) else "running"
        found[match["id"]] = Listed(state, match.groupdict().get("reason") or "")
    return found


def more_of(kind: str, job: str) -> str:
    """What the queue says of a job that may have ended; nothing where it does not."""
    words = queue_of_kind(kind).why
    if not words:
        return ""
    try:
        return _asked([word.format(id=job) for word in words])
    except QueueError:
        return ""


def _asked(command: list[str], none: str = r"(?!)") -> str:
    """Answer of a queue's command."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWERS, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise QueueError(f"{command[0]} has not answered for {ANSWERS:.0f} s", passing=True) from None
    except OSError as error:
        raise QueueError(f"{command[0]}: {error.strerror}", passing=False) from error
    if done.returncode and not re.search(none, done.stdout + done.stderr):
        raise QueueError(f"{command[0]}: {' '.join(done.stderr.split()) or f'status {done.returncode}'}", passing=True)
    return done.stdout


def check_commands(cluster: Cluster) -> None:
    """Make sure that a queue's commands are on this machine.

    Raises
    ------
    ConfigError
        If one is not.
    """
    job_class = _job_class(cluster.kind)
    commands = (job_class.submit_command, job_class.cancel_command, queue_of(cluster).listing[0])
    for command in commands:
        if shutil.which(name := shlex.split(command)[0]) is None:
            raise ConfigError(
                f"cluster.kind: {cluster.kind} needs {name!r}, which is not on this machine; start the run where jobs "
                "are submitted, or choose another kind"
            )


def cancel_command(kind: str) -> list[str]:
    """Command that takes numbers of jobs and ends them."""
    return shlex.split(_job_class(kind).cancel_command)
