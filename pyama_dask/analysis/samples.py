"""Samples: groups of FOVs with the same content, of one output or of several."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, TypeAdapter
from pydantic import model_validator as validates_model

from pyama_dask.analysis.given_outputs import MovieName, movie_name
from pyama_dask.analysis.outputs import Fovs, Outputs
from pyama_dask.analysis.trace_sources import Sources, grouped
from pyama_dask.config.base import Model
from pyama_dask.config.fov_selection import FovSelection, chosen_fovs, is_numbers
from pyama_dask.config.load import config_text
from pyama_dask.config.messages import named_keys
from pyama_dask.config.units import LONGEST_NAME, parse_selection, quoted
from pyama_dask.config.wells import parse_wells, select_wells
from pyama_dask.config.yaml_text import parse_yaml
from pyama_dask.errors import ConfigError, OutputError

_EXAMPLE = "must name samples and their FOVs, such as 'control: 0-5'"
_SPARE = 40
"""Bytes of a file name that are reserved for feature and channel."""


def _file_name(name: str) -> str:
    """Refuse text that cannot be part of a file name on every system."""
    if not name.strip() or name != name.strip():
        raise ValueError("must be text without spaces at its ends, as it becomes part of file names")
    if found := re.search(r'[\x00-\x1f\x7f\ud800-\udfff/\\:*?"<>|]', name):
        raise ValueError(f"holds {found[0]!r}, which file names cannot have. Fix: use letters, digits, - and _")
    if name[0] == ".":
        raise ValueError("begins with a dot, which hides files")
    if len(os.fsencode(name)) > LONGEST_NAME - _SPARE:
        raise ValueError(f"is too long for a file name. Fix: use at most {LONGEST_NAME - _SPARE} letters")
    return name


Name = Annotated[str, AfterValidator(_file_name)]


def _wells(text: str) -> str:
    parse_wells(text)
    return text


class Sample(Model):
    """A group of FOVs, named by themselves, by their wells, or by the outputs of several movies."""

    name: Name
    fovs: FovSelection | None = None
    wells: Annotated[str, AfterValidator(_wells)] | None = None
    outputs: Annotated[dict[MovieName, FovSelection], Field(min_length=1)] | None = None

    @validates_model(mode="after")
    def _has_one_selection(self) -> Self:
        if sum(given is not None for given in (self.fovs, self.wells, self.outputs)) != 1:
            raise ValueError("needs either 'fovs' or 'wells', or 'outputs'")
        return self

    def fovs_in(self, outputs: Outputs) -> dict[str, list[int]]:
        """Numbers of its FOVs by movie; a number that an output lacks is among them.

        Without ``outputs``, FOVs are those of every output. Movies of which it has none are left out.

        Raises
        ------
        ConfigError
            If an output is not given, or a name or a well is in none of them.
        """
        if unknown := set(self.outputs or ()) - set(outputs.names.values()):
            raise ConfigError(
                f"sample {self.name!r}: outputs: {quoted(min(unknown))} is not given, only "
                f"{', '.join(outputs.names.values())}. Fix: pass all outputs, or the folder above them"
            )
        try:
            wells = () if self.wells is None else select_wells(self.wells, outputs.wells)
            chosen = {movie: self._chosen(sources, wells) for movie, sources in outputs.movies.items()}
        except ValueError as error:
            key = "fovs" if self.fovs else "wells" if self.wells else "outputs"
            raise ConfigError(f"sample {self.name!r}: {key}: {error}") from error
        return {movie: sorted(fovs) for movie, fovs in chosen.items() if fovs or not outputs.are_several}

    def _chosen(self, sources: Sources, wells: Sequence[str]) -> list[int]:
        """FOVs of one output."""
        places = sources.places
        if self.wells is not None:
            return [place.fov for place in places if place.well in wells]
        selection = self.fovs if self.outputs is None else self.outputs.get(movie_name(sources.output))
        if selection is None:
            return []
        return (
            parse_selection(selection) if is_numbers(selection) else chosen_fovs(selection, places, str(sources.output))
        )


class _ByKey(Model):
    """Sample in the short form, by its wells or outputs."""

    wells: Annotated[str, AfterValidator(_wells)] | None = None
    outputs: Annotated[dict[MovieName, FovSelection], Field(min_length=1)] | None = None


class Samples(Model):
    """Contents of ``samples.yaml``."""

    samples: Annotated[tuple[Sample, ...], Field(min_length=1)]

    @validates_model(mode="after")
    def _names_differ(self) -> Self:
        for name, count in Counter(sample.name.casefold() for sample in self.samples).items():
            if count > 1:
                raise ValueError(f"{count} samples are called {name!r}. Fix: give each sample a different name")
        return self


def load_samples(path: Path) -> Samples:
    """Read ``samples.yaml``.

    It maps names of samples to their FOVs, ``{control: "0-5, 7", treated: [6, 8]}``, or has a list of them,
    ``samples: [{name: control, fovs: "0-5, 7"}, {name: treated, fovs: [6, 8]}]``. FOVs of a plate may have names,
    ``{control: "B02, B03 s1"}``, or be given by wells, ``{control: {wells: "B02:B11"}}``. Of several outputs, each may
    have other FOVs, ``{control: {outputs: {night1: "0-5", night2: all}}}``.

    Raises
    ------
    ConfigError
        If the file is unreadable, or a key or value is invalid; the message names every such key.
    """
    document = parse_yaml(config_text(path), f"{path}: is not YAML")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: {_EXAMPLE}")
    return parse_samples(document, str(path))


def parse_samples(document: Mapping[str, Any], source: str = "samples") -> Samples:
    """Validate a mapping in one of the forms of ``samples.yaml``; see `load_samples`."""
    with named_keys(source, model=Samples):
        if "samples" not in document:
            by_key = {name: of for name, of in document.items() if isinstance(of, Mapping)}
            by_fovs = {name: of for name, of in document.items() if name not in by_key}
            TypeAdapter(dict[Name, _ByKey]).validate_python(by_key)
            fovs = TypeAdapter(dict[Name, FovSelection]).validate_python(by_fovs)
            document = {"samples": [
                {"name": name} | (dict(by_key[name]) if name in by_key else {"fovs": fovs[name]}) for name in document
            ]}  # fmt: skip
        return Samples.model_validate(document)


def wanted_fovs(samples: Samples | None, outputs: Outputs) -> dict[str, Fovs]:
    """FOVs of every sample, by movie; without samples, all FOVs as one unnamed sample.

    Unexpected properties of the FOVs are added to the warnings of the outputs. On a plate, a sample may have no
    traces, as the table of wells shows that.

    Raises
    ------
    ConfigError
        If a sample names a FOV, a well or an output that is not there.
    OutputError
        If a sample has no traces at all, or on a plate none has.
    """
    wanted: dict[str, Fovs] = {"": outputs.all_fovs}
    if samples:
        wanted = {sample.name: sample.fovs_in(outputs) for sample in samples.samples}
    some = any(outputs.usable(fovs) for fovs in wanted.values())
    for name, fovs in wanted.items():
        if not outputs.usable(fovs) and not (some and outputs.wells):
            has = f"sample {name!r} has" if name else "has"
            raise OutputError(f"{outputs.name}: {has} no traces at all: {'; '.join(outputs.reasons(fovs))}")
    for name, fovs in wanted.items():
        for sources, of in outputs.of(fovs):
            sources.say(f"{f'sample {name!r}: ' if name else ''}left out: {reason}" for reason in sources.reasons(of))
    together = {movie: sorted({fov for of in wanted.values() for fov in of.get(movie, ())}) for movie in outputs.movies}
    for sources, of in outputs.of(together):
        sources.say(grouped(_not_in_one({name: fovs.get(sources.movie, []) for name, fovs in wanted.items()}, sources)))
        sources.say(sources.look(of))
    outputs.say(outputs.look(together))
    return wanted


def _not_in_one(wanted: Mapping[str, list[int]], sources: Sources) -> Iterator[tuple[int, str]]:
    """Notes on FOVs that belong to no sample, or to several."""
    for fov in sorted(sources.fovs):
        names = [name for name, fovs in wanted.items() if fov in fovs]
        if not names:
            yield fov, "in no sample"
        elif len(names) > 1:
            yield fov, f"in several samples, and in the tables of each: {', '.join(names)}"
