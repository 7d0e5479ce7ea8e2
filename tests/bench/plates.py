"""Plates: CPU of looking into one beside that of parsing its index alone, and of a run beside one on an ND2 file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from math import inf
from pathlib import Path

import numpy as np
import tifffile
from support.movies import as_nd2

import pyama_dask
from bench.commands import config
from bench.runs import REPEATS
from bench.spent import spent
from bench.table import Row
from pyama_dask.demo.plate import make_plate
from pyama_dask.readers import open_reader

WELLS, FIELDS, CHANNELS, FRAMES = 384, 9, 4, 10
V5, V7 = "http://www.perkinelmer.com/PEHH/HarmonyV5", "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7"
CONSTANTS = (
    "<ChannelName>GFP</ChannelName><ImageType>Signal</ImageType><AcquisitionType>NonConfocal</AcquisitionType>"
    "<IlluminationType>Epifluorescence</IlluminationType><ChannelType>Fluorescence</ChannelType>"
    '<ImageResolutionX Unit="m">6.5E-07</ImageResolutionX><ImageResolutionY Unit="m">6.5E-07</ImageResolutionY>'
    "<ImageSizeX>1080</ImageSizeX><ImageSizeY>1080</ImageSizeY><BinningX>2</BinningX><BinningY>2</BinningY>"
    "<MaxIntensity>65535</MaxIntensity><CameraType>AndorZylaCam</CameraType>"
    '<MainExcitationWavelength Unit="nm">475</MainExcitationWavelength>'
    '<MainEmissionWavelength Unit="nm">525</MainEmissionWavelength>'
    '<ObjectiveMagnification Unit="">10</ObjectiveMagnification><ObjectiveNA Unit="">0.3</ObjectiveNA>'
    '<ExposureTime Unit="s">0.006</ExposureTime>'
)
CODE = """
import re, sys, time
from pathlib import Path
from xml.etree import ElementTree
from pyama_dask.readers.opera import plate as opera
started = time.process_time()
found = opera.scan(Path(sys.argv[1]))
scanned = time.process_time() - started
# The peak of getrusage includes that of the process that started this one.
most = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
started = time.process_time()
for _, element in ElementTree.iterparse(Path(sys.argv[1], "Index.xml")):
    element.clear()
