"""Annotated frames as users have them, and one message for each mistake."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.touching import touching_cells

from pyama_dask.errors import ImageError
from pyama_dask.files.images import write_tiff
from pyama_dask.training.annotated import read_annotated

FRAME, LABELS = touching_cells(shape=(96, 120))


@pytest.fixture
def folder(tmp_path):
    """A folder with the frame ``a.tif`` and its labels."""
    write_tiff(tmp_path / "a.tif", FRAME, 0.65)
    tifffile.imwrite(tmp_path / "a_labels.tif", LABELS.astype(np.uint16))
    return tmp_path


def test_a_folder_gives_frames_labels_and_pixel_size(folder):
    (found,) = read_annotated([folder])
    np.testing.assert_array_equal(found.frame, FRAME)
    np.testing.assert_array_equal(found.labels > 0, LABELS > 0)
    assert found.name == f"{folder.name}/a.tif"
    assert found.pixel_size_um == pytest.approx(0.65)
    assert np.unique(found.labels).tolist() == list(range(np.unique(LABELS).size))


@pytest.mark.parametrize("ending", ["png", "npy"])
def test_labels_may_have_other_formats(folder, ending):
    (folder / "a_labels.tif").unlink()
    path = folder / f"a_labels.{ending}"
    np.save(path, LABELS) if ending == "npy" else Image.fromarray(LABELS.astype(np.uint16)).save(path)
    np.testing.assert_array_equal(read_annotated([folder])[0].labels > 0, LABELS > 0)


def test_pairs_of_files_in_turn(folder):
    pair = [folder / "a.tif", folder / "a_labels.tif"]
    assert len(read_annotated([*pair, *pair])) == 2


def test_diameters_are_those_of_disks(tmp_path):
    labels = np.zeros((64, 64), np.uint8)
    labels[:10, :10], labels[:10, 20:40] = 5, 9
    np.save(tmp_path / "labels.npy", labels)
    write_tiff(tmp_path / "a.tif", np.ones((64, 64), np.uint16))
    (found,) = read_annotated([tmp_path / "a.tif", tmp_path / "labels.npy"])
    np.testing.assert_allclose(found.diameters, 2 * np.sqrt(np.array([100, 200]) / np.pi))
    assert found.pixel_size_um is None


def test_pixels_that_are_not_annotated_by_value_and_by_mask(folder):
    labels = LABELS.copy()
    labels[:30] = 255
    tifffile.imwrite(folder / "a_labels.tif", labels.astype(np.uint16))
    mask = np.ones(LABELS.shape, np.uint8)
    mask[:, 50:] = 0
    Image.fromarray(mask * 255).save(folder / "a_mask.png")
    (found,) = read_annotated([folder], unknown=255)
    assert (found.labels[:30] == -1).all()
    assert (found.labels[:, 50:] == -1).all()
    np.testing.assert_array_equal(found.labels[30:, :50] > 0, LABELS[30:, :50] > 0)
    assert (found.labels[30:, :50] >= 0).all()


def test_a_frame_without_background_keeps_all_its_cells(folder):
    tifffile.imwrite(folder / "a_labels.tif", np.repeat(np.uint16([[7, 9]]), [60, 60], axis=1).repeat(96, axis=0))
    assert np.unique(read_annotated([folder])[0].labels).tolist() == [1, 2]


def test_one_of_several_frames_may_be_without_cells(folder):
    write_tiff(folder / "b.tif", FRAME)
    write_tiff(folder / "b_labels.tif", np.zeros_like(FRAME))
    assert [one.diameters.size > 0 for one in read_annotated([folder])] == [True, False]


def test_labels_of_an_output(finished):
    images = finished / "fov_000" / "images.zarr"
    found = read_annotated([images / "pc_ch_0", images / "seg_labeled_ch_0"])
    assert 1 <= len(found) <= 10
    assert all(one.frame.shape == (200, 240) and one.diameters.size for one in found)


# ------------------------------------------------------------------------------------- mistakes


def save_labels(labels):
    return lambda folder: tifffile.imwrite(folder / "a_labels.tif", labels)


def _remove(name):
    return lambda folder: (folder / name).unlink()


def _cut(rows):
    def cut(folder):
        for name, pixels in {"a.tif": FRAME, "a_labels.tif": LABELS.astype(np.uint16)}.items():
            tifffile.imwrite(folder / name, pixels[:rows])

    return cut


ONE = (LABELS > 0).astype(np.uint8) * 255
ONE[::40] = 0
MISTAKES = {
    "other size": (
        save_labels(LABELS[:50].astype(np.uint16)),
        r"a_labels.tif: has 50 x 120 pixels, but a.tif has 96 x",
    ),
    "small": (_cut(50), r"a.tif: has 120 x 50 pixels, but training needs at least 64 x 64"),
    "no cells": (
        save_labels(np.zeros_like(ONE)),
        r"a_labels.tif: has no cells, nor have others. Fix: number the cells",
    ),
    "one label": (save_labels(ONE), r"a_labels.tif: all cells, in \d+ separate regions, have the label 255"),
    "float": (save_labels(LABELS.astype(np.float32)), r"a_labels.tif: has float32 pixels"),
    "RGB": (
        lambda folder: Image.fromarray(np.dstack([ONE] * 3)).save(folder / "a_labels.tif"),
        r"a_labels.tif: is a colour picture",
    ),
    "stack": (
        save_labels(np.stack([LABELS] * 2).astype(np.uint16)),
        r"a_labels.tif: is a stack of shape \(2, 96, 120\)",
    ),
    "unreadable": (lambda folder: (folder / "a.tif").write_bytes(b"II*\0" + bytes(9)), r"a.tif: cannot be read"),
    "no labels": (_remove("a_labels.tif"), r"a.tif: has no labels. Fix: save them as a_labels.tif, .png or .npy"),
    "no frame": (_remove("a.tif"), r"a_labels.tif: has no frame. Fix: put the frame beside it as a.tif"),
    "two": (lambda folder: np.save(folder / "a_labels.npy", LABELS), r"is of the same frame. Fix: keep one"),
    "not finite": (
        lambda folder: tifffile.imwrite(folder / "a.tif", np.where(ONE, np.float32(np.nan), np.float32(1))),
        r"a.tif: has pixels that are not numbers",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message(folder, mistake):
    change, said = MISTAKES[mistake]
    change(folder)
    with pytest.raises(ImageError, match=said) as error:
        read_annotated([folder])
    assert "Fix: " in str(error.value)


def test_an_empty_folder_and_an_odd_number_of_paths_are_refused(folder, tmp_path):
    with pytest.raises(ImageError, match=r"has no partner among the 3 paths"):
        read_annotated([folder / "a.tif"] * 3)
    with pytest.raises(ImageError, match=r"a\.tif: is not a folder"):
        read_annotated([folder / "a.tif"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"empty: has no frames"):
        read_annotated([tmp_path / "empty"])
    with pytest.raises(ImageError, match=r"is not a channel of an output"):
        read_annotated([folder, folder])
