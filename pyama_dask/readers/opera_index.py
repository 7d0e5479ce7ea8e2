"""Index of a measurement of Opera Phenix or Operetta: the XML file of Harmony 4 to 7 that describes every image.

Each image has a record. Up to Harmony 5 it repeats what is the same for all images of a channel; from Harmony 6 on,
this stands in `Maps`. An index has up to a million records, so it is parsed in small chunks, and each record is
removed from the tree once it is read.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import SourceError

CHUNK = 2**14
"""Bytes that are parsed at a time. The tree stays small, which is faster: garbage collection walks through it."""
PLACE = ("Row", "Col", "FieldID", "TimepointID", "ChannelID", "PlaneID")
"""Elements of a record that tell which plane it is."""
CONSTANTS = (
    "ChannelName", "ChannelType", "ImageResolutionX", "ImageResolutionY", "ImageSizeX", "ImageSizeY", "MaxIntensity",
)  # fmt: skip
"""Elements that are the same for all images of a channel."""
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
        for section, element in _elements(path):
            records.add(section, element)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}). Fix: check the file and the disk") from error
    except ET.ParseError as error:
        raise SourceError(
            f"{path}: the index is cut off, still being written, or damaged ({error}). "
            "Fix: wait until the measurement is complete, or copy the index again"
        ) from error
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise SourceError(
            f"{path}: image {len(records.urls) + 1} of the index lacks the number of its well, field, plane, time or "
            f"channel ({error}). Fix: export the measurement again"
        ) from error
    if not records.urls:
        raise SourceError(f"{path}: the index lists no images. Fix: check whether the measurement was aborted")
    return records.index()


class _LocalNames(dict[str, str]):
    """Names of elements without their namespace, which differs between versions."""

    def __missing__(self, tag: str) -> str:
        name = self[tag] = tag.rpartition("}")[2]
        return name


_NAME = _LocalNames()


def _elements(path: Path) -> Iterator[tuple[str, ET.Element]]:
    """Complete elements on the third level, each with the name of its section, such as ``Images``."""
    builder = ET.TreeBuilder()
    # The parser puts the document into an element that is at hand before the document ends. Taking records from it
    # between two chunks needs half the time of `iterparse`, which reports every element within a record, too.
    top = builder.start("top", {})
    parser = ET.XMLParser(target=builder)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            parser.feed(chunk)
            yield from _taken(top, unfinished=1)
    parser.close()
    yield from _taken(top, unfinished=0)


def _taken(top: ET.Element, unfinished: int) -> Iterator[tuple[str, ET.Element]]:
    """Take the elements out of all sections, but for so many at the end of the last one."""
    sections = [section for document in top for section in document]
    for section in sections:
        complete = section[: len(section) - (unfinished if section is sections[-1] else 0)]
        for element in complete:
            yield _NAME[section.tag], element
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

    def add(self, section: str, element: ET.Element) -> None:
        """Add an element of a section."""
        if section == "Images":
            self._add_image(_texts(element))
        elif section == "Maps":
            for entry in element:
                if (channel := entry.get("ChannelID")) is not None:
                    self.mapped.setdefault(int(channel), {}).update(_texts(entry))
        elif section == "Wells":
            well = _texts(element)
            self.wells.append((int(well.get("Row") or 0), int(well.get("Col") or 0)))
        elif section == "Plates":
            self.about |= _texts(element)

    def _add_image(self, record: dict[str, str]) -> None:
        place = [int(record[name]) for name in PLACE]
        self.places.extend(place)
        self.first.setdefault(place[4], record)
        x, y = _number(record.get("PositionX")), _number(record.get("PositionY"))
        self.numbers.extend((x, y, _time_of_day(record.get("AbsTime")), _number(record.get("MeasurementTimeOffset"))))
        self.urls.append(record.get("URL", "").strip() if record.get("State", "Ok") == "Ok" else "")

    def index(self) -> Index:
        """Everything that was read."""
        numbers = np.array(self.numbers).reshape(-1, 4)
        return Index(
            about=self.about,
            wells=self.wells,
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


def _texts(element: ET.Element) -> dict[str, str]:
    """Texts of an element's children by name."""
    return {_NAME[child.tag]: child.text or "" for child in element}


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _time_of_day(text: str | None) -> float:
    """Seconds since 1970; NaN if absent."""
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return math.nan
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
