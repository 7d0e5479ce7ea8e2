"""Every reader keeps the contract of `Reader`, for whatever its format can hold."""

import math
import multiprocessing
import os
import pickle
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pylibCZIrw import czi
from support.czi_stamps import attach_stamps
from support.processes import exit_status
from support.write_nd2 import Nd2Channel, Nd2Period, Nd2Writer, write_nd2

from pyama_dask.demo.write_czi import write_czi
from pyama_dask.errors import MissingFrameError, PyamaError, SourceError, UnsupportedSourceError
from pyama_dask.readers import CziReader, Metadata, Nd2Reader, Reader, open_reader, read_metadata
from pyama_dask.readers.channel_kinds import channel_kind
from pyama_dask.readers.czi.stamps import read_stamps

FORMATS = ["nd2", "czi"]
FORKS = pytest.mark.filterwarnings(  # the child only reads, and ends
    "ignore:.*use of fork:DeprecationWarning"
)


@dataclass(frozen=True)
class Movie:
    path: Path
    data: np.ndarray
    """(P, T, C, Z, Y, X)"""


def noise(shape, dtype=np.uint16, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape, dtype)
    return rng.integers(1, np.iinfo(dtype).max, shape, dtype)


def write(path, data, **options):
    """Write a (P, T, C, Z, Y, X) movie in the format that the suffix says."""
    if path.suffix == ".nd2":
        write_nd2(path, data.transpose(1, 0, 3, 2, 4, 5), "TPZCYX", **options)
    else:
        write_czi(path, data, **options)
    return Movie(path, data)


@pytest.fixture(scope="module", params=FORMATS)
def movie(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("movie") / f"a.{request.param}"
    if path.suffix == ".nd2":
        names = {"channels": [Nd2Channel("Phase", "phase"), Nd2Channel("GFP")]}
    else:
        names = {"channel_names": ["Phase", "GFP"]}
    return write(path, noise((2, 3, 2, 2, 7, 10)), **names)


@pytest.fixture(params=FORMATS)
def suffix(request):
    return request.param


def all_frames(reader):
    """(P, T, C, Z, Y, X) of a reader, for FOVs of equal size."""
    info = reader.metadata
    return np.stack(
        [
            np.stack(
                [
                    np.stack([reader.read_frame(p, t, z=z) for z in range(info.z_planes)], axis=1)
                    for t in range(info.n_frames)
                ]
            )
            for p in range(len(info.fovs))
        ]
    )


def told(info: Metadata):
    """What a `Metadata` says, in a form that can be compared."""
    fields = dict(vars(info))
    times = fields.pop("times_min")
    return fields, None if times is None else times.tolist()


def is_open(path):
    process = psutil.Process()
    held = {file.path for file in process.open_files()} | {part.path for part in process.memory_maps()}
    return str(path) in held


def frame_in_other_process(reader):
    return told(reader.metadata), reader.read_frame(1, 2, channels=[1], z=1)


class TestContract:
    def test_is_a_reader(self, movie):
        with open_reader(str(movie.path)) as reader:
            assert isinstance(reader, Reader)
            assert type(reader) is {".nd2": Nd2Reader, ".czi": CziReader}[movie.path.suffix]
            assert reader.suffixes == (movie.path.suffix,)
            assert reader.path == movie.path

    def test_metadata(self, movie):
        with open_reader(movie.path) as reader:
            info = reader.metadata
        assert info.path == movie.path
        assert info.format.lower() == movie.path.suffix[1:]
        assert [fov.shape for fov in info.fovs] == [(7, 10), (7, 10)]
        assert [fov.missing for fov in info.fovs] == [(), ()]
        assert (info.n_frames, info.z_planes) == (3, 2)
        assert [(c.name, c.dtype) for c in info.channels] == [("Phase", "uint16"), ("GFP", "uint16")]
        assert info.pixel_size_um == 0.65
        assert info.interval_min == 10
        assert info.times_min.shape == (2, 3)
        assert np.allclose(info.times_min, [0, 10, 20], atol=0.1)
        assert info.time_source

    def test_every_frame_is_as_written(self, movie):
        with open_reader(movie.path) as reader:
            assert np.array_equal(all_frames(reader), movie.data)

    def test_frames_are_plain_arrays_that_outlive_the_file(self, movie):
        with open_reader(movie.path) as reader:
            frame = reader.read_frame(0, 0)
        assert frame.flags.owndata
        assert frame.flags.c_contiguous
        assert frame.flags.writeable
        assert frame.dtype.isnative
        assert np.array_equal(frame, movie.data[0, 0, :, 0])

    @pytest.mark.parametrize("channels", [(0,), [1], (1, 0), range(2), (1, 1), ()])
    def test_channels_come_as_asked(self, movie, channels):
        with open_reader(movie.path) as reader:
            frame = reader.read_frame(1, 2, channels=channels, z=1)
        assert np.array_equal(frame, movie.data[1, 2, list(channels), 1])
        assert frame.dtype == np.uint16

    @pytest.mark.parametrize(
        "asked",
        [
            {"fov": 2}, {"fov": -1}, {"frame": 3}, {"frame": -1}, {"channels": [2]}, {"channels": [0, -1]},
            {"z": 2}, {"z": -1},
        ],
    )  # fmt: skip
    def test_what_is_outside_is_refused(self, movie, asked):
        with (
            open_reader(movie.path) as reader,
            pytest.raises(IndexError, match=rf"a\.{reader.path.suffix[1:]}.*outside 0\.\."),
        ):
            reader.read_frame(**{"fov": 0, "frame": 0} | asked)

    def test_opens_at_need_and_closes(self, movie):
        reader = open_reader(movie.path)
        assert not is_open(movie.path)
        info = reader.metadata
        reader.close()
        assert not is_open(movie.path)
        assert reader.metadata is info
        assert np.array_equal(reader.read_frame(0, 1), movie.data[0, 1, :, 0])
        assert is_open(movie.path)
        reader.close()
        reader.close()
        assert not is_open(movie.path)

    def test_many_open_and_close_leave_nothing_open(self, movie):
        before = psutil.Process().num_fds()
        for _ in range(20):
            with open_reader(movie.path) as reader:
                reader.read_frame(0, 0)
        assert not is_open(movie.path)
        assert psutil.Process().num_fds() < before + 20  # what other tests left may be closed meanwhile

    def test_pickle_is_only_the_path(self, movie):
        with open_reader(movie.path) as reader:
            reader.read_frame(0, 0)
            pickled = pickle.dumps(reader)
            assert len(pickled) < 300 + len(str(movie.path))
            with pickle.loads(pickled) as other:
                assert type(other) is type(reader)
                assert told(other.metadata) == told(reader.metadata)
                assert np.array_equal(other.read_frame(1, 1), movie.data[1, 1, :, 0])

    def test_relative_path_survives_a_change_of_directory(self, movie, monkeypatch):
        monkeypatch.chdir(movie.path.parent)
        reader = open_reader(movie.path.name)
        monkeypatch.chdir("/")
        with reader:
            assert reader.metadata.path == movie.path

    def test_reads_in_a_spawned_process(self, movie):
        with (
            open_reader(movie.path) as reader,
            multiprocessing.get_context("spawn").Pool(1) as pool,
        ):
            here = told(reader.metadata)
            there, frame = pool.apply(frame_in_other_process, (reader,))
        assert there == here
        assert np.array_equal(frame, movie.data[1, 2, [1], 1])

    @FORKS
    def test_reads_in_a_forked_process_with_a_file_of_its_own(self, movie):
        with open_reader(movie.path) as reader:
            reader.read_frame(0, 0)
            inherited = reader._file
            child = os.fork()
            if child == 0:
                good = False
                try:
                    same = np.array_equal(reader.read_frame(1, 2), movie.data[1, 2, :, 0])
                    own = reader._file is not inherited
                    reader.close()
                    again = np.array_equal(reader.read_frame(0, 1), movie.data[0, 1, :, 0])
                    good = same and own and again
                finally:
                    os._exit(0 if good else 1)
            assert exit_status(child) == 0
            assert reader._file is inherited
            assert np.array_equal(reader.read_frame(0, 2), movie.data[0, 2, :, 0])

    @FORKS
    def test_closing_in_a_forked_process_leaves_the_parent_alone(self, movie):
        with open_reader(movie.path) as reader:
            reader.read_frame(0, 0)
            child = os.fork()
            if child == 0:
                reader.close()
                os._exit(0)
            assert exit_status(child) == 0
            assert np.array_equal(reader.read_frame(0, 1), movie.data[0, 1, :, 0])

    def test_reads_in_several_threads(self, movie):
        def read(place):
            return np.array_equal(reader.read_frame(*place), movie.data[*place, :, 0])

        with open_reader(movie.path) as reader, ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, [(p, t) for p in range(2) for t in range(3)] * 20))


