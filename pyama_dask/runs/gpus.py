"""GPUs for the steps that need one: which workers have them, and whether they suffice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distributed import Client

from pyama_dask.config.models import Config
from pyama_dask.errors import ConfigError
from pyama_dask.launch.gpu_workers import GpusFound, gpu_workers
from pyama_dask.runs.disk_space import gib
from pyama_dask.steps.on_gpu import GpuNeed, gpu_needs
from pyama_dask.workflow.graph import Step


@dataclass(frozen=True)
class Gpus:
    """Workers with a GPU of a run."""

    count: int = 0
    text: str = ""
    """Steps that are done on them, and what they are; '' if no step needs a GPU."""
    warnings: tuple[str, ...] = ()


def find_gpus(config: Config, client: Client | None) -> Gpus:
    """Find the workers with a GPU that a run has, if any of its steps needs one.

    Parameters
    ----------
    config
        Resolved.
    client
        Dask client whose workers count; None for those of the config's cluster.

    Raises
    ------
    ConfigError
        If a step needs a GPU that is missing, or more memory than the device has.
    """
    needs = gpu_needs(config)
    if not needs:
        return Gpus()
    found = gpu_workers(config.cluster, client)
    _check(needs, found)
    names = ", ".join(needs)
    notes = [f"{need.key}: no GPU is used, as {need.problem}" for need in needs.values() if need.problem]
    notes += [found.warning] if found.warning else []
    if not found.count:
        warning = f"{names}: is done without a GPU, as {found.text}"
        return Gpus(text=f"none; {names} on workers without one", warnings=(warning, *notes))
    memory = [f"{step} needs {gib(need.memory)} of its memory" for step, need in needs.items() if need.memory]
    return Gpus(found.count, "; ".join([f"{names} on {found.text}", *memory]), (*notes, *_not_checked(needs, found)))


def _check(needs: Mapping[Step, GpuNeed], found: GpusFound) -> None:
    """Refuse steps that need a GPU, or more of its memory, than there is."""
    for step, need in needs.items():
        if need.is_required and not found.count:
            raise ConfigError(f"{need.key}: {step} needs a GPU, but {found.text}; or set it to optional")
        if found.memory and need.memory > found.memory:
            raise ConfigError(
                f"{need.key}: {step} needs {gib(need.memory)} of the memory of a GPU, but one has {gib(found.memory)}. "
                "Fix: leave it out of cluster.gpu: {devices: [...]}, or set the step to off"
            )


def _not_checked(needs: Mapping[Step, GpuNeed], found: GpusFound) -> list[str]:
    """Warnings about steps for which devices of this machine may have too little memory."""
    return [
        f"{need.key}: {step} needs {gib(need.memory)} of the memory of a GPU, but it is unknown how much these have: "
        f"{found.unknown}. Fix: name GPUs by the UUIDs that nvidia-smi -L shows, or set CUDA_DEVICE_ORDER=PCI_BUS_ID"
        for step, need in needs.items()
        if need.memory and found.unknown
    ]
