"""Orchestrator, pipelines and settings by the names of OpenHCS; `pyama_dask.Orchestrator` does the work."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
