"""Path of a movie in the config: a file, a folder, or a pattern of file names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from pyama_dask.config.units import AnyPath, quoted

KINDS = ("file", "folder", "pattern")
"""Keys by which the config may say what the path is."""
HOW = "Fix: for single TIFF files, write a pattern of their names such as 'img_p{fov}_t{frame}_c{channel}.tif'"
"""Remedy where several files are named."""


def plain_path(value: Any) -> Any:
    """Convert ``{pattern: NAMES}``, ``{folder: FOLDER}`` or ``{file: FILE}`` to the path; others stay.

    Raises
    ------
    ValueError
        If the value is a list, or a mapping with other keys or more than one.
    """
    if isinstance(value, list | tuple):
        problem = "is a list, but a run has one movie"
        raise ValueError(f"{problem}. {HOW}; else run each file")  # noqa: TRY004  (pydantic takes no TypeError)
    if not isinstance(value, Mapping):
        return value
    if len(value) != 1 or (kind := next(iter(value))) not in KINDS:
        raise ValueError(
            f"must have one of the keys {', '.join(KINDS)}, not {quoted(', '.join(map(str, value)))}. "
            "Fix: what the movie does not state goes into 'params', such as pixel_size and frame_interval"
        )
    if kind == "pattern" and "{" not in str(value[kind]):
        raise ValueError("is a pattern without fields. Fix: write it such as 'img_p{fov}_t{frame}_c{channel}.tif'")
    return value[kind]


MoviePath = Annotated[AnyPath, BeforeValidator(plain_path)]
"""Path of a movie."""
