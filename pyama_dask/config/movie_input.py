"""``input`` of the config: the movie, and what the user states about it instead of the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_serializer
from pydantic import model_validator as validates_model

from pyama_dask.config.base import Model
from pyama_dask.config.units import AnyPath, Minutes, PixelSize, as_path

KINDS = ("file", "folder", "pattern")
"""Keys by which the config may say what the path is."""
HOW = "Fix: for single TIFF files, write a pattern of their names such as 'img_p{fov}_t{frame}_c{channel}.tif'"
"""Remedy where several files are named."""


class MovieInput(Model):
    """The movie of a run: exactly one path, and facts that count instead of those in the file."""

    file: AnyPath | None = Field(None, description="path of the movie, if it is a file")
    folder: AnyPath | None = Field(None, description="path of the movie, if it is a folder")
    pattern: AnyPath | None = Field(None, description="pattern of names of TIFF files such as img_p{fov}_t{frame}.tif")
    pixel_size: PixelSize | None = Field(None, description="micrometres per pixel, instead of the file's own value")
    frame_interval: Minutes | None = Field(
        None, description="minutes between frames, instead of the file's time stamps and interval"
    )
    plate: Literal[6, 12, 24, 48, 96, 384, 1536] | None = Field(
        None, description="number of wells of the plate, instead of the file's own value"
    )

    @validates_model(mode="after")
    def _one_path(self) -> Self:
        named = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            problem = f"has the keys {' and '.join(named)}" if named else "has no path"
            raise ValueError(f"{problem}. Fix: give exactly one of the keys {', '.join(KINDS)}")
        if self.pattern is not None and "{" not in str(self.pattern):
            raise ValueError("is a pattern without fields. Fix: write it such as 'img_p{fov}_t{frame}_c{channel}.tif'")
        return self

    @property
    def path(self) -> Path:
        """File, folder, or pattern of file names."""
        return next(path for path in (self.file, self.folder, self.pattern) if path is not None)

    def at(self, path: Path) -> MovieInput:
        """The same facts about a movie at another path."""
        kept = {name: getattr(self, name) for name in self.model_fields_set - {*KINDS}}
        return MovieInput(file=path, **kept)

    @model_serializer
    def _shortest(self) -> Any:
        """The path alone if nothing else is stated, as older versions wrote it."""
        given = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        return given if len(given) > 1 else self.path


def _as_keys(value: Any) -> Any:
    """Convert a path to keys; mappings stay."""
    if isinstance(value, list | tuple):
        problem = "is a list, but a single run has one movie"
        remedy = "pass the config to 'pyama-dask run' or pyama_dask.run, which process several"
        raise ValueError(f"{problem}. {HOW}; else {remedy}")  # noqa: TRY004  (pydantic takes no TypeError)
    return value if isinstance(value, Mapping | MovieInput) else {"file": as_path(value)}


Input = Annotated[MovieInput, BeforeValidator(_as_keys)]
"""A movie: its path, or a mapping with the path and what is stated about the movie."""
