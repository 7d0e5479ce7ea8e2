"""Metadata of OME files: images, and which image of which TIFF file holds each of their planes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree import ElementTree as ET

from pyama_dask.config.well_names import well_name
from pyama_dask.readers.channel_kinds import default_channel_name

AXES = "TCZ"
"""Axes of the planes of an image, in the order of this package."""
MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3}
"""Micrometres of units of length; other units, such as pixels, are not converted."""
SECONDS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6}
"""Seconds of units of time."""
_TYPES = {"float": "float32", "double": "float64", "bit": "uint8"}
"""NumPy names of pixel types that have other ones in OME."""


class Run(NamedTuple):
    """Images of one file that are consecutive planes of an image (``TiffData``)."""

    first: tuple[int, int, int]
    """Frame, channel and z of the first one."""
    directory: int
    """Number of its directory in the file."""
    planes: int | None
    """Number of them; None for all images of the file."""
    file: str
    """Name of the file; '' for the file that has the metadata."""
    uuid: str


class Stamp(NamedTuple):
    """Time of a plane."""

    frame: int
    seconds: float


@dataclass(frozen=True)
class OmeImage:
    """One image, which is a FOV."""

    name: str
    dtype: str
    """NumPy name of the pixel type."""
    shape: tuple[int, int]
    """(height, width) in pixels."""
    sizes: tuple[int, int, int]
    """Numbers of frames, channels and z planes."""
    order: str
    """Axes from the slowest one to the fastest, such as ``TCZ``."""
    channels: tuple[str, ...]
    modalities: tuple[str, ...]
    """Contrast of each channel; '' where it is not stated."""
    has_colours: bool
    pixel_size_um: float | None
    interval_s: float | None
    runs: tuple[Run, ...]
    stamps: tuple[Stamp, ...]
    position_um: tuple[float, float] | None
    plate: str | None = None
    well: str | None = None
    site: int | None = None


def parse_ome(text: str) -> tuple[tuple[OmeImage, ...], str]:
    """Parse OME-XML.

    Parameters
    ----------
    text
        The document.

    Returns
    -------
    Images that have pixels, in their order, and the UUID of the file; '' if it has none.

    Raises
    ------
    xml.etree.ElementTree.ParseError, LookupError, ValueError
        If the document is damaged.
    """
    root = ET.fromstring(text)
    samples = dict(_samples(root))
    images = (_image(element, samples.get(element.get("ID", ""), {})) for element in root.findall("{*}Image"))
    return tuple(image for image in images if image is not None), root.get("UUID", "")


def parse_reference(text: str) -> str | None:
    """Name of the file that has the metadata, if this document only refers to one; else None."""
    found = ET.fromstring(text).find("{*}BinaryOnly")
    return None if found is None else found.get("MetadataFile")


def _samples(root: ET.Element) -> Iterator[tuple[str, dict[str, str]]]:
    """Plate, well, site and position of images, by their ids."""
    for plate in root.iterfind("{*}Plate"):
        for well in plate.iterfind("{*}Well"):
            name = well_name(int(well.attrib["Row"]), int(well.attrib["Column"]))
            for site, sample in enumerate(well.iterfind("{*}WellSample"), 1):
                reference = sample.find("{*}ImageRef")
                if reference is not None:
                    described = {"plate": plate.get("Name", ""), "well": name, "site": str(site)}
                    yield reference.attrib["ID"], dict(sample.attrib) | described


def _image(element: ET.Element, sample: Mapping[str, str]) -> OmeImage | None:
    pixels = element.find("{*}Pixels")
    if pixels is None or pixels.find("{*}MetadataOnly") is not None:
        return None
    channels = pixels.findall("{*}Channel")
    samples = max([int(channel.get("SamplesPerPixel", 1)) for channel in channels], default=1)
    sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in AXES}
    sizes["C"] //= samples
    stated = channels[: sizes["C"]] + [ET.Element("Channel")] * (sizes["C"] - len(channels))
    planes = pixels.findall("{*}Plane")
    kind = pixels.get("Type") or pixels.attrib["PixelType"]  # its name until 2008
    return OmeImage(
        name=element.get("Name", ""),
        dtype=_TYPES.get(kind, kind),
        shape=(int(pixels.attrib["SizeY"]), int(pixels.attrib["SizeX"])),
        sizes=(sizes["T"], sizes["C"], sizes["Z"]),
        order=pixels.attrib["DimensionOrder"][:1:-1],
        channels=tuple(channel.get("Name") or default_channel_name(k) for k, channel in enumerate(stated)),
        modalities=tuple(channel.get("ContrastMethod") or channel.get("AcquisitionMode") or "" for channel in stated),
        has_colours=samples > 1,
        pixel_size_um=_converted(pixels.attrib, "PhysicalSizeX", MICROMETRES, "µm"),
        interval_s=_converted(pixels.attrib, "TimeIncrement", SECONDS, "s"),
        runs=tuple(map(_run, pixels.iterfind("{*}TiffData"))),
        stamps=tuple(_stamps(planes)),
        position_um=_position([*(plane.attrib for plane in planes[:1]), sample]),
        plate=sample.get("plate") or None,
        well=sample.get("well"),
        site=int(sample["site"]) if sample else None,
    )


def _run(element: ET.Element) -> Run:
    uuid = element.find("{*}UUID")
    count = element.get("PlaneCount", element.get("NumPlanes", "1" if "IFD" in element.attrib else ""))
    frame, channel, z = (int(element.get(f"First{axis}", 0)) for axis in AXES)
    name, identifier = ("", "") if uuid is None else (uuid.get("FileName", ""), (uuid.text or "").strip())
    return Run((frame, channel, z), int(element.get("IFD", 0)), int(count) if count else None, name, identifier)


def _stamps(planes: list[ET.Element]) -> Iterator[Stamp]:
    for plane in planes:
        seconds = _converted(plane.attrib, "DeltaT", SECONDS, "s")
        if seconds is not None:
            yield Stamp(int(plane.get("TheT", 0)), seconds)


def _position(places: list[Mapping[str, str]]) -> tuple[float, float] | None:
    """Stage position from the first place that has one in a known unit; None without one."""
    for place in places:
        x, y = (_converted(place, f"Position{axis}", MICROMETRES, "reference frame") for axis in "XY")
        if x is not None and y is not None:
            return x, y
    return None


def _converted(values: Mapping[str, str], name: str, units: Mapping[str, float], usual: str) -> float | None:
    """Value in micrometres or seconds; None if it is absent or in another unit."""
    unit = units.get(values.get(f"{name}Unit", usual).replace("μ", "µ"))
    return float(f"{float(values[name]) * unit:.12g}") if name in values and unit is not None else None
