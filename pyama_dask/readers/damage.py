"""Exceptions of tifffile, zarr and codecs on damaged files."""

from __future__ import annotations

import struct
import zlib

READ_ERRORS = (
    ArithmeticError,
    LookupError,
    OSError,
    RuntimeError,
    SystemError,  # of numcodecs for a damaged size
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
