"""Kinds of tasks by name, and the extent of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Literal, get_args

Kind = str
"""Name of a kind of task, such as ``ingest``."""
Scope = Literal["block", "chain", "fov", "well", "plate"]
"""Extent of a part: frames of a FOV, alone or after the block before; a FOV; all FOVs of a well, or of a plate."""
ON_BLOCKS: Collection[Scope] = ("block", "chain")
OF_SEVERAL_FOVS: Collection[Scope] = ("well", "plate")

NAMES: Mapping[tuple[Scope, int], Kind] = {
    ("block", 0): "ingest", ("fov", 1): "link", ("block", 2): "finish", ("fov", 3): "gather",
}  # fmt: skip
"""Names of kinds of tasks by scope and level; others are named after both, such as ``fov5``."""
ANCHORS: Mapping[str, Kind] = {
    "copy.frames": "ingest", "track.link": "link", "track.relabel": "finish", "extract.table": "gather",
}  # fmt: skip
"""Parts that give the kind of task that they are in its name, on whatever level they are."""


@cache
def scope_of(kind: Kind) -> Scope:
    """Extent of the tasks of a kind, by its name.

    Raises
    ------
    ValueError
        If it is not the name of a kind.
    """
    name = kind.partition("_")[0]
    scopes: dict[str, Scope] = {usual: scope for (scope, _), usual in NAMES.items()}
    scopes |= {scope: scope for scope in get_args(Scope)}
    if (found := scopes.get(name.rstrip("0123456789"))) is None:
        raise ValueError(f"{kind}: is not the name of a kind of task")
    return found


def on_gpu(kind: Kind) -> bool:
    """Check whether tasks of a kind are for workers with a GPU, by its name."""
    return "gpu" in kind.split("_")[1:]


def on_blocks(kind: Kind) -> bool:
    """Check whether each task of a kind works on one block."""
    return scope_of(kind) in ON_BLOCKS
