"""Folders of single TIFF files become movies by the pattern of their names."""

import os
from itertools import product

import numpy as np
import pytest
import tifffile
from support.plates import state_of

from pyama_dask.errors import ConfigError, SourceError, UnsupportedSourceError
from pyama_dask.readers import open_reader
from pyama_dask.readers.folders.planes import ABSENT
from pyama_dask.readers.folders.reader import FolderReader
from pyama_dask.readers.tiff import folder as tiff_folder

PATTERN = "img_p{fov:03}_t{frame:03}_c{channel}.tif"


def write(folder, *names, shape=(6, 8), dtype=np.uint16, **options):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.zeros(shape, dtype), **({"metadata": None} | options))


def movie(folder, fovs=(0, 1), frames=(0, 1, 2), channels=("1", "2"), pattern=PATTERN):
    """Write every plane, and return the folder."""
    for fov in fovs:
        for frame in frames:
            write(folder, *(pattern.format(fov=fov, frame=frame, channel=channel) for channel in channels))
    return folder


def names_of(found):
    """Names of the files by place; '' for planes that are missing."""
    files = [*found.planes.files, ""]
    return [files[number] for number in found.planes.file.ravel()]


def notes(found):
    folder = found.metadata.path.name
    return [note.removeprefix(f"{folder}: ") for note in found.metadata.notes]


@pytest.mark.parametrize("start", [0, 1])
def test_every_plane_has_its_file(tmp_path, start):
    fovs, frames, channels = range(start, start + 2), range(start, start + 3), ("1", "2")
    root = movie(tmp_path, fovs, frames, channels)
    before = state_of(root)
    found = tiff_folder.scan(root, PATTERN)
    assert state_of(root) == before
    info = found.metadata
    assert found.planes.file.shape == (2, 3, 2, 1)
    places = product(fovs, frames, channels)
    assert names_of(found) == [PATTERN.format(fov=p, frame=t, channel=c) for p, t, c in places]
    assert [found.planes.path_of(n).stat().st_size for n in range(12)] == found.planes.sizes.tolist()
    assert [found.planes.path_of(n).stat().st_mtime_ns for n in range(12)] == found.planes.written.tolist()
    assert [(fov.name, fov.shape, fov.missing, fov.well) for fov in info.fovs] == [
        (f"p{fov:03}", (6, 8), (), None) for fov in fovs
    ]  # fmt: skip
    assert [(one.name, one.dtype, one.kind) for one in info.channels] == [
        ("c1", "uint16", "other"),
        ("c2", "uint16", "other"),
    ]
    assert (info.format, info.n_frames, info.z_planes, info.times_min, info.notes) == ("TIFF folder", 3, 1, None, ())


def test_missing_files_and_gaps_of_frames_are_missing_planes(tmp_path):
    root = movie(tmp_path, frames=(3, 4, 7))
    (root / "img_p000_t004_c2.tif").unlink()
    found = tiff_folder.scan(root, PATTERN)
    first, second = found.metadata.fovs
    assert (first.missing, second.missing) == ((1, 2, 3), (2, 3))
    assert (first.lacking([0], [0]), first.lacking([1], [0])) == ({2, 3}, {1, 2, 3})
    assert notes(found) == ["frames are numbered from 3 to 7, but 2 of these have no files; they are missing"]


def test_wells_and_sites_are_ordered(tmp_path):
    names = [f"{well}/f{site}/t{t}.tif" for well in ("AA3", "b2", "B10", "A1") for site in (10, 2) for t in (1, 2)]
    write(tmp_path, *names)
    found = tiff_folder.scan(tmp_path, "{well}/f{site}/t{frame}.tif")
    fovs = [(fov.name, fov.well, fov.site) for fov in found.metadata.fovs]
    assert fovs == [(f"{well} s{site}", well, site) for well in ("A01", "B02", "B10", "AA03") for site in (2, 10)]
    assert names_of(found)[4:6] == ["b2/f2/t1.tif", "b2/f2/t2.tif"]
    found = tiff_folder.scan(tmp_path, "{well}/f10/t{frame}.tif")
    assert [fov.name for fov in found.metadata.fovs] == ["A01 s1", "B02 s1", "B10 s1", "AA03 s1"]


