"""Registry of methods by name: built-in, ready, installed, ``module:function`` or ``file.py:function``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pyama_dask.config.function_names import title_and_name
from pyama_dask.errors import ConfigError
from pyama_dask.kernels import filters, geometry, lap, projections
from pyama_dask.kernels.bright import segment_bright
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES
from pyama_dask.kernels.flat_field import flat_field
from pyama_dask.kernels.segmentation import segment
from pyama_dask.kernels.tracking import link
from pyama_dask.methods import entry_points
from pyama_dask.methods.objects import of_one_cell, process_of
from pyama_dask.methods.onnx_model import cuda_problem
from pyama_dask.methods.optional import READY, Ready
from pyama_dask.methods.unet import segment_unet

Method = Callable[..., Any]

PHASE, FLUORESCENCE = "phase feature", "fluorescence feature"
"""Kinds of features."""
BUILT_IN: Mapping[str, Mapping[str, Method]] = {
    "segmenter": {"logstd": segment, "bright": segment_bright, "unet": segment_unet},
    "tracker": {"iou": link, "lap": lap.link},
    "preprocessor": {},
    "step": {
        "flat_field": flat_field,
        "gaussian": filters.gaussian,
        "median": filters.median,
        "top_hat": filters.top_hat,
        "rolling_ball": filters.rolling_ball,
        "max_projection": projections.max_projection,
        "mean_projection": projections.mean_projection,
        "sharpest_plane": projections.sharpest_plane,
        "channel_shift": geometry.channel_shift,
        "drift": geometry.drift,
        "crop": geometry.crop,
        "resample": geometry.resample,
        "composite": geometry.composite,
    },
    PHASE: SHAPE_FEATURES,
    FLUORESCENCE: INTENSITY_FEATURES,
}
"""Built-in methods by kind and name."""
GROUPS: Mapping[str, str] = {
    "segmenter": "pyama_dask.segmenters",
    "tracker": "pyama_dask.trackers",
    "preprocessor": "pyama_dask.preprocessors",
    "step": "pyama_dask.steps",
    PHASE: "pyama_dask.phase_features",
    FLUORESCENCE: "pyama_dask.fluorescence_features",
}
"""Entry-point groups by kind of method."""


def known_methods() -> dict[str, dict[str, str]]:
    """Origin of each named method, by kind and name."""
    return {
        kind: entry_points.places(group, _of_here(kind))
        | {name: ready.place for name, ready in READY.get(kind, {}).items()}
        for kind, group in GROUPS.items()
    }


def _of_here(kind: str) -> tuple[str, ...]:
    """Names of this package's methods of a kind, built in or ready."""
    return (*BUILT_IN[kind], *READY.get(kind, ()))


def ready_method(kind: str, name: str) -> Ready | None:
    """Ready plugin of this name; None for other methods."""
    return READY.get(kind, {}).get(name)


def find_method(kind: str, name: str) -> Method:
    """Find a method by its name in the config.

    Parameters
    ----------
    kind
        A key of `BUILT_IN`.
    name
        Name of a built-in, ready or installed method, ``package.module:function``, or ``path/to/file.py:function``;
        features may have a title in front, ``title = path/to/file.py:function``. A preprocessor may be an object with
        a method ``process``, or a class of such objects.

    Raises
    ------
    ConfigError
        If there is no such method, it needs a package that is not installed, or it does not accept the arguments for
        methods of its kind.
    """
    name = title_and_name(name)[1]
    if name in BUILT_IN[kind]:
        return BUILT_IN[kind][name]
    if ready := ready_method(kind, name):
        try:
            wrapped: Method = ready.load()
        except ConfigError as error:
            raise ConfigError(f"{kind} {name!r} {error}") from error
        return wrapped
    loaded = entry_points.load(kind, GROUPS[kind], name, _of_here(kind))
    if kind == "preprocessor":
        loaded = process_of(loaded, name)
    if not callable(loaded):
        raise ConfigError(f"{kind} {name!r} is not a function")
    method: Method = loaded
    if kind in (PHASE, FLUORESCENCE) and (of_cells := of_one_cell(method)):
        return of_cells
    if kind != "step":  # functions that were not written for this program; `step_functions` reads what they take
        _check_takes_data(kind, name, method)
    return method


def _check_takes_data(kind: str, name: str, method: Method) -> None:
    """Refuse a method that cannot be called with its data alone; its parameters must be keywords with defaults."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # a compiled function without signature
        return
    try:
        signature.bind(None, **{key: None for key, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY})
    except TypeError as error:
        raise ConfigError(
            f"{kind} {name!r}{entry_points.defined_at(method)} has the signature {signature}, but must take one "
            f"argument (the data), and its parameters as keywords after a '*': {error}"
        ) from error


def is_plugin(kind: str, name: str) -> bool:
    """True if a method does not come with the core of this package."""
    return title_and_name(name)[1] not in BUILT_IN[kind]


def gpu_problem(kind: str, name: str) -> str:
    """Reason why a method cannot use a GPU with the installed packages, as a sentence and its fix; '' if it may."""
    if ready := ready_method(kind, name):
        return ready.gpu_problem()
    if name == "unet":
        return cuda_problem()
    return "" if is_plugin(kind, name) else f"{name} works on the CPU only. Fix: set it to off, or use another method"


def method_identity(kind: str, name: str) -> str:
    """Name of a method, plus its package's version if it is ready, or a digest of its file if it is a plugin.

    Steps that belong to an installed package have its name and version, such as ``dask-image 2025.11``: their results
    depend on more than one file.
    """
    if ready := ready_method(kind, name):
        return f"{name}@{ready.version}"
    if kind == "step" and (owner := entry_points.distribution(kind, GROUPS[kind], name, _of_here(kind))):
        return f"{name}@{owner}"
    title, of = title_and_name(name)
    identity = entry_points.identity(kind, GROUPS[kind], of, _of_here(kind))
    return identity if of == name else f"{title} = {identity}"
