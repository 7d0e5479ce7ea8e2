"""A synthetic movie with known truth, and how well traces agree with it.

Import the functions `compare` and `write_czi` from the modules of their name, which they would hide here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
