"""GPUs for methods: what a method says that it needs, and whether this worker owns one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from pyama_dask.config.units import memory_bytes, quoted
from pyama_dask.errors import ConfigError

_OWNED: ContextVar[bool] = ContextVar("gpu_owned", default=False)


def has_gpu() -> bool:
    """Check whether the task that runs here is on a worker that owns a GPU, which is the only one that it sees."""
    return _OWNED.get()


@contextmanager
def gpu_owned(owned: bool) -> Iterator[None]:
    """Say inside the block whether this process owns a GPU."""
    before = _OWNED.set(owned)
    try:
        yield
    finally:
        _OWNED.reset(before)


@dataclass(frozen=True)
class DeviceNeeds:
    """Needs of a method, which its function has as attributes.

    Parameters
    ----------
    gpu
        1, ``optional`` or ``off``, as in a config: attribute ``gpu``.
    memory
        Bytes on the device; 0 if it does not say: attribute ``gpu_memory``, such as ``"6GiB"``.
    batch
        Frames that it takes at once as (N, H, W); 0 if it takes one frame (H, W): attribute ``batch``.
    batch_on_gpu
        The same on a worker that owns a GPU, where it is another number: attribute ``batch_on_gpu``.
    """

    gpu: Literal["off", 1, "optional"] = "off"
    memory: int = 0
    batch: int = 0
    batch_on_gpu: int = 0

    def frames_at_once(self, *, on_gpu: bool) -> int:
        """Frames that it takes at once as (N, H, W), on a GPU or not; 0 if it takes one frame (H, W)."""
        return (self.batch_on_gpu if on_gpu else 0) or self.batch


def needs_of(function: Any, title: str) -> DeviceNeeds:
    """Needs of a method.

    Raises
    ------
    ConfigError
        If an attribute has no possible value.
    """
    gpu, memory = (getattr(function, name, None) for name in ("gpu", "gpu_memory"))
    if gpu not in (None, False, True, "off", "optional"):
        raise ConfigError(f"{title}: its attribute 'gpu' is {quoted(str(gpu))}. Fix: set it to 1, 'optional' or 'off'")
    batches = [_batch(function, name, title) for name in ("batch", "batch_on_gpu")]
    try:
        on_device = memory_bytes(str(memory)) if memory is not None else 0
    except ValueError as error:
        raise ConfigError(f"{title}: its attribute 'gpu_memory' {error}. Fix: correct it") from error
    return DeviceNeeds("optional" if gpu == "optional" else 1 if gpu == 1 else "off", on_device, *batches)


def _batch(function: Any, name: str, title: str) -> int:
    """Number of frames that an attribute of a method says; 0 without it."""
    batch = getattr(function, name, None)
    if batch is None:
        return 0
    if type(batch) is not int or not 1 <= batch <= 1024:
        raise ConfigError(f"{title}: its attribute {name!r} is {batch!r}. Fix: set it to a number of frames, 1 to 1024")
    return batch
