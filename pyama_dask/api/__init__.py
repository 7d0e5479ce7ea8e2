"""The older API of PyAMA for existing scripts: its names and arguments, run by `pyama_dask.run`."""

from typing import Any

import lazy_loader

from pyama_dask.api.absent import check_absent

_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    check_absent(name)
    return _attribute(name)
