"""Subblocks of CZI that are read without ZEISS's library have its pixels, and all others are left to it."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pylibCZIrw import czi
from support.frames import noise
from support.movies import as_czi

from pyama_dask.errors import SourceError
from pyama_dask.readers import open_reader
from pyama_dask.readers.czi.reader import CziMovie

DATA = Path(__file__).parents[3] / "shared" / "data"
FORMS = {
    "uncompressed": "uncompressed:",
    "zstd0": "zstd0:ExplicitLevel=1",
    "zstd1": "zstd1:ExplicitLevel=1",
    "split": "zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack",
}
DIRECT = {
    "S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi": 12, "CellDivision_T3_Z5_CH2_X240_Y170.czi": 30, "WellD6-7_S2.czi": 2,
    "xyz__multiple_images.czi": 4, "Airyscan.czi": 6, "LLS7_small.czi": 12, "t98g.czi": 64,
}  # fmt: skip
"""Planes of each real file that are one plain subblock: all but the mosaics of the first file."""


@pytest.fixture
def by_vendor(monkeypatch):
    """Planes that ZEISS's library has read since."""
    read, asked = CziMovie.read, []

    def noted(movie, *place):
        asked.append(place)
        return read(movie, *place)

    monkeypatch.setattr(CziMovie, "read", noted)
    return asked


def frames_of(path):
    with open_reader(path) as reader:
        info = reader.metadata
        for fov, frame, z in np.ndindex(len(info.fovs), info.n_frames, info.z_planes):
            yield (fov, frame, z), reader.read_frame(fov, frame, z=z)


class TestDirect:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("shape", [(1, 1), (5, 7), (300, 500)])
    def test_scenes_times_channels_and_planes(self, tmp_path, by_vendor, form, dtype, shape):
        data = noise((2, 2, 2, 2, *shape), dtype)
        for (fov, frame, z), found in frames_of(as_czi(tmp_path / "a.czi", data, compression=FORMS[form])):
            assert np.array_equal(found, data[fov, frame, :, z])
        assert by_vendor == []

    @pytest.mark.parametrize("form", ["uncompressed", "zstd0", "zstd1"])
    def test_float_pixels(self, tmp_path, by_vendor, form):
        data = noise((2, 6, 7)).astype(np.float32) / 7
        data[0, 0, :3] = np.nan, np.inf, -0.0
        with czi.create_czi(str(tmp_path / "a.czi"), compression_options=FORMS[form]) as document:
            for t in range(2):
                document.write(data[t, ..., np.newaxis], plane={"T": t, "C": 0})
        for (_, frame, _), found in frames_of(tmp_path / "a.czi"):
            assert found.tobytes() == data[frame].tobytes()
        assert by_vendor == []

    def test_channels_of_different_types(self, tmp_path, by_vendor):
        small, large = noise((6, 7), np.uint8), noise((6, 7), np.uint16)
        with czi.create_czi(str(tmp_path / "a.czi"), compression_options=FORMS["zstd1"]) as document:
            for channel, plane in enumerate([small, large]):
                document.write(plane[..., np.newaxis], plane={"C": channel})
        ((_, found),) = frames_of(tmp_path / "a.czi")
        assert np.array_equal(found, np.stack([small.astype(np.uint16), large]))
        assert by_vendor == []

    def test_levels_of_a_pyramid_are_left_out(self, tmp_path, by_vendor):
        """They have the coordinates of the plane, and fewer stored pixels."""
        data = noise((1, 2, 1, 1, 8, 8))
        path = as_czi(tmp_path / "a.czi", data)
        forge(path, 0, extents={b"X": (0, 16, 8), b"Y": (0, 16, 8), b"T": (1, 1, 1)})
        with open_reader(path) as reader:
            assert reader.metadata.fovs[0].missing == (0,)
            assert np.array_equal(reader.read_frame(0, 1), data[0, 1, :, 0])
        assert by_vendor == []

    @pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not at hand")
    @pytest.mark.parametrize("name", DIRECT)
    def test_planes_of_real_files(self, by_vendor, name):
        (path,) = DATA.glob(f"*/{name}")
        with open_reader(path) as reader:
            movie, info = reader._opened()
            places = list(np.ndindex(len(info.fovs), info.n_frames, len(info.channels), info.z_planes))
            for fov, frame, channel, z in places:
                found = reader.read_frame(fov, frame, channels=[channel], z=z)[0]
                asked = len(by_vendor)
                assert np.array_equal(found, movie.read(fov, frame, channel, z))
                del by_vendor[asked:]
        assert len(places) - len(by_vendor) == DIRECT[name]


