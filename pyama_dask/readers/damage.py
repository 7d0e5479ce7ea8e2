"""Exceptions of tifffile, zarr and codecs on damaged files."""

from __future__ import annotations

import logging
import struct
import zlib

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it prints each damaged tag, without the file
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
