"""OME-Zarr: plates, collections and images; planes without chunks are missing."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import zarr
from support.plates import state_of
from support.stacks import CHANNELS, PIXEL_UM, check_pixels, random_pixels
from support.zarrs import without_plane, write_group, write_image, write_zarr_plate

from pyama_dask.errors import MissingFrameError, SourceError, UnsupportedSourceError
from pyama_dask.readers import read_metadata
from pyama_dask.readers.registry import movie_stem, open_reader
from pyama_dask.readers.shared import shared_movie, take_snapshot
from pyama_dask.readers.zarr_images import arrays as zarr_arrays

PIXELS = random_pixels(fovs=4, planes=2)
VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])


@pytest.fixture
def image(tmp_path):
    return write_image(tmp_path / "movie.ome.zarr", PIXELS[0], chunks=(1, 1, 1, 10, 24))


@VERSIONS
def test_a_plate(tmp_path, version):
    plate = write_zarr_plate(tmp_path / "plate.zarr", PIXELS, ("B/03", "A/11"), version)
    before = state_of(plate)
    info = check_pixels(plate, PIXELS[[2, 3, 0, 1]])  # wells by row and column
    assert state_of(plate) == before
    assert [(fov.name, fov.plate, fov.well, fov.site) for fov in info.fovs] == [
        ("A11 s1", "Screen 4", "A11", 1),
        ("A11 s2", "Screen 4", "A11", 2),
        ("B03 s1", "Screen 4", "B03", 1),
        ("B03 s2", "Screen 4", "B03", 2),
    ]
    assert info.fovs[0].position_um == pytest.approx((400 + 11.5 * PIXEL_UM, -30 + 9.5 * PIXEL_UM))
    assert [(one.name, one.dtype, one.kind) for one in info.channels] == [
        (CHANNELS[0], "uint16", "phase"),
        (CHANNELS[1], "uint16", "fluorescence"),
    ]
    assert (info.format, info.pixel_size_um, info.interval_min, info.notes) == ("OME-Zarr", PIXEL_UM, 2, ())
    assert info.times_min.tolist() == [[0, 2, 4]] * 4


@VERSIONS
@pytest.mark.parametrize("axes", ["yx", "tyx", "cyx", "tzyx", "tcyx", "czyx", "ctzyx", "tczyx"])
def test_an_image_with_any_axes(tmp_path, axes, version):
    pixels = PIXELS[:1, : 3 if "t" in axes else 1, : 2 if "c" in axes else 1, : 2 if "z" in axes else 1]
    path = write_image(tmp_path / "my movie.ome.zarr", pixels[0], axes=axes, version=version)
    info = check_pixels(path, pixels)
    assert (info.fovs[0].name, movie_stem(path)) == ("my movie", "my movie")
    assert info.interval_min == (2 if "t" in axes else None)


LAYOUTS = {
    "part of a plane": {"chunks": (1, 1, 1, 7, 9)},
    "several planes": {"chunks": (2, 1, 2, 20, 24)},
    "shards": {"chunks": (1, 1, 1, 10, 24), "shards": (2, 2, 1, 20, 24)},
    "big-endian": {},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_chunks_and_shards(tmp_path, layout):
    pixels = PIXELS[0].astype(">u2") if layout == "big-endian" else PIXELS[0]
    path = write_image(tmp_path / "movie.zarr", pixels, **LAYOUTS[layout])
    info = check_pixels(path, PIXELS[:1])
    assert info.channels[0].dtype == "uint16"
    said = "chunks hold several planes in 1 array, such as 0: planes of a chunk that were never written cannot be told"
    assert [note.startswith(f"movie.zarr: {said}") for note in info.notes] == [True] * (layout == "several planes")


@pytest.mark.parametrize("most", [0, 5000, 2**27])
def test_chunks_of_several_frames_are_read_once(tmp_path, monkeypatch, most):
    path = write_image(tmp_path / "movie.zarr", PIXELS[0], chunks=(2, 1, 1, 20, 24))
    monkeypatch.setattr(zarr_arrays, "MOST_KEPT", most)
    read = []
    monkeypatch.setattr(
        zarr.Array, "__getitem__", lambda self, at, get=zarr.Array.__getitem__: read.append(at) or get(self, at)
    )
    check_pixels(path, PIXELS[:1])
    assert len(read) == {0: 12, 5000: 12, 2**27: 8}[most]
    chunk = path / "0/c/0/0/0/0/0"
    with open_reader(path) as reader:
        reader.read_frame(0, 0)
        chunk.write_bytes(chunk.read_bytes()[:-1])
        with pytest.raises(SourceError, match="changed while it was read"):
            reader.read_frame(0, 1)


def test_the_memory_of_planes_that_are_read_together_is_stated(tmp_path, monkeypatch):
    pixels = PIXELS[0]
    plane = pixels[0, 0, 0].nbytes
    write_image(tmp_path / "one.zarr", pixels)
    assert read_metadata(tmp_path / "one.zarr").read_memory == 0
    path = write_image(tmp_path / "two.zarr", pixels, chunks=(2, 1, 1, 10, 24))
    for kept, expected in ((2**27, 3 * pixels.nbytes), (3 * plane, 7 * plane), (plane, 4 * plane)):
        monkeypatch.setattr(zarr_arrays, "MOST_KEPT", kept)
        assert read_metadata(path).read_memory == expected


def test_a_shift_of_zero_or_in_pixels_is_no_position(image):
    text = (image / "zarr.json").read_text()
    document = json.loads(text)
    (multiscale,) = document["attributes"]["ome"]["multiscales"]
    transforms = multiscale["datasets"][0]["coordinateTransformations"]
    transforms[1]["translation"] = [0] * 5
    (image / "zarr.json").write_text(json.dumps(document))
    assert read_metadata(image).fovs[0].position_um is None
    transforms[1]["translation"], transforms[0]["scale"] = [0, 0, 0, 7, 7], [1] * 5
    for axis in multiscale["axes"]:
        axis.pop("unit", None)
    (image / "zarr.json").write_text(json.dumps(document))
    info = read_metadata(image)
    assert (info.fovs[0].position_um, info.pixel_size_um, info.notes) == (None, None, ())


def test_planes_without_chunks_are_missing(image):
    without_plane(image, (2, 1, 0))
    check_pixels(image, PIXELS[:1], [(0, 2, 1, 0)])


def test_planes_without_chunks_in_their_shard_are_missing(tmp_path):
    pixels = PIXELS[:1].copy()
    pixels[0, 1, 1, 0] = 0  # the fill value, which zarr does not store
    path = write_image(tmp_path / "a.zarr", pixels[0], **LAYOUTS["shards"])
    check_pixels(path, pixels, [(0, 1, 1, 0)])


def test_a_plane_that_lacks_a_part_is_mentioned(image):
    (image / "0/c/0/0/0/1/0").unlink()
    pixels = PIXELS[:1].copy()
    pixels[0, 0, 0, 0, 10:] = 0
    assert [note.partition(",")[0] for note in check_pixels(image, pixels).notes] == [
        "movie.ome.zarr: parts are not stored in 1 plane"
    ]


@pytest.mark.parametrize("place", ["../../../other.zarr", "../../B/03/0", "/etc"])
def test_paths_that_lead_out_of_a_well_are_not_followed(tmp_path, place):
    plate = write_zarr_plate(tmp_path / "plate.zarr", PIXELS, ("B/03", "A/11"))
    shutil.copytree(plate / "A/11/0", tmp_path / "other.zarr")
    document = next(path for name in ("zarr.json", ".zattrs") if (path := plate / "A/11" / name).is_file())
    document.write_text(re.sub(r'"path":\s*"0"', f'"path": "{place}"', document.read_text()))
    assert f"plate.zarr: A/11/{place} is on the plate, but not there" in read_metadata(plate).notes


def test_wells_and_images_that_are_not_there(tmp_path):
    plate = write_zarr_plate(tmp_path / "plate.zarr", PIXELS, ("B/03", "A/11"))
    shutil.rmtree(plate / "A/11/1")
    shutil.rmtree(plate / "B/03")
    info = check_pixels(plate, PIXELS[2:3])
    assert [note.removeprefix("plate.zarr: ") for note in info.notes] == [
        "well B03 is on the plate, but has no images",
        "A/11/1 is on the plate, but not there",
    ]


@VERSIONS
def test_a_collection_of_bio_formats(tmp_path, version):
    path = tmp_path / "collection.zarr"
    write_group(path, {"bioformats2raw.layout": 3}, version)
    for fov in range(3):
        write_image(path / str(fov), PIXELS[fov], fov=fov, version=version)
    info = check_pixels(path, PIXELS[:3])
    assert [fov.name for fov in info.fovs] == ["image 0", "image 1", "image 2"]


def test_the_folder_above_and_the_document_lead_to_the_image(image, tmp_path):
    for path in (tmp_path, image / "zarr.json"):
        check_pixels(path, PIXELS[:1])


def test_units(image):
    def change(**axes):
        document = json.loads((image / "zarr.json").read_text())
        for axis in document["attributes"]["ome"]["multiscales"][0]["axes"]:
            axis["unit"] = axes.get(axis["name"], axis.get("unit"))
        (image / "zarr.json").write_text(json.dumps(document))
        return read_metadata(image)

    info = change(x="nanometer", y="nanometer", t="second")
    assert (info.pixel_size_um, info.interval_min) == (pytest.approx(PIXEL_UM / 1000), pytest.approx(2 / 60))
    info = change(x=None, y=None, t=None)
    assert (info.pixel_size_um, info.interval_min, info.times_min) == (PIXEL_UM, None, None)
    assert info.notes == (
        "movie.ome.zarr: no unit of length is stated; pixel sizes and positions are taken for micrometres",
    )


@pytest.mark.parametrize("change", ["rewritten", "removed", "added"])
def test_chunks_that_change_during_a_run_are_refused(image, change):
    chunk = image / "0/c/1/0/0/1/0"
    content = chunk.read_bytes()
    if change == "added":
        chunk.unlink()
    movie = shared_movie(take_snapshot(image)).reader
    if change == "removed":
        chunk.unlink()
    else:
        chunk.write_bytes(content + b"0")
    with pytest.raises(SourceError, match=r"c/1/0/0/1/0: changed while it was read"):
        movie.read_frame(0, 1)
    assert movie.read_frame(0, 2).any()


def test_the_identity_is_that_of_the_content(image, tmp_path):
    shutil.copytree(image, tmp_path / "copy.zarr", copy_function=shutil.copyfile)
    identity = take_snapshot(tmp_path / "copy.zarr").identity
    assert take_snapshot(image).identity == identity
    zarr.open_array(image / "0", mode="r+")[1, 1, 1] = 7
    assert take_snapshot(image).identity != identity


@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json", "0/c/0/0/0/0/0", "other axes", "no levels", "no array"])
def test_damage(image, name):
    if name.endswith(("json", "0")):
        (image / name).write_bytes((image / name).read_bytes()[:-20])
    elif name == "no array":
        shutil.rmtree(image / "0")
    else:
        text = (image / "zarr.json").read_text()
        document = json.loads(text)
        document["attributes"]["ome"]["multiscales"][0]["axes" if name == "other axes" else "datasets"] = []
        (image / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(SourceError, match=r"movie.ome.zarr.*Fix: ") as caught, open_reader(image) as reader:
        reader.read_frame(0, 0)
    assert str(caught.value).count("Fix: ") == 1


def test_axes_that_movies_have_not_are_refused(tmp_path):
    path = write_image(tmp_path / "a.zarr", PIXELS[0])
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace('"name": "z"', '"name": "angle"'))
    with pytest.raises(UnsupportedSourceError, match=r"has the axes t, c, angle, y, x. Fix: "):
        read_metadata(path)


def test_a_plane_that_is_missing_is_refused_by_number(image):
    without_plane(image, (0, 0, 0))
    with open_reader(image) as reader, pytest.raises(MissingFrameError, match="has no frame 0"):
        reader.read_frame(0, 0)
    assert np.any(open_reader(image).read_frame(0, 0, channels=[1]))


def document_of(group):
    return next(path for name in ("zarr.json", ".zattrs") if (path := group / name).exists())


class TestFaultsOfOneWell:
    """A fault in a plate harms one well, which is then there without frames, and a note names the file."""

    @pytest.fixture
    def plate(self, tmp_path):
        return write_zarr_plate(tmp_path / "plate.zarr", PIXELS[:2], ("B/03", "A/11"))

    @pytest.mark.parametrize("place", ["A/11", "A/11/0", "A/11/0/0"])
    @pytest.mark.parametrize("fault", ["pipe", "folder", "damaged", "link to itself"])
    def test_a_document_that_cannot_be_read(self, plate, place, fault):
        path = plate / place / "zarr.json"
        path.unlink()
        {
            "pipe": lambda: os.mkfifo(path),
            "folder": path.mkdir,
            "damaged": lambda: path.write_text('{"zarr_format": 3, "att'),
            "link to itself": lambda: path.symlink_to(path),
        }[fault]()
        info = read_metadata(plate)
        assert [(fov.name, fov.missing) for fov in info.fovs] == [("A11 s1", (0, 1, 2)), ("B03 s1", ())]
        assert [channel.name for channel in info.channels] == list(CHANNELS)
        assert (info.fovs[0].position_um is None) == (place != "A/11/0/0")
        assert any(str(path.parent) in note for note in info.notes)
        with open_reader(plate) as reader:
            np.testing.assert_array_equal(reader.read_frame(1, 2, z=1), PIXELS[0, 2, :, 1])

    def test_pixels_outside_of_the_image_are_not_followed(self, plate):
        shutil.copytree(plate / "A/11/0/0", plate.parent / "other")
        path = document_of(plate / "A/11/0")
        path.write_text(re.sub(r'"path":\s*"0"', '"path": "../../../../other"', path.read_text()))
        info = read_metadata(plate)
        assert [fov.missing for fov in info.fovs] == [(0, 1, 2), ()]
        assert any("the path of its pixels, ../../../../other, leads out of it" in note for note in info.notes)

    @pytest.mark.parametrize("shape", [[10**9, 2, 2, 20, 24], [3, 2, 2, 10**7, 10**7], [3, 2, 2, 20, 10**12]])
    def test_an_absurd_shape(self, plate, shape):
        path = plate / "A/11/0/0/zarr.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"shape": shape}))
        info = read_metadata(plate)
        assert [(fov.shape, fov.missing) for fov in info.fovs] == [((20, 24), (0, 1, 2)), ((20, 24), ())]
        assert any("which no movie has. Fix: copy it again" in note for note in info.notes)

    def test_a_pipe_in_place_of_a_chunk_is_a_missing_plane(self, plate):
        chunk = plate / "A/11/0/0/c/1/0/0/0/0"
        chunk.unlink()
        os.mkfifo(chunk)
        assert [fov.missing for fov in read_metadata(plate).fovs] == [(1,), ()]

    def test_all_images_damaged(self, plate):
        for well in ("A/11", "B/03"):
            (plate / well / "0/0/zarr.json").write_text("{")
        with pytest.raises(SourceError, match=r"A/11/0/0|B/03/0/0"):
            read_metadata(plate)

    @pytest.mark.parametrize("path", ["B/03", "B/3"])
    def test_a_well_that_is_listed_twice_is_refused(self, plate, path):
        document = document_of(plate)
        document.write_text(document.read_text().replace('"A/11"', f'"{path}"'))
        with pytest.raises(SourceError, match=r"lists the well B03 more than once\. Fix: correct the paths"):
            read_metadata(plate)