def forge(path, block, *, compression=None, pixel_type=None, extents=None, data=None, count=None, head_only=False):
    """Change a subblock: its entry in the directory, its copy of the entry unless `head_only`, and its data."""
    content = bytearray(path.read_bytes())
    (directory,) = struct.unpack_from("<q", content, 84)
    at = directory + 32 + 128
    for _ in range(block):
        at += 32 + 20 * struct.unpack_from("<i", content, at + 28)[0]
    (place,) = struct.unpack_from("<q", content, at + 6)
    (dimensions,) = struct.unpack_from("<i", content, at + 28)
    for entry in [place + 48] if head_only else [at, place + 48]:
        if compression is not None:
            struct.pack_into("<i", content, entry + 18, compression)
        if pixel_type is not None:
            struct.pack_into("<i", content, entry + 2, pixel_type)
        for field in range(entry + 32, entry + 32 + 20 * dimensions, 20):
            name = bytes(content[field : field + 4]).rstrip(b"\0")
            if name in (extents or {}):
                start, size, stored = extents[name]
                struct.pack_into("<ii", content, field + 4, start, size)
                struct.pack_into("<i", content, field + 16, stored)
    first = place + 32 + max(256, 48 + 20 * dimensions) + struct.unpack_from("<i", content, place + 32)[0]
    if data is not None:
        assert len(data) <= struct.unpack_from("<q", content, place + 40)[0]
        content[first : first + len(data)] = data
        count = len(data)
    if count is not None:
        struct.pack_into("<q", content, place + 40, count)
    path.write_bytes(content)
    return place, first


class TestVendor:
    """What is stored in any other form is read by ZEISS's library."""

    def test_mosaics(self, tmp_path, by_vendor):
        data = noise((1, 2, 1, 1, 8, 9))
        for (fov, frame, z), found in frames_of(as_czi(tmp_path / "a.czi", data, tile_shape=(8, 4))):
            assert np.array_equal(found, data[fov, frame, :, z])
        assert len(by_vendor) == 2

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_jpeg_xr(self, tmp_path, by_vendor, dtype):
        data = np.full((1, 2, 1, 1, 64, 64), 7, dtype)
        data[..., 20:30] = 100
        path = as_czi(tmp_path / "a.czi", data)
        forge(path, 1, compression=4, data=imagecodecs.jpegxr_encode(data[0, 1, 0, 0], level=1.0))
        for (fov, frame, z), found in frames_of(path):
            assert np.array_equal(found, data[fov, frame, :, z])
        assert by_vendor == [(0, 1, 0, 0)]

    @pytest.mark.parametrize(
        ("form", "changes"),
        [
            ("uncompressed", {"compression": 999}),
            ("zstd1", {"data": b"\x05\x02\x00"}),
            ("zstd1", {"data": b"\x03"}),
            ("zstd1", {"data": b""}),
        ],
        ids=["unknown compression", "unknown header", "short header", "no data"],
    )
    def test_what_it_refuses_is_an_error_that_names_the_frame(self, tmp_path, by_vendor, form, changes):
        path = as_czi(tmp_path / "a.czi", noise((1, 2, 1, 1, 8, 9)), compression=FORMS[form])
        forge(path, 1, **changes)
        with open_reader(path) as reader:
            assert reader.read_frame(0, 0).any()
            with pytest.raises(SourceError, match=r"a\.czi: FOV 0 \(P1\), frame 1 cannot be read.*Fix: copy it again"):
                reader.read_frame(0, 1)
        assert by_vendor == [(0, 1, 0, 0)]

    def test_a_subblock_that_is_not_there(self, tmp_path, by_vendor):
        path = as_czi(tmp_path / "a.czi", noise((1, 2, 1, 1, 8, 9)))
        place, _ = forge(path, 1)
        content = bytearray(path.read_bytes())
        content[place : place + 14] = b"ZISRAWDELETED\0"
        path.write_bytes(content)
        with open_reader(path) as reader, pytest.raises(SourceError, match="frame 1 cannot be read"):
            reader.read_frame(0, 1)
        assert by_vendor == [(0, 1, 0, 0)]

    @pytest.mark.parametrize(
        "changes",
        [{"pixel_type": 0}, *({"extents": {axis: (7, 1, 1)}} for axis in (b"T", b"C", b"Z", b"S")),
         {"extents": {b"X": (1, 9, 9)}}, {"extents": {b"Y": (-1, 8, 8)}}, {"extents": {b"Y": (0, 4, 4)}}],
        ids=["type", *"TCZS", "x", "y", "height"],
    )  # fmt: skip
    def test_a_subblock_that_contradicts_the_directory(self, tmp_path, by_vendor, changes):
        """Such as the pixels of another frame."""
        data = noise((1, 2, 1, 1, 8, 9))
        path = as_czi(tmp_path / "a.czi", data)
        forge(path, 1, **changes, head_only=True)
        with open_reader(path) as reader:
            assert np.array_equal(reader.read_frame(0, 0), data[0, 0, :, 0])
            with pytest.raises(SourceError, match=r"frame 1 cannot be read .*directory and sub-block .* do not match"):
                reader.read_frame(0, 1)
        assert by_vendor == [(0, 1, 0, 0)]


