"""Steps, kinds of tasks, and what each part of a step needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pyama_dask.config.models import Config

Step = Literal["copy", "segment", "track", "background", "crop", "extract", "cache"]


STEPS: tuple[Step, ...] = ("copy", "segment", "track", "background", "crop", "extract", "cache")
"""The seven steps, in their order."""


Kind = Literal["ingest", "link", "finish", "gather"]


KINDS: Mapping[Kind, tuple[Step, ...]] = {
    "ingest": ("copy", "segment", "background"),
    "link": ("track", "crop", "cache"),
    "finish": ("track", "crop", "extract", "cache"),
    "gather": ("crop", "extract"),
}
"""The four tasks of a FOV in their order, and the steps that each has a part in.

Every task of a kind needs all that the kinds before it make of the same FOV; tasks of one kind need nothing of
each other.
"""


BLOCKED: tuple[Kind, ...] = ("ingest", "finish")
"""The kinds that there is one of for every block."""

Part = tuple[Kind, Step]
"""What a kind of task does of a step."""


NEEDS: Mapping[Part, tuple[Part, ...]] = {
    ("ingest", "segment"): (("ingest", "copy"),),
    ("ingest", "background"): (("ingest", "copy"), ("ingest", "segment")),
    ("link", "track"): (("ingest", "segment"),),
    ("link", "crop"): (("ingest", "copy"), ("ingest", "background")),
    ("link", "cache"): (("ingest", "copy"), ("ingest", "background")),
    ("finish", "track"): (("ingest", "segment"), ("link", "track")),
    ("finish", "extract"): (("ingest", "background"), ("link", "track")),
    ("finish", "crop"): (("link", "track"), ("link", "crop"), ("finish", "track")),
    ("finish", "cache"): (("link", "cache"), ("finish", "track")),
    ("gather", "extract"): (("finish", "extract"),),
    ("gather", "crop"): (("finish", "crop"),),
}
"""What each part of a step is made from; parts that a run does not have are passed over."""


def active_steps(config: Config) -> tuple[Step, ...]:
    """Steps that a config asks for, by its channels, ``copy_only`` and ``storage``."""
    off: set[Step] = set()
    if config.params.copy_only or config.channels.pc is None:
        off = set(STEPS) - {"copy", "cache"}
    elif not config.channels.fl:
        off = {"background"}
    if config.storage.cells == "off":
        off.add("crop")
    if config.storage.display == "off":
        off.add("cache")
    return tuple(step for step in STEPS if step not in off)
