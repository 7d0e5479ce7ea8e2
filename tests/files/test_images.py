"""Images and label images in the formats of other programs."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from pyama_dask.errors import ImageError
from pyama_dask.files.images import read_image, read_labels, read_pixel_size, write_tiff

LABELS = np.arange(300 * 7, dtype=np.uint16).reshape(300, 7)


def test_every_format_gives_the_same_labels(tmp_path):
    write_tiff(tmp_path / "a.tif", LABELS)
    tifffile.imwrite(tmp_path / "z.tiff", LABELS, compression="zlib")
    Image.fromarray(LABELS).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    Image.fromarray(LABELS).save(tmp_path / "b.png")
    np.save(tmp_path / "c.npy", LABELS.astype(np.int64))
    np.savez(tmp_path / "d.npz", labels=LABELS, other=np.zeros(3))
    np.savez(tmp_path / "e.npz", LABELS)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 7
    for file in files:
        np.testing.assert_array_equal(read_labels(file), LABELS)


def test_a_palette_and_a_mask_are_labels(tmp_path):
    picture = Image.fromarray(np.array([[0, 3], [3, 7]], np.uint8), mode="P")
    picture.putpalette(range(30))
    picture.save(tmp_path / "palette.png")
    assert read_labels(tmp_path / "palette.png").tolist() == [[0, 3], [3, 7]]
    np.save(tmp_path / "mask.npy", np.array([[False, True]]))
    assert read_labels(tmp_path / "mask.npy").tolist() == [[0, 1]]


def test_a_tiff_has_axes_and_pixel_size(tmp_path):
    write_tiff(tmp_path / "a.tif", LABELS, 0.87)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.series[0].axes == "YX"
        assert file.imagej_metadata["unit"] == "um"
        above, below = file.pages.first.tags["XResolution"].value
        assert below / above == pytest.approx(0.87)


def saved(tmp_path, name, content):
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif name.endswith(".tif"):
        tifffile.imwrite(path, content)
    else:
        Image.fromarray(content).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jpg", b"x", "is not an image that can be read. Fix: use one of .tif"),
        ("a.tif", b"nothing", "cannot be read"),
        ("a.png", b"nothing", "cannot be read"),
        ("a.npz", b"nothing", "is not an NPZ file"),
        ("a.npy", np.zeros(3, int), "has shape"),
        ("a.npy", np.array([[None]]), "cannot be read"),
        ("a.npy", np.zeros((2, 2)), "has float64 pixels, but labels are whole numbers"),
        ("a.npy", np.array([[-1, 2]]), "has the label -1"),
        ("a.npz", {"a": LABELS, "b": LABELS}, "has the arrays a, b"),
        ("a.png", np.zeros((4, 4, 3), np.uint8), "is a colour picture"),
        ("a.tif", np.zeros((4, 4, 3), np.uint8), "is a colour picture"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_one_message(tmp_path, name, content, said):
    path = saved(tmp_path, name, content)
    with pytest.raises(ImageError, match=said) as caught:
        read_labels(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_one_message(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        read_image(tmp_path / "none.tif")
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / "folder.tif")


# ------------------------------------------------------------------------------------- pixel size


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm"}}, 0.65),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 650.0, "PhysicalSizeXUnit": "nm"}}, None),
        ({"ome": True, "metadata": {"axes": "YX"}}, None),
        ({"imagej": True, "resolution": (2.0, 2.0), "metadata": {"axes": "YX", "unit": "micron"}}, 0.5),
        ({"imagej": True, "resolution": (2.0, 2.0), "metadata": {"axes": "YX", "unit": "inch"}}, None),
        ({"resolution": (300, 300)}, None),
        ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (25400, 25400), "resolutionunit": "INCH"}, 1.0),
        ({"resolution": (20000, 20000), "resolutionunit": "NONE"}, None),
        ({"resolution": (0, 0), "resolutionunit": "CENTIMETER"}, None),
        ({}, None),
    ],
)
def test_the_pixel_size_is_read_where_it_is_in_micrometres(tmp_path, options, size):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9), np.uint16), **options)
    assert read_pixel_size(tmp_path / "a.tif") == (None if size is None else pytest.approx(size))


def test_other_formats_have_no_pixel_size(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((8, 9), np.uint16))
    assert read_pixel_size(tmp_path / "a.npy") is None
