"""Annotated frames: pairs of a frame and its labels, found in folders, files and outputs, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pyama_dask.analysis.fov import Fov
from pyama_dask.errors import ImageError
from pyama_dask.files.images import ENDINGS, TIFF, read_image, read_labels, read_pixel_size
from pyama_dask.kernels.training_crops import UNKNOWN

LABELS, MASK = "_labels", "_mask"
"""Endings of the names of labels, and of the masks of annotated pixels, without the file's ending."""
SMALLEST = 30
"""Pixels of the smallest piece that is taken for a cell where all pieces have one label."""
SHORTEST = 64
"""Pixels: shortest side of a frame; the network sees nothing in less."""
MOST = 16
"""Largest number of frames that are taken from a label group of an output."""


@dataclass(frozen=True)
class Annotated:
    """A frame with the labels of its cells.

    Parameters
    ----------
    name
        Name for messages and pictures.
    frame
        (H, W) grey levels.
    labels
        (H, W) int32: 0 is background, cells are 1..N, `UNKNOWN` is not annotated.
    pixel_size_um
        Micrometres per pixel; None if unknown.
    """

    name: str
    frame: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    pixel_size_um: float | None = None

    @property
    def diameters(self) -> npt.NDArray[np.float64]:
        """Diameter of each cell in pixels: that of the disk of its area."""
        areas = np.bincount(self.labels[self.labels > 0])
        return 2 * np.sqrt(areas[areas > 0] / np.pi)


def read_annotated(paths: Sequence[Path], unknown: int | None = None) -> list[Annotated]:
    """Read annotated frames.

    Parameters
    ----------
    paths
        A folder with frames ``NAME.tif`` and their labels ``NAME_labels`` as TIFF, PNG or NPY, and where only a part is
        annotated, masks ``NAME_mask`` that are not 0 there; or frames and labels in turn, also as Zarr groups of an
        output, such as ``results/fov_000/images.zarr/pc_ch_0``.
    unknown
        Label of pixels that are not annotated.

    Raises
    ------
    ImageError
        If a file is missing or cannot be read, if labels do not fit their frame, or if there are no cells; the message
        names the file.
    """
    if len(paths) == 1:
        triples = _pairs_of(paths[0])
    elif len(paths) % 2:
        raise ImageError(
            f"{paths[-1]}: has no partner among the {len(paths)} paths. "
            "Fix: pass a folder, or frames and labels in turn"
        )
    else:
        triples = [(frame, labels, None) for frame, labels in zip(paths[::2], paths[1::2], strict=True)]
    found = []
    for frame, labels, mask in triples:
        found += _from_output(frame, labels) if frame.is_dir() else [_from_files(frame, labels, mask, unknown)]
    if not any(one.diameters.size for one in found):
        raise ImageError(f"{triples[0][1]}: has no cells, nor have others. Fix: number the cells 1, 2, 3 ...")
    return found


def _pairs_of(folder: Path) -> list[tuple[Path, Path, Path | None]]:
    """Frames, labels and masks of a folder, in order of their names."""
    if not folder.is_dir():
        raise ImageError(f"{folder}: is not a folder. Fix: pass a folder of annotated frames, or IMAGE LABELS pairs")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    frames = [path for path in files if path.suffix.lower() in TIFF and not path.stem.endswith((LABELS, MASK))]
    labels, masks = _partners(files, LABELS), _partners(files, MASK)
    for frame in frames:
        if frame.stem not in labels:
            raise ImageError(
                f"{frame}: has no labels. Fix: save them as {frame.stem}{LABELS}.tif, .png or .npy beside it, or move "
                "the frame elsewhere"
            )
    stems = {frame.stem for frame in frames}
    for name, path in [*labels.items(), *masks.items()]:
        if name not in stems:
            raise ImageError(f"{path}: has no frame. Fix: put the frame beside it as {name}.tif, or remove the file")
    if not frames:
        raise ImageError(f"{folder}: has no frames NAME.tif with labels NAME{LABELS}. Fix: annotate frames first")
    return [(frame, labels[frame.stem], masks.get(frame.stem)) for frame in frames]


def _partners(files: Sequence[Path], ending: str) -> dict[str, Path]:
    """Files whose names have an ending, by the name of the frame."""
    found: dict[str, Path] = {}
    for path in files:
        if path.stem.endswith(ending):
            name = path.stem.removesuffix(ending)
            if name in found:
                raise ImageError(f"{path}: {found[name].name} is of the same frame. Fix: keep one of them")
            found[name] = path
    return found


