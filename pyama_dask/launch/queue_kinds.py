"""Kinds of queues, with their commands, options, and states of jobs."""

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
"""Regular expression that never matches, in Python and in grep."""
ANSWERS = 60.0
"""Time limit in seconds for the commands of a queue."""


@dataclass(frozen=True)
class Queue:
    """Properties of one kind of queue."""

    job_class: str
    """Class in the module of dask-jobqueue that is named after the kind."""
    listing: tuple[str, ...]
    """Command that lists jobs; ``{user}`` stands for the name of the user."""
    line: str
    """Regular expression of a line about a job, with groups ``id`` and ``state``, and maybe ``reason``."""
    pending: str
    """States of waiting jobs."""
    gone: str = NEVER
    """States of ended jobs."""
    stuck: str = NEVER
    """States of jobs that the queue holds after an error, and will not start."""
    none: str = NEVER
    """Message of a failed listing that means 'no jobs'; must be valid in grep, too."""
    more: tuple[str, ...] = ()
    """Command that describes a job, ``{id}``, also after its end."""
    why: str = NEVER
    """Part of that description with the reason for the end."""
    account: str = "account"
    """Option of dask-jobqueue for `Cluster.account`."""
    walltime: Callable[[str], str] = str
    """Function that formats a walltime for the queue."""
    listed_after: float = 30.0
    """Seconds within which a new job may not be listed yet."""
    options: Callable[[Cluster], Mapping[str, Any]] = lambda _: {}
    """More options of dask-jobqueue that this queue needs."""
    directives: tuple[str, ...] = ()
    """Directives that every job needs; ``{logs}`` stands for the folder of the logs."""


def _minutes(walltime: str) -> str:
    """Format a walltime as hours and minutes, rounded up."""
    minutes = -(-walltime_seconds(walltime) // 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _memory_of_slots(cluster: Cluster) -> Mapping[str, Any]:
    """Memory per slot for Grid Engine; without a parallel environment, a job has one slot."""
    if cluster.cores > 1 and not any(line.split()[:1] == ["-pe"] for line in cluster.directives):
        raise ConfigError(
            f"cluster.directives: a job of Grid Engine with {cluster.cores} cores needs a parallel environment. "
            f"Fix: add one, such as '-pe smp {cluster.cores}'; 'qconf -spl' lists them"
        )
    return {"resource_spec": f"h_vmem={cluster.job_bytes // cluster.cores // 2**20}M"}


def _disk(cluster: Cluster) -> Mapping[str, Any]:
    """Return no options, but check that the disk space of a job is set, here or for dask-jobqueue."""
    if "disk" not in cluster.options and dask.config.get("jobqueue.htcondor.disk", None) is None:
        raise ConfigError("cluster.options.disk: htcondor needs the disk space of a job. Fix: set it, such as to 2GB")
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
        gone="[CFMX]",  # not E, during which the logs are copied
        directives=("-S /bin/bash",),  # the shell of the user may not have 'export'
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
        directives=("-S /bin/bash",),  # the shell of the queue is csh by default
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
