"""Trials of methods from other packages and files when a run is planned, to find wrong ones before a long run."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.models import Config
from pyama_dask.errors import AlgorithmError, ConfigError, OutOfMemoryError, WrongReturnError
from pyama_dask.kernels.features import Intensities, Pixels, Shapes
from pyama_dask.methods.bounded_call import ends_with_message
from pyama_dask.methods.call import Chosen
from pyama_dask.methods.entry_points import line_of
from pyama_dask.methods.last_words import named_if_killed
from pyama_dask.methods.objects import ExtractionContext
from pyama_dask.methods.registry import is_plugin, method_identity, ready_method
from pyama_dask.methods.tracker_parameters import own_parameters
from pyama_dask.readers import Metadata
from pyama_dask.steps.extract import measured_columns
from pyama_dask.steps.image_place import frames_of
from pyama_dask.steps.segment import preprocessed, segmented
from pyama_dask.steps.standard import finds_cells
from pyama_dask.steps.track import follow
from pyama_dask.workflow.task import digest

LARGEST = (240, 256)
"""Largest (H, W) of synthetic frames; they are not square, to find methods that swap the axes."""
PITCH = 64
"""Distance of neighbouring cells in pixels."""

Tried = Callable[[Chosen, "Made", str], "Made"]
"""Run of a method on synthetic data, which returns the data for the next method."""

Known = dict[str, tuple[str, "Made"]]
"""Warnings of trials and the data that they gave, by digests of what was tried."""


@dataclass(frozen=True)
class Made:
    """Synthetic phase-contrast frame with textured cells."""

    frame: np.ndarray
    """(H, W) of the movie's type."""
    centres: npt.NDArray[np.int32]
    """(N, 2) of the cells."""
    radius: int

    @classmethod
    def like(cls, shape: tuple[int, int], dtype: str) -> Made:
        """Make a frame of a movie's pixel type, no larger than its frames; always the same."""
        height, width = (min(of) for of in zip(shape, LARGEST, strict=True))
        pitch = min(PITCH, height, width)
        radius, rows, columns = pitch // 4, height // pitch, width // pitch
        centres = np.indices((rows, columns)).reshape(2, -1).T * pitch + pitch // 2
        cell = np.add.outer(*[(np.arange(pitch) - pitch // 2) ** 2] * 2) <= radius**2
        spread = np.full((height, width), 2)
        spread[: rows * pitch, : columns * pitch][np.tile(cell, (rows, columns))] = 40
        grey = np.clip(np.random.default_rng(1).normal(100, spread), 0, 255) * (1 if dtype == "uint8" else 100)
        return cls(grey.astype(dtype), centres.astype(np.int32), radius)

    @property
    def boxes(self) -> list[npt.NDArray[np.int32]]:
        """(N, 4) boxes of three frames: all cells, no cells, and all cells slightly shifted."""
        found = np.hstack([self.centres - self.radius, self.centres + self.radius + 1])
        return [found, found[:0], found + self.radius // 8]

    @property
    def shapes(self) -> list[Shapes]:
        """Shapes of all cells, and of zero cells."""
        around, area = np.ones(len(self.centres)), np.pi * max(self.radius, 1) ** 2
        of_disk = np.outer(around, [area / (4 * np.pi), area / (4 * np.pi), 0.0])
        every = Shapes((around * area).astype(np.int64), of_disk, around * np.sqrt(4 * np.pi * area), self.pixels())
        return [every, Shapes(every.area[:0], every.covariance[:0], every.perimeter[:0], self.pixels(0))]

    @property
    def intensities(self) -> list[Intensities]:
        """Intensities of all cells, and of zero cells."""
        mean = np.linspace(10.0, 90.0, len(self.centres))
        none, level = mean[:0], np.float32(self.frame.min())
        return [
            Intensities(mean * self.radius, mean, 2 * mean, mean, self.pixels(level=level)),
            Intensities(none, none, none, none, self.pixels(0, level)),
        ]

    def pixels(self, cells: int | None = None, level: np.float32 | None = None) -> Pixels:
        """Pixels of the first cells, all of them by default; with a background of one level, if it is given."""
        boxes = self.boxes[0][:cells]
        labels = np.zeros(self.frame.shape, np.uint16)
        disk = np.add.outer(*[np.arange(-self.radius, self.radius + 1) ** 2] * 2) <= self.radius**2
        for k, (y0, x0, y1, x1) in enumerate(boxes, 1):
            labels[y0:y1, x0:x1][disk] = k
        background = None if level is None else np.full(self.frame.shape, level)
        return Pixels(self.frame, labels, boxes, background, 0.0 if level is None else 1.0)


def try_methods(config: Config, metadata: Metadata, known: Known | None = None) -> list[str]:
    """Run each method of other people on synthetic data, and check what it gives as a run would.

    That a method fails on synthetic data does not prove that it is wrong, unless it would fail on all data: a name or a
    module that is not there, an attribute that a module or its data does not have, arguments that a function does not
    take. Ready plugins are right, and may take long to load, so that only what they need is looked for.

    Parameters
    ----------
    config
        Resolved config.
    metadata
        Of the movie.
    known
        Results of earlier trials, which are not repeated; by default those of this process.

    Returns
    -------
    Warnings, for methods that could not be tried.

    Raises
    ------
    ConfigError
        If one gives something else than it must, would fail on all data, or has not what it needs; names key, method,
        file and line.
    """
    trials = [trial for trial in _trials(config) if is_plugin(trial.kind, trial.name)]
    if not trials or config.channels.pc is None:
        return []
    seen = frames_of("segment", config, metadata)
    made = Made.like(seen.fovs[0].shape, seen.channels[int(config.channels.pc.channel)].dtype)
    found = []
    for trial in trials:
        if ready := ready_method(trial.kind, trial.name):
            try:
                ready.check(trial.parameters)
            except ConfigError as error:
                raise ConfigError(f"{trial.key}: {trial.kind} {trial.name!r}: {error}") from error
            continue
        warning, made = trial.once(made, _TRIED if known is None else known)
        found += [warning] if warning else []
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Trial:
    """One method to be tried."""

    key: str
    """Config key that names it."""
    kind: str
    name: str
    parameters: Mapping[str, Any]
    run: Tried

    def once(self, made: Made, known: Known) -> tuple[str, Made]:
        """Warning, '' if all is well, and the data for the next method; what is known is not tried again."""
        given = str(made.frame.dtype), made.frame.shape, hashlib.blake2b(made.frame.tobytes()).hexdigest()
        key = digest(self.key, method_identity(self.kind, self.name), self.parameters, given)
        if key not in known:
            known[key] = self._result(made)
        return known[key]

    def _result(self, made: Made) -> tuple[str, Made]:
        where = f"{self.key}, tried on synthetic data"
        method = Chosen(self.kind, self.name, **self.parameters)
        try:
            # of a synthetic frame
            with (
                warnings.catch_warnings(action="ignore"), ends_with_message(),
                named_if_killed(f"{self.key}: the {self.kind} {self.name!r}"),
            ):  # fmt: skip
                return "", self.run(method, made, where)
        except WrongReturnError as error:
            raise ConfigError(str(error)) from error
        except OutOfMemoryError as error:
            problem = str(error).removeprefix(f"{where}: ")
        except AlgorithmError as error:
            problem = str(error).removeprefix(f"{where}: ") + line_of(error.__cause__, method.function)
            if _fails_always(error.__cause__):
                raise ConfigError(f"{where}: {problem}") from error
        return (
            f"{self.key}: could not be tried on synthetic data: {problem}; if it fails on the movie, too, FOVs fail",
            made,
        )


_TRIED: Known = {}
"""Results of trials in this process."""


def _trials(config: Config) -> Iterator[Trial]:
    """Methods that a run would use, in the order of their use."""
    params, channels = config.params, config.channels
    if not finds_cells(config):
        return
    for name in params.preprocess:
        yield Trial("params.preprocess", "preprocessor", name, {}, _preprocess)
    segmenter = params.segmentation_method
    yield Trial("params.segmentation_method", "segmenter", segmenter, params.segmentation_params, _segment)
    given = own_parameters(params.tracking_method, params.tracking_params)
    yield Trial("params.tracking_method", "tracker", params.tracking_method, given, _track)
    for name in channels.pc.features if channels.pc else ():
        yield Trial("channels.pc.features", "phase feature", name, {}, _measure_shapes)
    for k, choice in enumerate(channels.fl):
        for name in choice.features:
            yield Trial(f"channels.fl.{k}.features", "fluorescence feature", name, {}, _measure_intensities)


def _preprocess(method: Chosen, made: Made, where: str) -> Made:
    return Made(preprocessed(method, made.frame.copy(), where), made.centres, made.radius)


def _segment(method: Chosen, made: Made, where: str) -> Made:
    segmented([], method, made.frame.copy(), where)
    return made


def _track(method: Chosen, made: Made, where: str) -> Made:
    follow(method, made.boxes, where, lambda t: f"{where}, frame {t}")
    return made


def _measure_shapes(method: Chosen, made: Made, where: str) -> Made:
    for shapes in made.shapes:
        measured_columns([method], 0, where, shapes, len(shapes.area))
    return made


def _measure_intensities(method: Chosen, made: Made, where: str) -> Made:
    for intensities in made.intensities:
        measured_columns([method], 0, where, intensities, len(intensities.total))
    return made


# -------------------------------------------------------------------------------------- what exceptions say


_ARGUMENTS = re.compile(r"unexpected keyword argument|missing \d+ required|positional arguments? but")
GIVEN = (ModuleType, np.ndarray, list, Shapes, Intensities, ExtractionContext)
"""Types whose missing attributes are certain faults: modules, and the data of methods."""


def _fails_always(error: BaseException | None) -> bool:
    """Check whether an exception of a method means that it would fail on all data."""
    if isinstance(error, SystemExit | KeyboardInterrupt | GeneratorExit):
        return True
    if isinstance(error, AttributeError):
        return isinstance(error.obj, GIVEN)
    if isinstance(error, TypeError):
        return bool(_ARGUMENTS.search(str(error)))
    return isinstance(error, NameError | ImportError | SyntaxError) and not isinstance(error, UnboundLocalError)