def _from_files(frame: Path, labels: Path, mask: Path | None, unknown: int | None) -> Annotated:
    pixels, numbers = _flat(frame, read_image(frame)), _flat(labels, read_labels(labels))
    _check_shape(labels, numbers, frame, pixels)
    known = np.ones(numbers.shape, np.bool_) if unknown is None else numbers != unknown
    if mask is not None:
        annotated = _flat(mask, read_image(mask))
        _check_shape(mask, annotated, frame, pixels)
        known &= annotated != 0
    return checked("/".join(frame.parts[-2:]), pixels, numbers, known, labels, read_pixel_size(frame))


def checked(
    name: str,
    frame: np.ndarray,
    labels: np.ndarray,
    known: npt.NDArray[np.bool_],
    source: Path,
    pixel_size_um: float | None,
) -> Annotated:
    """Check labels, and number them 1..N; there may be no cell in a frame.

    Parameters
    ----------
    name
        Name of the frame.
    frame
        (H, W) grey levels.
    labels
        (H, W) whole numbers from 0.
    known
        (H, W) mask of the annotated pixels.
    source
        Where the labels are from, for messages.
    pixel_size_um
        Micrometres per pixel; None if unknown.

    Raises
    ------
    ImageError
        If the frame is too small, is not made of numbers, or if all cells have one label; the message names the file.
    """
    if min(frame.shape) < SHORTEST:
        height, width = frame.shape
        raise ImageError(
            f"{name}: has {width} x {height} pixels, but training needs at least {SHORTEST} x {SHORTEST}. "
            "Fix: annotate larger windows, or enlarge frame and labels"
        )
    if not np.isfinite(frame).all():
        raise ImageError(f"{name}: has pixels that are not numbers (NaN or infinite). Fix: save the frame again")
    labels = np.where(known, labels, 0)
    values, numbered = np.unique(labels, return_inverse=True)
    if (values > 0).sum() == 1:
        _check_single(labels > 0, int(values.max()), source)
    numbered = numbered.reshape(labels.shape).astype(np.int32) + (values[0] > 0)
    return Annotated(name, frame.astype(np.float32), np.where(known, numbered, UNKNOWN), pixel_size_um)


def _check_single(cell: npt.NDArray[np.bool_], label: int, source: Path) -> None:
    """Refuse a label that stands for several cells."""
    regions, _ = ndimage.label(cell)
    pieces = int((np.bincount(regions.ravel())[1:] >= SMALLEST).sum())
    if pieces > 1:
        raise ImageError(
            f"{source}: all cells, in {pieces} separate regions, have the label {label}. Fix: give each cell another "
            "number, by a label tool of napari or Fiji (Analyze > Analyze Particles, Count Masks)"
        )


def _flat(path: Path, image: np.ndarray) -> np.ndarray:
    """Image as (H, W), without axes of length 1."""
    squeezed = image.reshape(image.shape[-2:]) if image[..., 0, 0].size == 1 else image
    if squeezed.ndim != 2:
        raise ImageError(f"{path}: is a stack of shape {image.shape}. Fix: save each frame as one file")
    return squeezed


def _check_shape(path: Path, image: np.ndarray, frame: Path, pixels: np.ndarray) -> None:
    if image.shape != pixels.shape:
        raise ImageError(
            f"{path}: has {' x '.join(map(str, image.shape))} pixels, but {frame.name} has "
            f"{' x '.join(map(str, pixels.shape))}. Fix: annotate the frame at its own size"
        )


def _from_output(frames: Path, labels: Path) -> list[Annotated]:
    """Frames of an output, evenly chosen among those with labels."""
    for path in (frames, labels):
        if not (path / "zarr.json").exists():
            raise ImageError(f"{path}: is not a channel of an output. Fix: pass a group of fov_NNN/images.zarr")
    fov = Fov(frames.absolute().parents[1])
    image, numbers = fov.image(frames.name), Fov(labels.absolute().parents[1]).image(labels.name).data
    if image.data.shape != numbers.shape:
        raise ImageError(
            f"{labels}: has shape {numbers.shape}, but {frames.name} has {image.data.shape}. "
            "Fix: pass labels of the same FOV"
        )
    shown = [t for t, plane in enumerate(numbers) if np.any(np.asarray(plane))]
    if not shown:
        raise ImageError(f"{labels}: has no cells. Fix: annotate frames first")
    size = image.scale["x"] if image.units.get("x") == "micrometer" else None
    found = []
    for t in np.array(shown)[np.linspace(0, len(shown) - 1, min(MOST, len(shown))).round().astype(int)]:
        plane, of_cells = np.asarray(image.data[t]), np.asarray(numbers[t])
        name = f"{fov.directory.name} {frames.name} frame {t}"
        found.append(checked(name, plane, of_cells, np.ones(plane.shape, np.bool_), labels, size))
    return found
