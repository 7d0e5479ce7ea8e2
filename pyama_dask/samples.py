"""Samples: the traces of an output's FOVs, put together by what was in them."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field
from pydantic import model_validator as validates_model

from pyama_dask.config import Model, config_text, named_keys
from pyama_dask.errors import ConfigError, OutputError, PyamaError, TableError
from pyama_dask.files import disk_error, replacing
from pyama_dask.layout import IMAGES
from pyama_dask.quantities import LONGEST_NAME, Selection, as_ranges, parse_selection, quoted
from pyama_dask.report import read_status
from pyama_dask.tables import (
    FEATURE,
    TIDY,
    ParquetFile,
    analysis_head,
    analysis_rows,
    inspected,
    read_columns,
    read_traces_csv,
)
from pyama_dask.tasks import fov_name
from pyama_dask.traces import BASE_COLUMNS
from pyama_dask.yaml_text import parse_yaml

if TYPE_CHECKING:
    import pandas as pd

MERGED = "merged"
"""Folder of the output for what is merged, unless another one is named."""
TABLE = "all_samples.parquet"
"""File with everything that was merged."""
_SPARE = 40
"""Bytes of a file's name that are kept for its ending, and for what it is called while it is written."""


# ------------------------------------------------------------------------------------------- samples.yaml


def _file_name(name: str) -> str:
    """Refuse what cannot be part of the name of a file on any disk."""
    if not name.strip() or name != name.strip():
        raise ValueError("must be text that does not begin or end with a space, as files are named by it")
    if found := re.search(r'[\x00-\x1f\x7f\ud800-\udfff/\\:*?"<>|]', name):
        raise ValueError(f"holds {found[0]!r}, which names of files cannot have; use letters, digits, - and _")
    if name[0] == ".":
        raise ValueError("begins with a point, which hides files")
    if len(os.fsencode(name)) > LONGEST_NAME - _SPARE:
        raise ValueError(f"is longer than names of files can be; use at most {LONGEST_NAME - _SPARE} letters")
    return name


class Sample(Model):
    """Some FOVs that belong together."""

    name: Annotated[str, AfterValidator(_file_name)]
    fovs: Selection

    def numbers(self, known: Iterable[int]) -> list[int]:
        """Numbers of its FOVs; ``all`` are those that are known."""
        return sorted(known) if self.fovs == "all" else parse_selection(self.fovs)


class Samples(Model):
    """What ``samples.yaml`` says."""

    samples: Annotated[tuple[Sample, ...], Field(min_length=1)]

    @validates_model(mode="after")
    def _names_differ(self) -> Self:
        for name, count in Counter(sample.name.casefold() for sample in self.samples).items():
            if count > 1:
                raise ValueError(f"{count} samples are called {name!r}; give each a name of its own")
        return self


def load_samples(path: Path) -> Samples:
    """Read ``samples.yaml``: ``samples: [{name: control, fovs: "0-5, 7"}, {name: treated, fovs: [6, 8]}]``.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is not valid; the message names every such key.
    """
    document = parse_yaml(config_text(path), f"{path}: is not YAML")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must hold 'samples:', such as 'samples: [{{name: control, fovs: 0-5}}]'")
    return parse_samples(document, str(path))


def parse_samples(document: Mapping[str, Any], source: str = "samples") -> Samples:
    """Check a mapping with the keys of ``samples.yaml``; see `load_samples`."""
    with named_keys(source):
        return Samples.model_validate(document)


# -------------------------------------------------------------------------------------------------- merge


@dataclass(frozen=True)
class MergedSample:
    """What became of a sample."""

    name: str
    fovs: tuple[int, ...]
    """FOVs whose traces are in its tables."""
    left_out: tuple[int, ...]
    """FOVs that it should have had; the warnings say why."""
    cells: int
    """With rows that are good."""
    rows: int
    """That are good."""


@dataclass(frozen=True)
class MergeReport:
    """What was merged, and what was not."""

    files: tuple[Path, ...]
    """One tidy CSV a sample, channel and feature."""
    table: Path
    """Parquet file of everything."""
    samples: tuple[MergedSample, ...]
    warnings: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        """0 complete, 3 some FOVs were left out."""
        return 3 if any(sample.left_out for sample in self.samples) else 0


@dataclass(frozen=True)
class _Source:
    """The traces of a FOV."""

    fov: int
    path: Path
    columns: tuple[str, ...]
    original: Path | None = None
    """What `path` is an inspected copy of."""

    @property
    def features(self) -> tuple[str, ...]:
        """Columns of features."""
        return tuple(name for name in self.columns if FEATURE.fullmatch(name))

    @property
    def others(self) -> tuple[str, ...]:
        """Columns that are neither features, nor those of all traces."""
        return tuple(name for name in self.columns if name not in (*BASE_COLUMNS, *self.features))


