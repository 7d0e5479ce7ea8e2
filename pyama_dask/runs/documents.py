"""Documents that the driver writes: their records, and those of a FOV's images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyama_dask.files.atomic import write_together
from pyama_dask.files.checksums import checksum_of
from pyama_dask.plan.plan import FovPlan, Plan
from pyama_dask.readers import Metadata
from pyama_dask.runs.looks import channel_looks, looks
from pyama_dask.steps.image_place import frames_of, pixel_size
from pyama_dask.steps.own_arrays import own_arrays, stored_images
from pyama_dask.steps.standard import TRACKS, makes_plate, record_of
from pyama_dask.store.layout import DOCUMENT, IMAGES, ArraySpec, layout
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.ngff import documents, group_document
from pyama_dask.store.plate import PLATE, image_arrays, image_documents
from pyama_dask.store.trace_csv import place_of
from pyama_dask.workflow.task import Job, fov_name

WHOLE = (0.0, 65535.0)
"""Grey levels that are shown where those of the FOV are not known: all of them."""


def write_documents(output: Path, ledger: Ledger, wanted: Mapping[str, bytes]) -> list[str]:
    """Write the documents of an output that differ from their wanted content, after recording their checksums.

    Parameters
    ----------
    wanted
        Contents by path in the output.

    Returns
    -------
    A warning if any of them was neither as wanted nor as recorded.
    """
    differing, damaged = dict[str, bytes](), []
    for path, content in wanted.items():
        try:
            there = (output / path).read_bytes()
        except OSError:
            there = None
        if there != content:
            differing[path] = content
            if (known := ledger.checksums(path)) and (there is None or checksum_of(there) not in known):
                damaged.append(path)
    ledger.writes({path: checksum_of(content) for path, content in wanted.items()})
    write_together({output / path: content for path, content in differing.items()})
    if not damaged:
        return []
    more = f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
    return [f"{output / damaged[0]}{more}: was damaged or missing, and has been written again"]


def fov_documents(plan: Plan, metadata: Metadata, ledger: Ledger, fov: FovPlan) -> dict[str, bytes]:
    """Contents of all documents of a FOV's images, by path in the output; also in the plate, if there is one.

    The arrays of tracked labels are left out until the tracks are known: they decide how wide their ids are.
    """
    job, folder, copied = plan.job, fov_name(fov.fov), frames_of("copy", plan.job.config, metadata)
    shape, centre = copied.fovs[fov.fov].shape, copied.fovs[fov.fov].position_um
    scale, attributes = (fov.times.interval, copied.pixel_size_um), attributes_of(plan, copied, fov)
    shown, tracks = looks(job, metadata, ledger, fov.fov), _tracks(ledger, fov)
    specs = {path: spec for path, known in layout(job, shape).items() if (spec := _fitted(known, tracks))}
    stored = documents(specs, scale=scale, attributes=attributes, looks=shown)
    # napari-ome-zarr looks for the image of labels two folders up, and creates a group there unless there is one
    found = {f"{folder}/{DOCUMENT}": group_document({})}
    found |= {f"{folder}/{IMAGES}/{path}": content for path, content in stored.items()}
    found |= _documents_of_pipelines(job, metadata, fov, attributes)
    if not makes_plate(job.config):
        return found
    arrays = {
        group: (full, half)
        for group, of in image_arrays(job, shape).items()
        for full, half in [[_fitted(spec, tracks) for spec in of]]
        if full and half
    }
    without = {group: replace(look, window=WHOLE) for group, look in channel_looks(job, metadata).items()}
    stored = image_documents(
        arrays, scale=scale, centre=centre, attributes=attributes, looks=without | shown
    )  # fmt: skip
    return found | {f"{PLATE}/{fov.tasks[0].in_plate}/{path}": content for path, content in stored.items()}


def _documents_of_pipelines(
    job: Job, metadata: Metadata, fov: FovPlan, attributes: Mapping[str, Any]
) -> dict[str, bytes]:
    """Contents of the documents of the stores with images of a user's own steps, by path in the output."""
    shape = metadata.fovs[fov.fov].shape
    stores: dict[str, dict[str, ArraySpec]] = {}
    for spec in own_arrays(job, shape).values():
        stores.setdefault(spec.store, {})[spec.path] = spec
    images = stored_images(job.config)
    sizes = {group: pixel_size(image, metadata, shape) for group, image in images.items()}
    kept = {key: value for key, value in attributes.items() if key not in ("pixel_size_um", "position_um")}
    return {
        f"{fov_name(fov.fov)}/{store}/{path}": content
        for store, specs in stores.items()
        for path, content in documents(
            specs, scale=(fov.times.interval, metadata.pixel_size_um), attributes=kept,
            pixels={spec.group: sizes[store, spec.group] for spec in specs.values()},
        ).items()
    }  # fmt: skip


def attributes_of(plan: Plan, metadata: Metadata, fov: FovPlan) -> dict[str, Any]:
    """Attributes of the store of a FOV's images; the metadata are those of its frames."""
    info = metadata.fovs[fov.fov]
    attributes = {
        "fov": fov.fov, "name": info.name, "position_um": info.position_um, "frames": list(plan.job.frames),
        "times_min": fov.times.minutes.tolist(), "time_source": fov.times.source,
        "pixel_size_um": metadata.pixel_size_um,
    } | place_of(info.well, info.site)  # fmt: skip
    attributes |= {"tiles": [list(tile) for tile in info.tiles]} if info.tiles else {}
    return attributes | ({"flat_field": metadata.flat_field.digest} if metadata.flat_field else {})


def _tracks(ledger: Ledger, fov: FovPlan) -> int | None:
    """Number of tracks of a FOV; None while they are not recorded."""
    key, step = record_of(TRACKS, fov.fov)
    return ledger.task(key).notes.get(step, {}).get("tracks")


def _fitted(spec: ArraySpec, tracks: int | None) -> ArraySpec | None:
    """Spec with the pixel type for a number of tracks; None for tracked labels if that is not known."""
    return None if tracks is None and spec.is_tracked else spec.for_tracks(tracks or 0)
