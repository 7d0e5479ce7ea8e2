"""Description of a plan's pipelines: inputs and results of each step, stored images, and conversions of arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pyama_dask.config.flat_fields import FLAT_FIELD
from pyama_dask.config.models import Config
from pyama_dask.config.pipelines import Pipeline, Step
from pyama_dask.config.units import many
from pyama_dask.steps.flow import DRIFT, LABELS, TRACES, Flow, Image, Own, flow_of
from pyama_dask.steps.own_arrays import group_of, store_of

MOST_ALIGNED = 24
"""Longest name of a step beside which others are aligned."""


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
        lines.append(_heading(pipeline))
        lines += [f"  {line}" for line in _steps(flow, pipeline, names, shape)]
    return lines


def summarize_pipelines(config: Config) -> list[str]:
    """One line about each pipeline of a config: its input and its steps."""
    return [f"{_heading(of)} {', '.join(step.title for step in of.steps)}" for of in config.pipelines]


def _heading(pipeline: Pipeline) -> str:
    source = f"of pipeline {pipeline.input}" if pipeline.input else "of the movie"
    return f"pipeline {pipeline.name}, on the images {source}:"


def _steps(flow: Flow, pipeline: Pipeline, names: Sequence[str], shape: tuple[int, int]) -> Iterator[str]:
    own = iter([own for own in flow.own if own.pipeline == pipeline.name])
    named = [FLAT_FIELD if step.do == FLAT_FIELD else step.title for step in pipeline.steps if not step.is_standard]
    width = min(MOST_ALIGNED, max(map(len, named), default=0)) + 2
    seven: list[str] = []
    for step in pipeline.steps:
        if step.is_standard:
            seven.append(step.do)
            continue
        if seven:
            yield ", ".join(seven)
            seven = []
        if step.do == FLAT_FIELD:
            profile = step.params.get("profile", "estimate")
            yield f"{FLAT_FIELD:<{width}}removed from frames as they are read; profile: {profile}"
        else:
            one = next(own)
            yield f"{one.title:<{width - 1}} {_line(flow, one, names, shape)}"
            if details := "; ".join(_details(one, names)):
                yield f"{'':<{width}}{details}"
    if seven:
        yield ", ".join(seven)


def _line(flow: Flow, own: Own, names: Sequence[str], shape: tuple[int, int]) -> str:
    """Images or tables that a step gets and gives."""
    step, found = own.step, own.step.planned
    gets = ", ".join(" + ".join(_name(image, names) for image in of) for of in own.gets)
    tables = " + ".join(map(str, step.of)) or "traces"
    of = {"planes": f"all planes of {gets}", "stack": f"stacks of {gets}", "traces": tables, "tables": f"all {tables}"}
    only = f", in FOVs {found.fovs}" if found.fovs != "all" else ""
    return f"{of.get(found.takes, gets)} -> {_given(flow, own, names, shape)}{only}"


def _details(own: Own, names: Sequence[str]) -> Iterator[str]:
    """Function with its parameters, frames that it looks into, and the type of its arrays."""
    step, found = own.step, own.step.planned
    function = step.do if ":" not in step.do or "/" not in step.do else step.do.rpartition("/")[2]
    parameters = ", ".join(f"{name}: {json.dumps(value, default=str)}" for name, value in _set(step, names))
    is_named = own.title != step.do
    called = f"{function}({parameters})" if parameters else function
    if is_named or parameters:
        yield called if is_named else parameters
    if step.halo:
        yield f"halo {step.halo}"
    if step.is_on_gpu:
        yield "on workers with a GPU" if step.gpu == 1 else "on workers with a GPU, if there are any"
    if step.do == DRIFT:
        yield f"shifts in table {own.pipeline}_{own.title}, for which all frames are read once more"
    converted = {_array(image) for of in own.gets for image in of} - {found.array, ""}
    if found.array != "numpy" or converted:
        yield f"{found.array} arrays" + "".join(f", converted from {array}" for array in sorted(converted))


def _set(step: Step, names: Sequence[str]) -> list[tuple[str, object]]:
    """Parameters that are set; the image in which drift is measured has the name of its channel."""
    given = {name: value for name, value in step.params.items() if value is not None}
    if step.do == DRIFT and "by" in given:
        given["by"] = _named(str(given["by"]), names)
    return list(given.items())


def _array(image: Image) -> str:
    """Type of array in which an image is made; stored images and those of the movie are of NumPy."""
    return image.step.planned.array if image.step else "numpy"


def _given(flow: Flow, own: Own, names: Sequence[str], shape: tuple[int, int]) -> str:
    if not own.gives:
        to = own.step.to or own.title
        listed = ", ".join(name for name in own.step.planned.columns if to != TRACES or name not in ("cell", "frame"))
        return f"columns of the traces ({listed})" if to == TRACES else f"table {own.pipeline}_{to} ({listed})"
    one = own.gives[0]
    h, w = one.shape(shape)
    size = f"{many(one.planes, 'plane')} of {h} x {w}" if one.planes else f"{h} x {w}"
    kind = "labels " if one.is_labels and one.name != LABELS else ""
    listed = ", ".join(_name(image, names) for image in own.gives)
    groups = ", ".join(f"{store_of(own.pipeline)}/{group_of(own, image)}" for image in own.gives)
    kept = f"stored in {groups}" if own.is_stored else "in memory"
    if flow.relabelled is not None and flow.relabelled.of[0] in own.gives:
        kept = "stored as the labels of segment"
    return f"{kind}{listed}, {one.dtype} {size}, {kept}"


def _name(image: Image, names: Sequence[str]) -> str:
    return _named(image.name, names)


def _named(image: str, names: Sequence[str]) -> str:
    """Name of a channel instead of its number; other images have names."""
    return names[int(image)] if image.isdigit() else image
