"""Names, colours and grey levels with which viewers show the groups of a FOV, as far as the run knows them yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from pyama_dask.errors import StoreError
from pyama_dask.files.palette import LIGHT
from pyama_dask.readers import Metadata
from pyama_dask.steps.standard import GRAPH, LEVELS, TRACKS, record_of
from pyama_dask.store import intermediate
from pyama_dask.store.layout import background_name, channel_indices, labels_name, raw_name, tracked_name
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.ngff import MOST_COLOURS, Look
from pyama_dask.workflow.task import Job


def looks(job: Job, metadata: Metadata, ledger: Ledger, fov: int) -> dict[str, Look]:
    """Looks of the groups of a FOV, by name.

    Grey levels are those of the display levels, and the ids of cells are read from the tables of the tracks. Groups are
    left out while these are not recorded, or damaged: nothing but pictures depends on them.
    """
    pc, _ = channel_indices(job.config)
    windows = _recorded(job, ledger, LEVELS, fov, intermediate.windows_file)
    shown = {
        group: Look(look.label, look.colour, (low, high))
        for group, look in channel_looks(job, metadata).items()
        for low, high in [windows.get(group, np.full(2, np.nan)).tolist()]
        if np.isfinite([low, high]).all() and high > low
    }
    return shown | ({} if pc is None else dict(_looks_of_labels(job, ledger, fov, pc)))


def channel_looks(job: Job, metadata: Metadata) -> dict[str, Look]:
    """Names and colours of the groups with grey levels, by name."""
    pc, fl = channel_indices(job.config)
    names = [channel.name for channel in metadata.channels]
    found = {raw_name("pc", pc): Look(names[pc])} if pc is not None else {}
    for rank, channel in enumerate(fl):
        look = Look(names[channel], LIGHT[rank % len(LIGHT)])
        found |= {raw_name("fl", channel): look, background_name(channel): Look(f"{look.label} background")}
    return found


def _looks_of_labels(job: Job, ledger: Ledger, fov: int, pc: int) -> Iterator[tuple[str, Look]]:
    """Looks of labels: objects of single frames by number, kept cells by id; others stay clear."""
    tracks = _recorded(job, ledger, TRACKS, fov, intermediate.tracks_file, "objects")
    cells = _recorded(job, ledger, TRACKS, fov, intermediate.cells_file, "ids")
    objects, kept = int(tracks.get("objects", np.array(0))), cells.get("ids", np.array([], np.int64))
    if 0 < objects <= MOST_COLOURS:
        yield labels_name(pc), Look("objects", ids=range(1, objects + 1))
    if 0 < len(kept) <= MOST_COLOURS:
        yield tracked_name(pc), Look("cells", ids=kept.tolist())


def _recorded(
    job: Job, ledger: Ledger, part: str, fov: int, place: Callable[[Path], Path], *names: str
) -> Mapping[str, np.ndarray]:
    """Arrays of a part's table by name, only some of them if they are named; none if it is not recorded, or damaged."""
    path, (key, step) = place(job.work_dir(fov)), record_of(part, fov)
    files = ledger.task(key).files.get(step, {}) if GRAPH.parts[part].active(job.config) else ()
    try:
        return intermediate.load(path, *names) if path.relative_to(job.output).as_posix() in files else {}
    except (StoreError, OSError):
        return {}
