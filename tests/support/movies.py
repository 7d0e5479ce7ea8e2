"""Small movies with cells in them, configs for them, and what a run made of them as plain values."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
import zarr
from pylibCZIrw import czi

from pyama_dask.demo.movie import DemoMovie
from pyama_dask.demo.write_czi import write_czi
from pyama_dask.files.checksums import checksum_of
from pyama_dask.runs.status import LEDGER, PLAN
from pyama_dask.store.ledger import Ledger
from support.write_nd2 import Nd2Channel, write_nd2

SHAPES = ["area", "aspect_ratio", "circularity", "eccentricity"]
INTENSITIES = ["intensity_total", "intensity_mean", "intensity_max", "intensity_variance"]
NAMES = ("Phase", "GFP", "mCherry")
BOOKKEEPING = {".pyama_dask", "processing_config.yaml", "report.html", ".pyama_dask_files.json"}


def pixels(**parameters: Any) -> np.ndarray:
    """(FOV, T, C, H, W) of a demo movie."""
    movie = DemoMovie(**({"border_margin": 20, "seed": 1} | parameters))
    planes = [movie[index] for index in np.ndindex(*movie.shape[:3])]
    return np.reshape(planes, movie.shape)


def as_czi(path: Path, data: np.ndarray, **options: Any) -> Path:
    """Write (FOV, T, C, H, W) as CZI."""
    write_czi(path, data, channel_names=NAMES[: data.shape[2]], **options)
    return path


def put_in_wells(path: Path, wells: Sequence[str]) -> Path:
    """Name the well of every scene of a CZI file."""
    with czi.edit_czi(str(path)) as editor:
        root = ET.fromstring(editor.read_metadata_xml())
        for scene, well in zip(root.iter("Scene"), wells, strict=True):
            ET.SubElement(scene, "ArrayName").text = well
        with editor.edit_session() as builder:
            builder.set_xml(ET.tostring(root, encoding="unicode"))
    return path


def as_nd2(path: Path, data: np.ndarray, **options: Any) -> Path:
    """Write (FOV, T, C, H, W), or with z (FOV, T, C, Z, H, W), as ND2."""
    channels = [Nd2Channel("Phase", "phase"), *(Nd2Channel(name) for name in NAMES[1:])][: data.shape[2]]
    options = {"channels": channels} | options
    if data.ndim == 5:
        return write_nd2(path, data.transpose(1, 0, 2, 3, 4), "TPCYX", **options)
    return write_nd2(path, data.transpose(1, 0, 3, 2, 4, 5), "TPZCYX", **options)


def config(movie: Path, output: Path, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Config of a serial run that keeps cells of small movies; `changes` by dotted key."""
    document: dict[str, Any] = {
        "input": str(movie),
        "output": str(output),
        "channels": {
            "pc": {"channel": 0, "features": SHAPES},
            "fl": [{"channel": 1, "features": INTENSITIES}],
        },
        "params": {
            "segmentation_params": {"morph_iterations": 1},
            "tracking_params": {"min_frames": 5, "border_margin": 5},
        },
        "storage": {"block_frames": 4},
        "cluster": {"kind": "serial"},
    }
    document = copy.deepcopy(document)
    for dotted, value in (changes or {}).items():
        *parents, last = dotted.split(".")
        inner = document
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = copy.deepcopy(value)  # else a later change would reach the given one
    return document


def write_config(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a config as YAML."""
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False))
    return path


# ------------------------------------------------------------------------------------------- what a run made


def products(output: Path) -> dict[str, Any]:
    """Values of all arrays, attributes of all groups and bytes of all tables, by path in the output."""
    found: dict[str, Any] = {}
    for file in sorted(output.glob("fov_*/**/zarr.json")):
        node = zarr.open(file.parent, mode="r")
        name = file.parent.relative_to(output).as_posix()
        found[name] = node[:] if isinstance(node, zarr.Array) else dict(node.attrs)
    for file in sorted([*output.glob("fov_*/*.csv"), *output.glob("wells/*.csv")]):
        found[file.relative_to(output).as_posix()] = file.read_bytes()
    return found


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Names of the products that are not the same in both, by dtype, shape and value."""
    return sorted(name for name in a.keys() | b.keys() if not _same(a.get(name), b.get(name)))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return type(a) is type(b) and a == b


def change_plan(output: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the plan of an output as if a run had written it so."""
    plan = json.loads((output / PLAN).read_text())
    change(plan)
    content = json.dumps(plan).encode()
    with Ledger(output / LEDGER) as ledger:
        ledger.writes({PLAN: checksum_of(content)})
    (output / PLAN).write_bytes(content)


def data_files(directory: Path) -> set[Path]:
    """Files of a Zarr store or array that hold pixels."""
    return {path for path in directory.rglob("*") if path.is_file() and path.name != "zarr.json"}


def file_bytes(directory: Path, leave_out: set[str] = BOOKKEEPING) -> dict[str, bytes]:
    """Content of every file under a directory, by path."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    named = {file.relative_to(directory): file for file in files}
    return {name.as_posix(): file.read_bytes() for name, file in named.items() if name.parts[0] not in leave_out}


def times_of_change(directory: Path, leave_out: set[str] = BOOKKEEPING) -> dict[str, int]:
    """Nanoseconds of the last change of every file under a directory, by path."""
    files = {path.relative_to(directory): path for path in directory.rglob("*") if path.is_file()}
    return {n.as_posix(): path.stat().st_mtime_ns for n, path in files.items() if n.parts[0] not in leave_out}


def listing(directory: Path) -> set[str]:
    """Paths of all that is under a directory."""
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*")}
