"""YAML files that describe a folder of results: configs of this program and of older ones."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from shlex import quote
from typing import Any

from pyama_dask.analysis.trace_tables import inspected
from pyama_dask.config.load import parse_config
from pyama_dask.config.models import Config
from pyama_dask.config.movie_input import KINDS
from pyama_dask.config.units import quoted
from pyama_dask.config.yaml_text import dump_yaml, parse_yaml
from pyama_dask.errors import ConfigError, OutputError, TableError
from pyama_dask.files.atomic import write_bytes
from pyama_dask.files.checked_csv import read_text
from pyama_dask.workflow.task import WORK


def read_processing_config(path: str | Path) -> dict[str, Any]:
    """Read a ``processing_config.yaml`` of this program or an older one, with updated paths.

    ``output`` becomes the folder of the file. If the movie at ``input`` does not exist any more, or its path is
    relative to an unknown working directory, it is searched at the same place relative to the output.

    Raises
    ------
    ConfigError, TableError
        If the file is unreadable, is not YAML, or has no keys.
    """
    path = Path(path)
    document = _yaml(path)
    before = document.get("output")
    if isinstance(before, str):
        document["output"] = str(path.parent)
        given = document.get("input")
        if isinstance(given, dict):
            moved = {key: _found(given[key], before, path.parent) for key in KINDS if key in given}
            document["input"] = given | moved
        elif given is not None:
            document["input"] = _found(given, before, path.parent)
    return document


def _found(given: Any, before: str, output: Path) -> Any:
    """Path of a movie, searched at the same place relative to an output that was moved; other values stay."""
    if not isinstance(given, str) or _pure(given).is_absolute() != _pure(before).is_absolute():
        return given
    way = os.path.relpath(_pure(given).as_posix(), _pure(before).as_posix())
    beside = Path(os.path.normpath(output / way))
    stayed = _pure(given).is_absolute() and _is_there(Path(given))
    return given if stayed or not _is_there(beside) else str(beside)


def _is_there(movie: Path) -> bool:
    """True if a file or folder exists, or the folder in which the names of a pattern begin."""
    return next(place for place in (movie, *movie.parents) if "{" not in str(place)).exists()


PROCESSING_CONFIG = "processing_config.yaml"
"""Name of the config in an output."""


def is_of_output(path: Path) -> bool:
    """True for a folder, and for the config in an output: `config_of_output` reads both."""
    return path.is_dir() or path.name == PROCESSING_CONFIG


def config_of_output(path: Path) -> Config:
    """Config of the last run into an output, with updated paths; see `read_processing_config`.

    Parameters
    ----------
    path
        The output, or the config in it.

    Raises
    ------
    OutputError
        If the directory is not the output of a run of this program.
    ConfigError
        If its config was changed, and is no config any more.
    """
    file = path / PROCESSING_CONFIG if path.is_dir() else path
    if not file.exists():
        raise OutputError(f"{path}: holds no results of pyama_dask (no {file.name}). Fix: pass the output of a run")
    document = {key: value for key, value in read_processing_config(file).items() if key != "metadata"}
    return parse_config(document, source=str(file))


def recorded_config(path: Path, *, extend: bool = False) -> Config:
    """Config of the last run into an output, to run it again there.

    Parameters
    ----------
    path
        The output, or the config in it.
    extend
        True if the movie may have grown: then the recorded frames and FOVs would leave out what is new.

    Raises
    ------
    OutputError
        If the folder is not the output of a run of this program, such as one to which the config was copied.
    ConfigError
        If the config was changed, and is no config any more, or cannot be used to extend the output.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / PROCESSING_CONFIG).exists():
        raise OutputError(
            f"{path}: is neither a config nor the output of a run. Fix: pass one of them; for a folder with a movie, "
            f"'pyama-dask init {quote(str(folder))}' writes a config"
        )
    if not (folder / WORK).is_dir():
        raise OutputError(
            f"{folder}: is not the output that its {PROCESSING_CONFIG} belongs to. Fix: to use a copy as a config, "
            "rename it, delete its key 'metadata', and set 'input' and 'output'"
        )
    if extend:
        raise ConfigError(
            f"{path}: has the frames and FOVs of the last run, without those that are new. Fix: pass the config that "
            "the run was started with, such as run.yaml"
        )
    return config_of_output(path)