class TestPixels:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_types_and_compression(self, tmp_path, suffix, dtype):
        compression = {"nd2": "lossless", "czi": "zstd1:ExplicitLevel=2"}[suffix]
        movie = write(tmp_path / f"a.{suffix}", noise((1, 2, 2, 1, 9, 11), dtype), compression=compression)
        with open_reader(movie.path) as reader:
            assert {c.dtype for c in reader.metadata.channels} == {np.dtype(dtype).name}
            frames = all_frames(reader)
        assert frames.dtype == dtype
        assert np.array_equal(frames, movie.data)

    @given(
        loops=st.permutations("TPZ").flatmap(lambda order: st.integers(0, 3).map(lambda n: order[:n])),
        sizes=st.fixed_dictionaries({axis: st.integers(1, 3) for axis in "TPZC"}),
        width=st.integers(1, 9),
        compression=st.sampled_from([None, "lossless"]),
    )
    @settings(deadline=None, max_examples=40)
    def test_nd2_loops_in_any_order(self, tmp_path_factory, loops, sizes, width, compression):
        path = tmp_path_factory.mktemp("nd2") / "a.nd2"
        axes = [*loops, "C"]
        data = noise((*(sizes[axis] for axis in axes), 5, width))
        write_nd2(path, data, "".join([*axes, "Y", "X"]), compression=compression)
        absent = [axis for axis in "PTCZ" if axis not in axes]
        full = np.expand_dims(data, tuple(range(len(absent))))
        want = full.transpose([*(([*absent, *axes]).index(axis) for axis in "PTCZ"), -2, -1])
        with open_reader(path) as reader:
            assert np.array_equal(all_frames(reader), want)

    @given(sizes=st.tuples(*[st.integers(1, 3)] * 4), tiles=st.sampled_from([None, (4, 4), (8, 3)]))
    @settings(deadline=None, max_examples=20)
    def test_czi_of_any_size(self, tmp_path_factory, sizes, tiles):
        path = tmp_path_factory.mktemp("czi") / "a.czi"
        movie = write(path, noise((*sizes, 8, 9)), tile_shape=tiles)
        with open_reader(movie.path) as reader:
            assert np.array_equal(all_frames(reader), movie.data)

    @pytest.mark.parametrize("compression", [None, "lossless"])
    @pytest.mark.parametrize(("dtype", "channels", "width"), [(np.uint8, 3, 401), (np.uint16, 1, 1023)])
    def test_nd2_large_frames_with_padded_rows(self, tmp_path, dtype, channels, width, compression):
        data = noise((2, channels, 600, width), dtype)
        write_nd2(tmp_path / "a.nd2", data, "TCYX", compression=compression)
        with open_reader(tmp_path / "a.nd2") as reader:
            assert np.array_equal(all_frames(reader)[0, :, :, 0], data)

    @pytest.mark.parametrize("compression", [None, "lossless"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("channels", range(1, 6))
    @pytest.mark.parametrize("shape", [(1, 1), (5, 7), (150, 300)])
    def test_nd2_interleaved_channels(self, tmp_path, compression, dtype, channels, shape):
        data = noise((2, channels, *shape), dtype)
        write_nd2(tmp_path / "a.nd2", data, "TCYX", compression=compression)
        with open_reader(tmp_path / "a.nd2") as reader:
            for frame in range(2):
                assert np.array_equal(reader.read_frame(0, frame), data[frame])
                for chosen in ([channels - 1], [channels // 2, 0]):
                    assert np.array_equal(reader.read_frame(0, frame, channels=chosen), data[frame, chosen])

    def test_nd2_frames_that_only_zlib_decompresses(self, tmp_path, monkeypatch):
        def refuse(*_arguments, **_options):
            raise imagecodecs.DeflateError("refused", 1)

        movie = write(tmp_path / "a.nd2", noise((1, 2, 2, 1, 9, 11)), compression="lossless")
        monkeypatch.setattr(imagecodecs, "deflate_decode", refuse)
        with open_reader(movie.path) as reader:
            assert np.array_equal(all_frames(reader), movie.data)

    def test_float_pixels_come_as_they_are(self, tmp_path):
        data = noise((2, 2, 6, 7), np.float32) - 0.5
        write_nd2(tmp_path / "a.nd2", data, "TCYX")
        with czi.create_czi(str(tmp_path / "a.czi")) as document:
            for t, c in np.ndindex(2, 2):
                document.write(data[t, c][..., np.newaxis], plane={"T": t, "C": c}, scene=0)
        for path in tmp_path.iterdir():
            with open_reader(path) as reader:
                assert reader.metadata.channels[0].dtype == "float32"
                assert np.array_equal(all_frames(reader)[0, :, :, 0], data)

    def test_czi_channels_of_different_types_lose_nothing(self, tmp_path):
        small, large = noise((6, 7), np.uint8), noise((6, 7), np.uint16)
        with czi.create_czi(str(tmp_path / "a.czi")) as document:
            document.write(small[..., np.newaxis], plane={"C": 0})
            document.write(large[..., np.newaxis], plane={"C": 1})
        with open_reader(tmp_path / "a.czi") as reader:
            assert [channel.dtype for channel in reader.metadata.channels] == ["uint8", "uint16"]
            assert np.array_equal(reader.read_frame(0, 0), np.stack([small.astype(np.uint16), large]))
            assert reader.read_frame(0, 0, channels=[0]).dtype == np.uint8

    def test_czi_scenes_of_their_own_size_and_index(self, tmp_path):
        planes = {2: noise((6, 7)), 5: noise((9, 4), seed=1)}
        with czi.create_czi(str(tmp_path / "a.czi")) as document:
            for scene, pixels in planes.items():
                document.write(pixels[..., np.newaxis], scene=scene, location=(scene * 50, -30))
        with open_reader(tmp_path / "a.czi") as reader:
            assert [fov.shape for fov in reader.metadata.fovs] == [(6, 7), (9, 4)]
            assert [fov.name for fov in reader.metadata.fovs] == ["Position 1", "Position 2"]
            for fov, pixels in enumerate(planes.values()):
                assert np.array_equal(reader.read_frame(fov, 0), pixels[np.newaxis])

    def test_czi_part_of_a_longer_movie(self, tmp_path):
        data = noise((3, 6, 7))
        with czi.create_czi(str(tmp_path / "a.czi")) as document:
            for t in range(3):
                document.write(data[t][..., np.newaxis], plane={"T": t + 4, "C": 1, "Z": 2})
        with open_reader(tmp_path / "a.czi") as reader:
            assert (reader.metadata.n_frames, len(reader.metadata.channels)) == (3, 1)
            assert reader.metadata.fovs[0].missing == ()
            assert np.array_equal(all_frames(reader)[0, :, 0, 0], data)


class Colour(Nd2Writer):
    """Three components of one channel."""

    def _picture_planes(self):
        planes = super()._picture_planes()
        first = {key: {"a0": planes[key]["a0"]} for key in ("sPlaneNew", "sSampleSetting")}
        return planes | first | {"uiCount": 1, "uiSampleCount": 1}


class Lossy(Nd2Writer):
    def _attributes(self, sequence_count):
        return super()._attributes(sequence_count) | {"eCompression": 1}


class TestMemory:
    @pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell what is mapped")
    def test_what_was_read_is_not_kept(self, tmp_path, suffix):
        frames, mib = 12, 2**20
        movie = write(tmp_path / f"a.{suffix}", np.full((1, frames, 1, 1, 2048, 2048), 7, np.uint16))
        process = psutil.Process()
        with open_reader(movie.path) as reader:
            reader.read_frame(0, 0)
            before = process.memory_info().rss
            for frame in range(frames):
                reader.read_frame(0, frame)
            assert process.memory_info().rss - before < movie.path.stat().st_size / 2
            mapped = [part.rss for part in process.memory_maps(grouped=False) if part.path == str(movie.path)]
            assert sum(mapped) < mib


class TestUnsupported:
    @pytest.mark.parametrize(("kind", "message"), [(Colour, "colour"), (Lossy, "lossy")])
    def test_nd2(self, tmp_path, kind, message):
        with kind(tmp_path / "a.nd2", {"T": 1, "C": 3, "Y": 5, "X": 6}) as writer:
            writer.write_frame(0, noise((3, 5, 6)))
        with (
            open_reader(tmp_path / "a.nd2") as reader,
            pytest.raises(UnsupportedSourceError, match=rf"a\.nd2.*{message}"),
        ):
            reader.read_frame(0, 0)
        assert not is_open(tmp_path / "a.nd2")

    def test_nd2_of_the_old_kind(self, tmp_path):
        (tmp_path / "a.nd2").write_bytes(struct.pack(">I4s", 12, b"jP  ") + bytes(200))
        with (
            open_reader(tmp_path / "a.nd2") as reader,
            pytest.raises(UnsupportedSourceError, match="JPEG 2000"),
        ):
            reader.read_frame(0, 0)

    def test_czi_colour(self, tmp_path):
        with czi.create_czi(str(tmp_path / "a.czi")) as document:
            document.write(noise((6, 7, 3), np.uint8), plane={"C": 0})
        with open_reader(tmp_path / "a.czi") as reader, pytest.raises(UnsupportedSourceError, match="Bgr24"):
            reader.read_frame(0, 0)
        assert not is_open(tmp_path / "a.czi")

    def test_czi_types_mixed_in_a_channel(self, tmp_path):
        with czi.create_czi(str(tmp_path / "a.czi")) as document:
            for t, dtype in enumerate([np.uint8, np.uint16]):
                document.write(noise((6, 7, 1), dtype), plane={"T": t})
        with (
            open_reader(tmp_path / "a.czi") as reader,
            pytest.raises(UnsupportedSourceError, match="Gray16, Gray8"),
        ):
            reader.read_frame(0, 0)

    def test_czi_of_further_dimensions(self, tmp_path, monkeypatch):
        movie = write(tmp_path / "a.czi", noise((1, 1, 1, 1, 6, 7)))
        sizes = {"X": (0, 7), "Y": (0, 6), "B": (0, 1), "H": (0, 3)}
        monkeypatch.setattr(czi.CziReader, "total_bounding_box", sizes)
        with (
            open_reader(movie.path) as reader,
            pytest.raises(UnsupportedSourceError, match=r"3 .* H \(phase\)"),
        ):
            reader.read_frame(0, 0)


def write_with_gaps(path, data, gaps):
    """Write a (P, T, C, Z, Y, X) movie without the planes at some (p, t, z)."""
    n_fovs, n_frames, n_channels, planes, height, width = data.shape
    if path.suffix == ".czi":
        skip = {(p, t, c, z) for p, t, z in gaps for c in range(n_channels)}
        write_czi(path, data, skip=skip)
        return
    sizes = {"T": n_frames, "P": n_fovs, "Z": planes, "C": n_channels, "Y": height, "X": width}
    with Nd2Writer(path, sizes) as writer:
        for t, p, z in np.ndindex(n_frames, n_fovs, planes):
            if (p, t, z) not in gaps:
                writer.write(data[p, t, :, z], T=t, P=p, Z=z)


class TestMissing:
    @pytest.mark.parametrize(
        "gaps",
        [
            {(0, 4, 0), (0, 4, 1), (1, 3, 0), (1, 3, 1), (1, 4, 0), (1, 4, 1)},
            {(1, 2, 1)},
            {(0, 1, 0), (1, 4, 1)},
        ],
        ids=["aborted", "a plane", "first and last plane"],
    )
    def test_are_reported_and_never_zeros(self, tmp_path, suffix, gaps):
        data = noise((2, 5, 2, 2, 6, 7))
        path = tmp_path / f"a.{suffix}"
        write_with_gaps(path, data, gaps)
        with open_reader(path) as reader:
            info = reader.metadata
            assert info.n_frames == 5
            for fov in range(2):
                gone = sorted({t for p, t, _ in gaps if p == fov})
                assert list(info.fovs[fov].missing) == gone
                without_any_plane = [t for t in gone if {(fov, t, 0), (fov, t, 1)} <= gaps]
                assert np.flatnonzero(np.isnan(info.times_min[fov])).tolist() == without_any_plane
                for t, z in np.ndindex(5, 2):
                    if (fov, t, z) in gaps:
                        with pytest.raises(MissingFrameError, match=rf"a\.{suffix}: FOV {fov} .*frame {t}"):
                            reader.read_frame(fov, t, z=z)
                    else:
                        assert np.array_equal(reader.read_frame(fov, t, z=z), data[fov, t, :, z])

    @pytest.mark.usefixtures("isolated")
    def test_planes_of_a_frame_are_read_though_others_are_missing(self, tmp_path):
        """Fluorescence of every second frame; one plane of a stack in one channel only; a plane of an ND2."""
        sparse, stack = noise((1, 5, 2, 1, 6, 7)), noise((2, 3, 2, 3, 6, 7))
        one_plane = {(p, t, 0, z) for p in range(2) for t in range(3) for z in (0, 2)}
        every_second = {(0, t, 1, 0) for t in (1, 3)}
        both_channels = {(1, 2, c, 1) for c in range(2)}
        movies = [
            (tmp_path / "sparse.czi", sparse, every_second),
            (tmp_path / "stack.czi", stack, one_plane),
            (tmp_path / "plane.czi", stack, both_channels),
            (tmp_path / "plane.nd2", stack, both_channels),
        ]
        for path, data, absent in movies:
            if path.suffix == ".czi":
                write_czi(path, data, skip=absent)
            else:
                write_with_gaps(path, data, {(p, t, z) for p, t, _, z in absent})
            told_by_guard = read_metadata(path)
            with open_reader(path) as reader:
                assert told(reader.metadata) == told(told_by_guard)
                for fov, info in enumerate(reader.metadata.fovs):
                    assert info.missing == tuple(sorted({t for p, t, _, _ in absent if p == fov}))
                    for z in range(data.shape[3]):
                        for channel in range(2):
                            gone = {t for p, t, c, k in absent if (p, c, k) == (fov, channel, z)}
                            assert info.lacking([channel], [z]) == gone
                for p, t, c, z in np.ndindex(data.shape[:4]):
                    if (p, t, c, z) not in absent:
                        assert np.array_equal(reader.read_frame(p, t, channels=[c], z=z)[0], data[p, t, c, z])
                    else:
                        with pytest.raises(MissingFrameError, match=rf"frame {t} in channels \[{c}\], plane {z}"):
                            reader.read_frame(p, t, channels=[c], z=z)

    def test_a_tile_of_a_czi(self, tmp_path):
        data = noise((3, 6, 8))
        with czi.create_czi(str(tmp_path / "a.czi")) as document:
            for t, x in np.ndindex(3, 2):
                if (t, x) != (2, 1):
                    tile = np.ascontiguousarray(data[t, :, 4 * x : 4 * x + 4, np.newaxis])
                    document.write(tile, plane={"T": t}, location=(4 * x, 0))
        with open_reader(tmp_path / "a.czi") as reader:
            assert reader.metadata.fovs[0].missing == (2,)
            assert np.array_equal(reader.read_frame(0, 1)[0], data[1])

    def test_an_nd2_without_any_frame(self, tmp_path):
        with Nd2Writer(tmp_path / "a.nd2", {"T": 3, "Y": 6, "X": 7}):
            pass
        with open_reader(tmp_path / "a.nd2") as reader:
            assert reader.metadata.fovs[0].missing == (0, 1, 2)
            assert reader.metadata.times_min is None


def announce(path, old, new):
    """Let the only loop of `old` turns say that it has `new`."""
    key = "uiCount\0".encode("utf-16-le")
    content = path.read_bytes()
    assert content.count(key + struct.pack("<I", old)) == 1
    path.write_bytes(content.replace(key + struct.pack("<I", old), key + struct.pack("<I", new)))


class TestAnnounced:
    """Files that announce something else than they hold."""

    @pytest.mark.usefixtures("isolated")
    @pytest.mark.parametrize("loops", ["TP", "PT"])
    def test_time_points_of_an_nd2(self, tmp_path, loops):
        """The number of images tells the time points; if positions are outermost, stage positions must agree."""
        data = noise((3, 5, 1, 1, 6, 7))
        for turns in (2, 4, 6, 9):
            path = tmp_path / f"{turns}.nd2"
            planes = data[:, :, :, 0]
            write_nd2(path, planes if loops == "PT" else planes.swapaxes(0, 1), loops + "CYX")
            announce(path, 5, turns)
            with open_reader(path) as reader:
                info = reader.metadata
                whole = 5 if turns < 5 or loops == "PT" else turns
                assert (len(info.fovs), info.n_frames) == (3, whole)
                assert [fov.missing for fov in info.fovs] == [tuple(range(5, whole))] * 3
                for fov, frame in np.ndindex(3, 5):
                    assert np.array_equal(reader.read_frame(fov, frame)[0], data[fov, frame, 0, 0])
            numbers = f"its loops announce {3 * turns} images, but it holds 15; all are used"
            assert info.notes == (() if whole == turns else (f"{path.name}: {numbers}",))
            assert read_metadata(path).notes == info.notes

    def test_an_aborted_nd2_is_read_as_announced(self, tmp_path):
        """With time outermost, and with positions outermost."""
        data = noise((3, 5, 1, 1, 6, 7))
        for loops in ("TP", "PT"):
            path = tmp_path / f"{loops}.nd2"
            with Nd2Writer(path, {**{axis: {"T": 5, "P": 3}[axis] for axis in loops}, "Y": 6, "X": 7}) as writer:
                for number, at in enumerate(np.ndindex(*((5, 3) if loops == "TP" else (3, 5)))):
                    place = dict(zip(loops, at, strict=True))
                    if number < 8:
                        writer.write(data[place["P"], place["T"], 0, 0], **place)
            with open_reader(path) as reader:
                info = reader.metadata
                held = [5 - len(fov.missing) for fov in info.fovs]
                assert (info.n_frames, held, info.notes) == (5, [3, 3, 2] if loops == "TP" else [5, 3, 0], ())
                assert np.array_equal(reader.read_frame(1, 1)[0], data[1, 1, 0, 0])

    @pytest.mark.parametrize("turns", [4, 7])
    def test_an_nd2_whose_images_cannot_be_placed_is_refused_with_both_numbers(self, tmp_path, turns):
        """Positions are outermost, and stage positions are not recorded, or are those of no FOV."""
        path = tmp_path / "a.nd2"
        for change in ("no list", "all 0"):
            write_nd2(path, noise((3, 5, 1, 6, 7)), "PTCYX")
            content = path.read_bytes()
            name = b"CustomData|X!"
            entry = content.rindex(name)
            (place,) = struct.unpack_from("<Q", content, entry + len(name))
            length, size = struct.unpack_from("<IQ", content, place + 4)
            first = place + 16 + length
            assert np.frombuffer(content[first : first + size]).tolist() == [0] * 5 + [1000] * 5 + [2000] * 5
            if change == "no list":
                path.write_bytes(content[:entry] + b"CustomData|?!" + content[entry + len(name) :])
            else:
                path.write_bytes(content[:first] + bytes(size) + content[first + size :])
            announce(path, 5, turns)
            numbers = f"its loops announce {3 * turns} images, but it holds 15, .* not certain"
            with open_reader(path) as reader, pytest.raises(SourceError, match=numbers):
                reader.read_frame(0, 0)

    def test_a_czi(self, tmp_path):
        """All that is held is used, and both numbers are named."""
        with czi.create_czi(str(tmp_path / "a.czi")) as document:
            for s, t in [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]:
                document.write(noise((6, 8, 1), seed=10 * s + t), plane={"T": t, "C": 0}, scene=s, location=(50 * s, 0))
            document.write_metadata(channel_names={0: "Phase"})
        with czi.edit_czi(str(tmp_path / "a.czi")) as editor:
            text = editor.read_metadata_xml()
            for axis, size in (("T", 2), ("S", 3), ("C", 2)):
                assert f"</Size{axis}>" in text or axis == "S"
                text = re.sub(rf"<Size{axis}>\d+</Size{axis}>", "", text)
                text = text.replace("</Image>", f"<Size{axis}>{size}</Size{axis}></Image>", 1)
            with editor.edit_session() as builder:
                builder.set_xml(text)
        with open_reader(tmp_path / "a.czi") as reader:
            info = reader.metadata
            assert [fov.missing for fov in info.fovs] == [(2,), ()]
            assert np.array_equal(reader.read_frame(1, 2)[0], noise((6, 8), seed=22))
        assert [note.partition(": ")[2] for note in info.notes] == [
            f"announces {a} {what}, but holds {b}; all that it holds are used"
            for a, what, b in ((3, "scenes", 2), (2, "time points", 3), (2, "channels", 1))
        ]


class TestDamage:
    def test_unknown_suffix(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"PNG")
        with pytest.raises(SourceError, match=r"a\.png: .* \.nd2 or \.czi"):
            open_reader(tmp_path / "a.png")

    def test_absent(self, tmp_path, suffix):
        with pytest.raises(SourceError, match=rf"a\.{suffix}: no such file"):
            open_reader(tmp_path / f"a.{suffix}")

    def test_directory(self, tmp_path, suffix):
        (tmp_path / f"a.{suffix}").mkdir()
        with pytest.raises(SourceError, match=rf"a\.{suffix}: is a directory"):
            open_reader(tmp_path / f"a.{suffix}")

    def test_empty(self, tmp_path, suffix):
        (tmp_path / f"a.{suffix}").touch()
        with pytest.raises(SourceError, match=rf"a\.{suffix}: the file is empty"):
            open_reader(tmp_path / f"a.{suffix}")

    def test_text(self, tmp_path, suffix):
        (tmp_path / f"a.{suffix}").write_text("Dear reader,\n" * 100)
        with pytest.raises(SourceError, match=rf"a\.{suffix}: is not a {suffix.upper()} file"):
            open_reader(tmp_path / f"a.{suffix}")

    def test_suffix_in_capitals(self, tmp_path, suffix):
        movie = write(tmp_path / f"a.{suffix}", noise((1, 1, 1, 1, 6, 7)))
        with open_reader(movie.path.rename(tmp_path / f"A.{suffix.upper()}")) as reader:
            assert np.array_equal(all_frames(reader), movie.data)

    @pytest.mark.parametrize("part", [0.001, 0.05, 0.3, 0.6, 0.9, 0.97])
    def test_cut_off(self, tmp_path, movie, part):
        content = movie.path.read_bytes()
        path = tmp_path / movie.path.name
        path.write_bytes(content[: math.ceil(len(content) * part)])
        told = r"a\.\w+: .*is cut off, (or )?still being written.*copy it again"
        with open_reader(path) as reader, pytest.raises(SourceError, match=told):
            _ = reader.metadata
        assert not is_open(path)

    def test_gone_between_two_needs(self, tmp_path, suffix):
        movie = write(tmp_path / f"a.{suffix}", noise((1, 1, 1, 1, 6, 7)))
        with open_reader(movie.path) as reader:
            _ = reader.metadata
            reader.close()
            movie.path.unlink()
            with pytest.raises(SourceError, match="no such file"):
                reader.read_frame(0, 0)

    # Not for CZI: some damage to the head of a subblock makes libCZI end the whole process.
    @given(place=st.floats(0, 1), junk=st.binary(min_size=1, max_size=64))
    @settings(deadline=None, max_examples=60, derandomize=True)
    def test_nd2_with_overwritten_bytes_gives_only_own_errors(self, tmp_path_factory, place, junk):
        path = tmp_path_factory.mktemp("damage") / "a.nd2"
        write(path, noise((1, 2, 1, 1, 6, 7)))
        content = bytearray(path.read_bytes())
        start = int(place * (len(content) - 1))
        content[start : start + len(junk)] = junk
        path.write_bytes(content)
        said = str(path)
        try:
            with open_reader(path) as reader:
                all_frames(reader)
        except PyamaError as error:
            said = str(error)
        assert str(path) in said
        assert not is_open(path)

    @pytest.mark.parametrize("error", [UnboundLocalError, RecursionError, AssertionError, OverflowError])
    def test_whatever_nd2_stumbles_over_is_damage(self, small_nd2, monkeypatch, error):
        def stumble(*_arguments):
            raise error("said")

        monkeypatch.setattr("nd2._parse._parse._read_wavelengths", stumble)  # as it did on a file with flipped bits
        with Nd2Reader(small_nd2) as reader, pytest.raises(SourceError, match=rf"{error.__name__}: said"):
            _ = reader.metadata

    def test_corrupt_pixels_name_the_frame(self, tmp_path, suffix):
        compression, start = {
            "nd2": ("lossless", zlib.compress(b"")[:2]),
            "czi": ("zstd1:ExplicitLevel=2", b"\x28\xb5\x2f\xfd"),
        }[suffix]
        movie = write(tmp_path / f"a.{suffix}", noise((1, 3, 1, 1, 40, 50)), compression=compression)
        content = bytearray(movie.path.read_bytes())
        at = -1
        for name in (b"ImageDataSeq|1!",) if suffix == "nd2" else (start, start):
            at = content.index(name, at + 1)
        at = content.index(start, at)
        content[at : at + 12] = b"\xff" * 12
        movie.path.write_bytes(content)
        with open_reader(movie.path) as reader:
            assert np.array_equal(reader.read_frame(0, 0), movie.data[0, 0, :, 0])
            with pytest.raises(SourceError, match=rf"a\.{suffix}: FOV 0 \(.*\), frame 1 cannot be read"):
                reader.read_frame(0, 1)
            assert np.array_equal(reader.read_frame(0, 2), movie.data[0, 2, :, 0])

    def test_counts_out_of_all_proportion(self, tmp_path):
        with Nd2Writer(tmp_path / "a.nd2", {"T": 1, "Y": 5, "X": 6}) as writer:
            writer.write_frame(0, noise((5, 6)))
        content = (tmp_path / "a.nd2").read_bytes()
        count = "uiCount\0".encode("utf-16-le")
        assert content.count(count + struct.pack("<I", 1)) > 0
        huge = content.replace(count + struct.pack("<I", 1), count + struct.pack("<I", 2**31), 1)
        (tmp_path / "a.nd2").write_bytes(huge)
        with czi.create_czi(str(tmp_path / "a.czi")) as document:
            for t in (0, 2**30):
                document.write(noise((6, 7, 1)), plane={"T": t})
        for path in tmp_path.iterdir():
            with open_reader(path) as reader, pytest.raises(SourceError, match=r"announces \d+ planes"):
                _ = reader.metadata

    def test_nd2_cut_off_or_overwritten_after_it_was_opened(self, tmp_path):
        data = noise((4, 1, 300, 500))
        write_nd2(tmp_path / "a.nd2", data, "TCYX")
        with open_reader(tmp_path / "a.nd2") as reader:
            assert np.array_equal(reader.read_frame(0, 1), data[1])
            chunks = reader._opened()[0].chunks
            with (tmp_path / "a.nd2").open("r+b") as file:
                file.seek(chunks[1].offset)
                file.write(bytes(40))
                file.truncate(chunks[2].offset + 100_000)
            assert np.array_equal(reader.read_frame(0, 0), data[0])
            for frame, problem in {1: "is not where the file's map says", 2: "is cut off", 3: "is not where"}.items():
                with pytest.raises(SourceError, match=rf"a\.nd2: FOV 0, frame {frame} {problem}.*copy"):
                    reader.read_frame(0, frame)

    def test_nd2_frame_shorter_than_announced(self, tmp_path):
        movie = write(tmp_path / "a.nd2", noise((1, 2, 1, 1, 6, 8)))
        content = bytearray(movie.path.read_bytes())
        at = content.index(b"ImageDataSeq|1!", len(content) // 2) + len(b"ImageDataSeq|1!") + 8
        content[at : at + 8] = struct.pack("<Q", 20)
        movie.path.write_bytes(content)
        with open_reader(movie.path) as reader:
            reader.read_frame(0, 0)
            assert reader.metadata.fovs[0].missing == (1,)
            with pytest.raises(MissingFrameError, match=r"FOV 0 \(.*\) has no frame 1 .* has another size"):
                reader.read_frame(0, 1)


class TestTimes:
    def test_nd2_stamps_are_passed_on(self, tmp_path):
        stamps = [30_000.0, 90_000.0, math.nan, 60_000.0, 60_000.0, 120_000.0]
        write_nd2(tmp_path / "a.nd2", noise((6, 5, 6)), "TYX", frame_times_ms=stamps, period_ms=0)
        with open_reader(tmp_path / "a.nd2") as reader:
            info = reader.metadata
        assert np.array_equal(info.times_min, [[0, 1, math.nan, 0.5, 0.5, 1.5]], equal_nan=True)
        assert info.time_source == "nd2 events (Time [s])"
        assert info.interval_min is None

    def test_nd2_first_plane_of_each_position(self, tmp_path):
        stamps = 60_000.0 * np.arange(12)
        write_nd2(tmp_path / "a.nd2", noise((2, 3, 2, 5, 6)), "PTZYX", frame_times_ms=stamps)
        with open_reader(tmp_path / "a.nd2") as reader:
            assert reader.metadata.times_min.tolist() == [[0, 2, 4], [6, 8, 10]]

    @pytest.mark.parametrize(("periods", "interval"), [((60_000, 60_000), 1), ((60_000, 120_000), None)])
    def test_nd2_phases(self, tmp_path, periods, interval):
        phases = [Nd2Period(2, period) for period in periods]
        write_nd2(tmp_path / "a.nd2", noise((4, 5, 6)), "TYX", periods=phases)
        with open_reader(tmp_path / "a.nd2") as reader:
            assert reader.metadata.interval_min == interval
            assert reader.metadata.times_min[0, :3].tolist() == [0, 1, 2]

    def test_nd2_without_stamps(self, tmp_path):
        movie = write(tmp_path / "a.nd2", noise((1, 3, 1, 1, 5, 6)))
        content = movie.path.read_bytes()
        movie.path.write_bytes(content.replace(b"AcqTimesCache", b"AcqTimesXXXXX"))
        with open_reader(movie.path) as reader:
            assert reader.metadata.times_min is None
            assert reader.metadata.time_source is None
            assert reader.metadata.interval_min == 10

    def test_nd2_without_the_columns_of_devices(self, tmp_path):
        movie = write(tmp_path / "a.nd2", noise((1, 3, 1, 1, 5, 6)))
        content = movie.path.read_bytes()
        movie.path.write_bytes(content.replace(b"CustomData|X!", b"CustomData|?!"))
        with open_reader(movie.path) as reader:
            assert reader.metadata.times_min.tolist() == [[0, 10, 20]]

    def test_czi_offsets_are_passed_on(self, tmp_path):
        offsets = [0, 120, 60, math.nan, 60]
        movie = write(tmp_path / "a.czi", noise((2, 5, 1, 1, 5, 6)), time_offsets_s=offsets)
        with open_reader(movie.path) as reader:
            info = reader.metadata
        assert np.array_equal(info.times_min, [[0, 2, 1, math.nan, 1]] * 2, equal_nan=True)
        assert info.time_source == "czi T/Positions/List/Offsets"
        assert info.interval_min is None

    def test_czi_without_times(self, tmp_path):
        movie = write(tmp_path / "a.czi", noise((1, 3, 1, 1, 5, 6)), period_s=None)
        with open_reader(movie.path) as reader:
            assert reader.metadata.times_min is None
            assert reader.metadata.interval_min is None
            assert reader.metadata.time_source is None

    def test_czi_times_in_an_attachment(self, tmp_path):
        movie = write(tmp_path / "a.czi", noise((1, 3, 1, 1, 5, 6)), period_s=None)
        with czi.edit_czi(str(movie.path)) as editor:
            text = editor.read_metadata_xml().replace(
                "</Dimensions>",
                "<T><Positions><BinaryList><AttachmentName>TimeStamps</AttachmentName></BinaryList></Positions></T>"
                "</Dimensions>",
            )
            with editor.edit_session() as builder:
                builder.set_xml(text)
        attach_stamps(movie.path, [30.0, 90.0])
        assert read_stamps(movie.path, "TimeStamps") == (30, 90)
        assert read_stamps(movie.path, "EventList") == ()
        with open_reader(movie.path) as reader:
            info = reader.metadata
        assert np.array_equal(info.times_min, [[0, 1, math.nan]], equal_nan=True)
        assert info.time_source == "czi attachment TimeStamps"


class TestDescription:
    def test_nd2_positions(self, tmp_path):
        write_nd2(tmp_path / "a.nd2", noise((3, 5, 6)), "PYX", positions=[(1, 2), (3, 4), (5, -6)])
        with open_reader(tmp_path / "a.nd2") as reader:
            fovs = reader.metadata.fovs
        assert [fov.name for fov in fovs] == ["Position 1", "Position 2", "Position 3"]
        assert [fov.position_um for fov in fovs] == [(1, 2), (3, 4), (5, -6)]

    def test_nd2_without_calibration(self, tmp_path):
        write_nd2(tmp_path / "a.nd2", noise((5, 6)), "YX", pixel_size_um=None)
        with open_reader(tmp_path / "a.nd2") as reader:
            assert reader.metadata.pixel_size_um is None

    def test_czi_positions(self, tmp_path):
        places = [(1.5, 2.5), (-3.0, 4.0)]
        names = ["left", "right"]
        data = noise((2, 1, 1, 1, 5, 6))
        movie = write(tmp_path / "a.czi", data, stage_positions_um=places, scene_names=names)
        with open_reader(movie.path) as reader:
            fovs = reader.metadata.fovs
        assert [(fov.name, fov.position_um) for fov in fovs] == list(zip(names, places, strict=True))

    @pytest.mark.parametrize(
        ("name", "modalities", "kind"),
        [
            ("Phase", (), "phase"),
            ("PC", (), "phase"),
            ("10x Ph1", (), "phase"),
            ("PhC", (), "phase"),
            ("Ph", (), "phase"),
            ("phase contrast", ("fluorescence",), "phase"),
            ("TL", ("brightfield", "phaseContrast", "camera"), "phase"),
            ("Ch1", ("Phase",), "phase"),
            ("DIC", ("fluorescence", "camera"), "other"),
            ("Mono", ("fluorescence", "camera"), "other"),
            ("BF", (), "other"),
            ("TL20", ("fluorescence",), "other"),
            ("Brightfield", ("brightfield",), "other"),
            ("5-FAM/pH 9.0", ("fluorescence",), "fluorescence"),
            ("ChA-T1", ("Fluorescence",), "fluorescence"),
            ("GFP", (), "fluorescence"),
            ("mCherry", (), "fluorescence"),
            ("FITC BP", (), "fluorescence"),
            ("DAPI", (), "fluorescence"),
            ("Cy5", (), "fluorescence"),
            ("AF488", (), "fluorescence"),
            ("Channel 1", (), "other"),
        ],
    )
    def test_kind_of_a_channel(self, name, modalities, kind):
        assert channel_kind(name, modalities) == kind
