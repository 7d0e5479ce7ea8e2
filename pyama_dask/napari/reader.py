"""Reader for napari: takes outputs, FOVs and channels, and refuses all else without opening a file.

napari asks every reader for every folder, whatever its name; so nothing large is imported here before a path is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyama_dask.napari.places import place_of

Reader = Callable[[str | Sequence[str]], list[tuple[Any, dict[str, Any], str]]]
"""Makes data, arguments and kinds of layers from paths."""


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Reader for folders of outputs; None for any other path.

    Parameters
    ----------
    path
        A path, or several that are opened together.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return read if paths and all(place_of(Path(one)) for one in paths) else None


def read(path: str | Sequence[str]) -> list[tuple[Any, dict[str, Any], str]]:
    """Layers of all given folders.

    Raises
    ------
    OutputError
        If a folder holds nothing that can be shown.
    """
    from pyama_dask.napari.layers import layers_at  # noqa: PLC0415  (see above)

    paths = [path] if isinstance(path, str) else list(path)
    return [layer for one in paths if (place := place_of(Path(one))) for layer in layers_at(place)]
