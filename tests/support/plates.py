"""Small plates: written by the generator of the shared folder with known truth, or by hand, file by file."""

import csv
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile

SHARED = Path(__file__).parents[3] / "shared"
needs_generator = pytest.mark.skipif(
    not (SHARED / "tools" / "write_plate.py").is_file(), reason="the generator of plates is not at hand"
)
REAL = SHARED / "data" / "plates"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real plates are not at hand")


@cache
def generator():
    """Module that writes plates with known truth."""
    sys.path.insert(0, str(SHARED / "tools"))
    try:
        import write_plate
    finally:
        sys.path.pop(0)
    return write_plate


def truth_of(plate, table):
    """Rows of a table of the truth beside a plate."""
    with (plate.with_name(plate.name + "_truth") / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def state_of(folder):
    """Everything that must not change about the files and folders of a plate."""
    stats = {path: path.stat() for path in (folder, *folder.rglob("*"))}
    return {path: (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_mode) for path, stat in stats.items()}


PROPERTIES = {
    "spatial-calibration-state": "on",
    "spatial-calibration-x": "0.65",
    "spatial-calibration-units": "um",
    "image-name": "GFP",
    "stage-position-x": "5380",
    "stage-position-y": "2240.5",
    "wavelength": "509",
}
EXACT = ("_IllumSetting_", "Z Step", "Z Projection Method")
"""Properties whose names have no hyphens."""


def metaseries(**properties):
    """Image description as MetaXpress writes it.

    Properties have their names, with underscores instead of hyphens if need be; `time` is seconds after ten o'clock.
    """
    found = PROPERTIES | {
        name if name in EXACT else name.replace("_", "-"): str(value) for name, value in properties.items()
    }
    if "time" in found:
        minutes, seconds = divmod(float(found.pop("time")), 60)
        found["acquisition-time-local"] = f"20260101 10:{int(minutes):02}:{seconds:06.3f}"
    lines = "\r\n".join(f'<prop id="{name}" type="string" value="{value}"/>' for name, value in found.items())
    return f"<MetaData>\r\n<PlaneInfo>\r\n{lines}\r\n</PlaneInfo>\r\n</MetaData>"


def write_image(path, *, shape=(6, 8), dtype=np.uint16, image=None, description=None, options=None, **properties):
    """Write one image file of a plate; it is black unless an image is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = metaseries(**properties) if description is None else description
    pixels = np.zeros(shape, dtype) if image is None else image
    tifffile.imwrite(path, pixels, description=text, metadata=None, **(options or {}))
    return path
