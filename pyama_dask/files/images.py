"""Images and label images in single files: TIFF, PNG, NPY and NPZ, as other programs read and write them."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from pyama_dask.errors import ImageError
from pyama_dask.files.atomic import open_file, replacing

TIFF = (".tif", ".tiff")
ENDINGS = (*TIFF, ".png", ".npy", ".npz")
"""Endings of files that can be read."""
MICROMETRES = ("um", "micron", "microns", "µm", "\\u00B5m", "micrometer")
"""Names of the unit in files of ImageJ and OME."""
_UNITS_UM = {2: 25400.0, 3: 10000.0}
"""Micrometres of the units of resolution in TIFF files: inch and centimetre."""
_LARGEST_PIXEL_UM = 20.0
NAMES = ("labels", "masks")
"""Arrays that are taken from an NPZ file with several."""


def read_image(path: Path) -> npt.NDArray[Any]:
    """Read an image.

    Returns
    -------
    (..., H, W) pixels as they are stored.

    Raises
    ------
    ImageError
        If the file is missing, has another format, or is a colour picture; the message names the file.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ImageError(f"{path}: is not an image that can be read. Fix: use one of {', '.join(ENDINGS)}")
    try:
        open_file(path).close()
        image = _READERS.get(ending, _read_tiff)(path)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: does not exist. Fix: check the path") from error
    except ImageError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # the libraries raise anything on damaged files
        problem = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: cannot be read: {problem}. Fix: save it again as TIFF or PNG") from error
    if image.ndim < 2:
        raise ImageError(
            f"{path}: has shape {image.shape}, but an image has at least height and width. Fix: save it again"
        )
    return image


def read_labels(path: Path) -> npt.NDArray[np.integer]:
    """Read labels.

    Returns
    -------
    (..., H, W) whole numbers, 0 for background.

    Raises
    ------
    ImageError
        As `read_image`; also if there are no pixels, or they are not whole numbers from 0.
    """
    labels = read_image(path)
    if not labels.size:
        raise ImageError(f"{path}: has shape {labels.shape}, which holds no pixel. Fix: save the labels again")
    if labels.dtype == np.bool_:
        labels = labels.astype(np.uint8)
    if labels.dtype.kind not in "iu":
        raise ImageError(
            f"{path}: has {labels.dtype} pixels, but labels are whole numbers. Fix: save the labels as 16-bit integers"
        )
    if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
        raise ImageError(f"{path}: has the label {labels.min()}, but labels are numbers from 0. Fix: renumber them")
    return labels


def _read_tiff(path: Path) -> npt.NDArray[Any]:
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        if "S" in series.axes:
            raise _colours(path)
        try:
            return np.asarray(series.asarray())
        except ValueError:  # a compression that needs another package, such as LZW
            if len(series.pages) > 1:
                raise
    return _read_picture(path)


def _read_picture(path: Path) -> npt.NDArray[Any]:
    from PIL import Image  # noqa: PLC0415  (only where it is needed: it is slow to import)

    with Image.open(path) as picture:
        if picture.mode not in ("1", "L", "P", "I", "F", "I;16", "I;16B", "I;16L"):
            raise _colours(path)
        return np.asarray(picture)


def _colours(path: Path) -> ImageError:
    return ImageError(f"{path}: is a colour picture. Fix: save it with one grey level or label per pixel")


def _read_npy(path: Path) -> npt.NDArray[Any]:
    return np.asarray(np.load(path, allow_pickle=False))


def _read_npz(path: Path) -> npt.NDArray[Any]:
    if not zipfile.is_zipfile(path):
        raise ImageError(f"{path}: is not an NPZ file. Fix: save it again with numpy.savez")
    with np.load(path, allow_pickle=False) as file:
        name = next((name for name in NAMES if name in file.files), file.files[0] if len(file.files) == 1 else None)
        if name is None:
            raise ImageError(
                f"{path}: has the arrays {', '.join(file.files) or '(none)'}. Fix: name the one to read 'labels'"
            )
        return np.asarray(file[name])


_READERS = {".png": _read_picture, ".npy": _read_npy, ".npz": _read_npz}


def write_tiff(path: Path, image: npt.NDArray[Any], pixel_size_um: float | None = None) -> None:
    """Write a frame as a TIFF that Fiji, napari and Cellpose open, with its pixel size.

    Parameters
    ----------
    path
        Where to write; an existing file is replaced in one step.
    image
        (H, W) pixels of 8 or 16 bits.
    pixel_size_um
        Micrometres per pixel; None if unknown.
    """
    options: dict[str, Any] = {"metadata": {"axes": "YX"}}
    if pixel_size_um:
        options = {"resolution": (1 / pixel_size_um,) * 2, "metadata": {"axes": "YX", "unit": "um"}}
    with replacing(path) as beside:
        tifffile.imwrite(beside, image, imagej=True, **options)


def to_tiff(image: npt.NDArray[Any]) -> bytes:
    """TIFF file of an image (H, W) of any type; equal images give equal bytes."""
    file = io.BytesIO()
    tifffile.imwrite(file, image, metadata=None, software="")
    return file.getvalue()


def read_pixel_size(path: Path) -> float | None:
    """Micrometres per pixel from the metadata of a TIFF file, see `pixel_size_of`; None if unknown."""
    if path.suffix.lower() not in TIFF:
        return None
    with tifffile.TiffFile(path) as file:
        return pixel_size_of(file)


def pixel_size_of(file: tifffile.TiffFile) -> float | None:
    """Micrometres per pixel, as OME and ImageJ write them, or from the resolution in pixels per inch or centimetre.

    Returns
    -------
    None if unknown; also if the resolution gives more than 20 um, since programs enter that of screens and printers.
    """
    if file.ome_metadata:
        found = re.search(r'PhysicalSizeX="([^"]+)"', file.ome_metadata)
        unit = re.search(r'PhysicalSizeXUnit="([^"]+)"', file.ome_metadata)
        return float(found[1]) if found and (unit is None or unit[1] in MICROMETRES) else None
    tags = file.pages.first.tags
    if "XResolution" not in tags or not tags["XResolution"].value[0]:
        return None
    pixels, units = tags["XResolution"].value
    if file.imagej_metadata:
        return float(units / pixels) if file.imagej_metadata.get("unit") in MICROMETRES else None
    in_um = _UNITS_UM.get(int(tags.valueof("ResolutionUnit", 1)), 0.0) * units / pixels
    return float(f"{in_um:.12g}") if 0 < in_um < _LARGEST_PIXEL_UM else None
