"""Pipelines of a plan in words: what each step gets and gives, what is stored, and where arrays are converted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyama_dask.config.flat_fields import FLAT_FIELD
from pyama_dask.config.models import Config
from pyama_dask.config.pipelines import Pipeline, Step
from pyama_dask.steps.flow import Flow, Image, Own, flow_of
from pyama_dask.steps.own_arrays import TRACES, group_of, store_of


def describe_pipelines(config: Config, names: Sequence[str], shape: tuple[int, int]) -> list[str]:
    """Lines about the pipelines of a resolved config; none without pipelines.

    Parameters
    ----------
    config
        Resolved.
    names
        Names of the movie's channels.
    shape
        (H, W) of the largest frames in the movie.
    """
    flow, lines = flow_of(config), list[str]()
    for pipeline in config.pipelines:
        source = f"of pipeline {pipeline.input}" if pipeline.input else "of the movie"
        lines.append(f"pipeline {pipeline.name}, on the images {source}:")
        lines += [f"  {line}" for line in _steps(flow, pipeline, names, shape)]
    return lines


def _steps(flow: Flow, pipeline: Pipeline, names: Sequence[str], shape: tuple[int, int]) -> Iterator[str]:
    own = iter([own for own in flow.own if own.pipeline == pipeline.name])
    seven: list[str] = []
    for step in pipeline.steps:
        if step.is_standard:
            seven.append(step.do)
            continue
        if seven:
            yield ", ".join(seven)
            seven = []
        yield _flat_field(step) if step.do == FLAT_FIELD else _line(next(own), names, shape)
    if seven:
        yield ", ".join(seven)


def _flat_field(step: Step) -> str:
    return f"flat_field: profile {step.params.get('profile', 'estimate')}; removed from frames as they are read"


def _line(own: Own, names: Sequence[str], shape: tuple[int, int]) -> str:
    found = own.step.found
    assert found is not None
    gets = [" + ".join(_name(image, names) for image in of) for of in own.gets]
    what = f"{found.takes}s" if found.takes in ("frame", "stack") else found.takes
    halo = f", halo {own.step.halo}" if own.step.halo else ""
    of = f" of {', '.join(gets)}" if gets else ""
    line = f"{own.title}: {own.step.do}, {what}{of} ({found.array}{halo}) -> {_given(own, names, shape)}"
    converted = {_array(image) for of in own.gets for image in of} - {found.array, ""}
    return line + "".join(f"; converted from {array}" for array in sorted(converted))


def _array(image: Image) -> str:
    """Type of array in which an image is made; stored images and those of the movie are of NumPy."""
    return image.step.found.array if image.step and image.step.found else "numpy"


def _given(own: Own, names: Sequence[str], shape: tuple[int, int]) -> str:
    if not own.gives:
        to = own.step.to or own.title
        return "columns of the traces" if to == TRACES else f"table {own.pipeline}_{to}"
    one = own.gives[0]
    h, w = one.shape(shape)
    planes = f"{one.planes} x " if one.planes else ""
    kind = "labels" if one.is_labels else "images"
    listed = ", ".join(_name(image, names) for image in own.gives)
    groups = ", ".join(f"{store_of(own.pipeline)}/{group_of(own, image)}" for image in own.gives)
    kept = f"stored in {groups}" if own.is_stored else "in memory"
    return f"{kind} {listed}, {one.dtype} {planes}{h} x {w}, {kept}"


def _name(image: Image, names: Sequence[str]) -> str:
    return names[int(image.name)] if image.name.isdigit() else image.name
