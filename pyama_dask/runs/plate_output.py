"""The plate in an output: which images it lists, and removal of what it no longer has.

An image is listed while the ledger has all of its blocks, so that viewers find no image that is missing or half there.
Its documents are written before its first pixels; the lists of the wells and the plate follow when it is complete, and
are shortened before any of its files is removed. Only the driver writes documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
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
from pyama_dask.store.plate import (
    IMAGE_DOCUMENTS,
    LABELS,
    NAMES,
    PLATE,
    images_in_plate,
    plate_documents,
    plate_size,
    well_and_number,
)
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


class PlateOutput:
    """The plate in the output of a run: its images, and which of them its documents list.

    The list is held while the run goes on, so that a change of one FOV takes as long on a plate of thousands as on a
    small one.

    Parameters
    ----------
    plan, metadata, ledger
        Run, movie and records.
    """

    def __init__(self, plan: Plan, metadata: Metadata, ledger: Ledger) -> None:
        self._plan, self._metadata, self._ledger = plan, metadata, ledger
        self._output = plan.job.output
        self._images = images_in_plate(metadata.fovs)
        self._tasks = {fov.fov: fov.tasks for fov in plan.fovs}
        self._listed: dict[str, set[int]] | None = None
        """Numbers of the listed images by well; None before the first list."""

    def begin(self) -> list[str]:
        """Claim the plate for the run, or take the FOVs of a run that wants none out of it.

        Returns
        -------
        Warnings, see `write_documents`; and one if frames and labels will be stored twice.
        """
        ledger = self._ledger
        if ledger.claimed(PLATE):  # what killed processes have left
            for folder in {above for image in self._images.values() for above in _above(image)}:
                remove_partial(self._output / PLATE / folder)
        if makes_plate(self._plan.job.config):
            ledger.claim([PLATE])
            return [*_names_warning(self._output)]
        if not ledger.claimed(PLATE):
            return []
        ledger.void({key: {STEP} for fov in self._plan.fovs for key in ledger.keys_of(fov.fov)})
        warnings = self.list_images()
        for fov in (fov for fov in self._plan.fovs if fov.tasks):
            discard_from_plate(self._plan, ledger, fov)
            self.remove_documents(fov, {})
        return warnings

    def list_images(self) -> list[str]:
        """Write the documents of rows, wells and the plate, which list the complete images.

        Returns
        -------
        Warnings, see `write_documents`.
        """
        if not self._ledger.claimed(PLATE):
            return []
        listed = dict[str, set[int]]()
        for fov in filter(self._is_complete, self._images):
            well, number = well_and_number(self._images[fov])
            listed.setdefault(well, set()).add(number)
        recorded = [path for path, _ in self._ledger.documents(PLATE) if _LIST.fullmatch(path)]
        return self._write(listed, recorded)

    def list_image(self, fov: int) -> list[str]:
        """List the image of a FOV if it is complete now, or no longer if it is not; warnings as of `list_images`."""
        if not self._ledger.claimed(PLATE) or fov not in self._images:
            return []
        if self._listed is None:
            return self.list_images()
        well, number = well_and_number(self._images[fov])
        numbers = self._listed.get(well, set())
        if self._is_complete(fov) == (number in numbers):
            return []
        listed = {**self._listed, well: numbers ^ {number}}
        if not listed[well]:
            del listed[well]
        return self._write(listed, [f"{PLATE}/{above}{DOCUMENT}" for above in _above(self._images[fov])], only=well)

    def remove_documents(self, fov: FovPlan, wanted: Mapping[str, bytes]) -> None:
        """Remove recorded documents of a FOV's image that are not wanted any more."""
        if image := fov.tasks[0].in_plate:
            paths = (f"{PLATE}/{image}/{name}" for name in IMAGE_DOCUMENTS)
            self._remove(path for path in paths if path not in wanted)

    @cached_property
    def _size(self) -> tuple[int, int]:
        """Rows and columns."""
        return plate_size(self._images.values(), self._metadata.plate_shape)

    @cached_property
    def _name(self) -> str:
        named = (info.plate for info in self._metadata.fovs if info.plate)
        return next(named, None) or movie_stem(self._plan.job.source)

    @cached_property
    def _keys_before(self) -> Mapping[int, list[str]]:
        """Keys of the tasks that make the image of each FOV in the output, by the recorded plan."""
        return {
            fov["fov"]: [
                task_key(kind, fov["fov"], block)
                for kind, stage in fov["kinds"].items()
                if STEP in stage["steps"]
                for block in range(stage["tasks"])
            ]
            for fov in read_plan(self._output, self._ledger)["fovs"]
        }

    def _is_complete(self, fov: int) -> bool:
        """Check whether the image of a FOV is recorded in all blocks, with all documents; of any FOV of the output."""
        if not self._ledger.has_fov(fov):
            return False
        if tasks := self._tasks.get(fov):
            keys = [task.key for task in tasks if STEP in task.digests]
        else:
            keys = self._keys_before.get(fov, [])
        return (
            bool(keys)
            and all(STEP in self._ledger.task(key).done for key in keys)
            and self._has_documents(self._images[fov], keys)
        )

    def _has_documents(self, image: str, keys: Iterable[str]) -> bool:
        """Check whether the documents of an image are there, of which those of the tracks come last."""
        last = f"{PLATE}/{image}/{LABELS}/{NAMES['tracks']}/{DOCUMENT}"
        return bool(self._ledger.checksums(last)) or all(parse_key(key).kind != WITH_TRACKS for key in keys)

    def _write(self, listed: dict[str, set[int]], concerned: Iterable[str], only: str | None = None) -> list[str]:
        """Write the lists of all wells, or of one, and remove those concerned that the plate has no more."""
        contents = plate_documents(listed, self._size, self._name, only=only)
        wanted = {f"{PLATE}/{path}": content for path, content in contents.items()}
        warnings = write_documents(self._output, self._ledger, wanted)
        self._remove(path for path in concerned if path not in wanted)
        self._listed = listed
        return warnings

    def _remove(self, documents: Iterable[str]) -> None:
        """Remove the recorded ones of some documents, those of the plate before those of wells, and their records."""
        gone = sorted((path for path in documents if self._ledger.checksums(path)), key=len)
        for path in gone:
            remove_below(self._output, [path])
        self._ledger.writes(dict.fromkeys(gone))


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


def _above(image: str) -> tuple[str, str, str]:
    """Paths of the row and well of an image, and of the plate."""
    row, column, _ = image.split("/")
    return f"{row}/", f"{row}/{column}/", ""
