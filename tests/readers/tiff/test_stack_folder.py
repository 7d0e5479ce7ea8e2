"""Folders of TIFF stacks, one file per FOV, by a pattern of their names."""

import numpy as np
import pytest
import tifffile
from support.plates import state_of
from support.stacks import check_pixels, random_pixels, write_ome

from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.readers import read_metadata

PIXELS = random_pixels(fovs=3, planes=2)
PATTERN = "stack_{fov}.tif"


def write(path, pixels=PIXELS[0], **options):
    stack = pixels.transpose(0, 2, 1, 3, 4)
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TZCYX", "finterval": 30}, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    for fov, pixels in enumerate(PIXELS):
        write(tmp_path / f"stack_{fov + 1}.tif", pixels)
    return tmp_path


def test_each_stack_is_a_fov(folder):
    before = state_of(folder)
    info = check_pixels(folder / PATTERN, PIXELS)
    assert state_of(folder) == before
    assert [fov.name for fov in info.fovs] == ["FOV 1", "FOV 2", "FOV 3"]
    assert (info.format, info.times_min.tolist(), info.notes) == ("ImageJ TIFF", [[0, 0.5, 1]] * 3, ())


def test_wells(tmp_path):
    for name, pixels in zip(("b2", "A10", "A9"), PIXELS, strict=True):
        write_ome(tmp_path / f"{name}.ome.tif", pixels[None])
    info = check_pixels(tmp_path / "{well}.ome.tif", PIXELS[::-1])
    assert [(fov.name, fov.well, fov.site) for fov in info.fovs] == [
        ("A09 s1", "A09", 1),
        ("A10 s1", "A10", 1),
        ("B02 s1", "B02", 1),
    ]
    assert info.time_source == ("DeltaT of planes",) * 3


def test_a_shorter_stack_lacks_its_last_frames(folder):
    write(folder / "stack_2.tif", PIXELS[1, :2])
    check_pixels(folder / PATTERN, PIXELS, [(1, 2, *place) for place in np.ndindex(2, 2)])


def test_a_damaged_stack_is_a_fov_without_frames(folder):
    path = folder / "stack_3.tif"
    path.write_bytes(path.read_bytes()[:100])
    info = check_pixels(folder / PATTERN, PIXELS, [(2, *place) for place in np.ndindex(3, 2, 2)])
    assert [note.startswith(str(path)) for note in info.notes] == [True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: write(path, PIXELS[0, :, :1]), "has other channels"),
        (lambda path: write(path, PIXELS[0].astype(np.uint8)), "pixels of another type"),
        (lambda path: write_ome(path, PIXELS[:2]), "has 2 FOVs in 1 file"),
        (lambda path: tifffile.imwrite(path, PIXELS[0, :2, 0, 0]), "does not say whether they are frames"),
    ],
)
def test_stacks_that_do_not_fit_are_refused(folder, change, said):
    change(folder / "stack_2.tif")
    with pytest.raises(UnsupportedSourceError, match=rf"stack_2.tif: .*{said}.* Fix: "):
        read_metadata(folder / PATTERN)


def test_all_stacks_damaged(folder):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SourceError, match=r"stack_1.tif.*Fix: "):
        read_metadata(folder / PATTERN)