def test_channels_by_name_and_z_planes_by_rank(tmp_path):
    write(tmp_path, *(f"{c}_z{z:03}.tif" for c in ("Phase", "GFP", "w2") for z in (5, 10, 100)))
    found = tiff_folder.scan(tmp_path, "{channel}_z{z:03}.tif")
    assert [(one.name, one.kind) for one in found.metadata.channels] == [
        ("GFP", "fluorescence"), ("Phase", "phase"), ("w2", "other"),
    ]  # fmt: skip
    assert names_of(found)[:3] == ["GFP_z005.tif", "GFP_z010.tif", "GFP_z100.tif"]
    assert (found.metadata.z_planes, found.metadata.fovs[0].name) == (3, "FOV 0")


def test_channels_by_number_are_ordered_as_numbers(tmp_path):
    write(tmp_path, *(f"{number}_10.tif" for number in (10, 9)))
    found = tiff_folder.scan(tmp_path, "{channel}_{frame}.tif")
    assert [one.name for one in found.metadata.channels] == ["Channel 9", "Channel 10"]
    assert found.planes.file.tolist() == [[[[1], [0]]]]


def test_other_files_are_not_used_but_named(tmp_path):
    root = movie(tmp_path / "a b", fovs=(0,))
    write(root, "img_p000_t000.tif", "._img_p000_t000_c1.tif", "thumbs/img_p000_t000_c1.tif")
    (root / "notes.txt").write_text("img_p000_t000_c1.tif")
    found = tiff_folder.scan(root, PATTERN)
    assert found.planes.file.shape == (1, 3, 2, 1)
    assert notes(found) == ["not used, because the name does not match: 1 TIFF file, such as img_p000_t000.tif"]


def test_folders_pipes_and_broken_links_in_place_of_images_are_missing_planes(tmp_path):
    root = movie(tmp_path, fovs=(0,))
    (root / "img_p000_t003_c1.tif").mkdir()
    os.mkfifo(root / "img_p001_t000_c1.tif")
    (root / "img_p001_t000_c2.tif").symlink_to("nowhere.tif")
    found = tiff_folder.scan(root, PATTERN)
    assert found.planes.file.shape == (2, 4, 2, 1)
    assert [fov.missing for fov in found.metadata.fovs] == [(3,), (0, 1, 2, 3)]
    assert len({fov.shape for fov in found.metadata.fovs}) == 1
    assert notes(found) == ["folders or pipes instead of 3 images, such as img_p000_t003_c1.tif; they are missing"]


def test_any_text_stands_for_parts_of_names(tmp_path):
    write(tmp_path, "2026-01-01 x/run_B02-t1.tif", "2026-01-02/run 2_B02-t2.tif", "other/run_B02-t3.tif")
    found = tiff_folder.scan(tmp_path, "2026*/run*_{well}-t{frame}.tif")
    assert names_of(found) == ["2026-01-01 x/run_B02-t1.tif", "2026-01-02/run 2_B02-t2.tif"]


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"imagej": True, "resolution": (2.0, 2.0), "metadata": {"axes": "YX", "unit": "um"}}, 0.5),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm"}}, 0.65),
        ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, 0.5),
        ({}, None),
    ],
)
def test_pixel_size_is_that_of_the_files(tmp_path, options, size):
    write(tmp_path, "p1.tif", **options)
    found = tiff_folder.scan(tmp_path, "p{fov}.tif")
    assert found.metadata.pixel_size_um == size
    write(tmp_path, "p2.tif", shape=(12, 8), resolution=(10000, 10000), resolutionunit="CENTIMETER")
    found = tiff_folder.scan(tmp_path, "p{fov}.tif")
    assert [fov.shape for fov in found.metadata.fovs] == [(6, 8), (12, 8)]
    stated = f"{size} um, 1.0 um" if size else "none, 1.0 um"
    assert notes(found) == [f"the files state different pixel sizes ({stated}); that of the first FOV is used"]


def test_damaged_files_spoil_no_others(tmp_path):
    root = movie(tmp_path, channels=("1",))
    for name in ("img_p000_t000_c1.tif", *(f"img_p001_t{frame:03}_c1.tif" for frame in range(3))):
        (root / name).write_bytes(b"II*\0damaged")
    found = tiff_folder.scan(root, PATTERN)
    assert [(fov.shape, fov.missing) for fov in found.metadata.fovs] == [((6, 8), ())] * 2
    for frame in (1, 2):
        (root / f"img_p000_t{frame:03}_c1.tif").write_bytes(b"")
    with pytest.raises(SourceError, match=r"img_p000_t000_c1.tif: cannot be read .*Fix: copy it again"):
        tiff_folder.scan(root, PATTERN)


