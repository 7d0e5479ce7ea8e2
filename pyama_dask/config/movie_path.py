"""Path of a movie in the config: a file, a folder, or a pattern of file names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from pyama_dask.config.units import AnyPath, quoted

KINDS = ("file", "folder", "pattern")
"""Keys by which the config may say what the path is."""


def plain_path(value: Any) -> Any:
    """Convert ``{pattern: NAMES}``, ``{folder: FOLDER}`` or ``{file: FILE}`` to the path; others stay.

    Raises
    ------
    ValueError
        If a mapping has other keys, or more than one.
    """
    if not isinstance(value, Mapping):
        return value
    if len(value) != 1 or (kind := next(iter(value))) not in KINDS:
        raise ValueError(f"must have one of the keys {', '.join(KINDS)}, not {quoted(', '.join(map(str, value)))}")
    if kind == "pattern" and "{" not in str(value[kind]):
        raise ValueError("is a pattern without fields. Fix: write it such as 'img_p{fov}_t{frame}_c{channel}.tif'")
    return value[kind]


MoviePath = Annotated[AnyPath, BeforeValidator(plain_path)]
"""Path of a movie."""
