"""Pipelines by the names of OpenHCS, and what they are here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyama_dask.config.pipelines as own
from pyama_dask.api.openhcs.steps import FunctionStep, valid_name
from pyama_dask.api.openhcs.well_steps import AbstractStep, ImageStitchingStep, PositionGenerationStep
from pyama_dask.config.messages import named_keys
from pyama_dask.errors import ConfigError
from pyama_dask.readers import Metadata

Item = FunctionStep | AbstractStep | own.Step | str


class Pipeline(list[Item]):
    """Steps in sequence.

    Parameters
    ----------
    steps
        `FunctionStep`, steps with `process`, and steps of this package: `pyama_dask.Step`, or names of the seven, such
        as ``[*pyama_dask.config.pipelines.SEVEN]``.
    name
        Name in files and reports.
    """

    def __init__(self, steps: Iterable[Item] = (), name: str | None = None, description: str | None = None) -> None:
        super().__init__(own.SEVEN if steps == "seven" else steps)
        self.name, self.description = name, description


@dataclass(frozen=True)
class Translated:
    """Pipelines of this package, and what the script does after them."""

    pipelines: tuple[own.Pipeline, ...]
    """Pipelines with a function, or with the seven steps."""
    after: tuple[tuple[str, AbstractStep], ...]
    """Steps with `process`, each with the last pipeline until there; '' without one."""
    without_effect: tuple[str, ...]
    """Messages about settings that have no effect."""

    @property
    def has_seven(self) -> bool:
        """True if the seven steps are among the pipelines."""
        return any(pipeline.has_seven for pipeline in self.pipelines)

    @property
    def takes_planes(self) -> bool:
        """True if a step gets all planes of a frame."""
        return any(step.over == "z" for pipeline in self.pipelines for step in pipeline.steps)


def translated(
    definition: Iterable[Any], metadata: Metadata, channels: Sequence[int], *, stores_all: bool = False
) -> Translated:
    """Translate pipelines: a list of steps, or of lists of steps, each of which gets the images of the one before.

    Parameters
    ----------
    definition
        Pipelines, or the steps of one.
    metadata
        Of the plate.
    channels
        Its channels that are processed.
    stores_all
        True to store the images of all steps.

    Raises
    ------
    ConfigError
        If there is no step, or one of another kind, or a function follows the stitching of wells.
    """
    pipelines = _each(definition)
    found, after, messages = list[own.Pipeline](), list[tuple[str, AbstractStep]](), list(_in_other_order(pipelines))
    for number, items in enumerate(pipelines, 1):
        with_process = [item for item in items if isinstance(item, AbstractStep)]
        messages += [message for item in items if isinstance(item, FunctionStep) for message in item.without_effect()]
        steps = [step for item in items for step in _steps(item, metadata, channels)]
        if stores_all:
            steps = [step if step.is_standard else step.model_copy(update={"checkpoint": True}) for step in steps]
        elif with_process:
            steps = _with_results(steps)
        if steps:
            name = valid_name(getattr(items, "name", None) or f"pipeline{number}")
            with named_keys("", f"pipelines.{name}", own.Pipeline):
                found.append(own.Pipeline(name, _numbered(steps), input=found[-1].name if found else None))
        after += [(found[-1].name if found else "", step) for step in with_process]
    if not found and not after:
        raise ConfigError("there is no step to do. Fix: give a pipeline with at least one step")
    return Translated(tuple(found), tuple(after), tuple(messages))


def _steps(item: Any, metadata: Metadata, channels: Sequence[int]) -> list[own.Step]:
    """Steps of this package that stand for one of a script; none for one with `process`."""
    if isinstance(item, FunctionStep):
        return item.steps(metadata, channels)
    if isinstance(item, own.Step | str):
        return [own.Step(item) if isinstance(item, str) else item]
    if isinstance(item, AbstractStep):
        return []
    raise ConfigError(f"{item!r} is no step. Fix: make it a FunctionStep, or a class with process(context)")


def _in_other_order(pipelines: Iterable[Sequence[Item]]) -> Iterator[str]:
    """Yield messages about steps with `process` that run after functions that follow them in the script.

    Raises
    ------
    ConfigError
        If functions would have to work on stitched images.
    """
    before: dict[str, AbstractStep] = {}
    for item in chain.from_iterable(pipelines):
        if isinstance(item, AbstractStep):
            before[item.name] = item
            continue
        title = item if isinstance(item, str) else getattr(item, "title", item)
        if stitching := next((name for name, of in before.items() if isinstance(of, ImageStitchingStep)), None):
            raise ConfigError(
                f"{title}: comes after {stitching}, but functions get the images of single sites. Fix: put it before "
                "the stitching, or have wells stitched first: pyama={'params': {'stitch': 'register'}}"
            )
        for name, step in before.items():
            if not isinstance(step, PositionGenerationStep):
                yield f"{name}: runs after {title}, which follows it: the functions of all pipelines come first"


def _numbered(steps: Sequence[own.Step]) -> list[own.Step]:
    """Steps with different names: several functions of one OpenHCS step have its name, with numbers from 2."""
    taken, found = {step.name for step in steps}, list[own.Step]()
    for step in steps:
        name, number = step.name, 2
        while name and any(before.name == name for before in found):
            name = f"{step.name}{number}" if f"{step.name}{number}" not in taken else name
            number += 1
        found.append(step.model_copy(update={"name": name}))
    return found


def _each(definition: Iterable[Any]) -> list[Sequence[Item]]:
    """Pipelines of a definition, which may be the steps of a single one."""
    if isinstance(definition, Pipeline):
        return [definition]
    items = list(definition)
    return items if items and all(isinstance(item, list | tuple) for item in items) else [items]


def _with_results(steps: Sequence[own.Step]) -> list[own.Step]:
    """Steps of which those are stored that give an image at the end, as steps with `process` read it."""
    found, known = list[own.Step](), set[Any]()
    for step in reversed(steps):
        gives = {step.to} if step.to else {"all"} if step.channels == "all" else {*step.channels}
        is_last = not step.is_standard and "all" not in known and not gives <= known
        found.append(step.model_copy(update={"checkpoint": True}) if is_last else step)
        known |= gives if not step.is_standard else set()
    return found[::-1]