class TestDamage:
    """What is damaged is one clear error, and never filled with zeros."""

    @pytest.mark.parametrize("form", FORMS)
    def test_fewer_pixels_than_the_size_of_the_plane(self, tmp_path, by_vendor, form):
        path = as_czi(tmp_path / "a.czi", noise((1, 3, 1, 1, 40, 50)), compression=FORMS[form])
        short = imagecodecs.zstd_encode(bytes(2000), level=1)
        heads = {"zstd0": b"", "zstd1": b"\x03\x01\x00", "split": b"\x03\x01\x01"}
        forge(path, 1, **({"data": heads[form] + short} if form in heads else {"count": 2000}))
        with open_reader(path) as reader:
            said = r"a\.czi: FOV 0, frame 1, channel 0, plane 0 has a different size: 2000 bytes instead of 4000. Fix: "
            with pytest.raises(SourceError, match=said):
                reader.read_frame(0, 1)
            assert reader.read_frame(0, 2).any()
        assert by_vendor == []

    @pytest.mark.parametrize("form", FORMS)
    def test_a_file_that_is_cut_off_after_it_was_opened(self, tmp_path, by_vendor, form):
        data = noise((1, 3, 1, 1, 40, 50))
        path = as_czi(tmp_path / "a.czi", data, compression=FORMS[form])
        _, first = forge(path, 1)
        with open_reader(path) as reader:
            assert np.array_equal(reader.read_frame(0, 1), data[0, 1, :, 0])
            with path.open("r+b") as file:
                file.truncate(first + 100)
            assert np.array_equal(reader.read_frame(0, 0), data[0, 0, :, 0])
            with pytest.raises(SourceError, match=r"a\.czi: FOV 0, frame 1, channel 0, plane 0 is cut off. Fix: copy"):
                reader.read_frame(0, 1)
            assert by_vendor == []
            with pytest.raises(SourceError, match=r"a\.czi: FOV 0 \(P1\), frame 2 cannot be read"):
                reader.read_frame(0, 2)

    @pytest.mark.parametrize("form", ["zstd0", "zstd1", "split"])
    def test_pixels_that_cannot_be_decompressed(self, tmp_path, by_vendor, form):
        path = as_czi(tmp_path / "a.czi", noise((1, 2, 1, 1, 40, 50)), compression=FORMS[form])
        _, first = forge(path, 1)
        content = bytearray(path.read_bytes())
        content[first + 3 : first + 40] = b"\xff" * 37
        path.write_bytes(content)
        with open_reader(path) as reader:
            with pytest.raises(SourceError, match=r"a\.czi: FOV 0 \(P1\), frame 1 cannot be read \(ZstdError: .*Fix:"):
                reader.read_frame(0, 1)
            assert reader.read_frame(0, 0).any()
        assert by_vendor == []

    def test_data_of_an_impossible_size(self, tmp_path, by_vendor):
        path = as_czi(tmp_path / "a.czi", noise((1, 2, 1, 1, 40, 50)), compression=FORMS["zstd1"])
        forge(path, 1, count=2**60)
        with open_reader(path) as reader, pytest.raises(SourceError, match="frame 1, channel 0, plane 0 is cut off"):
            reader.read_frame(0, 1)
        assert by_vendor == []