@pytest.mark.parametrize(
    ("written", "options", "pattern", "error", "message"),
    [
        ([], {}, "t{frame}.tif", SourceError, "no file matches .* there are no TIFF files in its place. Fix: change"),
        (["x1.tif"], {}, "t{frame}.tif", SourceError, "no file matches .* but there is x1.tif"),
        (["t1.tif", "t01.tif"], {}, "t{frame}.tif", SourceError, "t01.tif and t1.tif are the same plane. Fix:"),
        (["t1_a.tif", "t1_b.tif"], {}, "t{frame}_*.tif", SourceError, "t1_a.tif and t1_b.tif are the same plane"),
        (["t1.tif", "t900000000.tif"], {}, "t{frame}.tif", SourceError, "1 FOVs x 900000000 frames .*Fix: check"),
        (["t1.tif"], {"shape": (3, 6, 8), "photometric": "minisblack"}, "t{frame}.tif",
         UnsupportedSourceError, "has 3 pages.*Fix: save each page"),
        (["t1.tif"], {"shape": (6, 8, 3), "dtype": np.uint8, "photometric": "rgb"}, "t{frame}.tif",
         UnsupportedSourceError, "is not a grey image.*Fix: save each channel"),
        (["t1.tif"], {}, "t{time}.tif", ConfigError, "unknown field {time}"),
    ],
)  # fmt: skip
def test_unusable_folders_are_refused(tmp_path, written, options, pattern, error, message):
    write(tmp_path, *written, **options)
    with pytest.raises(error, match=message):
        tiff_folder.scan(tmp_path, pattern)


def test_channels_of_different_sizes_are_refused(tmp_path):
    movie(tmp_path)
    for fov in (0, 1):
        write(tmp_path, *(f"img_p{fov:03}_t{frame:03}_cGFP.tif" for frame in range(3)), shape=(3, 4))
    with pytest.raises(UnsupportedSourceError, match=r"GFP has images of another size than 1 .4 x 3 pixels.. Fix:"):
        tiff_folder.scan(tmp_path, PATTERN)


ODD = {
    "pages": ({"shape": (3, 6, 8), "photometric": "minisblack"}, "has 3 pages, not 1"),
    "colours": ({"shape": (6, 8, 3), "dtype": np.uint8, "photometric": "rgb"}, "has 6 x 8 x 3 pixels, not 6 x 8"),
    "size": ({"shape": (8, 6)}, "has 8 x 6 pixels, not 6 x 8"),
    "type": ({"dtype": np.float32}, "has pixels of type float32, not uint16"),
}


@pytest.mark.parametrize("fov", [0, 1])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_file_spoils_no_other_fov(tmp_path, fov, odd):
    root = movie(tmp_path)
    name, (options, message) = f"img_p00{fov}_t000_c1.tif", ODD[odd]
    write(root, name, **options)
    found = tiff_folder.scan(root, PATTERN)
    assert [fov.shape for fov in found.metadata.fovs] == [(6, 8)] * 2
    assert [channel.dtype for channel in found.metadata.channels] == ["uint16"] * 2
    with FolderReader(root, found) as reader:
        assert reader.read_frame(1 - fov, 0).shape == reader.read_frame(fov, 1).shape == (2, 6, 8)
        with pytest.raises(SourceError, match=rf"{name} .*: {message}\. Fix: copy it again"):
            reader.read_frame(fov, 0)


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(SourceError, match=r"none: no such folder. Fix: check the path"):
        tiff_folder.scan(tmp_path / "none", "t{frame}.tif")


def test_stars_alone_are_no_pattern(tmp_path):
    with pytest.raises(SourceError, match=r"no such file. Fix: for single TIFF files, write a pattern of their names"):
        open_reader(tmp_path / "*.tif")


def test_identity_depends_on_the_pattern(tmp_path):
    write(tmp_path, "p1_t1.tif")
    one, other = (
        tiff_folder.scan(tmp_path, pattern).planes for pattern in ("p{fov}_t{frame}.tif", "p{frame}_t{fov}.tif")
    )
    assert one.index != other.index
    assert ABSENT not in one.file
