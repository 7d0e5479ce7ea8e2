"""Index of a measurement of Opera Phenix or Operetta: the XML file of Harmony 4 to 7 that describes every image.

Each image has a record. Up to Harmony 5 it repeats what is the same for all images of a channel; from Harmony 6 on,
this stands in `Maps`. An index has up to a million records, so it is parsed in small chunks, and each record is
removed from the tree once it is read.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.well_names import LAST
from pyama_dask.errors import SourceError
from pyama_dask.files.atomic import open_file

CHUNK = 2**14
"""Bytes that are parsed at a time. The tree stays small, which is faster: garbage collection walks through it."""
PLACE = ("Row", "Col", "FieldID", "TimepointID", "ChannelID", "PlaneID")
"""Elements of a record that tell which plane it is."""
_CHANNEL = PLACE.index("ChannelID")
_OTHERS = ("State", "URL", "PositionX", "PositionY", "AbsTime", "MeasurementTimeOffset")
CONSTANTS = (
    "ChannelName", "ChannelType", "ImageResolutionX", "ImageResolutionY", "ImageSizeX", "ImageSizeY", "MaxIntensity",
)  # fmt: skip
"""Elements that are the same for all images of a channel."""
SHADING = "FlatfieldProfile"
"""Element with the shading of a channel."""
Texts = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Index:
    """Content of an index.

    Parameters
    ----------
    about
        Texts about the plate and the measurement, by element name.
    wells
        Row and column, from 1, of the wells that the index announces.
    shading
        Text of ``FlatfieldProfile`` by ``ChannelID``.
    channels
        Those of `CONSTANTS` that are given, by ``ChannelID``, in the order of these numbers.
    places
        (images, 6) int64, numbers of the image in the order of `PLACE`, as they stand in the index.
    urls
        File name of each image; '' for one that was not recorded.
    position_um
        (images, 2) stage position (x, y) from the centre of the well in micrometres, y down; NaN if absent.
    seconds
        (images, 2) seconds: time of day since 1970, and time since the start of the measurement; NaN if absent.
    """

    about: Texts
    wells: Sequence[tuple[int, int]]
    shading: Mapping[int, str]
    channels: Mapping[int, Texts]
    places: npt.NDArray[np.int64]
    urls: Sequence[str]
    position_um: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]


def read_index(path: Path) -> Index:
    """Read an index.

    Parameters
    ----------
    path
        The XML file.

    Raises
    ------
    SourceError
        If the file cannot be read, is cut off, lists no images, or has a record without its place.
    """
    records = _Records()
    try:
        for section, elements in _elements(path):
            records.add(section, elements)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}). Fix: check the file and the disk") from error
    except (ET.ParseError, LookupError) as error:  # LookupError: unknown encoding
        raise SourceError(
            f"{path}: the index is cut off, still being written, or damaged ({error}). "
            "Fix: wait until the measurement is complete, or copy the index again"
        ) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise SourceError(
            f"{path}: image {len(records.urls) + 1} of the index has no valid number for one of {', '.join(PLACE)} "
            f"({error}). Fix: export the measurement again"
        ) from error
    if not records.urls:
        raise SourceError(f"{path}: the index lists no images. Fix: check whether the measurement was aborted")
    index = records.index()
    if (negative := (index.places < 0).any(axis=1)).any():
        numbers = ", ".join(map(str, index.places[negative.argmax()].tolist()))
        raise SourceError(
            f"{path}: an image has a negative number among {', '.join(PLACE)} ({numbers}). "
            "Fix: export the measurement again"
        )
    beyond = (index.places[:, :2] < 1) | (index.places[:, :2] > LAST)
    if beyond.any():
        row, column = index.places[beyond.any(axis=1).argmax(), :2].tolist()
        raise SourceError(
            f"{path}: an image is of row {row}, column {column}, which no plate has. Fix: export the measurement again"
        )
    return index


def _elements(path: Path) -> Iterator[tuple[str, list[ET.Element]]]:
    """Complete elements on the third level, each time with the name of their section, such as ``Images``."""
    builder = ET.TreeBuilder()
    # The parser puts the document into an element that is at hand before the document ends. Taking records from it
    # between two chunks needs less time than `iterparse`, which reports every element within a record, too.
    top = builder.start("top", {})
    parser = ET.XMLParser(target=builder)
    with open_file(path) as file:
        while chunk := file.read(CHUNK):
            parser.feed(chunk)
            yield from _taken(top, unfinished=1)
    parser.close()
    yield from _taken(top, unfinished=0)


def _taken(top: ET.Element, unfinished: int) -> Iterator[tuple[str, list[ET.Element]]]:
    """Take the elements out of all sections, but for so many at the end of the last one."""
    sections = [section for document in top for section in document]
    for section in sections:
        complete = section[: len(section) - (unfinished if section is sections[-1] else 0)]
        if complete:
            yield _local(section.tag), complete
            del section[: len(complete)]


@dataclass
class _Records:
    """Records that were read so far."""

    about: dict[str, str] = field(default_factory=dict)
    wells: list[tuple[int, int]] = field(default_factory=list)
    mapped: dict[int, dict[str, str]] = field(default_factory=dict)
    first: dict[int, dict[str, str]] = field(default_factory=dict)
    places: array[int] = field(default_factory=lambda: array("i"))
    numbers: array[float] = field(default_factory=lambda: array("d"))
    urls: list[str] = field(default_factory=list)

    def add(self, section: str, elements: Sequence[ET.Element]) -> None:
        """Add elements of a section."""
        if section == "Images":
            self._add_images(elements)
        elif section == "Maps":
            for entry in chain.from_iterable(elements):
                if (channel := entry.get("ChannelID")) is not None:
                    self.mapped.setdefault(int(channel), {}).update(_texts(entry))
        elif section == "Wells":
            pairs = ((well.get("Row", ""), well.get("Col", "")) for well in map(_texts, elements))
            self.wells += [(int(row), int(column)) for row, column in pairs if row.isdecimal() and column.isdecimal()]
        elif section == "Plates":
            for plate in elements:
                self.about |= _texts(plate)

    def _add_images(self, elements: Sequence[ET.Element]) -> None:
        tag = elements[0].tag
        tags = [tag[: tag.rfind("}") + 1] + name for name in (*PLACE, *_OTHERS)]
        pick = itemgetter(*tags)
        for element in elements:
            record = {child.tag: child.text for child in element}
            try:
                texts = pick(record)
            except KeyError:
                texts = tuple(map(record.get, tags))
            self._add_image(texts, element)

    def _add_image(self, texts: tuple[Any, ...], element: ET.Element) -> None:
        *numbers, state, url, x, y, time, offset = texts
        place = list(map(int, numbers))
        self.places.extend(place)
        if place[_CHANNEL] not in self.first:
            self.first[place[_CHANNEL]] = _texts(element)
        try:
            self.numbers.extend((float(x), float(y), _time_of_day(time), float(offset)))
        except (TypeError, ValueError):
            self.numbers.extend((_number(x), _number(y), _number(time, _time_of_day), _number(offset)))
        is_recorded = url is not None and (state is None or state.lower() == "ok")
        self.urls.append(url.strip() if is_recorded else "")

    def index(self) -> Index:
        """Everything that was read."""
        numbers = np.array(self.numbers).reshape(-1, 4)
        return Index(
            about=self.about,
            wells=self.wells,
            shading={channel: texts[SHADING].strip() for channel, texts in self.mapped.items() if SHADING in texts},
            channels=dict(self._channels()),
            places=np.array(self.places, np.int64).reshape(-1, len(PLACE)),
            urls=self.urls,
            position_um=numbers[:, :2] * (1e6, -1e6) + 0.0,  # 0.0 turns -0.0 into 0.0
            seconds=numbers[:, 2:],
        )

    def _channels(self) -> Iterator[tuple[int, Texts]]:
        """Channels with images, and those that have a name only."""
        named = {channel for channel, texts in self.mapped.items() if texts.get("ChannelName")}
        for channel in sorted(self.first.keys() | named):
            texts = self.mapped.get(channel, {}) | self.first.get(channel, {})
            yield channel, {name: texts[name] for name in CONSTANTS if name in texts}


def _local(tag: str) -> str:
    """Name of an element without its namespace, which differs between versions."""
    return tag.rpartition("}")[2]


def _texts(element: ET.Element) -> dict[str, str]:
    """Texts of an element's children by name."""
    return {_local(child.tag): child.text or "" for child in element}


def _number(text: str | None, convert: Callable[[str], float] = float) -> float:
    """Number in a text; NaN if absent."""
    try:
        return convert(text or "")
    except ValueError:
        return math.nan


def _time_of_day(text: str) -> float:
    """Seconds since 1970."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