print(scanned, time.process_time() - started, most, len(found.metadata.fovs))
"""
"""Scans a measurement, and then parses its index alone, in one process."""

SITES, WAVES = 53, 4
METASERIES = (
    '<MetaData><PlaneInfo><prop id="spatial-calibration-state" type="bool" value="on"/>'
    '<prop id="spatial-calibration-x" type="float" value="0.65"/>'
    '<prop id="spatial-calibration-y" type="float" value="0.65"/>'
    '<prop id="spatial-calibration-units" type="string" value="um"/>'
    '<prop id="stage-position-x" type="float" value="10"/><prop id="stage-position-y" type="float" value="20"/>'
    "</PlaneInfo></MetaData>"
)
CODE_OF_FOLDER = """
import re, sys, time
from pathlib import Path
from pyama_dask.readers import read_metadata
started = time.process_time()
found = read_metadata(Path(sys.argv[1]))
cpu = time.process_time() - started
most = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(cpu, most, len(found.fovs))
"""
"""Reads what `inspect` shows of a folder."""


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    return [*of_indexes(directory), of_folder(directory), against_nd2(directory)]


def against_nd2(directory: Path) -> Row:
    """CPU per megapixel of a run on a plate of 16 sites of 1024 x 1024, beside the same pixels in an ND2 file.

    Without crops: making their many files takes a time that varies more than what is compared.
    """
    plate = make_plate(directory, wells=("B02", "B03", "C02", "C03"), size=1024, frames=4)
    with open_reader(plate) as reader:
        shape = len(reader.metadata.fovs), reader.metadata.n_frames
        pixels = np.array([[reader.read_frame(fov, frame) for frame in range(shape[1])] for fov in range(shape[0])])
    movies = {"plate": plate, "ND2": as_nd2(directory / "same.nd2", pixels)}
    fastest = dict.fromkeys(movies, inf)
    for turn in range(REPEATS):
        for name, movie in movies.items():
            with spent() as time:
                report = pyama_dask.run(config(movie, directory / f"{name} {turn}", storage={"cells": "off"}))
            assert report.exit_status == 0
            fastest[name] = min(fastest[name], time.cpu)
    megapixels = pixels.size / 1e6
    found = {name: 1000 * cpu / megapixels for name, cpu in fastest.items()}
    words = f"{found['plate']:.1f} ms CPU, {found['ND2']:.1f} ms for the same pixels in an ND2 file"
    return "run on a plate, per megapixel", words, "no more than 1.1 times"


def of_indexes(directory: Path) -> list[Row]:
    """Scans of large indexes, in processes of their own."""
    rows = []
    for version, namespace in ((5, V5), (7, V7)):
        root = directory / f"plate {version}"
        root.mkdir()
        with (root / "Index.xml").open("w") as file:
            file.writelines(_index(namespace, in_images=version == 5))
        said = subprocess.run([sys.executable, "-c", CODE, root], check=True, stdout=subprocess.PIPE, text=True).stdout
        scanned, bare, most, fovs = map(float, said.split())
        assert fovs == WELLS * FIELDS
        images = WELLS * FIELDS * CHANNELS * FRAMES
        found = f"{scanned:.1f} s CPU, {scanned / bare:.2f} x bare iterparse, {most:.0f} MiB"
        rows.append((f"index of {images} images of Harmony {version}", found, "under 1.5 x, 300 MiB"))
    return rows


def of_folder(directory: Path) -> Row:
    """CPU of a scan of a flat ImageXpress folder, in a process of its own. All files are links to one image."""
    root = directory / "Exp1"
    root.mkdir()
    tifffile.imwrite(root / "image", np.ones((8, 8), np.uint16), metadata=None, description=METASERIES)
    numbers = product("ABCDEFGH", range(1, 13), range(1, SITES + 1), range(1, WAVES + 1))
    names = [f"Exp1_{row}{column:02}_s{site}_w{wave}.TIF" for row, column, site, wave in numbers]
    for name in names:
        (root / name).hardlink_to(root / "image")
    (root / "image").unlink()
    said = subprocess.run(
        [sys.executable, "-c", CODE_OF_FOLDER, root], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    cpu, most, fovs = map(float, said.split())
    assert fovs == 96 * SITES
    return f"folder of {len(names)} files of ImageXpress", f"{cpu:.2f} s CPU, {most:.0f} MiB", "under 2 s CPU"


def _index(namespace: str, in_images: bool) -> Iterator[str]:
    """Text of an index; descriptions of channels stand in all images, or in a map."""
    entries = (f'<Entry ChannelID="{channel}">{CONSTANTS}</Entry>' for channel in range(1, CHANNELS + 1))
    maps = "" if in_images else f"<Maps><Map>{''.join(entries)}</Map></Maps>"
    yield f'<?xml version="1.0"?>\n<EvaluationInputData xmlns="{namespace}">{maps}<Images>\n'
    numbers = product(range(16), range(WELLS // 16), range(FRAMES), range(FIELDS), range(CHANNELS))
    for row, column, frame, field, channel in numbers:
        fields = {
            "State": "Ok",
            "URL": f"r{row + 1:02}c{column + 1:02}f{field + 1:02}p01-ch{channel + 1}sk{frame + 1}fk1fl1.tiff",
            "Row": row + 1,
            "Col": column + 1,
            "FieldID": field + 1,
            "PlaneID": 1,
            "TimepointID": frame,
            "ChannelID": channel + 1,
            "FlimID": 1,
        }
        plain = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
        yield (
            f'<Image Version="1">{plain}{CONSTANTS if in_images else ""}'
            f'<PositionX Unit="m">{field}E-04</PositionX><PositionY Unit="m">{field}E-04</PositionY>'
            '<PositionZ Unit="m">2E-05</PositionZ><AbsPositionZ Unit="m">0.137510493</AbsPositionZ>'
            f'<MeasurementTimeOffset Unit="s">{600 * frame}</MeasurementTimeOffset>'
            f"<AbsTime>2026-01-01T1{frame}:00:0{field}.{channel}00+01:00</AbsTime></Image>\n"
        )
    yield "</Images></EvaluationInputData>\n"
