"""The kinds of queues: their commands, their options, and the states of jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import dask

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.units import walltime_seconds
from pyama_dask.errors import ConfigError

State = Literal["pending", "running", "stuck"]
NEVER = "x^"
"""Regular expression that fits nothing, in Python and in grep."""
ANSWERS = 60.0
"""Seconds to wait for a queue's command."""


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
