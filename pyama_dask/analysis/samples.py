"""Samples: the traces of an output's FOVs, put together by what was in them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, TypeAdapter
from pydantic import model_validator as validates_model

from pyama_dask.analysis.fit_tables import is_fitted
from pyama_dask.analysis.tables import TIDY, ParquetFile, analysis_head, analysis_rows
from pyama_dask.analysis.trace_sources import Sources, grouped
from pyama_dask.config.models import Model, config_text, named_keys
from pyama_dask.config.units import LONGEST_NAME, Selection, as_ranges, parse_selection
from pyama_dask.config.yaml_text import parse_yaml
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.files.atomic import check_names, writable
from pyama_dask.files.manifest import check_free, writing_into
from pyama_dask.store.trace_csv import BASE_COLUMNS

MERGED = "merged"
"""Folder of the output for what is merged, unless another one is named."""
TABLE = "all_samples.parquet"
"""File with everything that was merged."""
_EXAMPLE = "must name samples and their FOVs, such as 'control: 0-5'"
_SPARE = 40
"""Bytes of a file's name that are kept for feature and channel."""


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


Name = Annotated[str, AfterValidator(_file_name)]


class Sample(Model):
    """Some FOVs that belong together."""

    name: Name
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
    """Read ``samples.yaml``.

    It maps names of samples to their FOVs, ``{control: "0-5, 7", treated: [6, 8]}``, or has a list of them,
    ``samples: [{name: control, fovs: "0-5, 7"}, {name: treated, fovs: [6, 8]}]``.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is not valid; the message names every such key.
    """
    document = parse_yaml(config_text(path, f"; {_EXAMPLE}"), f"{path}: is not YAML")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: {_EXAMPLE}")
    return parse_samples(document, str(path))


def parse_samples(document: Mapping[str, Any], source: str = "samples") -> Samples:
    """Check a mapping of one of the forms of ``samples.yaml``; see `load_samples`."""
    with named_keys(source, model=Samples):
        if "samples" not in document:
            fovs = TypeAdapter(dict[Name, Selection]).validate_python(document)
            document = {"samples": [{"name": name, "fovs": fovs[name]} for name in fovs]}
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
    cells_set: int = 0
    """Cells of which overrides have set rows good or not."""

    @property
    def exit_status(self) -> int:
        """0 complete, 3 some FOVs were left out."""
        return 3 if any(sample.left_out for sample in self.samples) else 0


def wanted_fovs(samples: Samples | None, sources: Sources) -> dict[str, list[int]]:
    """FOVs of every sample; without samples, all of the output as one of no name.

    What is not as one would expect of them is added to the warnings of the sources.

    Raises
    ------
    OutputError
        If a sample has no traces at all.
    """
    known = sources.fovs
    wanted = {sample.name: sample.numbers(known) for sample in samples.samples} if samples else {"": sorted(known)}
    for name, fovs in wanted.items():
        if not sources.usable(fovs):
            has = f"sample {name!r} has" if name else "has"
            raise OutputError(f"{sources.output}: {has} no traces at all: {'; '.join(sources.reasons(fovs))}")
    for name, fovs in wanted.items():
        sources.say(f"{f'sample {name!r}: ' if name else ''}left out: {reason}" for reason in sources.reasons(fovs))
    sources.say(grouped(_not_in_one(wanted, sources)))
    sources.say(sources.look(sorted({fov for fovs in wanted.values() for fov in fovs})))
    return wanted


def _not_in_one(wanted: Mapping[str, list[int]], sources: Sources) -> Iterator[tuple[int, str]]:
    """FOVs that are in no sample, or in several."""
    for fov in sorted(sources.fovs):
        names = [name for name, fovs in wanted.items() if fov in fovs]
        if not names:
            yield fov, "in no sample"
        elif len(names) > 1:
            yield fov, f"in more than one sample, and in the tables of each: {', '.join(names)}"


