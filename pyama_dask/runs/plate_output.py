"""The plate in an output: which images it lists, and removal of what it no longer has.

An image is listed while the ledger has all of its blocks, so that viewers find no image that is missing or half there.
Its documents are written before its first pixels; the lists of the wells and the plate follow when it is complete, and
are shortened before any of its files is removed. Only the driver writes documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

from pyama_dask.errors import OutputError
from pyama_dask.files.atomic import give_second_name, remove_below, remove_partial
from pyama_dask.plan.plan import FovPlan, Plan
from pyama_dask.readers import Metadata, movie_stem
from pyama_dask.runs.documents import write_documents
from pyama_dask.runs.ownership import discard_from_plate
from pyama_dask.runs.status import LEDGER, read_plan
from pyama_dask.steps.standard import GRAPH, makes_plate
from pyama_dask.store.layout import DOCUMENT
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.plate import LABELS, NAMES, PLATE, images_in_plate, plate_documents
from pyama_dask.workflow.task import WORK, parse_key, task_key

STEP = GRAPH.parts["plate.frames"].step
WITH_TRACKS = GRAPH.kind_of["plate.labels"]
_LIST = re.compile(rf"{re.escape(PLATE)}/([A-Z]+/(\d+/)?)?{re.escape(DOCUMENT)}")
"""Paths of the documents of rows, wells and the plate."""


def check_plate_is_ours(plan: Plan, ledger: Ledger) -> None:
    """Refuse a run that would write into a plate that no run has claimed.

    Raises
    ------
    OutputError
        If there is one.
    """
    path = plan.job.output / PLATE
    if makes_plate(plan.job.config) and not ledger.claimed(PLATE) and (path.exists() or path.is_symlink()):
        raise OutputError(
            f"{path}: was not written by a run, or {LEDGER} has lost the line that says so. "
            "Fix: move it, or choose another 'output'"
        )


def begin_plate(plan: Plan, metadata: Metadata, ledger: Ledger) -> list[str]:
    """Claim the plate for a run, or take the FOVs of a run that wants none out of it.

    Returns
    -------
    Warnings, see `write_documents`; and one if frames and labels will be stored twice.
    """
    if ledger.claimed(PLATE):  # what killed processes have left
        above = {above for image in images_in_plate(metadata.fovs).values() for above in _above(image)}
        for folder in above:
            remove_partial(plan.job.output / PLATE / folder)
    if makes_plate(plan.job.config):
        ledger.claim([PLATE])
        return [*_names_warning(plan.job.output)]
    if not ledger.claimed(PLATE):
        return []
    ledger.void({key: {STEP} for fov in plan.fovs for key in ledger.keys_of(fov.fov)})
    warnings = list_images(plan, metadata, ledger)
    for fov in (fov for fov in plan.fovs if fov.tasks):
        discard_from_plate(plan, ledger, fov)
        remove_image_documents(plan, ledger, fov, {})
    return warnings


def _names_warning(output: Path) -> Iterator[str]:
    """Yield a warning if a file of the output cannot have two names."""
    first, second = (output / WORK / f"{uuid4().hex[:12]}.name" for _ in range(2))
    first.touch()
    try:
        if not give_second_name(first, second):
            yield (
                f"{output / PLATE}: files cannot have two names (hard links) on this file system, so that frames and "
                "labels are stored twice. Fix: choose an 'output' on another disk, or set storage.layout to fovs"
            )
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)


def list_images(plan: Plan, metadata: Metadata, ledger: Ledger, fov: int | None = None) -> list[str]:
    """Write the documents of rows, wells and the plate, which list the complete images.

    Parameters
    ----------
    plan, metadata, ledger
        Run, movie and records.
    fov
        FOV whose image may have become complete, or incomplete; None for any.

    Returns
    -------
    Warnings, see `write_documents`.
    """
    if not ledger.claimed(PLATE):
        return []
    images = images_in_plate(metadata.fovs)
    if fov is not None and fov not in images:
        return []
    name = next((info.plate for info in metadata.fovs if info.plate), None) or movie_stem(plan.job.source)
    done = [images[k] for k in _complete(plan, ledger, images)]
    listed = plate_documents(done, images.values(), name, metadata.plate_shape)
    wanted = {f"{PLATE}/{path}": content for path, content in listed.items()}
    gone = [path for path, _ in ledger.documents(PLATE) if _LIST.fullmatch(path) and path not in wanted]
    concerned = None if fov is None else {f"{PLATE}/{above}{DOCUMENT}" for above in _above(images[fov])}
    warnings = write_documents(
        plan.job.output, ledger, {path: wanted[path] for path in wanted if concerned is None or path in concerned}
    )
    _remove(plan.job.output, ledger, gone)
    return warnings


def _above(image: str) -> tuple[str, str, str]:
    """Paths of the row and well of an image, and of the plate."""
    row, column, _ = image.split("/")
    return f"{row}/", f"{row}/{column}/", ""


def _complete(plan: Plan, ledger: Ledger, images: Mapping[int, str]) -> list[int]:
    """FOVs whose images are recorded in all blocks, with all documents; ascending, also those not in the plan."""
    keys = {fov.fov: [task.key for task in fov.tasks if STEP in task.digests] for fov in plan.fovs if fov.tasks}
    made = ledger.having(STEP)
    recorded = images.keys() & {parse_key(key).fov for key in made}
    if recorded - keys.keys():
        keys = _planned_before(plan.job.output, ledger) | keys
    return sorted(
        fov
        for fov in recorded
        if keys.get(fov) and all(key in made for key in keys[fov]) and _has_documents(ledger, images[fov], keys[fov])
    )


def _has_documents(ledger: Ledger, image: str, keys: Iterable[str]) -> bool:
    """Check whether the documents of an image are there, of which those of the tracks come last."""
    last = f"{PLATE}/{image}/{LABELS}/{NAMES['tracks']}/{DOCUMENT}"
    return bool(ledger.checksums(last)) or all(parse_key(key).kind != WITH_TRACKS for key in keys)


def _planned_before(output: Path, ledger: Ledger) -> dict[int, list[str]]:
    """Keys of the tasks that make the image of each FOV in the output, by the recorded plan."""
    return {
        fov["fov"]: [
            task_key(kind, fov["fov"], block)
            for kind, stage in fov["kinds"].items()
            if STEP in stage["steps"]
            for block in range(stage["tasks"])
        ]
        for fov in read_plan(output, ledger)["fovs"]
    }


def remove_image_documents(plan: Plan, ledger: Ledger, fov: FovPlan, wanted: Mapping[str, bytes]) -> None:
    """Remove recorded documents of a FOV's image that are not wanted any more."""
    if image := fov.tasks[0].in_plate:
        folder = f"{PLATE}/{image}/"
        _remove(
            plan.job.output, ledger, [p for p, _ in ledger.documents(PLATE) if p.startswith(folder) and p not in wanted]
        )


def _remove(output: Path, ledger: Ledger, documents: Iterable[str]) -> None:
    """Remove documents, those of the plate before those of wells, and their records."""
    gone = sorted(documents, key=len)
    for path in gone:
        remove_below(output, [path])
    ledger.writes(dict.fromkeys(gone))
