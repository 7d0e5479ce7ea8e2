"""The config that ``pyama-dask init`` writes: every key with its default and its description."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pyama_dask.config.cluster import QUEUES, Cluster
from pyama_dask.config.messages import named_keys
from pyama_dask.config.method_parameters import method_parameters, parameter_model
from pyama_dask.config.models import Config, Params, Storage
from pyama_dask.config.yaml_text import dump_yaml
from pyama_dask.kernels.background import background
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES
from pyama_dask.methods.registry import BUILT_IN
from pyama_dask.methods.tracker_parameters import FILL_GAPS, SHARED
from pyama_dask.readers import Metadata
from pyama_dask.runs.method_choice import FirstLook, found_words

SEGMENTER, TRACKER = (str(Params.model_fields[f"{kind}_method"].default) for kind in ("segmentation", "tracking"))
"""Default methods."""
TRACKER_OF_DENSE_CELLS = "lap"
"""Tracker that goes with segmenters of cells that touch."""
WIDEST_MARGIN = 0.05
"""Widest border that cells are kept off, as a fraction of the shorter side: the default one in frames of 1000 px."""
_ALWAYS = {"kind", "memory", "batch_size", "retries", "lost_workers", "alarm"}
_ALLOCATED = {"dashboard", "interface", "local_directory", "tls"}
_QUEUED = {
    "jobs", "adaptive", "cores", "processes", "walltime", "queue", "account", "prologue", "directives", "options",
    "failed_jobs", "gpu",
}  # fmt: skip
_USED: Mapping[str, set[str]] = {
    "serial": _ALWAYS,
    "local": _ALWAYS | {"workers", "dashboard", "gpu"},
    "address": _ALWAYS | {"address"},
    "runner": _ALWAYS | _ALLOCATED,
    **dict.fromkeys(QUEUES, _ALWAYS | _ALLOCATED | _QUEUED),
}
"""Keys of `Cluster` that each kind uses."""


def cluster_keys(kind: str) -> dict[str, Any]:
    """Keys of `Cluster` that a kind uses: defaults, or an example where the kind needs a value.

    Raises
    ------
    ConfigError
        If there is no such kind.
    """
    needed: dict[str, Any] = {}
    if kind == "address":
        needed = {"address": "tcp://HOST:8786"}
    elif kind == "htcondor":
        needed = {"jobs": 4, "memory": "4GiB", "options": {"disk": "2GiB"}}
    elif kind in QUEUES:
        needed = {"jobs": 4, "memory": "4GiB", "walltime": "04:00:00"}
    with named_keys("config", "cluster", Cluster):
        keys = Cluster.model_validate({"kind": kind} | needed).model_dump(mode="json")
    return {key: value for key, value in keys.items() if key in _USED[kind]}


def config_template(
    metadata: Metadata,
    movie: Path | Sequence[Path],
    output: Path,
    cluster: str = "local",
    found: FirstLook | None = None,
) -> str:
    """Write a config with every default, and the methods that suit the movie.

    Parameters
    ----------
    metadata
        Of the movie, from which channels are guessed.
    movie, output
        Paths to put in; several movies have a list.
    cluster
        ``cluster.kind``; only keys that it uses are written.
    found
        Methods that were tried on the movie; None for the default ones.

    Returns
    -------
    YAML text.
    """
    chosen = _chosen_methods(found)
    params = default_params(**chosen)
    if found:
        params["segmentation_params"] |= found.chosen.candidate.params
    if metadata.interval_min is not None:
        params["frame_interval"] = metadata.interval_min
    fitting = fitting_params(metadata) | fitting_margin(metadata)
    if found and found.is_dense:
        fitting["tracking_params.border_margin"] = 0
    for dotted, value in fitting.items():
        group, _, name = dotted.rpartition(".")
        (params[group] if group else params)[name] = value
    document = {
        "input": str(movie) if isinstance(movie, Path) else [str(one) for one in movie],
        "output": str(output),
        "channels": guess_channels(metadata),
        "params": params,
        "storage": Storage().model_dump(mode="json"),
        "pipelines": [],
        "cluster": cluster_keys(cluster),
    }
    lines = list(_lines(document, descriptions(**chosen)))
    if found and found.others:
        place = next(k for k, line in enumerate(lines) if line.startswith("  segmentation_gpu:"))
        lines[place:place] = _other_methods(found)
    return "\n".join(lines) + "\n"


def _chosen_methods(found: FirstLook | None) -> dict[str, str]:
    """Segmenter and tracker that suit a movie, for `default_params`; empty for the default ones."""
    if found is None:
        return {}
    return {"segmenter": found.chosen.candidate.method} | (
        {"tracker": TRACKER_OF_DENSE_CELLS} if found.is_dense else {}
    )


def _other_methods(found: FirstLook) -> Iterator[str]:
    """Comments with the methods that suit a movie less well."""
    yield f"  # {found.place}: {found_words(found.chosen)}."
    yield "  # Other methods; to take one, replace the two keys above by its keys:"
    for other in found.others:
        yield f"  #   {found_words(other)}"
        yield f"  #   segmentation_method: {other.candidate.method}"
        yield f"  #   segmentation_params: {_inline(dict(other.candidate.params))}"


def default_params(segmenter: str = SEGMENTER, tracker: str = TRACKER) -> dict[str, Any]:
    """Every parameter with its default, including those of a built-in segmenter and tracker."""
    named = {"segmentation_method": segmenter, "tracking_method": tracker}
    of_methods = {
        key: method_parameters(f"params.{key}", {}, *functions)
        for key, functions in _functions(segmenter, tracker).items()
    }
    if tracker in FILL_GAPS:
        of_methods["tracking_params"]["fill_gaps"] = True
    return Params().model_dump(mode="json") | named | of_methods


def _functions(segmenter: str, tracker: str) -> Mapping[str, tuple[Callable[..., Any], ...]]:
    """Functions whose keyword-only arguments are the keys of a part of ``params``."""
    return {
        "segmentation_params": (BUILT_IN["segmenter"][segmenter],),
        "tracking_params": (BUILT_IN["tracker"][tracker], *SHARED),
        "background_params": (background,),
    }


def descriptions(segmenter: str = SEGMENTER, tracker: str = TRACKER) -> dict[str, str]:
    """Descriptions of all keys of the config, one line each, by dotted key."""
    found = dict(_described(Config, ""))
    for key, functions in _functions(segmenter, tracker).items():
        for function in functions:
            found |= _described(parameter_model(function), f"params.{key}.")
    return found


def known_keys() -> list[str]:
    """Dotted keys of the config, including the parameters of all built-in methods."""
    methods = product(BUILT_IN["segmenter"], BUILT_IN["tracker"])
    return sorted(set().union(*(descriptions(*named) for named in methods)))


def _described(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field.description or ""
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _described(field.annotation, f"{prefix}{name}.")


def fitting_params(metadata: Metadata) -> dict[str, Any]:
    """Values for parameters whose defaults do not work with this movie, by dotted key."""
    fitting: dict[str, Any] = {"z": "max"} if metadata.z_planes > 1 else {}
    if default_params()["tracking_params"]["min_frames"] > metadata.n_frames:
        fitting["tracking_params.min_frames"] = max(1, metadata.n_frames // 2)
    return fitting


def fitting_margin(metadata: Metadata) -> dict[str, Any]:
    """Value for the border margin, by dotted key, where the default would leave little of the frames.

    Scripts of the older program keep the default, as they would there.
    """
    widest = int(min(min(fov.shape) for fov in metadata.fovs) * WIDEST_MARGIN)
    is_wide = default_params()["tracking_params"]["border_margin"] > widest
    return {"tracking_params.border_margin": widest} if is_wide else {}


def notes_on_channels(metadata: Metadata) -> list[str]:
    """Notes for the user on the channels that were guessed."""
    pc = guess_channels(metadata)["pc"]
    if pc is None:
        return ["No channel looks like phase contrast: frames are only copied. Set channels.pc to find cells"]
    channel = metadata.channels[pc["channel"]]
    if channel.kind == "phase":
        return []
    return [f"No channel is known to be phase contrast; {channel.name!r} is taken for it: check channels.pc"]


def guess_channels(metadata: Metadata) -> dict[str, Any]:
    """Channels by kind: the phase channel named in the file, else the first of unknown kind; then all fluorescence."""
    kinds = [channel.kind for channel in metadata.channels]
    phase = kinds.index("phase") if "phase" in kinds else next((k for k, v in enumerate(kinds) if v == "other"), None)
    fl = [k for k, kind in enumerate(kinds) if k != phase and kind == "fluorescence"]
    pc = None if phase is None else {"channel": phase, "features": list(SHAPE_FEATURES)}
    return {"pc": pc, "fl": [{"channel": k, "features": list(INTENSITY_FEATURES)} for k in fl]}


def _lines(document: Mapping[str, Any], comments: Mapping[str, str], prefix: str = "") -> Iterator[str]:
    """Yield lines of YAML; mappings whose keys have comments, and lists, have one line per item."""
    indent = "  " * prefix.count(".")
    for key, value in document.items():
        dotted = prefix + key
        if isinstance(value, dict) and any(f"{dotted}.{inner}" in comments for inner in value):
            yield _commented(f"{indent}{key}:", comments[dotted])
            yield from _lines(value, comments, f"{dotted}.")
        elif isinstance(value, list) and value:
            yield _commented(f"{indent}{key}:", comments[dotted])
            yield from (f"{indent}  - {_inline(item)}" for item in value)
        else:
            yield _commented(f"{indent}{key}: {_inline(value)}", comments[dotted])


def _commented(text: str, comment: str) -> str:
    return f"{text:<47} # {comment}"


def _inline(value: Any) -> str:
    text = dump_yaml(value, default_flow_style=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...").strip()
