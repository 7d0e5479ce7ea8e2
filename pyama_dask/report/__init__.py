"""The report of a run: one HTML page that opens anywhere, and one for each FOV on demand."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
