"""Images at the end of a pipeline as a movie, so that they can be stitched as those of a plate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Self

import numpy as np

from pyama_dask.errors import ConfigError, MissingFrameError, StoreError
from pyama_dask.plan.plan import Plan
from pyama_dask.readers import Metadata
from pyama_dask.readers.base import Channel, Planes
from pyama_dask.steps.flow import MOVIE, Image, flow_of
from pyama_dask.steps.own_arrays import group_of, store_of
from pyama_dask.store.arrays import missing_frames, read_frame
from pyama_dask.store.layout import IMAGES


class ResultReader:
    """Reader of the stored images at the end of a pipeline: its channels are these images.

    Parameters
    ----------
    plan
        Plan of the run.
    metadata
        Of its movie.
    pipeline
        Name of the pipeline.

    Raises
    ------
    ConfigError
        If none of its images is stored, or their size is not that of the movie's frames.
    """

    suffixes: Sequence[str] = ()

    def __init__(self, plan: Plan, metadata: Metadata, pipeline: str) -> None:
        self.path = plan.job.output
        self._plan, self._movie = plan, metadata
        flow = flow_of(plan.job.config)
        self._places: list[tuple[Image, str, str]] = []
        for image in flow.end_of(pipeline).values():
            if image.step is None and image.origin != MOVIE:
                self._places.append((image, IMAGES, image.group))
            for own in flow.own if image.step is not None else ():
                if own.is_stored and any(image is of for of in own.gives):
                    self._places.append((image, store_of(own.pipeline), group_of(own, image)))
        self._places.sort(key=lambda place: int(place[0].name) if place[0].name.isdigit() else len(metadata.channels))
        shape = metadata.fovs[plan.fovs[0].fov].shape
        if not self._places:
            raise ConfigError(f"pipeline {pipeline}: has no stored image to stitch. Fix: let one of its steps give one")
        if deep := next((image for image, *_ in self._places if image.planes), None):
            raise ConfigError(
                f"pipeline {pipeline}: image {deep.name} still has {deep.planes} planes. "
                "Fix: add a step over z before stitching, such as max_projection"
            )
        if other := next((image for image, *_ in self._places if image.shape(shape) != shape), None):
            raise ConfigError(
                f"pipeline {pipeline}: image {other.name} has another size than the sites, whose positions do not fit. "
                "Fix: stitch before the step that changes the size: 'params.stitch' of pyama_dask.Config does"
            )

    @cached_property
    def metadata(self) -> Metadata:
        """Content: FOVs of the run's movie, the processed frames, and the images as channels."""
        names = [channel.name for channel in self._movie.channels]
        channels = tuple(
            Channel(names[int(image.name)] if image.name.isdigit() else image.name, image.dtype)
            for image, *_ in self._places
        )
        held = {fov.fov for fov in self._plan.fovs if fov.tasks}
        n_frames = self._plan.job.n_frames
        fovs = tuple(
            replace(info, missing=() if fov in held else tuple(range(n_frames)), partial=())
            for fov, info in enumerate(self._movie.fovs)
        )
        return replace(
            self._movie, fovs=fovs, n_frames=n_frames, channels=channels, z_planes=1, times_min=None, time_source=None,
            flat_field=None, projected=(),
        )  # fmt: skip

    def read_frame(self, fov: int, frame: int, *, channels: Sequence[int] | None = None, z: int = 0) -> np.ndarray:
        """Read a frame; see `Reader.read_frame`.

        Raises
        ------
        MissingFrameError
            If it was not processed.
        IndexError
            If there is no such plane.
        """
        if z:
            raise IndexError(f"{self.path}: plane {z} is outside 0..0")
        found = []
        for channel in range(len(self._places)) if channels is None else channels:
            _, store, group = self._places[channel]
            images = self._plan.job.fov_dir(fov) / store
            try:
                if frame in missing_frames(images / group / "0"):
                    raise MissingFrameError(f"{self._movie.fovs[fov].name}: frame {frame} was not processed")
                found.append(read_frame(images, f"{group}/0", frame))
            except (StoreError, OSError) as error:
                raise MissingFrameError(f"{self._movie.fovs[fov].name}: {error}") from error
        return np.stack(found)

    def read_into(
        self, out: Planes, fov: int, frame: int, *, channels: Sequence[int] | None = None, z: int = 0
    ) -> None:
        """Read a frame into memory of the caller; see `Reader.read_into` and `read_frame`."""
        for plane, found in zip(out, self.read_frame(fov, frame, channels=channels, z=z), strict=True):
            plane[...] = found

    def close(self) -> None:
        """Do nothing: files are open only while a frame is read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
