"""The queues of clusters: what a job of each is made of, through dask-jobqueue, and which jobs there are.

dask-jobqueue writes the job scripts, submits them and knows how jobs are cancelled. What it does not know is whether
a job is still there, which each queue tells in its own words.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import dask
from distributed.security import Security

from pyama_dask.config.models import Cluster
from pyama_dask.config.units import walltime_seconds
from pyama_dask.errors import ConfigError, QueueError
from pyama_dask.execute.walltime import JOB_ENDS, JOB_LASTS
from pyama_dask.launch.script import check_folder, check_options, check_words, in_shell
from pyama_dask.launch.settings import user_name

log = logging.getLogger(__name__)

State = Literal["pending", "running", "stuck"]

NEVER = "x^"
"""Regular expression that fits nothing, in Python and in grep."""
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
    """Regular expression of a line that it prints for a job: its ``id``, its ``state``, and the ``reason`` if any."""
    pending: str
    """States of jobs that wait."""
    gone: str = NEVER
    """States of jobs that have ended."""
    stuck: str = NEVER
    """States of jobs that the queue has put aside after an error, and will not begin by itself."""
    none: str = NEVER
    """What it says, as if it were an error, where there are no jobs; an expression of grep, too."""
    more: tuple[str, ...] = ()
    """Command that says more of a job, ``{id}``; of an ended one, too."""
    why: str = NEVER
    """What in its answer says how the job ended."""
    account: str = "account"
    """Option of dask-jobqueue for `Cluster.account`."""
    walltime: Callable[[str], str] = str
    """Writes a time as the queue wants it."""
    listed_after: float = 30.0
    """Seconds within which it may not list yet what it has taken."""
    options: Callable[[Cluster], Mapping[str, Any]] = lambda _: {}
    """Options of dask-jobqueue that the queue needs besides."""
    directives: tuple[str, ...] = ()
    """Directives that every job needs; ``{logs}`` is the folder of its logs."""


def _minutes(walltime: str) -> str:
    """Write a time as hours and minutes, no shorter than it is."""
    minutes = -(-walltime_seconds(walltime) // 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _memory_of_slots(cluster: Cluster) -> Mapping[str, Any]:
    """Memory as Grid Engine takes it, for each slot; a job has one slot where it asks for no parallel environment."""
    if cluster.cores > 1 and not any(line.split()[:1] == ["-pe"] for line in cluster.directives):
        raise ConfigError(
            f"cluster.directives: a job of Grid Engine with {cluster.cores} cores needs a parallel environment, such "
            f"as '-pe smp {cluster.cores}'; 'qconf -spl' lists them"
        )
    return {"resource_spec": f"h_vmem={cluster.job_bytes // cluster.cores // 2**20}M"}


def _disk(cluster: Cluster) -> Mapping[str, Any]:
    """Nothing; HTCondor wants to know a job's disk, which dask-jobqueue's own configuration may say."""
    if "disk" not in cluster.options and dask.config.get("jobqueue.htcondor.disk", None) is None:
        raise ConfigError("cluster.options.disk: is needed with htcondor: disk of a job, such as 2GB")
    return {}


KINDS: Mapping[str, Queue] = {
    "slurm": Queue(
        "SLURMJob",
        ("squeue", "--noheader", "--user={user}", "--format=%i %T %r"),
        r"(?P<id>\d+)\S* (?P<state>\w+)(?: (?P<reason>.+))?",
        pending="PENDING|CONFIGURING|REQUEUED|REQUEUE_FED|REQUEUE_HOLD|RESV_DEL_HOLD|SPECIAL_EXIT|STOPPED|SUSPENDED",
        gone="BOOT_FAIL|CANCELLED|COMPLETED|COMPLETING|DEADLINE|FAILED|LAUNCH_FAILED|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED|"
        "RECONFIG_FAIL|REVOKED|STAGE_OUT|TIMEOUT",
        more=("scontrol", "--oneliner", "show", "job", "{id}"),
        why=r"JobState=\S+(?: Reason=\S+)?",
        listed_after=3.0,
        options=lambda cluster: {"job_mem": f"{cluster.job_bytes // 2**20}M"},  # else it is rounded up to GiB
    ),
    "pbs": Queue(
        "PBSJob",
        ("qstat",),
        r"(?P<id>\d+)\S*\s.*\s(?P<state>[A-Z])\s+\S+",
        pending="[QWHSTU]",
        gone="[CFMX]",  # not E, in which the logs are brought to their folder
        directives=("-S /bin/bash",),  # else it is the shell of the user, which may know no 'export'
    ),
    "lsf": Queue(
        "LSFJob",
        ("bjobs", "-noheader", "-u", "{user}", "-o", "jobid stat"),
        r"(?P<id>\d+)\s+(?P<state>\w+)",
        pending="PEND|PSUSP|SSUSP|USUSP|WAIT|PROV",
        gone="DONE|EXIT|ZOMBI",
        none="No (unfinished )?job found",
        more=("bjobs", "-UF", "{id}"),
        why=r"TERM_\w+",
        account="project",
        walltime=_minutes,
    ),
    "sge": Queue(
        "SGEJob",
        ("qstat", "-u", "{user}"),
        r"(?P<id>\d+)\s+\S+\s+\S+\s+\S+\s+(?P<state>\w+)\s.*",
        pending=r"\w*[qsST]\w*",
        gone=r"\w*d\w*",
        stuck=r"\w*E\w*",
        more=("qstat", "-j", "{id}"),
        why=r"error reason.*",
        account="project",
        options=_memory_of_slots,
        directives=("-S /bin/bash",),  # else it is the shell of the queue, csh unless it was changed
    ),
    "oar": Queue(
        "OARJob",
        ("oarstat", "--user", "{user}"),
        r"(?P<id>\d+)\s.*\s\d\d:\d\d:\d\d\s+(?P<state>[A-Z])\s+\S+",
        pending="[WHSL]",
        gone="[TEF]",
        account="project",
        directives=("-O {logs}/%jobname%.%jobid%.out", "-E {logs}/%jobname%.%jobid%.err"),
    ),
    "htcondor": Queue(
        "HTCondorJob",
        ("condor_q", "-allusers", "-constraint", 'Owner == "{user}"',
         "-autoformat", "ClusterId", "JobStatus", "HoldReason"),
        r"(?P<id>\d+) (?P<state>\d)(?: (?:undefined|(?P<reason>.+)))?",
        pending="[17]",
        gone="[34]",
        stuck="5",
        options=_disk,
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


NOWHERE = Place("tls://SCHEDULER:PORT", "pyama-RUN", Path("LOGS"))
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
        If ``cluster.options`` are not dask-jobqueue's, something cannot stand in a job script, or something is missing
        that a job of this queue needs.
    """
    queue, job_class = KINDS[cluster.kind], _job_class(cluster.kind)
    check_options(cluster, job_class)
    check_words(cluster)
    check_folder(place.logs)
    own = {"python": shlex.quote(sys.executable)} | cluster.options
    extra = [in_shell(str(word)) for word in own.pop("worker_extra_args", [])]
    # dask-jobqueue would round the job's memory, and forget that of the nanny
    job_class = type(job_class.__name__, (job_class,), {"worker_process_memory": str(cluster.worker_bytes)})
    options = {
        "job_name": place.name,
        "log_directory": str(place.logs),
        "job_script_prologue": [*_prologue(cluster, place), *cluster.prologue],
        "job_extra_directives": _directives(cluster, queue, place),
        "security": place.security,
        # workers would show their pages to all the network
        "worker_extra_args": ["--dashboard-address", "127.0.0.1:0", *extra],
        **_options(cluster, queue),
        **own,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "OAR Job memory reserved", UserWarning)
        try:
            return job_class(scheduler=place.scheduler, name=name, **options)
        except (TypeError, ValueError, LookupError) as error:
            raise ConfigError(f"cluster: dask-jobqueue refuses a {cluster.kind} job: {error}") from error


