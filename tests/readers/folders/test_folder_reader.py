"""Movies in folders of TIFF files: planes are read as they are in the files, or there is an error."""

import errno
import importlib
import os
import pickle
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tifffile

from pyama_dask.errors import MissingFrameError, SourceError
from pyama_dask.readers.base import Channel, FovInfo, Metadata, absent_planes
from pyama_dask.readers.folders.content import identity_of, load_folder, save_folder
from pyama_dask.readers.folders.planes import ABSENT, Folder, Planes, stat_files
from pyama_dask.readers.folders.reader import FolderReader
from pyama_dask.readers.registry import FOLDERS, open_reader
from pyama_dask.readers.shared import FolderSnapshot, shared_movie

FOVS, FRAMES, CHANNELS, SHAPE = 2, 3, 2, (20, 24)
NAMES = "B02 s1", "B03 s1"
LACKS = 1, 2, 1


def scan(folder, *, times=True):
    """Planes of the folder that `plate` writes."""
    planes = np.ndindex(FOVS, FRAMES, CHANNELS)
    names = {place: "{}/t{}_c{}.tif".format(*place) for place in planes}
    files = sorted(name for name in names.values() if (folder / name).exists())
    number = {name: k for k, name in enumerate(files)}
    file = np.full((FOVS, FRAMES, CHANNELS, 1), ABSENT, np.int32)
    for place, name in names.items():
        file[(*place, 0)] = number.get(name, ABSENT)
    fovs = [FovInfo(name, SHAPE, well=name[:3], site=1, **absent_planes(file[k] >= 0)) for k, name in enumerate(NAMES)]
    stamps = np.arange(FOVS * FRAMES, dtype=float).reshape(FOVS, FRAMES) if times else None
    channels = (Channel("Phase", "uint16", "phase"), Channel("GFP", "uint16", "fluorescence"))
    metadata = Metadata(folder, "made up", tuple(fovs), FRAMES, channels, times_min=stamps, time_source=("a", "b"))
    return Folder(metadata, Planes(folder, files, *stat_files(folder, files), file, index=b"index"))


@pytest.fixture(scope="session")
def pixels():
    rng = np.random.default_rng(0)
    return rng.integers(0, 4000, (FOVS, FRAMES, CHANNELS, *SHAPE)).astype(np.uint16)


@pytest.fixture
def plate(tmp_path, pixels):
    folder = tmp_path / "plate"
    for place in np.ndindex(FOVS, FRAMES, CHANNELS):
        if place != LACKS:
            path = folder / "{}/t{}_c{}.tif".format(*place)
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, pixels[place], compression="lzw" if place[1] else None)
    return folder


@pytest.fixture
def reader(plate):
    with FolderReader(plate, partial(scan, plate)) as opened:
        yield opened


def test_planes_are_those_of_the_files(reader, pixels):
    for fov, frame in np.ndindex(FOVS, FRAMES):
        channels = [0] if (fov, frame, 1) == LACKS else [1, 0]
        found = reader.read_frame(fov, frame, channels=channels)
        np.testing.assert_array_equal(found, pixels[fov, frame, channels])


def test_an_absent_plane_is_missing_and_never_zeros(reader):
    assert reader.metadata.fovs[1].missing == (2,)
    with pytest.raises(MissingFrameError, match=r"FOV 1 \(B03 s1\) has no frame 2 in channels \[1\]"):
        reader.read_frame(1, 2, channels=[1])


def test_a_reader_and_its_planes_travel(reader, pixels, tmp_path):
    save_folder(reader.folder, tmp_path / "planes.npz")
    held = load_folder(tmp_path / "planes.npz")
    assert held.metadata.fovs == reader.metadata.fovs
    assert held.metadata.time_source == ("a", "b")
    np.testing.assert_array_equal(held.metadata.times_min, reader.metadata.times_min)
    for there in (pickle.loads(pickle.dumps(reader)), FolderReader(reader.path, tmp_path / "planes.npz")):
        np.testing.assert_array_equal(there.read_frame(1, 1), pixels[1, 1])


def test_a_damaged_table_of_planes_is_named_wherever_the_damage_is(reader, tmp_path):
    path = tmp_path / "planes.npz"
    save_folder(reader.folder, path)
    whole, said = path.read_bytes(), []
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            load_folder(path)
        except SourceError as error:
            said.append(str(error))
    assert len(said) > 20
    assert all(f"{path}: the table of the movie's planes is damaged" in one for one in said)


def test_fovs_keep_their_numbers(plate, pixels):
    with FolderReader(plate, partial(scan, plate), known=("B03 s1", "of another plate")) as reader:
        assert [fov.name for fov in reader.metadata.fovs] == ["B03 s1", "B02 s1"]
        assert reader.metadata.times_min[:, 0].tolist() == [3, 0]
        assert reader.metadata.time_source == ("b", "a")
        assert reader.metadata.fovs[0].missing == (2,)
        np.testing.assert_array_equal(reader.read_frame(0, 1), pixels[1, 1])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("left", [0, 100, 500])
