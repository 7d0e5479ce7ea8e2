"""`FunctionStep` and its settings by the names of OpenHCS, and the steps of `pyama_dask.Step` that they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pyama_dask.config.pipelines as own
from pyama_dask.api.openhcs.settings import member
from pyama_dask.config.messages import named_keys
from pyama_dask.errors import ConfigError
from pyama_dask.readers import Metadata

Function = str | Callable[..., Any]


class VariableComponents(Enum):
    """Axis along which a function gets images together."""

    SITE = "site"
    CHANNEL = "channel"
    Z_INDEX = "z_index"
    TIMEPOINT = "timepoint"
    WELL = "well"


class GroupBy(Enum):
    """Meaning of the keys of a mapping of functions."""

    NONE = ""
    CHANNEL = "channel"
    SITE = "site"
    WELL = "well"


class InputSource(Enum):
    """Images that a step gets."""

    PREVIOUS_STEP = "previous_step"
    PIPELINE_START = "pipeline_start"


@dataclass(frozen=True, eq=False)
class FunctionStep:
    """Functions on images: a function, one with parameters, several in sequence, or a mapping of these.

    Parameters
    ----------
    func
        ``f``, ``(f, {"sigma": 2})``, ``[f, (g, {...})]``, or ``{"1": f, "2": g}`` by channel, site or well; functions
        themselves or their names. docs/pipelines.md says what they take and give.
    name
        Name in files and reports.
    variable_components
        Z_INDEX: the function gets all planes of a frame, and gives one. CHANNEL: it gets all channels together, and
        gives one image. TIMEPOINT: it gets frames (T, H, W).
    group_by
        Meaning of the keys of a mapping; CHANNEL by default: a number from 1, or a name.
    input_source
        PIPELINE_START: it gets images as the pipeline got them.
    well_filter
        Wells that the step is done for.
    force_disk_output
        True to store its images.
    to
        Name of the image or table that it gives, as in ``pyama_dask.Step``.
    halo
        Frames before and after a block that it looks into.
    """

    func: Any
    name: str | None = None
    variable_components: Sequence[VariableComponents | str] | VariableComponents | str | None = None
    group_by: GroupBy | str | None = None
    input_source: InputSource | str = InputSource.PREVIOUS_STEP
    well_filter: Sequence[str] | str | None = None
    force_disk_output: bool = False
    to: str | None = None
    halo: int | None = None

    def steps(self, metadata: Metadata, channels: Sequence[int]) -> list[own.Step]:
        """Steps of a pipeline of this package.

        Parameters
        ----------
        metadata
            Of the plate.
        channels
            Its channels that are processed.

        Raises
        ------
        ConfigError
            If the functions or their keys are of another form.
        """
        keys = self._keys(channels)
        with named_keys("", self.title, own.Step):
            if not isinstance(self.func, Mapping):
                return _in_sequence(_chain(self.func, self.title), keys)
            self._check_mapping(self.func)
            found = []
            for key, of in self.func.items():
                found += _in_sequence(_chain(of, self.title), keys | self._where(str(key), metadata))
            return found

    def _check_mapping(self, func: Mapping[Any, Any]) -> None:
        """Refuse a mapping whose functions would not have separate images."""
        if self.to and len(func) > 1:
            raise ConfigError(
                f"{self.title}: to ({self.to!r}): each function of a mapping gives an image, and they cannot all have "
                "this name. Fix: leave out 'to', so that images are replaced, or make a step of each function"
            )
        if VariableComponents.CHANNEL in self.components:
            raise ConfigError(
                f"{self.title}: variable_components (CHANNEL): functions of a mapping do not get all channels "
                "together. Fix: leave it out, or give one function"
            )

    @property
    def title(self) -> str:
        """Name for messages."""
        return self.name or "FunctionStep"

    @property
    def components(self) -> tuple[VariableComponents, ...]:
        """Axes along which the function gets images together."""
        given = self.variable_components
        several = (given,) if isinstance(given, str | VariableComponents) else given or ()
        return tuple(member(VariableComponents, one, f"{self.title}: variable_components") for one in several)

    def without_effect(self) -> Iterator[str]:
        """Yield messages about settings that have no effect."""
        for component in self.components:
            if component in (VariableComponents.SITE, VariableComponents.WELL):
                yield (
                    f"{self.title}: variable_components ({component.name}): a function gets each site alone; "
                    "pyama_dask.Step with 'takes: tables' gets the tables of a well together"
                )

    def _keys(self, channels: Sequence[int]) -> dict[str, Any]:
        components = self.components
        source = member(InputSource, self.input_source, f"{self.title}: input_source")
        keys: dict[str, Any] = {"source": "start" if source is InputSource.PIPELINE_START else "previous"}
        keys |= {"name": valid_name(self.name)} if self.name else {}
        keys |= {"wells": self.well_filter} if self.well_filter else {}
        keys |= {"checkpoint": True} if self.force_disk_output else {}
        keys |= {"to": self.to} if self.to else {}
        keys |= {} if self.halo is None else {"halo": self.halo}
        if VariableComponents.Z_INDEX in components:
            keys["over"] = "z"
        elif VariableComponents.TIMEPOINT in components:
            keys["takes"] = "stack"
        if VariableComponents.CHANNEL in components:
            keys |= {"of": tuple(channels), "to": self.to or valid_name(self.name or "composite")}
        return keys

    def _where(self, key: str, metadata: Metadata) -> dict[str, Any]:
        """Channel, site or well of a key of a mapping of functions."""
        by = member(GroupBy, self.group_by or GroupBy.CHANNEL, f"{self.title}: group_by")
        if by is GroupBy.SITE:
            return {"sites": key}
        if by is GroupBy.WELL:
            return {"wells": key}
        names = [channel.name for channel in metadata.channels]
        if key in names:
            return {"channels": (names.index(key),)}
        if key.isdigit() and 1 <= int(key) <= len(names):
            return {"channels": (int(key) - 1,)}
        listed = ", ".join(f"{k} ({name})" for k, name in enumerate(names, 1))
        raise ConfigError(f"{self.title}: there is no channel {key!r}. Fix: name one of {listed}, or set group_by")


def _chain(func: Any, title: str) -> list[tuple[Function, dict[str, Any]]]:
    """Functions in sequence, each with its parameters."""
    if isinstance(func, list):
        return [one for of in func for one in _chain(of, title)]
    if isinstance(func, tuple):
        if len(func) != 2 or not isinstance(func[1], Mapping):
            fix = "write (f, {'sigma': 2})"
            raise ConfigError(f"{title}: a tuple must hold a function and its parameters. Fix: {fix}")
        return [(func[0], dict(func[1]))]
    if isinstance(func, str) or callable(func):
        return [(func, {})]
    raise ConfigError(f"{title}: {func!r} is no function. Fix: give a function or its name, or a list or mapping")


def _in_sequence(chain: Sequence[tuple[Function, dict[str, Any]]], keys: Mapping[str, Any]) -> list[own.Step]:
    """Steps of functions in sequence: the first one gets what `keys` say, the others what the one before gave."""
    later = {key: value for key, value in keys.items() if key not in ("of", "over", "to", "source")}
    if "of" in keys:
        later["channels"] = (keys["to"],)
    found = []
    for k, (function, params) in enumerate(chain):
        is_last = k == len(chain) - 1
        of = (
            {**keys}
            if k == 0
            else later | ({"to": keys["to"]} if "to" in keys and "of" not in keys and is_last else {})
        )
        if k == 0 and not is_last and "of" not in keys:
            of.pop("to", None)
        found.append(own.Step(function, **of, params=params))
    return found


def valid_name(name: str) -> str:
    """Name of a pipeline, step or image that can be part of the names of files."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    return (plain if plain[:1].isalpha() else f"step_{plain}")[:64]
