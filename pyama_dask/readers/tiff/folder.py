"""Movies that are folders of single TIFF files, whose names have the numbers of FOV, frame and channel."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import compress, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import many
from pyama_dask.config.well_names import parse_well, well_name
from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.readers.base import Channel, FovInfo, Metadata, absent_planes
from pyama_dask.readers.channel_kinds import channel_kind
from pyama_dask.readers.folders.in_threads import in_threads
from pyama_dask.readers.folders.plane_table import fill_table, is_file, is_folder, list_folder
from pyama_dask.readers.folders.planes import ABSENT, Folder, Planes
from pyama_dask.readers.tiff.header import TiffHeader, common_header, few_of, most_common, read_header
from pyama_dask.readers.tiff.pattern import ENDINGS, FilePattern, compile_pattern
from pyama_dask.readers.tiff.stack import has_several
from pyama_dask.readers.tiff.stack_folder import join_stacks

NAME = "TIFF folder"
_TRIED = 4
"""Files that are tried for several images in one file."""


def scan(folder: Path, pattern: str, *, times: bool = True) -> Folder:
    """Find the files that match a pattern.

    The lowest number of a frame is the first frame, whether it is 0 or 1; numbers between the lowest and the highest
    one that have no file are missing frames. FOVs, channels and z planes are those that are found, in order. Files of a
    pattern with FOVs only may be stacks.

    Parameters
    ----------
    folder
        Folder that the pattern starts at.
    pattern
        Pattern of file names; see `compile_pattern`.
    times
        False to skip the times of frames, which only stacks state.

    Raises
    ------
    ConfigError
        If the pattern is invalid.
    SourceError
        If no file matches, or two files are the same plane.
    UnsupportedSourceError
        If files have several pages or colours, or the channels have different sizes.
    """
    compiled = compile_pattern(pattern)
    found, others = _find_files(folder, compiled)
    if all(file.size == ABSENT for file in found):
        hint = f"there is {others[0]}" if others else "there are no TIFF files in its place"
        raise SourceError(f"{folder}: no file matches {pattern}, but {hint}. Fix: change the pattern")
    axes, every = _number(found, compiled), [file.name for file in found]
    held = np.array([file.size != ABSENT for file in found])
    names, lost = list(compress(every, held)), list(compress(every, ~held))
    if _are_stacks(folder, names, compiled):
        stacks = fill_table(folder, axes.shape, axes.places, np.arange(len(every)), every)
        ordered = [every[number] for number in stacks.ravel().tolist()]
        fovs = [FovInfo(fov.name, (0, 0), well=fov.well, site=fov.site) for fov in axes.fovs]
        return join_stacks(folder, ordered, fovs, index=f"pattern {pattern}".encode(), times=times)
    table = fill_table(folder, axes.shape, axes.places, np.where(held, np.cumsum(held) - 1, ABSENT), names)
    states = np.array([(file.size, file.written) for file in compress(found, held)], np.int64)
    planes = Planes(folder, names, states[:, 0], states[:, 1], table, index=f"pattern {pattern}".encode())
    headers = _read_headers(planes)
    metadata = Metadata(
        path=folder,
        format=NAME,
        fovs=_fovs(axes, headers, table != ABSENT),
        n_frames=axes.shape[1],
        channels=_channels(planes, axes.channels, headers),
        z_planes=axes.shape[3],
        pixel_size_um=headers[0].pixel_size_um,
        notes=tuple(f"{folder.name}: {note}" for note in _notes(axes, others, lost, headers)),
    )
    return Folder(metadata, planes)


def _are_stacks(folder: Path, names: Sequence[str], pattern: FilePattern) -> bool:
    """True if files have several images, and the pattern leaves open what these are."""
    is_open = not {"frame", "channel", "z"}.intersection(pattern.fields)
    return is_open and any(has_several(folder / name) for name in names[:_TRIED])


# ------------------------------------------------------------------------------------------ files


class _File(NamedTuple):
    """File that matches the pattern."""

    name: str
    """Path from the folder, with ``/`` between folders."""
    texts: dict[str, str]
    """Text of each field."""
    size: int
    """Bytes; `ABSENT` if it is a folder, a pipe, or a link that leads nowhere, so that its plane is missing."""
    written: int


def _find_files(folder: Path, pattern: FilePattern) -> tuple[list[_File], list[str]]:
    """Files that match, and names of TIFF files beside them that do not match; both sorted by name."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder. Fix: check the path")
    found, others = list[_File](), list[str]()
    for start in _walk(folder, "", pattern.folders):
        for entry in list_folder(folder / start):
            if entry.name.startswith(".") or not entry.name.lower().endswith(ENDINGS):
                continue
            name = start + entry.name
            if match := pattern.whole.fullmatch(name):
                found.append(_File(name, match.groupdict(), *_size_and_time(entry)))
            elif is_file(entry):
                others.append(name)
    return sorted(found), sorted(others)