def test_a_file_that_is_cut_off_is_named(plate, compressed, left):
    """Its length is that of the scan, so that only its content is wrong."""
    frame = int(compressed)
    path = plate / f"0/t{frame}_c0.tif"
    path.write_bytes(path.read_bytes()[:left])
    said = rf"{path} \(B02 s1, frame {frame}\): .* Fix: "
    with FolderReader(plate, partial(scan, plate)) as reader, pytest.raises(SourceError, match=said):
        reader.read_frame(0, frame)


def test_strips_that_are_absent_are_not_zeros(plate):
    path = plate / "0/t0_c0.tif"
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags["StripByteCounts"].overwrite(0)
    with (
        FolderReader(plate, partial(scan, plate)) as reader,
        pytest.raises(SourceError, match="has no pixels in a part"),
    ):
        reader.read_frame(0, 0)


def test_a_file_of_several_pages_is_refused(plate):
    tifffile.imwrite(plate / "0/t0_c1.tif", np.zeros((2, *SHAPE), np.uint16), photometric="minisblack")
    with FolderReader(plate, partial(scan, plate)) as reader, pytest.raises(SourceError, match="has 2 pages, not 1"):
        reader.read_frame(0, 0)


def test_an_image_of_another_size_is_refused(plate):
    tifffile.imwrite(plate / "0/t0_c1.tif", np.zeros((10, 12), np.uint16))
    with (
        FolderReader(plate, partial(scan, plate)) as reader,
        pytest.raises(SourceError, match=r"t0_c1.tif \(B02 s1, frame 0\): has 10 x 12 pixels, not 20 x 24"),
    ):
        reader.read_frame(0, 0)


@pytest.mark.parametrize("change", ["written", "replaced", "removed"])
def test_a_file_that_changes_after_the_scan_is_refused(reader, plate, change):
    _ = reader.metadata
    path = plate / "0/t1_c0.tif"
    state = path.stat()
    if change == "removed":
        path.unlink()
    elif change == "written":
        path.write_bytes(path.read_bytes() + b"more")
    else:
        path.write_bytes(path.read_bytes())
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 5 * 10**9))
    with pytest.raises(SourceError, match=rf"{path}: changed while it was read"):
        reader.read_frame(0, 1)
    assert reader.read_frame(0, 0).any()


def test_a_plane_that_arrives_is_found_by_the_next_reader(plate, pixels):
    def missing():
        with FolderReader(plate, partial(scan, plate)) as reader:
            return reader.metadata.fovs[1].missing

    assert missing() == (2,)
    tifffile.imwrite(plate / "1/t2_c1.tif", pixels[LACKS])
    assert missing() == ()


class TestIdentity:
    def test_a_copy_is_the_same_movie(self, plate, tmp_path):
        shutil.copytree(plate, tmp_path / "copy", copy_function=shutil.copyfile)
        assert identity_of(scan(plate).planes) == identity_of(scan(tmp_path / "copy").planes)

    def test_other_pixels_names_planes_or_an_index_are_another_one(self, plate, pixels):
        before = scan(plate).planes
        identities = {identity_of(before).digest, identity_of(replace(before, index=b"other")).digest}
        tifffile.imwrite(plate / "0/t0_c0.tif", pixels[0, 0, 0][::-1])
        identities.add(identity_of(scan(plate).planes).digest)
        tifffile.imwrite(plate / "1/t2_c1.tif", pixels[LACKS])
        identities.add(identity_of(scan(plate).planes).digest)
        (plate / "1/t0_c0.tif").unlink()
        identities.add(identity_of(scan(plate).planes).digest)
        assert len(identities) == 5


def test_workers_read_the_planes_of_the_plan(plate, pixels, tmp_path):
    """Files that arrive after the snapshot change nothing; the snapshot that travels is small."""
    with FolderReader(plate, partial(scan, plate)) as reader:
        planned = FolderSnapshot(plate, identity_of(reader.folder.planes).digest, reader.folder)
    kept = planned.kept_in(tmp_path)
    assert kept == planned
    assert kept.kept_in(tmp_path) is kept
    tifffile.imwrite(plate / "1/t2_c1.tif", pixels[LACKS])
    sent = pickle.dumps(kept)
    assert len(sent) < 1000
    movie = shared_movie(pickle.loads(sent))
    assert movie is shared_movie(kept)
    movie.check()
    assert movie.reader.metadata.fovs[1].missing == (2,)
    np.testing.assert_array_equal(movie.reader.read_frame(0, 1), pixels[0, 1])


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path / "TimePoint_2"))

    monkeypatch.setattr(importlib.import_module(FOLDERS[0]), "find", refused)
    with pytest.raises(SourceError, match=r"TimePoint_2: cannot be read \(Permission denied\)\. Fix: check its perm"):
        open_reader(tmp_path)


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000])
def test_a_damaged_document_is_not_blamed_on_permissions(tmp_path, text):
    (tmp_path / "zarr.json").write_text(text)
    with pytest.raises(SourceError, match=r"zarr\.json: is damaged"):
        open_reader(tmp_path)
