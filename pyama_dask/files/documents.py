"""JSON documents that only inform: whatever is missing or damaged in them is left out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyama_dask.files.atomic import read_file

Types = Mapping[str, type | tuple[type, ...]]
"""Types of the fields of a document, by name."""


def read_fields(path: Path, types: Types) -> dict[str, Any]:
    """Read the fields of a JSON document that have the types they should have.

    Parameters
    ----------
    path
        The file.
    types
        Types of the fields, by name; others are left out, as are numbers that are not finite.

    Returns
    -------
    Values by name; empty if the file is missing or damaged.
    """
    try:
        document = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return {}
    found = document if isinstance(document, dict) else {}
    return {name: value for name, value in found.items() if isinstance(value, types.get(name, ())) and _finite(value)}


def _finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