@dataclass
class _Merge:
    """One merge: what there is, and what has been said of it."""

    output: Path
    wanted: dict[str, list[int]] = field(default_factory=dict)
    """FOVs by name of the sample."""
    sources: dict[int, _Source] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def look_for(self, samples: Samples) -> None:
        """Find the traces of all FOVs of the samples, and say which are not there, or in more than one."""
        standing = {fov["fov"]: fov for fov in read_status(self.output)["fovs"]}
        self.wanted = {sample.name: sample.numbers(standing) for sample in samples.samples}
        for fov in sorted({fov for fovs in self.wanted.values() for fov in fovs}):
            found = self._find(fov, standing)
            if isinstance(found, str):
                self.left_out[fov] = found
            else:
                self.sources[fov] = found
        for name, fovs in self.wanted.items():
            if not self.sources.keys() & set(fovs):
                reasons = "; ".join(self._reasons(fovs))
                raise OutputError(f"{self.output}: sample {name!r} has no traces at all: {reasons}")
        self._say(standing)

    def _find(self, fov: int, standing: Mapping[int, Mapping[str, Any]]) -> _Source | str:
        """Traces of a FOV, or why there are none that can be merged."""
        if fov not in standing:
            return f"the output has no such FOV, but {as_ranges(sorted(standing))}"
        state = standing[fov]
        if state["status"] == "failed" and ("extract" in state["left"] or not state["left"]):
            return f"failed: {state['reason']}"
        if "extract" in state["left"]:
            return f"is {state['status']} (left: {', '.join(state['left'])}); run it to the end, then merge again"
        found = sorted((self.output / fov_name(fov)).glob("*_traces.csv"))
        if not found:
            return "its traces CSV is not there; 'pyama-dask verify' says what is gone"
        path = inspected(found[0])
        return _Source(fov, path, tuple(read_columns(path)), found[0] if path != found[0] else None)

    def _reasons(self, fovs: Sequence[int]) -> Iterator[str]:
        """Why FOVs are left out, those of one reason together."""
        by_reason = defaultdict[str, list[int]](list)
        for fov in fovs:
            if fov in self.left_out:
                by_reason[self.left_out[fov]].append(fov)
        return (f"FOV {as_ranges(of)}: {reason}" for reason, of in by_reason.items())

    def _say(self, standing: Mapping[int, Mapping[str, Any]]) -> None:
        """Put into words what is not as one would expect of the samples and their FOVs."""
        for name, fovs in self.wanted.items():
            self.warnings += [f"sample {name!r}: left out: {reason}" for reason in self._reasons(fovs)]
        said = defaultdict[str, list[int]](list)
        for fov in sorted(standing):
            names = [name for name, fovs in self.wanted.items() if fov in fovs]
            if not names:
                said["in no sample"].append(fov)
            elif len(names) > 1:
                said[f"in more than one sample, and in the tables of each: {', '.join(names)}"].append(fov)
        features = self.features(self.sources)
        for fov, source in self.sources.items():
            if standing[fov]["other_settings"]:
                said["processed with other settings than the last run"].append(fov)
            if left := standing[fov]["left"]:
                said[f"has its traces, but is not complete (left: {', '.join(left)})"].append(fov)
            for column in [name for name in features if name not in source.columns]:
                said[f"without {column}, which other FOVs have"].append(fov)
            for column in source.others:
                said[f"column {quoted(column)} of {source.path.name} is no feature, and left out"].append(fov)
        self.warnings += [f"FOV {as_ranges(fovs)}: {what}" for what, fovs in said.items()]

    def features(self, fovs: Iterable[int]) -> list[str]:
        """Columns of features of some FOVs, as they come."""
        return list(dict.fromkeys(name for fov in fovs if fov in self.sources for name in self.sources[fov].features))

    def read(self, fov: int) -> pd.DataFrame:
        """Traces of a FOV, in minutes; what looks wrong about them is said once."""
        source = self.sources[fov]
        table = read_traces_csv(source.path, minutes=None if "time" in source.columns else self._times(fov))
        if not (table["fov"] == fov).all():
            raise TableError(f"{source.path}: has rows of another FOV than {fov}; put it where it belongs")
        said = []
        if table.empty:
            said.append(f"FOV {fov}: has no cells")
        elif not table["good"].any():
            said.append(f"FOV {fov}: none of its rows is good")
        if source.original and not _same_cells(table, read_traces_csv(source.original, minutes=0)):
            said.append(
                f"FOV {fov}: {source.path.name} has rows that the traces have not, which were made anew since; look "
                "through them again"
            )
        self.warnings += [warning for warning in said if warning not in self.warnings]
        return table

    def _times(self, fov: int) -> dict[int, float]:
        """Minutes of the frames, for traces that do not say them."""
        from pyama_dask.store import read_attributes  # noqa: PLC0415  (it loads zarr, which hardly any merge needs)

        images = self.output / fov_name(fov) / IMAGES
        try:
            return dict(enumerate(read_attributes(images)["times_min"]))
        except (OSError, ValueError, LookupError) as error:
            raise TableError(
                f"{self.sources[fov].path}: has no column 'time', and {images} does not say the times of the frames "
                "either; add the column"
            ) from error