def job_script(cluster: Cluster, environment: Mapping[str, str]) -> str:
    """Script of a job as it would be submitted, with names in capitals for what only a run knows."""
    with TemporaryDirectory() as folder:  # for the logs, as dask-jobqueue makes it if it is not there
        job = make_job(cluster, replace(NOWHERE, logs=Path(folder), environment=environment), "WORKER")
        return str(job.job_script()).replace(folder, str(NOWHERE.logs))


def _job_class(kind: str) -> type[Any]:
    found: type[Any] = getattr(dask_jobqueue_module(kind), KINDS[kind].job_class)
    return found


def dask_jobqueue_module(name: str) -> Any:
    """Import a module of dask-jobqueue, which would take over Ctrl-C of this process, and only in its main thread."""
    taken, signal.signal = signal.signal, lambda *_: None
    try:
        return importlib.import_module(f"dask_jobqueue.{name}")
    finally:
        signal.signal = taken


def _options(cluster: Cluster, queue: Queue) -> dict[str, Any]:
    """Options of dask-jobqueue by its own names; None leaves them to its own configuration files."""
    options = {
        "cores": cluster.cores,
        "processes": cluster.worker_processes,
        "memory": f"{cluster.job_bytes}B",
        "interface": cluster.interface,
        "local_directory": cluster.local_directory and in_shell(cluster.local_directory),
        "death_timeout": DEATH_TIMEOUT,
        **queue.options(cluster),
    }
    if cluster.kind == "htcondor":  # which has no queues, accounts or walltimes
        return options
    walltime = queue.walltime(cluster.walltime) if cluster.walltime else None
    return {**options, "queue": cluster.queue, queue.account: cluster.account, "walltime": walltime}


