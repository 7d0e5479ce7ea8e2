"""Names of files on plates: their parts, and patterns of names that differ in one part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyama_dask.config.well_names import well_name
from pyama_dask.errors import SourceError
from pyama_dask.readers.imagexpress.names import match_image_name, parse_folder_name

Parts = dict[str, str | int | None]
"""``well``, ``site``, ``channel``, ``z_index``, ``timepoint`` (None if the name does not have them), ``extension``."""
BLANK = "{iii}"
"""Place of the part that varies, in patterns."""
ENDINGS = (".tif", ".tiff")
_OPERA = re.compile(
    r"r(?P<row>\d+)c(?P<column>\d+)f(?P<site>\d+)p(?P<z_index>\d+)-ch(?P<channel>\d+)sk(?P<timepoint>\d+)fk\d+fl\d+"
    r"\.tiff?",
    re.ASCII | re.IGNORECASE,
)
_WELL = re.compile(r"(?:^|_)(?P<well>[A-Z]{1,2}\d{2})(?=[_.])", re.ASCII)
_PLAIN: Mapping[str, re.Pattern[str]] = {
    name: re.compile(rf"_(?:{letters})(?P<{name}>\d{{1,9}})(?=[_.])", re.ASCII | re.IGNORECASE)
    for name, letters in {"site": "s", "channel": "c|ch|w", "z_index": "z", "timepoint": "t"}.items()
}
"""Parts of names such as ``A01_s2_w1_z003_t001.tif`` and ``image_c1_z3_s2.tif``."""


@dataclass(frozen=True)
class _Name:
    """Name of a file, taken apart."""

    parts: Parts
    spans: Mapping[str, tuple[int, int]]
    """Place of each part in the name."""


class FilenameParser:
    """Takes the names of the files of a plate apart."""

    def parse_filename(self, name: str | Path) -> Parts | None:
        """Take a name apart.

        Parameters
        ----------
        name
            Name of a file of ImageXpress or Opera, or one such as ``image_c1_z3_s2.tif``; with its folders, such as
            ``TimePoint_2/ZStep_1``, if they say more.

        Returns
        -------
        Parts by name, counted as in the name; None if no part is known, or the file is no TIFF file.
        """
        found = self._taken_apart(Path(name))
        return None if found is None else dict(found.parts)

    def _taken_apart(self, path: Path) -> _Name | None:
        if path.suffix.lower() not in ENDINGS:
            return None
        if is_small_copy(path.name):
            return None
        found = _of_opera(path.name) or _of_imagexpress(path.name) or _plain(path.name)
        if found is None:
            return None
        more = dict[str, int]()
        for folder in path.parts[:-1]:
            if known := parse_folder_name(folder):
                more["timepoint" if known[0] == "timepoint" else "z_index"] = known[1]
        parts = found.parts | {key: value for key, value in more.items() if found.parts[key] is None}
        return _Name(parts, found.spans)

    def pattern_of(self, path: Path, varies: Sequence[str]) -> tuple[Parts, str] | None:
        """Parts of a path, and its name with a blank instead of the parts that vary; None for other files."""
        found = self._taken_apart(path)
        if found is None or found.parts.get("well") is None:
            return None
        name = path.name
        for start, stop in sorted((found.spans[part] for part in varies if part in found.spans), reverse=True):
            name = name[:start] + BLANK + name[stop:]
        return found.parts, name


def _named(parts: Mapping[str, str | int], name: str) -> Parts:
    known: Parts = dict.fromkeys(("well", "site", "channel", "z_index", "timepoint"))
    return {**known, **parts, "extension": Path(name).suffix}


def _of_opera(name: str) -> _Name | None:
    match = _OPERA.fullmatch(name)
    if match is None:
        return None
    numbers = {part: int(match[part]) for part in ("site", "channel", "z_index", "timepoint")}
    well = well_name(int(match["row"]) - 1, int(match["column"]) - 1)
    return _Name(_named({"well": well, **numbers}, name), {part: match.span(part) for part in numbers})


def _of_imagexpress(name: str) -> _Name | None:
    match = match_image_name(name)
    if match is None:
        return None
    spans = {part: match.span(group) for part, group in (("site", "site"), ("channel", "wave")) if match[group]}
    numbers = {part: int(name[start:stop]) for part, (start, stop) in spans.items()}
    return _Name(_named({"well": match["well"], **numbers}, name), spans)


def is_small_copy(name: str) -> bool:
    """Check for the name of a small copy of an image."""
    match = match_image_name(name)
    return match is not None and match["thumb"] is not None


def _plain(name: str) -> _Name | None:
    found = {part: match for part, pattern in _PLAIN.items() if (match := pattern.search(name))}
    numbers: dict[str, str | int] = {part: int(match[part]) for part, match in found.items()}
    if well := _WELL.search(name):
        numbers["well"] = well["well"]
    return _Name(_named(numbers, name), {part: match.span(part) for part, match in found.items()}) if numbers else None


@dataclass(frozen=True)
class MicroscopeHandler:
    """Names of the files of one microscope."""

    microscope_type: str
    """Format of the plate as its reader names it."""
    parser: FilenameParser = field(default_factory=FilenameParser)

    def parse_filename(self, name: str | Path) -> Parts | None:
        """Take a name apart; see `FilenameParser.parse_filename`."""
        return self.parser.parse_filename(name)

    def auto_detect_patterns(
        self, folder: str | Path, variable_components: Sequence[str] = ("site",), group_by: str = "channel"
    ) -> dict[str, dict[int | str, list[str]]]:
        """Find patterns of the names of images.

        Parameters
        ----------
        folder
            Folder with images, also in folders below it.
        variable_components
            Parts that vary within a pattern; they are ``{iii}`` in it.
        group_by
            Part by which patterns are grouped.

        Returns
        -------
        Patterns by well and group, sorted; with their folders, relative to `folder`.

        Raises
        ------
        SourceError
            If the folder cannot be read.
        """
        found: dict[str, dict[int | str, set[str]]] = {}
        varies = [getattr(part, "value", part) for part in variable_components]
        grouped = str(getattr(group_by, "value", group_by))
        for path in sorted(_images_below(Path(folder))):
            if (known := self.parser.pattern_of(path, varies)) is None:
                continue
            parts, pattern = known
            group = parts.get(grouped)
            group = 1 if group is None else group  # a name without channel or site has the first one
            of = found.setdefault(str(parts["well"]), {}).setdefault(group, set())
            of.add((path.parent / pattern).as_posix())
        return {well: {group: sorted(of) for group, of in groups.items()} for well, groups in found.items()}


def _images_below(folder: Path) -> Iterator[Path]:
    """Images in a folder and below it, relative to it."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: is no folder. Fix: pass the folder with the images of a plate")
    for path in folder.rglob("*"):
        if path.suffix.lower() in ENDINGS and not path.name.startswith("."):
            yield path.relative_to(folder)
