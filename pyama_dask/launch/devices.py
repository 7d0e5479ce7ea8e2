"""GPUs of this machine, and places of local workers, which own one each or none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from pyama_dask.config.cluster import Cluster
from pyama_dask.execute.workers import CPU
from pyama_dask.workflow.graph import GPU

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable with the devices that programs see."""


@dataclass(frozen=True)
class Device:
    """One GPU."""

    name: str
    """Number or UUID by which CUDA knows it."""
    title: str = ""
    """Name of the card; '' if it is unknown."""
    memory: int = 0
    """Bytes; 0 if they are unknown."""


def devices_here(cluster: Cluster) -> tuple[Device, ...]:
    """GPUs of this machine that a run uses: those that the config names, else those that NVML finds.

    If ``CUDA_VISIBLE_DEVICES`` is set, as in a job, only those in it count.
    """
    if cluster.gpu and cluster.gpu.devices != "auto":
        return tuple(Device(str(name)) for name in cluster.gpu.devices)
    found = nvml_devices()
    visible = os.environ.get(VISIBLE)
    if visible is None or not found:
        return found
    names = [name.strip() for name in visible.split(",")]
    known = {device.name: device for device in found}
    valid = takewhile(lambda name: name.isdigit() or name.startswith(("GPU-", "MIG-")), names)  # as CUDA does
    return tuple(known.get(name, Device(name)) for name in valid)


def nvml_devices() -> tuple[Device, ...]:
    """GPUs that NVML, the library of the driver, finds; none without the driver, or the package nvidia-ml-py."""
    try:
        import pynvml  # noqa: PLC0415  (an optional package)

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001  (no package, no driver, or one that does not fit it)
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(k) for k in range(pynvml.nvmlDeviceGetCount())]
        return tuple(
            Device(
                _text(pynvml.nvmlDeviceGetUUID(handle)), _text(pynvml.nvmlDeviceGetName(handle)),
                int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            )
            for handle in handles
        )  # fmt: skip
    finally:
        pynvml.nvmlShutdown()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)  # bytes in older versions


@dataclass(frozen=True)
class WorkerPlace:
    """Environment variables and Dask resources of a local worker."""

    environment: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)


def places(workers: int, devices: Sequence[Device]) -> list[WorkerPlace]:
    """Places of local workers by number: those without a GPU see none, all others see their own only."""
    if not devices:
        return [WorkerPlace()] * workers
    return [WorkerPlace({VISIBLE: ""}, {CPU: 1})] * workers + [
        WorkerPlace({VISIBLE: device.name}, {GPU: 1}) for device in devices
    ]