def _directives(cluster: Cluster, queue: Queue, place: Place) -> list[str] | dict[str, str] | None:
    """Directives as the queue takes them; those of HTCondor are ``name = value``."""
    if cluster.kind == "htcondor":
        return {name.strip(): value.strip() for name, _, value in (one.partition("=") for one in cluster.directives)}
    return [*(line.format(logs=place.logs) for line in queue.directives), *cluster.directives] or None


def _prologue(cluster: Cluster, place: Place) -> Iterator[str]:
    """Lines of a job before its workers: when it will end, and what they find in their environment."""
    if cluster.walltime:
        yield f"export {JOB_LASTS}={walltime_seconds(cluster.walltime)}"
        yield f"export {JOB_ENDS}=$(( $(date +%s) + {JOB_LASTS} ))"
    for name, value in place.environment.items():
        yield f"export {name}={shlex.quote(value)}"


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
    Its number in the queue, as the queue lists it.

    Raises
    ------
    QueueError
        If the queue does not take it.
    """
    # its own way leaves a command behind that does not answer, which then may submit a job that nobody knows of
    job._call = _submitted
    try:
        with ThreadPoolExecutor(1) as thread:  # this one may have a loop of its own, as in a notebook
            thread.submit(asyncio.run, job.start()).result()
    except ValueError as error:  # dask-jobqueue finds no number in the answer
        raise QueueError(f"{job.submit_command.strip()}: {' '.join(str(error).split())}", passing=False) from error
    return str(job.job_id).partition(".")[0]  # dask-jobqueue's of HTCondor is CLUSTER.PROCESS


async def _submitted(command: list[str], *, shell: bool = False) -> str:
    """Answer of a command that submits; that of LSF is a line for the shell, which throws away what it says."""
    words = ["/bin/sh", "-c", f"exec {command[0].removesuffix(' 2> /dev/null')}"] if shell else command
    name = command[0].partition("<")[0]
    done = _done(words, name)
    if done.returncode:
        said = _said(done.stderr) or _said(done.stdout) or f"status {done.returncode}, and it said nothing"
        raise QueueError(f"{name}: {said.removeprefix(f'{name}: ')}", passing=is_passing(said))
    return done.stdout


def _said(text: str) -> str:
    return " ".join(text.split())


def is_passing(said: str) -> bool:
    """Whether a queue's refusal is of the moment: its server does not answer, or the user has enough jobs."""
    if limit := re.search(r"(QOS|Assoc)\w*Max\w*", said):  # what follows it names the submit limit whatever it is
        return "Submit" in limit[0]
    return bool(
        re.search(
            r"(unable|failed|cannot|can't|could not) (to )?(connect|contact|send)|contact failed|timed out|temporar|"
            r"try again|not respond|no response|connection (refused|failure|reset)|no route|communication|"
            r"zero bytes|got (send|select|read) error|shutting down|"
            r"submit limit|SubmitJob|(per-user|pending job|job slot|job count|number of jobs) limit|would exceed|"
            r"too many|maximum number|jobs are allowed|limit .*reached|reached .*limit",
            said, re.IGNORECASE,
        )
    )  # fmt: skip