def merge_samples(
    output: str | Path,
    samples: str | Path | Samples | Mapping[str, Any],
    directory: str | Path | None = None,
    good: str | Path | None = None,
    *,
    force: bool = False,
) -> MergeReport:
    """Put the traces of an output together by sample.

    For every sample, channel and feature a tidy CSV ``{sample}_{feature}_ch_{channel}.csv`` is written, with the
    columns ``time,fov,cell,value`` (time in minutes) and only the rows that are good; and one Parquet file of
    everything, with the columns of the traces after one of the ``sample``. A copy ``*_traces_inspected.csv`` beside a
    trace file is taken in its place, and what ``good.yaml`` says goes over either. One FOV is in memory at a time, and
    files take their places when all of them are whole.

    Parameters
    ----------
    output
        Output directory of a run, or of an older program: with a ``processing_results.yaml``, or tables of traces only.
    samples
        ``samples.yaml``, or what is in it; see `load_samples`.
    directory
        Where the tables go; ``merged`` in the output unless it is named.
    good
        YAML of overrides; ``good.yaml`` in the output, if there is one, unless another one is named.
    force
        Whether to overwrite files that no merge has written, or that were changed since.

    Raises
    ------
    ConfigError
        If the samples or overrides are not valid, or two samples would have the same file.
    OutputError
        If `output` is none of a run, a sample has no traces at all, or `directory` cannot be written to, or has other
        files of these names.
    TableError
        If a table of traces cannot be read.
    """
    chosen = given_samples(samples)
    sources = Sources(Path(output), Path(good) if good is not None else None)
    wanted = wanted_fovs(chosen, sources)
    place = Path(directory) if directory is not None else sources.output / MERGED
    files = _files(sources, wanted, place)
    paths = [path for of in files.values() for path in of.values()]
    names = [TABLE, *(path.name for path in paths)]
    check_names(place, names)
    with writable(place):
        check_free(place, names, force=force)
        with writing_into(place, "merge", force=force) as folder:
            merged = _write(sources, wanted, files, folder)
    sources.say(_of_before(place, paths))
    return MergeReport(
        tuple(paths),
        place / TABLE,
        tuple(merged),
        tuple(sources.warnings),
        len(sources.cells_set),
    )


def _of_before(place: Path, files: Collection[Path]) -> Iterator[str]:
    """Words for tables that are there, but not of this merge: of samples that had another name, for instance."""
    others = [path.name for path in sorted(place.glob("*_ch_*.csv")) if path not in files and not is_fitted(path)]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        yield f"{place}: has tables that are not of this merge: {', '.join(others[:3])}{more}; remove them"


def given_samples(samples: str | Path | Samples | Mapping[str, Any]) -> Samples:
    """Samples, from their file or what is in it."""
    if isinstance(samples, Samples):
        return samples
    return parse_samples(samples) if isinstance(samples, Mapping) else load_samples(Path(samples))


def _files(sources: Sources, wanted: Mapping[str, list[int]], place: Path) -> dict[str, dict[str, Path]]:
    """File of every sample and column; refuses names that are the same."""
    found: dict[str, dict[str, Path]] = {}
    owners: dict[str, str] = {}
    for sample, fovs in wanted.items():
        found[sample] = {column: place / f"{sample}_{column}.csv" for column in sources.features(fovs)}
        for path in found[sample].values():
            other = owners.setdefault(path.name.casefold(), sample)
            if other != sample:
                raise ConfigError(f"samples {other!r} and {sample!r} would both have {path.name}; rename one")
    return found


def _write(
    sources: Sources, wanted: Mapping[str, list[int]], files: Mapping[str, Mapping[str, Path]], folder: Path
) -> list[MergedSample]:
    """Write all tables to a folder."""
    fovs = sorted({fov for of in wanted.values() for fov in of})
    merged = []
    columns = ("sample", *BASE_COLUMNS, *sources.features(fovs))
    with ParquetFile.writing(folder / TABLE, columns) as everything:
        for sample, of in files.items():
            paths = {column: folder / path.name for column, path in of.items()}
            merged.append(_merge_one(sources, sample, wanted[sample], paths, everything))
    return merged


def _merge_one(
    sources: Sources, sample: str, wanted: list[int], paths: Mapping[str, Path], everything: ParquetFile
) -> MergedSample:
    """Write the tables of one sample, FOV by FOV."""
    for path in paths.values():
        path.write_bytes(analysis_head("min"))
    fovs = sources.usable(wanted)
    cells = rows = 0
    for fov in fovs:
        table = sources.read(fov)
        good = table[table["good"]]
        cells, rows = cells + good["cell"].nunique(), rows + len(good)
        for column in sources.fovs[fov].features:
            with paths[column].open("ab") as file:
                file.write(analysis_rows(good[[*TIDY[:3], column]].set_axis(TIDY, axis="columns")))
        everything.add(table.assign(sample=sample))
    if not rows:
        raise OutputError(
            f"{sources.output}: sample {sample!r} has no trace that is good, in FOV {as_ranges(fovs)}; take it out"
        )
    return MergedSample(sample, tuple(fovs), tuple(fov for fov in wanted if fov not in fovs), cells, rows)
