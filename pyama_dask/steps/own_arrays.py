"""Arrays and tables that steps of a user's own store in an output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pyama_dask.config.models import Config
from pyama_dask.files.atomic import TEMPORARY, longest_name, shortened
from pyama_dask.readers import movie_stem
from pyama_dask.steps.flow import TRACES, Image, Own, flow_of
from pyama_dask.store.layout import ArraySpec, form_of
from pyama_dask.workflow.task import Job, fov_name

TAKEN = ("cells", "images", "plate")
"""Names of pipelines that are those of other stores."""
WELLS = "wells"
"""Folder of the tables of wells in an output."""


def store_of(pipeline: str) -> str:
    """Store in a FOV's folder with the images of a pipeline, whose name may be that of another store."""
    return f"{pipeline}_steps.zarr" if pipeline in TAKEN else f"{pipeline}.zarr"


def group_of(own: Own, image: Image) -> str:
    """Group in the store: the name of the image, after that of the step if several of the pipeline give it."""
    return f"{own.title}_{image.name}"


def stored_images(config: Config) -> dict[tuple[str, str], Image]:
    """Images that steps of a user's own store, by store and group."""
    return {
        (store_of(own.pipeline), group_of(own, image)): image
        for own in flow_of(config).own
        if own.is_stored
        for image in own.gives
    }


def is_of_well(own: Own) -> bool:
    """Check whether a step gives tables of wells."""
    return own.step.planned.per == "well"


def own_places(own: Own) -> Iterator[str]:
    """Yield the stores and groups that a step writes to, and its table, by path in the folder of a FOV or well."""
    if any(image.shifts for image in own.gives):
        yield f"*_{_table_name(own)}"
    if own.is_stored:
        yield from (f"{store_of(own.pipeline)}/{group_of(own, image)}" for image in own.gives)
    elif not own.gives and own.step.to != TRACES:
        folder = f"{WELLS}/" if is_of_well(own) else ""
        yield f"{folder}*_{_table_name(own)}"


def _table_name(own: Own) -> str:
    return f"{own.pipeline}_{own.step.to or own.title}.csv"


def own_arrays(job: Job, shape: tuple[int, int]) -> dict[str, ArraySpec]:
    """Arrays of the images that steps of a user's own store, by path in the FOV's folder and plane.

    Parameters
    ----------
    job
        Its config decides which arrays there are.
    shape
        (H, W) of the FOV's frames in the movie, in pixels.
    """
    found: dict[str, ArraySpec] = {}
    for own in flow_of(job.config).own:
        for image in own.gives if own.is_stored else ():
            for plane, spec in enumerate(specs_of(job, own, image, shape)):
                found[f"{spec.store}/{spec.path}" + (f" {plane}" if image.planes else "")] = spec
    return found


def specs_of(job: Job, own: Own, image: Image, shape: tuple[int, int]) -> list[ArraySpec]:
    """Specs of a stored image, one for each plane; `shape` is (H, W) in the movie, in pixels."""
    whole = (job.n_frames, *image.shape(shape))
    one = ArraySpec(
        group_of(own, image), own.name, 0, whole, image.dtype, job.block_frames, **form_of(job.config.storage),
        store=store_of(own.pipeline), holds_labels=image.is_labels, stack_axis="z",
    )  # fmt: skip
    return [replace(one, stack=(z, image.planes)) for z in range(image.planes)] or [one]


def own_table_file(fov_dir: Path, source: Path, fov: int, own: Own) -> Path:
    """Path of the table that a step gives of a FOV; a name too long for the file system is truncated."""
    ending = f"_{fov_name(fov)}_{_table_name(own)}"
    return fov_dir / (shortened(movie_stem(source), longest_name(fov_dir) - len(ending) - TEMPORARY) + ending)


def well_table_file(output: Path, source: Path, well: str, own: Own) -> Path:
    """Path of the table that a step gives of a well."""
    folder = output / WELLS
    ending = f"_{well}_{_table_name(own)}"
    return folder / (shortened(movie_stem(source), longest_name(output) - len(ending) - TEMPORARY) + ending)