def listing_of(kind: str) -> list[str]:
    """Command that lists the jobs of this user."""
    return [word.replace("{user}", user_name()) for word in KINDS[kind].listing]


def listed(kind: str) -> dict[str, Listed]:
    """Jobs of this user that have not ended, by number.

    Raises
    ------
    QueueError
        If the queue does not answer; which jobs there are is not known then.
    """
    queue = KINDS[kind]
    found = {}
    for line in _asked(listing_of(kind), queue.none).splitlines():
        match = re.fullmatch(queue.line, line.strip())
        if match is not None and not re.fullmatch(queue.gone, match["state"]):
            found[match["id"]] = Listed(_state(queue, match["state"]), match.groupdict().get("reason") or "")
    return found


def _state(queue: Queue, said: str) -> State:
    if re.fullmatch(queue.stuck, said):
        return "stuck"
    return "pending" if re.fullmatch(queue.pending, said) else "running"


def more_of(kind: str, job: str) -> str:
    """What the queue says of how a job ended; nothing where it does not tell.

    Raises
    ------
    QueueError
        If it does not answer, or has forgotten the job.
    """
    queue = KINDS[kind]
    answer = _asked([word.replace("{id}", job) for word in queue.more]) if queue.more else ""
    return " ".join(re.findall(queue.why, answer))


def _asked(command: list[str], none: str = NEVER) -> str:
    """Answer of a queue's command."""
    done = _done(command, command[0])
    if done.returncode and not re.search(none, done.stdout + done.stderr):
        raise QueueError(f"{command[0]}: {_said(done.stderr) or f'status {done.returncode}'}", passing=True)
    return done.stdout


def _done(command: list[str], name: str) -> subprocess.CompletedProcess[str]:
    """Do a command of a queue; end it if it does not answer."""
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=ANSWERS, check=False,
            stdin=subprocess.DEVNULL, env=environment(), start_new_session=True,  # Ctrl-C is not for it
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise QueueError(f"{name} has not answered for {ANSWERS:.0f} s", passing=True) from None
    except OSError as error:
        raise QueueError(f"{name}: {error.strerror}", passing=False) from error


def environment() -> dict[str, str]:
    """Variables of a queue's commands; those by which users have their own squeue leave out jobs would hide jobs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}


def check_queue(cluster: Cluster, output: Path) -> None:
    """Make sure that a job can be written, and that the queue's commands are on this machine.

    Raises
    ------
    ConfigError
        If that is not so.
    """
    job_script(cluster, {})
    check_folder(output.absolute())
    job_class = _job_class(cluster.kind)
    commands = (job_class.submit_command, job_class.cancel_command, KINDS[cluster.kind].listing[0])
    for command in commands:
        if shutil.which(name := shlex.split(command)[0]) is None:
            raise ConfigError(
                f"cluster.kind: {cluster.kind} needs {name!r}, which is not on this machine; start the run where jobs "
                "are submitted, or choose another kind"
            )


def cancel_command(kind: str) -> list[str]:
    """Command that takes numbers of jobs and ends them."""
    return shlex.split(_job_class(kind).cancel_command)
