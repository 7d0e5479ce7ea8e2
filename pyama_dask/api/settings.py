"""Settings by their older names: equivalents are translated, others are reported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyama_dask.config.models import Params
from pyama_dask.config.units import quoted
from pyama_dask.errors import ConfigError
from pyama_dask.methods.registry import BUILT_IN
from pyama_dask.runs.template import default_params

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "": ("extraction", "extraction_params"),
    "segmentation_params": ("segmentation",),
    "tracking_params": ("tracking",),
    "background_params": ("background", "correction"),
}
"""Older sections whose keys belong to a group of ``params``, or to ``params`` itself, if the names are equal."""
RENAMED: Mapping[str, str] = {
    "segmentation.method": "segmentation_method",
    "segmentation.min_size": "segmentation_params.min_object_size",
    "segmentation.max_size": "segmentation_params.max_object_size",
    "tracking.method": "tracking_method",
}
FEATURES: Mapping[str, str] = {"phase": "pc", "fluorescence": "fl"}
"""Channel names of this package by kind of ``features``."""
INSTEAD: Mapping[str, str] = {
    "segmentation": "the threshold is found in each frame; see segmentation_params for what can be set",
    "tracking": "cells are linked by the overlap of their boxes; see tracking_params for what can be set",
    "background": "it is measured in tiles; see background_params for what can be set",
    "correction": "the background is measured in tiles; see background_params for what can be set",
}


@dataclass
class Translated:
    """Settings by the names of this package."""

    params: dict[str, Any] = field(default_factory=dict)
    """``params`` of the config."""
    features: dict[str, Any] = field(default_factory=dict)
    """Names of the features of ``pc`` and ``fl``, if given."""
    left_out: list[str] = field(default_factory=list)
    """Messages about settings without an equivalent."""

    def put(self, place: str, value: Any) -> None:
        """Set a key of ``params``; parameters of methods are dotted."""
        group, _, name = place.rpartition(".")
        held = self.params.setdefault(group, {}) if group else self.params
        if held.setdefault(name, value) != value:
            raise ConfigError(
                f"params: {place} is given twice, {quoted(held[name])} and {quoted(value)}. Fix: keep one"
            )

    def put_default(self, place: str, value: Any) -> bool:
        """Set a key of ``params`` unless the script sets it; return True if it was set here."""
        group, _, name = place.rpartition(".")
        is_missing = name not in (self.params.get(group, {}) if group else self.params)
        if is_missing:
            self.put(place, value)
        return is_missing


def translate(params: Mapping[str, Any]) -> Translated:
    """Translate settings by older names; keys of ``params`` of a config are kept.

    Raises
    ------
    ConfigError
        If settings contradict each other, or choose FOVs.
    """
    if "fovs" in params:
        raise ConfigError("params.fovs: not allowed here. Fix: choose FOVs with fov_start and fov_end")
    found = Translated()
    sections = {section for of in SECTIONS.values() for section in of}
    for key, value in params.items():
        if key in SECTIONS and isinstance(value, Mapping):
            for name, inner in value.items():
                found.put(f"{key}.{name}", inner)
        elif key in Params.model_fields:
            found.put(key, _method(value) if key.endswith("_method") else value)
        elif key in sections and isinstance(value, Mapping):
            for name, inner in value.items():
                _take(found, key, str(name), inner)
        else:
            _take(found, "", str(key), value)
    return found


def _take(found: Translated, section: str, name: str, value: Any) -> None:
    """Translate one setting; the section is '' at the top level."""
    place = _place(section, name)
    if place == "features" and isinstance(value, Mapping) and FEATURES.keys() >= value.keys():
        found.features |= {FEATURES[kind]: names for kind, names in value.items()}
    elif place in (None, "features") or (place == "segmentation_params.threshold" and not isinstance(value, str)):
        dotted = f"{section}.{name}" if section else name
        instead = INSTEAD.get(section or name.partition("_")[0])
        found.left_out.append(
            f"params: {dotted} ({quoted(value, 60)}) has no equivalent here and is ignored"
            + (f": {instead}" if instead else "")
        )
    else:
        found.put(str(place), _method(value) if str(place).endswith("_method") else value)


def _place(section: str, name: str) -> str | None:
    """Key of a setting in ``params``; None without an equivalent."""
    if (renamed := RENAMED.get(f"{section}.{name}")) is not None:
        return renamed
    if name == "features" and section in ("", *SECTIONS[""]):
        return name
    params = default_params()
    for group, sections in SECTIONS.items():
        if name in (params[group] if group else params) and section in ("", *sections):
            return f"{group}.{name}" if group else name
    return None


def _method(name: Any) -> Any:
    """Name of a built-in method in this package: ``logstd`` for ``log_std`` or ``LOG-STD``."""
    plain = re.sub("[-_ ]", "", str(name).lower())
    return plain if plain in (*BUILT_IN["segmenter"], *BUILT_IN["tracker"]) else name