def _size_and_time(entry: os.DirEntry[str]) -> tuple[int, int]:
    """Bytes of a file, `ABSENT` for anything else, and the time of the last write to it in nanoseconds."""
    with suppress(OSError):
        if is_file(entry):
            stat = entry.stat()
            return stat.st_size, stat.st_mtime_ns
    return ABSENT, 0


def _walk(folder: Path, start: str, names: Sequence[re.Pattern[str]]) -> Iterator[str]:
    """Paths, with a ``/`` at the end, of the folders that the pattern leads to."""
    if not names:
        yield start
        return
    for entry in list_folder(folder / start):
        if names[0].fullmatch(entry.name) and not entry.name.startswith(".") and is_folder(entry):
            yield from _walk(folder, f"{start}{entry.name}/", names[1:])


# ------------------------------------------------------------------------------------------ numbers


class _Fov(NamedTuple):
    """Name of a FOV, and its place on a plate."""

    name: str
    well: str | None = None
    site: int | None = None


@dataclass(frozen=True)
class _Axes:
    """Numbers of the files from 0."""

    fovs: list[_Fov]
    channels: list[str]
    frames: tuple[int, int]
    """Lowest and highest number of a frame."""
    gaps: int
    """Frames between them without a file."""
    shape: tuple[int, int, int, int]
    """Numbers of FOVs, frames, channels and z planes."""
    places: npt.NDArray[np.int64]
    """(files, 4) numbers of the FOV, frame, channel and z plane of each file."""


def _number(files: Sequence[_File], pattern: FilePattern) -> _Axes:
    """Number the files by the texts of their fields."""
    texts = {name: [file.texts[name] for file in files] for name in pattern.letters}
    nothing = ["0"] * len(files)
    fovs, of_fov = _number_fovs(texts, pattern, nothing)
    channels, of_channel = _named(texts.get("channel", nothing), pattern.letters.get("channel", ""), "Channel")
    frames = np.array(texts.get("frame", nothing)).astype(np.int64)
    heights, of_z = np.unique(np.array(texts.get("z", nothing)).astype(np.int64), return_inverse=True)
    numbers = np.unique(frames)
    first, last = int(numbers[0]), int(numbers[-1])
    return _Axes(
        fovs=fovs,
        channels=channels,
        frames=(first, last),
        gaps=last - first + 1 - len(numbers),
        shape=(len(fovs), last - first + 1, len(channels), len(heights)),
        places=np.stack([of_fov, frames - first, of_channel, of_z], axis=1),
    )


def _number_fovs(
    texts: Mapping[str, list[str]], pattern: FilePattern, nothing: list[str]
) -> tuple[list[_Fov], Sequence[int]]:
    """FOVs in the order of their wells and sites, or of their numbers, and the FOV of each file."""
    if "well" not in texts:
        names, of_fov = _named(texts.get("fov", nothing), pattern.letters.get("fov", ""), "FOV")
        return [_Fov(name) for name in names], of_fov
    sites = map(int, texts["site"]) if "site" in texts else repeat(1)
    keys = [(*parse_well(well), site) for well, site in zip(texts["well"], sites, strict=False)]
    ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    wells = [(well_name(row, column), site) for row, column, site in ranks]
    return [_Fov(f"{well} s{site}", well, site) for well, site in wells], [ranks[key] for key in keys]


def _named(texts: list[str], letters: str, noun: str) -> tuple[list[str], list[int]]:
    """Names of numbers or texts in their order, and the rank of each of them."""
    if not all(text.isdecimal() for text in texts):
        names = sorted(set(texts))
        ranks = {name: rank for rank, name in enumerate(names)}
        return names, [ranks[text] for text in texts]
    named = {int(text): f"{letters or noun + ' '}{text}" for text in reversed(texts)}
    places = {number: rank for rank, number in enumerate(sorted(named))}
    return [named[number] for number in places], [places[int(text)] for text in texts]


