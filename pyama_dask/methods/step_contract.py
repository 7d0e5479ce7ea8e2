"""Contract of a step: what its function takes and gives, found by its signature and by a trial on made data.

>>> contract = tried(step, "pipeline 'prepare', step 'sharpen'", {"GFP": ImageType((2048, 2048), "uint16")})
>>> contract.takes, contract.gives, contract.halo
('frame', 'image', 0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from pyama_dask.config.pipelines import Step
from pyama_dask.errors import ConfigError
from pyama_dask.methods.array_types import ArrayType
from pyama_dask.methods.bounded_call import Allowance
from pyama_dask.methods.entry_points import nearest
from pyama_dask.methods.last_words import named_if_killed
from pyama_dask.methods.made_images import SMALL, ImageType
from pyama_dask.methods.step_functions import StepFunction, Takes, read_step
from pyama_dask.methods.step_results import UnfitError
from pyama_dask.methods.step_trial import Found, try_images, try_tables

Per = Literal["frame", "stack", "fov", "well"]
Gives = Literal["image", "labels", "images", "table"]
HaloOf = Callable[[str, Mapping[str, Any]], int | None]
"""Function that gives the registered halo of a function by its name and parameters; None if it has none."""
TRACES: Mapping[str, Mapping[str, str]] = {"traces": {"area_ch_0": "float64", "intensity_total_ch_1": "float64"}}
"""Types of the columns of tables, if no others are given."""
SECONDS = 120.0
"""Time that the trial of a step may take."""
PER: Mapping[Takes, Per] = {"frame": "frame", "planes": "frame", "stack": "stack", "traces": "fov", "tables": "well"}


@dataclass(frozen=True)
class Contract:
    """Contract of a step, for images of one type.

    Parameters
    ----------
    function
        Function and checked parameters, for calls.
    takes
        ``frame`` (H, W), ``stack`` (T, H, W), ``planes`` (Z, H, W), ``traces`` of a FOV, or ``tables`` of a well by
        FOV.
    per
        What it is called for: each ``frame``, ``stack`` of a block, ``fov`` or ``well``.
    gives
        ``image``, ``labels``, ``images`` by name, or ``table``. A table per stack has a column ``frame``, the index in
        the stack; one per frame has none.
    halo
        Frames before and after a block that the stack must have; results of these frames are dropped.
    images
        Types of the images that it gives, by name; '' for a single one.
    columns
        Types of the columns of the table that it gives, by name, as found on made data.
    """

    function: StepFunction
    takes: Takes
    per: Per
    gives: Gives
    halo: int
    images: Mapping[str, ImageType]
    columns: Mapping[str, str]

    @property
    def array(self) -> ArrayType:
        """Type of array that the function works on."""
        return self.function.array


def tried(
    step: Step,
    where: str,
    images: Mapping[str, ImageType] | None = None,
    *,
    tables: Mapping[str, Mapping[str, str]] = TRACES,
    halo_of: HaloOf | None = None,
    seconds: float = SECONDS,
) -> Contract:
    """Find the contract of a step, and refuse a function that does not fit; equal calls are tried once.

    Parameters
    ----------
    step
        Not one of the seven.
    where
        Pipeline and step, for messages.
    images
        Types of the images of the step's ``of`` by name, or of the one image that it is applied to; None for tables.
    tables
        Types of the columns of the tables that a step may name in ``of``, by name of the table; of the ``traces``,
        those of columns that not all traces have.
    halo_of
        Registered halos by name and parameters, for functions of stacks; the step's own comes first.
    seconds
        Time that the trial may take.

    Raises
    ------
    ConfigError
        If the function is not found or does not fit; the message names its place, the data, the result, and a fix.
    """
    function, images = read_step(step, where), images or {}
    key = repr((step, function.identity, sorted(images.items()), None if images else tables, halo_of))
    if key not in _KNOWN:
        title = f"{where}: {function.title}"
        with _titled(title), named_if_killed(title):
            _KNOWN[key] = _found(step, function, images, tables, halo_of, Allowance(seconds, title))
    return _KNOWN[key]


@contextmanager
def _titled(title: str) -> Iterator[None]:
    """Put pipeline, step and function before errors about it."""
    try:
        yield
    except UnfitError as error:
        raise ConfigError(f"{title} {error.problem}. Fix: {error.fix}") from error
    except ConfigError as error:  # a package is missing
        raise ConfigError(f"{title}: {error}") from error


_KNOWN: dict[str, Contract] = {}
"""Contracts that this process has found."""


def _found(
    step: Step,
    function: StepFunction,
    images: Mapping[str, ImageType],
    tables: Mapping[str, Mapping[str, str]],
    halo_of: HaloOf | None,
    allowance: Allowance,
) -> Contract:
    choices = _choices(step, function)
    if choices[0] in ("traces", "tables"):
        if unknown := next((str(name) for name in step.of if name not in tables), None):
            listed = f"{', '.join(tables)}{nearest(unknown, [*tables])}"
            raise UnfitError(f"takes tables, but no step before gives a table of FOVs {unknown!r}", f"choose {listed}")
        given = {str(name): tables[str(name)] for name in step.of or ("traces",)}
        found = try_tables(function, choices[0], given, allowance)
        _check_target(step, found)
        return _contract(function, choices[0], 0, found)
    if not images:
        fix = "annotate the table as pd.DataFrame, say  takes: traces,  or name images"
        raise UnfitError("gets no image", fix)
    _check_labels(function, images)
    if step.halo and "stack" in choices:
        choices = ["stack"]

    def halo_for(takes: Takes) -> int:
        if step.halo is not None:
            return step.halo
        return (takes == "stack" and halo_of and halo_of(step.do, function.parameters)) or 0

    takes, found = _first_that_fits(function, choices, images, halo_for, allowance)
    halo = halo_for(takes)
    if halo and takes != "stack":
        raise UnfitError(f"gets single {takes}s, but has a halo of {halo}", "let it take a stack, or leave out 'halo'")
    _check_target(step, found)
    return _contract(function, takes, halo, found)


def _check_labels(function: StepFunction, images: Mapping[str, ImageType]) -> None:
    """Refuse an image for a parameter that is annotated as labels."""
    hints = function.given if function.by_position else function.given[:1] * len(images)
    for hint, (name, image) in zip(hints, images.items(), strict=False):
        if hint.is_labels and not image.is_labels:
            fix = "name labels in 'channels' or 'of', in the order of the function's arguments"
            raise UnfitError(f"takes labels, but gets the image {name}", fix)


def _contract(function: StepFunction, takes: Takes, halo: int, found: Found) -> Contract:
    gives: Gives = "table" if found.columns is not None else "image" if "" in found.images else "images"
    if gives == "image" and found.images[""].is_labels:
        gives = "labels"
    return Contract(function, takes, PER[takes], gives, halo, found.images, found.columns or {})


def _choices(step: Step, function: StepFunction) -> list[Takes]:
    """Data that the function may take, the first of which is tried first."""
    annotated, key = function.takes, step.takes
    if annotated and key and annotated != key:
        raise UnfitError(f"takes {annotated}, as annotated, but the step says takes: {key}", "correct one of them")
    says = annotated or key
    if says == "planes" and step.over != "z":
        raise UnfitError("takes all planes of a frame", "add  over: z  to the step")
    if step.over == "z" and says not in ("planes", None):
        raise UnfitError(
            f"takes {says}, but the step says over: z", "let it take planes (Z, H, W), or leave out 'over'"
        )
    if step.over == "z":
        return ["planes"]
    return [says] if says else ["frame", "stack"]


def _first_that_fits(
    function: StepFunction,
    choices: Sequence[Takes],
    images: Mapping[str, ImageType],
    halo_for: Callable[[Takes], int],
    allowance: Allowance,
) -> tuple[Takes, Found]:
    """First choice that fits, on small made images, else on those of the movie's shape.

    Crops, for example, may need more pixels than small images have.
    """
    errors = list[UnfitError]()
    small = _small(images)
    for made in [small, images] if small != images else [small]:
        for takes in choices:
            try:
                return takes, try_images(function, takes, made, images, halo_for(takes), allowance)
            except UnfitError as error:
                if not error.failed and takes == choices[0]:
                    raise
                errors.append(error)
    certain = [error for error in errors if not error.failed]
    first, *others = certain or errors
    further = dict.fromkeys(error.problem for error in others[: len(choices) - 1] if error.problem != first.problem)
    raise UnfitError("; ".join([first.problem, *further]), first.fix) from first


def _small(images: Mapping[str, ImageType]) -> dict[str, ImageType]:
    """Types of small images whose shapes are in the same proportion."""
    height, width = (max((image.shape[axis] for image in images.values()), default=1) for axis in (0, 1))

    def small(shape: tuple[int, int]) -> tuple[int, int]:
        rows, columns = (math.ceil(s * n / m) for s, n, m in zip(SMALL, shape, (height, width), strict=True))
        return min(rows, shape[0]), min(columns, shape[1])

    return {name: replace(image, shape=small(image.shape)) for name, image in images.items()}


def _check_target(step: Step, found: Found) -> None:
    """Check that the step names the table or image that its function gives."""
    if found.columns is None:
        if step.to and "" not in found.images:
            names = ", ".join(found.images)
            raise UnfitError(
                f"gives several images by name ({names}), but the step says to: {step.to}", "leave out 'to'"
            )
        if step.to == "traces":
            raise UnfitError("gives images, but the step says to: traces", "choose another name")
        if step.of and not step.to and "" in found.images:
            fix = "add  to: NAME  to the step"
            raise UnfitError(f"makes one image of {', '.join(map(str, step.of))}, but the image has no name", fix)
        return
    if not step.to:
        raise UnfitError("gives a table, but the table has no name", "add  to: NAME  to the step, or  to: traces")
    if step.to == "traces" and found.unjoined:
        raise UnfitError(found.unjoined, found.fix)
