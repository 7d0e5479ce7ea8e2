"""The older API of PyAMA for existing scripts: its names and arguments, run by `pyama_dask.run`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
