"""Attributes of Zarr groups, read from their documents without the package zarr."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pyama_dask.errors import SourceError
from pyama_dask.files.atomic import read_file

DOCUMENTS = "zarr.json", ".zattrs", ".zgroup"
"""Documents of groups, of Zarr 3 and 2."""


def ome_attributes(group: Path) -> dict[str, Any]:
    """OME-NGFF metadata of a group: version 0.5, or an older one.

    Returns
    -------
    Metadata such as ``multiscales``, ``plate`` and ``omero``; empty if there is no such group.

    Raises
    ------
    SourceError
        If the document is damaged.
    """
    attributes = read_attributes(group)
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def read_attributes(group: Path) -> dict[str, Any]:
    """All attributes of a group; raises as `ome_attributes`."""
    path = next((group / name for name in DOCUMENTS[:2] if os.path.lexists(group / name)), None)
    if path is None:
        return {}
    try:
        document = json.loads(read_file(path))
        attributes = document.get("attributes", {}) if path.name == DOCUMENTS[0] else document
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read ({error.strerror}). Fix: check its permissions, or copy it again"
        ) from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise SourceError(f"{path}: is damaged ({error}). Fix: copy it again") from error
    if not isinstance(attributes, dict):
        raise SourceError(f"{path}: is damaged (its attributes are {type(attributes).__name__}). Fix: copy it again")
    return attributes
