"""Parts of steps: they read from the store, call kernels and write to the store, without a scheduler."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
