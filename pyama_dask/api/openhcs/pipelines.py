"""Pipelines by the names of OpenHCS, and what they are here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyama_dask.config.pipelines as own
from pyama_dask.api.openhcs.steps import FunctionStep, valid_name
from pyama_dask.api.openhcs.well_steps import AbstractStep
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
        If there is no step, or one of another kind.
    """
    found, after, messages = list[own.Pipeline](), list[tuple[str, AbstractStep]](), list[str]()
    for number, items in enumerate(_each(definition), 1):
        steps, with_process = list[own.Step](), list[AbstractStep]()
        for item in items:
            if isinstance(item, AbstractStep):
                with_process.append(item)
            elif isinstance(item, FunctionStep):
                steps += item.steps(metadata, channels)
                messages += item.without_effect()
            elif isinstance(item, own.Step | str):
                steps.append(own.Step(item) if isinstance(item, str) else item)
            else:
                raise ConfigError(f"{item!r} is no step. Fix: make it a FunctionStep, or a class with process(context)")
        if stores_all:
            steps = [step if step.is_standard else step.model_copy(update={"checkpoint": True}) for step in steps]
        elif with_process:
            steps = _with_results(steps)
        if steps:
            steps = _numbered(steps)
            name = valid_name(getattr(items, "name", None) or f"pipeline{number}")
            found.append(own.Pipeline(name, steps, **({"input": found[-1].name} if found else {})))
        after += [(found[-1].name if found else "", step) for step in with_process]
    if not found and not after:
        raise ConfigError("there is no step to do. Fix: give a pipeline with at least one step")
    return Translated(tuple(found), tuple(after), tuple(messages))


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