# ------------------------------------------------------------------------------------------ metadata


def _read_headers(planes: Planes) -> list[TiffHeader]:
    """Description of each FOV, by its first and last file.

    Files of the same number of bytes are taken for alike. This saves most of the work if they are not compressed, and a
    file of another shape is refused when it is read. A FOV that differs from most is described by several of its files,
    as the first one may be odd.
    """
    files = [numbers[numbers != ABSENT].tolist() for numbers in planes.file]
    alike: dict[int, list[int]] = {}
    for numbers in filter(None, files):
        alike.setdefault(int(planes.sizes[numbers[0]]), []).extend({numbers[0], numbers[-1]})
    read = in_threads(lambda numbers: _grey_header(planes, numbers), list(alike.values()))
    by_size = dict(zip(alike, read, strict=True))
    firsts = [by_size[int(planes.sizes[numbers[0]])] if numbers else None for numbers in files]
    forms = Counter(header.form for header in firsts if header is not None)
    odd = [
        fov
        for fov, header in enumerate(firsts)
        if files[fov] and (header is None or 2 * forms[header.form] <= forms.total())
    ]
    for fov, header in zip(odd, in_threads(lambda fov: _grey_header(planes, files[fov]), odd), strict=True):
        firsts[fov] = header
    usual = most_common([header for header in firsts if header is not None]) or _any_header(planes)
    return [usual if header is None else header for header in firsts]


def _grey_header(planes: Planes, numbers: Sequence[int]) -> TiffHeader | None:
    """Description that most of a few files share; None if none of them has one grey image."""
    with suppress(UnsupportedSourceError):
        return common_header([planes.path_of(number) for number in few_of(numbers)])
    return None


def _any_header(planes: Planes) -> TiffHeader:
    """Description of any file; raises `SourceError` if no file has one grey image."""
    paths = [planes.path_of(number) for number in few_of(range(len(planes.files)))]
    return common_header(paths) or read_header(paths[0])


def _channels(planes: Planes, names: Sequence[str], headers: Sequence[TiffHeader]) -> tuple[Channel, ...]:
    """Channels, with the pixel type that most of a few files of each have."""
    channels, shapes = [], {header.shape for header in headers}
    for place, name in enumerate(names):
        files = planes.file[:, :, place]
        header = common_header([planes.path_of(number) for number in few_of(files[files != ABSENT].tolist())])
        header = header or headers[0]
        if header.shape not in shapes:
            raise UnsupportedSourceError(
                f"{planes.folder}: {name} has images of another size than {names[0]} ({header.shape[1]} x "
                f"{header.shape[0]} pixels). Fix: scale them to one size, or leave out a channel in the pattern"
            )
        channels.append(Channel(name, header.dtype, channel_kind(name)))
    return tuple(channels)


def _fovs(axes: _Axes, headers: Sequence[TiffHeader], held: npt.NDArray[np.bool_]) -> tuple[FovInfo, ...]:
    return tuple(
        FovInfo(fov.name, header.shape, well=fov.well, site=fov.site, **absent_planes(planes))
        for fov, header, planes in zip(axes.fovs, headers, held, strict=True)
    )


def _notes(axes: _Axes, others: Sequence[str], lost: Sequence[str], headers: Sequence[TiffHeader]) -> Iterator[str]:
    """Notes on gaps, on planes that are lost, and on files that are not used."""
    if lost:
        yield f"folders or pipes instead of {many(len(lost), 'image')}, such as {lost[0]}; they are missing"
    if axes.gaps:
        first, last = axes.frames
        yield f"frames are numbered from {first} to {last}, but {axes.gaps} of these have no files; they are missing"
    if others:
        yield f"not used, because the name does not match: {many(len(others), 'TIFF file')}, such as {others[0]}"
    sizes = sorted({header.pixel_size_um or 0.0 for header in headers})
    if len(sizes) > 1:
        given = ", ".join(f"{size} um" if size else "none" for size in sizes)
        yield f"the files state different pixel sizes ({given}); that of the first FOV is used"