def write_processing_config(path: str | Path, document: Mapping[str, Any]) -> None:
    """Write a config as YAML, in the order of its keys, so that `read_processing_config` returns an equal one."""
    text = dump_yaml(dict(document), width=120)
    write_bytes(path, text.encode())


Files = Mapping[str, tuple[tuple[int | None, Path], ...]]
"""Files of a FOV by product, each with its channel; None for files of all channels."""


@dataclass(frozen=True)
class ProcessingResults:
    """Contents of an older program's ``processing_results.yaml``."""

    output_dir: Path
    pc: int | None = None
    fl: tuple[int, ...] = ()
    features: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Names of features by channel, as far as listed."""
    files: Mapping[int, Files] = field(default_factory=dict)
    """Files by FOV; products are ``pc``, ``fl``, ``seg``, ``seg_labeled``, ``fl_corrected``, ``traces_csv`` etc."""
    params: Mapping[str, Any] = field(default_factory=dict)
    time_units: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """Other keys of the file."""

    def traces(self, fov: int) -> tuple[tuple[int | None, Path], ...]:
        """Trace tables of a FOV, each with its channel (None for all); inspected copies are preferred."""
        return tuple((channel, inspected(path)) for channel, path in self.originals(fov))

    def originals(self, fov: int) -> tuple[tuple[int | None, Path], ...]:
        """Trace tables of a FOV as listed, without repeats."""
        files = self.files.get(fov, {})
        return tuple(dict.fromkeys(one for name in ("traces", "traces_csv") for one in files.get(name, ())))


_ONE = ("pc", "seg", "seg_labeled")
"""Products with one file per FOV."""
_KEYS = ("output_dir", "channels", "results_paths", "results", "params", "time_units")


def read_processing_results(path: str | Path) -> ProcessingResults:
    """Read a ``processing_results.yaml``, with updated paths of its files.

    The folder may have been moved or copied, also from Windows, and paths may be relative to an unknown working
    directory. Files are searched below the folder of the YAML file: at their place below ``output_dir``, or below
    ``fov_003``. Only an absolute path may name a file elsewhere.

    Accepted are files by FOV as ``results_paths`` or ``results``, with ``traces`` or ``traces_csv``; channels as
    ``fl: [1]``, ``fl: [[1, [intensity_total]]]`` or ``fl: [{channel: 1, features: [...]}]``, and features in
    ``pc_features`` and ``fl_features``.

    Raises
    ------
    ConfigError, TableError
        If the file is unreadable, is not YAML, or a key has an invalid value.
    """
    path = Path(path)
    document = _yaml(path)
    results = document.get("results_paths", document.get("results"))
    if not isinstance(results, dict):
        raise TableError(
            f"{path}: has neither 'results_paths' nor 'results' by FOV. Fix: restore the file, or remove it"
        )
    root = document.get("output_dir")
    files: dict[int, Files] = {}
    for fov, products in results.items():
        if not str(fov).isdigit() or not isinstance(products or {}, dict):
            raise TableError(f"{path}: results of {quoted(fov)}: must map the number of a FOV to files by product")
        where = f"{path}: FOV {fov}"
        files[int(fov)] = {
            name: tuple(
                (channel, _moved(file, root, path.parent)) for channel, file in _pairs(given, f"{where}, {name}")
            )
            for name, given in (products or {}).items()
        }
    for name in ("channels", "params"):
        if not isinstance(document.get(name) or {}, dict):
            raise TableError(f"{path}: {name}: must hold keys, not {quoted(document[name])}")
    channels = document.get("channels") or {}
    chosen = _channels(channels, path)
    return ProcessingResults(
        path.parent, pc=next((channel for kind, channel, _ in chosen if kind == "pc"), None),
        fl=tuple(channel for kind, channel, _ in chosen if kind == "fl"),
        features={channel: names for _, channel, names in chosen if names}, files=files,
        params=document.get("params") or {}, time_units=document.get("time_units"),
        more={name: value for name, value in document.items() if name not in _KEYS},
    )  # fmt: skip


def write_processing_results(path: str | Path, results: ProcessingResults) -> None:
    """Write a ``processing_results.yaml`` for older programs.

    `read_processing_results` returns an equal one if the file is in the folder `ProcessingResults.output_dir`.
    """

    def chosen(channel: int) -> Any:
        return [channel, list(results.features.get(channel, ()))] if results.features else channel

    document = {
        "output_dir": str(results.output_dir),
        "channels": {"pc": None if results.pc is None else chosen(results.pc), "fl": [chosen(k) for k in results.fl]},
        "results_paths": {
            str(fov): {name: _as_written(name, of) for name, of in files.items()}
            for fov, files in results.files.items()
        },
        "params": dict(results.params),
        "time_units": results.time_units,
    }
    write_processing_config(path, document | dict(results.more))


def _yaml(path: Path) -> dict[str, Any]:
    document = parse_yaml(read_text(path), f"{path}: is not YAML")
    if not isinstance(document, dict):
        raise TableError(
            f"{path}: must hold keys such as 'channels:'. Fix: restore it; it is damaged or of another program"
        )
    return document


def _pairs(given: Any, where: str) -> Iterator[tuple[int | None, str]]:
    """Channel and path of the files of a product: ``path``, ``[1, path]`` or ``[[1, path], [2, path]]``."""
    if isinstance(given, str):
        yield None, given
    elif isinstance(given, list) and all(isinstance(one, list) for one in given):
        for one in given:
            yield from _pairs(one, where)
    elif isinstance(given, list) and len(given) == 2 and isinstance(given[1], str) and _is_channel(given[0]):
        yield None if given[0] is None else int(given[0]), given[1]
    elif given is not None:
        raise TableError(f"{where}: must be a path, or channels with paths such as [[1, path]], not {quoted(given)}")


def _is_channel(value: Any) -> bool:
    return value is None or (str(value).isdigit() and not isinstance(value, bool))


def _as_written(product: str, files: tuple[tuple[int | None, Path], ...]) -> Any:
    written = [[channel, str(path)] for channel, path in files]
    if len(files) == 1 and product in _ONE:
        return written[0]
    return str(files[0][1]) if product == "traces" and len(files) == 1 and files[0][0] is None else written


def _channels(document: Mapping[str, Any], path: Path) -> list[tuple[str, int, tuple[str, ...]]]:
    """Type, number and features of the channels, from any of the accepted forms."""
    found = []
    given = [
        ("pc", document.get("pc")),
        *(("fl", one) for one in document.get("fl") or document.get("fl_features") or ()),
    ]
    for kind, one in given:
        if one is None:
            continue
        channel, names = one if isinstance(one, list) and len(one) == 2 else (one, None)
        if isinstance(one, dict):
            channel, names = one.get("channel"), one.get("features")
        if channel is None or not _is_channel(channel):
            raise TableError(
                f"{path}: channels.{kind}: {quoted(one)} is not a channel. Fix: give its number, as in 'fl: [1]'"
            )
        elsewhere: Any = document.get(f"{kind}_features") or ()
        if names is None:
            names = (
                elsewhere.get(channel, elsewhere.get(str(channel), ())) if isinstance(elsewhere, dict) else elsewhere
            )
        found.append((kind, int(channel), tuple(map(str, names or ()))))
    return found


def _pure(text: str) -> PurePath:
    return PureWindowsPath(text) if re.match(r"[A-Za-z]:|.*\\", text) else PurePosixPath(text)


def _moved(text: str, root: Any, directory: Path) -> Path:
    """Find a file whose recorded path refers to a moved folder or to an unknown working directory.

    Parameters
    ----------
    text
        The recorded path.
    root
        The recorded path of the output; empty if unknown.
    directory
        Current path of the output.
    """
    recorded, parts = _pure(text), _pure(text).parts
    below = []
    if isinstance(root, str) and recorded.is_relative_to(root):
        below.append(recorded.relative_to(root).parts)
    if not recorded.is_absolute():
        names = {directory.absolute().name, _pure(str(root)).name}
        below = [parts, *below, *(parts[k + 1 :] for k, part in enumerate(parts[:-1]) if part in names)]
    folders = [k for k, part in enumerate(parts[:-1]) if re.fullmatch(r"fov_?\d+", part)]
    below += [parts[k:] for k in folders[-1:]]
    places = [directory.joinpath(*of) for of in below]
    stayed = [Path(text)] if recorded.is_absolute() else []
    return next((place for place in (*places, *stayed) if place.exists()), (places or stayed)[0])