def _same_cells(table: pd.DataFrame, original: pd.DataFrame) -> bool:
    """Whether a copy has no rows but those of what it was copied from."""
    key = ["cell", "frame" if "frame" in table and "frame" in original else "time"]
    return set(table[key].itertuples(index=False, name=None)) <= set(original[key].itertuples(index=False, name=None))


def merge_samples(
    output: str | Path, samples: str | Path | Samples | Mapping[str, Any], directory: str | Path | None = None
) -> MergeReport:
    """Put the traces of an output together by sample.

    For every sample, channel and feature a tidy CSV ``{sample}_{feature}_ch_{channel}.csv`` is written, with the
    columns ``time,fov,cell,value`` (time in minutes) and only the rows that are good; and one Parquet file of
    everything, with the columns of the traces after one of the ``sample``. A copy ``*_traces_inspected.csv`` beside a
    trace file is taken in its place. One FOV is in memory at a time, and files take their places when all of them
    are whole.

    Parameters
    ----------
    output
        Output directory of a run.
    samples
        ``samples.yaml``, or what is in it; see `load_samples`.
    directory
        Where the tables go; ``merged`` in the output unless it is named.

    Raises
    ------
    ConfigError
        If the samples are not valid, or two of them would have the same file.
    OutputError
        If `output` is none of a run, a sample has no traces at all, or `directory` cannot be written to.
    TableError
        If a table of traces cannot be read.
    """
    chosen = samples if isinstance(samples, Samples) else _given(samples)
    merge = _Merge(Path(output))
    merge.look_for(chosen)
    place = Path(directory) if directory is not None else merge.output / MERGED
    files = _files(merge, chosen, place)
    try:
        merged = _write(merge, files, place / TABLE)
    except PyamaError:
        raise
    except OSError as error:
        raise disk_error(error, place) or OutputError(
            f"{place}: cannot be written to: {error.strerror}; name another folder"
        ) from error
    return MergeReport(
        tuple(path for of in files.values() for path in of.values()),
        place / TABLE,
        tuple(merged),
        tuple(merge.warnings),
    )


def _write(merge: _Merge, files: Mapping[str, Mapping[str, Path]], table: Path) -> list[MergedSample]:
    """Write all tables; they take their places when the last one is whole."""
    columns = ("sample", *BASE_COLUMNS, *merge.features(sorted(merge.sources)))
    merged = []
    with ExitStack() as stack:
        everything = stack.enter_context(ParquetFile.writing(table, columns))
        for sample, of in files.items():
            paths = {column: stack.enter_context(replacing(path)) for column, path in of.items()}
            merged.append(_merge_one(merge, sample, paths, everything))
    return merged


def _given(samples: str | Path | Mapping[str, Any]) -> Samples:
    return parse_samples(samples) if isinstance(samples, Mapping) else load_samples(Path(samples))


def _files(merge: _Merge, samples: Samples, place: Path) -> dict[str, dict[str, Path]]:
    """File of every sample and column; refuses names that are the same, or longer than a disk takes."""
    found: dict[str, dict[str, Path]] = {}
    owners: dict[str, str] = {}
    for sample in samples.samples:
        columns = merge.features(merge.wanted[sample.name])
        found[sample.name] = {column: place / f"{sample.name}_{column}.csv" for column in columns}
        for path in found[sample.name].values():
            other = owners.setdefault(path.name.casefold(), sample.name)
            if other != sample.name:
                raise ConfigError(f"samples {other!r} and {sample.name!r} would both have {path.name}; rename one")
            if len(os.fsencode(path.name)) > LONGEST_NAME - _SPARE:
                raise ConfigError(f"sample {sample.name!r}: {path.name} is too long for a file; shorten the name")
    return found


def _merge_one(merge: _Merge, sample: str, paths: Mapping[str, Path], everything: ParquetFile) -> MergedSample:
    """Write the tables of one sample, FOV by FOV."""
    for path in paths.values():
        path.write_bytes(analysis_head("min"))
    wanted = merge.wanted[sample]
    fovs = [fov for fov in wanted if fov in merge.sources]
    cells = rows = 0
    for fov in fovs:
        table = merge.read(fov)
        good = table[table["good"]]
        cells, rows = cells + good["cell"].nunique(), rows + len(good)
        for column in merge.sources[fov].features:
            with paths[column].open("ab") as file:
                file.write(analysis_rows(good[[*TIDY[:3], column]].set_axis(TIDY, axis="columns")))
        everything.add(table.assign(sample=sample))
    if not rows:
        raise OutputError(
            f"{merge.output}: sample {sample!r} has no trace that is good, in FOV {as_ranges(fovs)}; take it out"
        )
    return MergedSample(sample, tuple(fovs), tuple(fov for fov in wanted if fov not in fovs), cells, rows)
