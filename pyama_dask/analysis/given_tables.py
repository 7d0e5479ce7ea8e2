"""Tables that a user passes to ``fit``, ``plot`` and ``compare``: files, folders of tables, and outputs of runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyama_dask.analysis.fit_tables import is_fitted
from pyama_dask.analysis.given_outputs import Paths, given_outputs, is_output, outputs_in
from pyama_dask.analysis.merge import MERGED, merge_samples
from pyama_dask.analysis.quantities import TableHead, feature_of, name_parts
from pyama_dask.errors import ConfigError

ALL_FOVS = "all_fovs"
"""Sample of all FOVs of an output that was not merged, and the folder in the output for its tables."""
FEATURE, EVERY = "intensity_total", "all"
"""Feature whose tables are taken from a folder by default, and the word for all features."""


@dataclass(frozen=True)
class Given:
    """Files to work on, and warnings about the folders in which they were found."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def tables_to_fit(paths: Paths, feature: str | None = None, *, force: bool = False) -> Given:
    """Find tables of traces.

    Parameters
    ----------
    paths
        One path, or several: files, which are returned as they are; folders of tables; outputs of runs, and folders
        above outputs. Of an output, or a folder above outputs, the merged tables are taken; without any, all FOVs are
        merged as one sample into its folder `ALL_FOVS`. Several outputs beside each other, none of which has merged
        tables, are taken together.
    feature
        Feature whose tables are taken from folders, or ``all``; None for `FEATURE`. Tables without a feature in their
        names are always taken.
    force
        True to overwrite other files in the folder of all FOVs.

    Raises
    ------
    ConfigError
        If a folder has no tables, or none of this feature.
    OutputError
        If an output cannot be merged.
    """
    return _found(paths, lambda folder: _of_feature(folder, traces_in(folder), feature or FEATURE), force=force)


def results_in(paths: Paths, feature: str | None = None, *, merge: bool = True, force: bool = False) -> Given:
    """Find fits and tables of traces, to draw or compare them.

    Parameters
    ----------
    paths, force
        As for `tables_to_fit`.
    feature
        Feature whose fits and tables are taken from folders, or ``all``; None for all fits, or, without any, the tables
        of `FEATURE`.
    merge
        False to refuse an output without merged tables, as it has only one sample.

    Raises
    ------
    ConfigError, OutputError
        As for `tables_to_fit`.
    """

    def chosen(folder: Path) -> list[Path]:
        fits = [path for path in _tables_in(folder) if is_fitted(path)]
        if feature is None and fits:
            return fits
        return _of_feature(folder, [*fits, *traces_in(folder)], feature or FEATURE)

    return _found(paths, chosen, merge=merge, force=force)


def _found(paths: Paths, chosen: Callable[[Path], list[Path]], *, merge: bool = True, force: bool) -> Given:
    """Files, and the chosen files of folders; each once."""
    files, warnings = list[Path](), list[str]()
    for path in _together([Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]):
        if not path.is_dir():
            files.append(path)
            continue
        folder = _folder_of_tables(path, warnings, merge=merge, force=force)
        files += chosen(folder)
    return Given(tuple(dict.fromkeys(files)), tuple(dict.fromkeys(warnings)))


def _together(paths: list[Path]) -> list[Path]:
    """Paths, with the folder above several outputs instead of these, if none of them was merged by itself."""
    if len(paths) < 2 or not all(is_output(path) and not traces_in(path / MERGED) for path in paths):
        return paths
    common = given_outputs(paths).common
    return [common] if common is not None and {*outputs_in(common)} == {*map(Path, paths)} else paths


def _folder_of_tables(path: Path, warnings: list[str], *, merge: bool, force: bool) -> Path:
    """Folder itself, or that of the merged tables of an output; merges all FOVs if there are no merged tables."""
    if not is_output(path) and (_has_tables(path) or not outputs_in(path)):
        return path
    if traces_in(path / MERGED):
        return path / MERGED
    if not merge:
        raise ConfigError(
            f"{path}: has no merged tables. Fix: assign its FOVs to samples with 'pyama-dask merge', then try again"
        )
    report = merge_samples(path, {ALL_FOVS: "all"}, path / ALL_FOVS, force=force)
    warnings.append(
        f"{path}: was not merged by sample, so all its FOVs are one sample, with its tables in {path / ALL_FOVS}"
    )
    warnings += report.warnings
    return path / ALL_FOVS


def _has_tables(folder: Path) -> bool:
    """True for a folder with tables of traces or fits; other tables, such as those of quality, do not count."""
    return any(is_fitted(path) or TableHead.read(path).has_traces for path in _tables_in(folder))


def traces_in(folder: Path) -> list[Path]:
    """Tables of traces in a folder, without fits and other CSV files."""
    return [path for path in _tables_in(folder) if TableHead.read(path).has_traces]


def _tables_in(folder: Path) -> list[Path]:
    """CSV files in a folder, with numbers in their names in order: 5 nM before 20 nM."""

    def key(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", path.name)]

    return sorted(folder.glob("*.csv"), key=key)


def _of_feature(folder: Path, tables: Sequence[Path], feature: str) -> list[Path]:
    """Tables of a feature, and those without a feature in their names."""
    if not tables:
        raise ConfigError(
            f"{folder}: holds no tables of traces, and is not the output of a run. Fix: pass the output of a run, a "
            "folder that 'pyama-dask merge' has written, or CSV files"
        )
    features = {path: feature_of(_measured(path)) for path in tables}
    found = [path for path, of in features.items() if of in ("", feature) or feature == EVERY]
    if not found:
        others = ", ".join(sorted({*features.values()}))
        raise ConfigError(f"{folder}: has no tables of {feature}. Fix: choose --feature {EVERY}, or one of {others}")
    return found


def _measured(path: Path) -> str:
    """Feature with channel in the name of a table or of its fits."""
    return name_parts(path.stem.partition("_fitted_")[0] if is_fitted(path) else path.stem)[1]
