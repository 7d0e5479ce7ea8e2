"""Settings of where a run's workers are."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field
from pydantic import model_validator as validates_model

from pyama_dask.config.base import Model
from pyama_dask.config.units import Count, Dashboard, Memory, Minutes, Walltime, Whole, as_switch, memory_bytes

QueueKind = Literal["slurm", "pbs", "lsf", "sge", "oar", "htcondor"]
QUEUES: tuple[QueueKind, ...] = get_args(QueueKind)
"""Queues of a cluster that jobs can be submitted to."""
NANNY_BYTES = 200 * 2**20
"""Memory of a job's process that starts its workers and watches them."""


class Adaptive(Model):
    """Limits between which the number of jobs follows what there is to do."""

    minimum: Annotated[Whole, Field(le=10_000)] = Field(0, description="fewest jobs")
    maximum: Annotated[Count, Field(le=10_000)] = Field(description="most jobs")

    @validates_model(mode="after")
    def _in_order(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError("'minimum' is larger than 'maximum'")
        return self


class GpuWorkers(Model):
    """Workers that own a GPU each, for the steps that need one."""

    devices: tuple[Annotated[str, Field(pattern=r"^[\w-]+$")] | Whole, ...] | Literal["auto"] = Field(
        "auto", description="kind local: GPUs by number or UUID, a worker for each; auto: those that NVML finds"
    )
    jobs: Annotated[Count, Field(le=10_000)] | None = Field(
        None, description="queue: number of jobs of one worker, which own a GPU each"
    )
    queue: str | None = Field(None, description="queue: its name for these jobs; left out, as for all others")
    memory: Memory | None = Field(
        None, description="queue: memory of these jobs; left out, that of one worker of the others"
    )
    walltime: Walltime | None = Field(None, description="queue: time limit of these jobs; left out, as for all others")
    directives: tuple[str, ...] = Field(
        (), description="queue: directives of these jobs, beside those of all, such as ['--gres=gpu:1']"
    )


class Cluster(Model):
    """Place where tasks run, and number of FOVs in progress."""

    kind: Literal["serial", "local", "address", "runner"] | QueueKind = Field(
        "local",
        description="local: processes here; serial: no Dask; slurm, pbs, lsf, sge, oar, htcondor; runner; address",
    )
    workers: Annotated[Count, Field(le=1000)] | Literal["auto"] = Field(
        "auto", description="worker processes; auto: one per core"
    )
    memory: Memory | Literal["auto"] = Field(
        "auto", description="per worker, or per job of a queue, such as 4GiB; auto divides the machine's memory"
    )
    address: str | None = Field(None, description="with kind address, such as tcp://host:8786")
    dashboard: Dashboard = Field("127.0.0.1:8787", description="host and port of the Dask dashboard")
    batch_size: Count | Literal["auto"] = Field(
        "auto", description="FOVs in progress; auto: twice the workers, more if small"
    )
    retries: Annotated[Whole, Field(le=1000)] = Field(1, description="how often a failed task is retried")
    lost_workers: Annotated[Count, Field(le=1000)] = Field(
        3, description="how many workers may die on a task before its FOV fails"
    )
    # The keys of a queue have the names of dask-jobqueue where it has them.
    jobs: Annotated[Count, Field(le=10_000)] | None = Field(
        None, description="queue: number of jobs; one that dies is replaced"
    )
    adaptive: Adaptive | None = Field(
        None, description="queue: instead of jobs, {minimum: 0, maximum: 20}: as many as there is work for"
    )
    cores: Annotated[Count, Field(le=1000)] = Field(1, description="queue: cores per job")
    processes: Annotated[Count, Field(le=1000)] | Literal["auto"] = Field(
        "auto", description="queue: workers per job; auto: one per core"
    )
    walltime: Walltime | None = Field(
        None, description="queue: time limit per job, such as '04:00:00'; workers leave before it ends"
    )
    queue: str | None = Field(None, description="queue: its name (with Slurm, the partition)")
    account: str | None = Field(None, description="queue: account to charge")
    interface: str | None = Field(None, description="queue: network interface of workers and scheduler, such as ib0")
    prologue: tuple[str, ...] = Field(
        (), description="queue: shell lines of a job before its workers start, such as [module load python]"
    )
    directives: tuple[str, ...] = Field((), description="queue: more directives, such as ['--constraint=ssd']")
    local_directory: str | None = Field(
        None, description="queue: scratch directory on the node, such as /scratch/$USER"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="queue: more options of dask-jobqueue, by their names there"
    )
    gpu: GpuWorkers | None = Field(
        None, description="workers with a GPU each, such as {jobs: 2, directives: ['--gres=gpu:1']} on a queue"
    )
    failed_jobs: Annotated[Count, Field(le=1000)] = Field(
        5, description="queue: jobs in a row that may end before a worker connects"
    )
    alarm: Minutes = Field(10.0, description="minutes without progress after which an alarm says why")
    tls: Annotated[Literal["on", "off"], BeforeValidator(as_switch)] = Field(
        "on", description="queue: on: processes of a run authenticate each other and encrypt what they send"
    )

    @validates_model(mode="after")
    def _address_fits(self) -> Self:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("'address' goes with 'kind: address', and is needed there")
        return self

    @validates_model(mode="after")
    def _queue_is_whole(self) -> Self:
        if not self.of_queue:
            return self
        if (self.jobs is None) == (self.adaptive is None):
            raise ValueError(f"'kind: {self.kind}' needs either 'jobs', their number, or 'adaptive', its limits")
        if self.memory == "auto":
            raise ValueError(f"'kind: {self.kind}' needs 'memory', of a job, such as 4GiB")
        if (self.walltime is None) != (self.kind == "htcondor"):
            raise ValueError("'walltime', such as '04:00:00', is needed with every queue but htcondor, which has none")
        if self.cores % self.worker_processes:
            raise ValueError(f"'cores', {self.cores}, must be a multiple of 'processes', {self.worker_processes}")
        if self.worker_bytes <= 0:
            raise ValueError(f"'memory', {self.memory}, is less than a job of {self.worker_processes} processes needs")
        return self

    @validates_model(mode="after")
    def _gpu_fits(self) -> Self:
        if self.gpu is None:
            return self
        if self.kind != "local" and not self.of_queue:
            raise ValueError(f"'kind: {self.kind}' starts no workers with a GPU; 'gpu' goes with local, or a queue")
        if self.of_queue and (self.gpu.jobs is None or self.gpu.devices != "auto"):
            raise ValueError("'gpu' needs 'jobs' with a queue, their number, and has no 'devices' there")
        if self.kind == "local" and any(of for key, of in self.gpu if key != "devices"):
            raise ValueError("'gpu' has only 'devices' with 'kind: local'; its other keys are for queues")
        if self.of_queue and self.gpu.memory and memory_bytes(self.gpu.memory) < self.worker_bytes + NANNY_BYTES:
            raise ValueError(
                f"'memory' of 'gpu', {self.gpu.memory}, is less than a worker of the other jobs has with its process, "
                f"{self._memory_of_one}, to which blocks are fitted"
            )
        if self.kind == "htcondor" and self.gpu.walltime:
            raise ValueError("htcondor has no 'walltime'")
        if "--resources" in map(str, self.options.get("worker_extra_args", ())):
            raise ValueError("'options: worker_extra_args' has --resources, which the run sets if there is 'gpu'")
        return self

    @validates_model(mode="after")
    def _fits_htcondor(self) -> Self:
        if self.kind == "htcondor":
            if self.queue or self.account:
                raise ValueError(
                    "htcondor has no 'queue' and no 'account'; 'directives' may say 'accounting_group = lab'"
                )
            of_gpu = self.gpu.directives if self.gpu else ()
            if not all(re.fullmatch(r"\s*[^\s=]+\s*=.+", line) for line in (*self.directives, *of_gpu)):
                raise ValueError("'directives' of htcondor are lines such as 'requirements = Arch == \"X86_64\"'")
        return self

    @property
    def of_queue(self) -> bool:
        """True if workers are jobs of a queue."""
        return self.kind in QUEUES

    @property
    def forks_workers(self) -> bool:
        """True if workers are forked from a process that has imported their packages."""
        return self.kind == "local" and sys.platform == "linux"

    @property
    def starts_scheduler(self) -> bool:
        """True if the scheduler runs in the process of the run."""
        return self.of_queue or self.kind == "local"

    @property
    def worker_processes(self) -> int:
        """Worker processes of a job."""
        return self.cores if self.processes == "auto" else self.processes

    @property
    def job_bytes(self) -> int:
        """Memory of a job of a queue."""
        return memory_bytes(self.memory)

    @property
    def worker_bytes(self) -> int:
        """Memory of a worker process of a job, whose first process looks after the workers and needs some, too."""
        return (self.job_bytes - NANNY_BYTES) // self.worker_processes

    @property
    def without_gpu(self) -> Self:
        """Jobs of a queue whose workers have no GPU, beside others that have one."""
        return self._with_resource(f"CPU={self.cores // self.worker_processes}", {})

    @property
    def with_gpu(self) -> Self:
        """Jobs of a queue with one worker each, which owns a GPU and has the memory of any other worker."""
        assert self.gpu is not None
        changes: dict[str, Any] = {"jobs": self.gpu.jobs, "adaptive": None, "cores": 1, "processes": 1}
        changes |= {
            "memory": self.gpu.memory or self._memory_of_one,
            "walltime": self.gpu.walltime or self.walltime,
            "queue": self.gpu.queue or self.queue,
            "directives": (*self.directives, *self.gpu.directives),
        }
        return self._with_resource("GPU=1", changes)

    @property
    def _memory_of_one(self) -> str:
        """Memory of a job with one worker that has the memory of any other."""
        return f"{(self.worker_bytes + NANNY_BYTES) / 2**20:.10g}MiB"

    def _with_resource(self, resource: str, changes: dict[str, Any]) -> Self:
        words = [*self.options.get("worker_extra_args", ()), "--resources", resource]
        return self.model_copy(update=changes | {"options": {**self.options, "worker_extra_args": words}, "gpu": None})

    @property
    def most_jobs(self) -> int:
        """Largest number of jobs at once."""
        return self.adaptive.maximum if self.adaptive else self.jobs or 0
