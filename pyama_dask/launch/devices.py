"""GPUs of this machine, and places of local workers, which own one each or none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
    found = nvml_devices()
    visible = os.environ.get(VISIBLE)
    if cluster.gpu and cluster.gpu.devices != "auto":
        names = [str(name) for name in cluster.gpu.devices]
    elif visible is None or not found:
        return tuple(device for device in found if device.name)
    else:
        given = (name.strip() for name in visible.split(","))
        names = [*takewhile(lambda name: name.isdigit() or name.startswith(("GPU-", "MIG-")), given)]  # as CUDA does
    return tuple(_known(name, found) for name in names)


def unreadable_devices() -> int:
    """Number of GPUs that NVML counts but cannot read, such as broken ones."""
    return sum(not device.name for device in nvml_devices())


def _known(name: str, found: Sequence[Device]) -> Device:
    """Device that CUDA calls by a name, with its title and memory if it is certain which one NVML means by it.

    NVML counts devices in PCI order. CUDA begins with the fastest one, and may skip broken ones, so that a number says
    which device it is only if CUDA is told to count as NVML does, or if all are alike.
    """
    if not name.isdigit():
        same = [device for device in found if device.name.startswith(name)]  # CUDA takes the beginning of a UUID, too
        return replace(same[0], name=name) if len(same) == 1 else Device(name)
    alike = len({(device.title, device.memory) for device in found}) == 1
    ordered = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" and all(device.name for device in found)
    number = int(name)
    return replace(found[number], name=name) if number < len(found) and (alike or ordered) else Device(name)


def nvml_devices() -> tuple[Device, ...]:
    """GPUs that NVML, the library of the driver, counts, in PCI order; those that it cannot read have the name ''.

    Without the driver, or the package nvidia-ml-py, the tuple is empty.
    """
    try:
        import pynvml  # noqa: PLC0415  (an optional package)

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001  (no package, no driver, or one that does not fit it)
        return ()
    try:
        return tuple(_read_device(pynvml, number) for number in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:  # of the count
        return ()
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _read_device(nvml: Any, number: int) -> Device:
    """Read what NVML says about a GPU; some do not tell their memory, and broken ones not even their UUID."""
    name, title, memory = "", "", 0
    with suppress(nvml.NVMLError):
        handle = nvml.nvmlDeviceGetHandleByIndex(number)
        name = _text(nvml.nvmlDeviceGetUUID(handle))
        with suppress(nvml.NVMLError):
            title = _text(nvml.nvmlDeviceGetName(handle))
        with suppress(nvml.NVMLError):
            memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    return Device(name, title, memory)


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
