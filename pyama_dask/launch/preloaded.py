"""Imports of workers: the server that they are forked from imports this module, so that none of them has to.

Nothing in here may start a thread of Python, as threads are lost when a process is forked. The allocator of pyarrow has
one, which it starts again in each process.
"""

import gc
import os
from importlib import import_module

MODULES = (
    "distributed.nanny", "distributed.worker", "numba.core.inline_closurecall", "numba.np.linalg",
    "numba.np.polynomial", "numba.typed", "pandas", "pyama_dask.readers.czi.reader", "pyama_dask.readers.nd2.reader",
    "pyama_dask.steps.runner", "pyama_dask.steps.standard", "scipy.interpolate", "tensorstore", "zarr",
)  # fmt: skip

gc.disable()  # collections find nothing during imports, and write to memory that workers share
for name in MODULES:
    import_module(name)
gc.enable()
gc.freeze()
os.environ.pop("PYTHONSAFEPATH", None)  # for these imports; workers get what the driver has
