"""Imports of workers, and their compiled code: the server that they are forked from imports this module.

Nothing in here may start a thread of Python, as threads are lost when a process is forked. The allocator of pyarrow has
one, which it starts again in each process.
"""

import atexit
import gc
import os
import shutil
from contextlib import suppress
from importlib import import_module

from pyama_dask.kernels.compiled import load_cached

MODULES = (
    "distributed.nanny", "distributed.worker", "numba.core.inline_closurecall", "numba.np.linalg",
    "numba.np.polynomial", "numba.typed", "pyama_dask.readers.czi.reader", "pyama_dask.readers.nd2.reader",
    "pyama_dask.steps.runner", "pyama_dask.steps.standard", "scipy.interpolate",
)  # fmt: skip

KERNELS = (
    "background", "bitmask", "crops", "display", "features", "histogram", "logstd", "morphology", "runlength",
    "sharpness", "surface", "tiles", "tracking",
)  # fmt: skip
"""Modules of the kernels of most runs, whose compiled code is loaded."""


def remove(folder: str, server: int) -> None:
    """Remove the folder of the server's socket and of the notes of workers, when all processes of a run have ended.

    A driver that ends in order does so itself, and ends the server before.
    """
    if os.getpid() == server:
        shutil.rmtree(folder, ignore_errors=True)


if sockets := os.environ.pop("PYAMA_DASK_SOCKETS", ""):
    atexit.register(remove, sockets, os.getpid())
gc.disable()  # collections find nothing during imports, and write to memory that workers share
for name in MODULES:
    import_module(name)
for name in KERNELS:
    with suppress(Exception):  # then workers load their code, or compile it
        load_cached(import_module(f"pyama_dask.kernels.{name}"))
gc.enable()
gc.freeze()
os.environ.pop("PYTHONSAFEPATH", None)  # for these imports; workers get what the driver has
