"""Packages that training needs, and their settings, which must stand before their first import."""

from __future__ import annotations

import os
from importlib.util import find_spec

from pyama_dask.errors import ConfigError

NEEDED = ("jax", "onnx", "optax")
"""Packages of the extra ``train``."""
ONE_CORE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
"""Flags of XLA for one thread, by which results are the same on machines with more or fewer cores."""


def prepare_training() -> None:
    """Check that the packages are installed, and let JAX compute on one core.

    Raises
    ------
    ConfigError
        If a package is missing.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigError(f"training needs {', '.join(missing)}. Fix: pip install 'pyama-dask[train]'")
    os.environ["XLA_FLAGS"] = f"{ONE_CORE} {os.environ.get('XLA_FLAGS', '')}".strip()
