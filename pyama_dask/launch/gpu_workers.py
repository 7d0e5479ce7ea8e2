"""Workers with a GPU that a run has: on this machine, in jobs of a queue, or on a running scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from distributed import Client

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.units import many
from pyama_dask.launch.devices import VISIBLE, devices_here, unreadable_devices
from pyama_dask.launch.local import connected
from pyama_dask.workflow.graph import GPU

INSTALL = "pip install 'pyama-dask[gpu]'"


@dataclass(frozen=True)
class GpusFound:
    """Workers with a GPU that a run would have."""

    count: int = 0
    text: str = ""
    """Description of them; without any, the reason and its fix."""
    memory: int = 0
    """Bytes of the smallest device, of those whose memory is known; 0 if all are unknown."""
    unknown: str = ""
    """Devices of this machine whose memory is unknown."""
    warning: str = ""


def gpu_workers(cluster: Cluster, client: Client | None = None) -> GpusFound:
    """Find out which workers with a GPU a run has: on a client's scheduler, in jobs, or on this machine."""
    if client is not None:
        return _of_scheduler(client)
    if cluster.kind == "address":
        with connected(str(cluster.address)) as connection:
            return _of_scheduler(connection)
    if cluster.of_queue:
        return _of_queue(cluster)
    if cluster.kind != "local":
        fix = "set it to local" if cluster.kind == "serial" else "set it to a queue, with cluster.gpu, or to local"
        return GpusFound(text=f"cluster.kind is {cluster.kind}, which has no such workers. Fix: {fix}")
    return _of_machine(cluster)


def _of_machine(cluster: Cluster) -> GpusFound:
    devices = devices_here(cluster)
    broken = unreadable_devices() if cluster.gpu is None or cluster.gpu.devices == "auto" else 0
    warning = f"{many(broken, 'GPU')} of this machine cannot be read by NVML, and are not used. Fix: see nvidia-smi"
    warning = warning if broken else ""
    if not devices:
        text = f"{_why_none()}, or name the GPUs in cluster.gpu: {{devices: [0]}}"
        return GpusFound(text=text, warning=warning)
    titles = ", ".join(dict.fromkeys(device.title or f"GPU {device.name}" for device in devices))
    unknown = ", ".join(device.name for device in devices if not device.memory)
    smallest = min((device.memory for device in devices if device.memory), default=0)
    return GpusFound(len(devices), f"{many(len(devices), 'worker')} here, on {titles}", smallest, unknown, warning)


def _of_scheduler(client: Client) -> GpusFound:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if count := sum(GPU in worker.get("resources", {}) for worker in workers):
        return GpusFound(count, f"{many(count, 'worker')} of the scheduler")
    fix = f"start some with --resources '{GPU}=1', each with its own {VISIBLE}"
    return GpusFound(text=f"no worker of the scheduler has the resource {GPU}. Fix: {fix}")


def _of_queue(cluster: Cluster) -> GpusFound:
    if cluster.gpu is None:
        fix = "add, as your queue wants it, gpu: {jobs: 1, directives: ['--gres=gpu:1']}"
        return GpusFound(text=f"cluster.gpu does not say how jobs with a GPU are submitted. Fix: {fix}")
    jobs = cluster.gpu.jobs or 0
    return GpusFound(jobs, f"{many(jobs, 'job')} of one worker each ({' '.join(cluster.gpu.directives)})")


def _why_none() -> str:
    try:
        import pynvml  # noqa: F401, PLC0415
    except ImportError:
        return f"the package nvidia-ml-py, which finds GPUs, is not installed. Fix: {INSTALL}"
    return "NVML finds none on this machine. Fix: use a machine that has one and its driver"
