"""Frames read into memory of the caller are those of new memory, in every reader, and nothing is copied on the way."""

import subprocess
import sys
import tracemalloc

import google_crc32c
import numpy as np
import pytest
from support.frames import noise
from support.movies import as_czi, as_nd2
from support.sites import SHAPE, WELLS, Sites
from support.stacks import random_pixels, write_ome

from pyama_dask.errors import MissingFrameError
from pyama_dask.readers import open_reader
from pyama_dask.readers.base import FlatField
from pyama_dask.readers.frames import digest_of, read_planes
from pyama_dask.readers.views.view import View

FORMS = {
    "raw.nd2": None,
    "zipped.nd2": "lossless",
    "raw.czi": "uncompressed:",
    "zstd0.czi": "zstd0:ExplicitLevel=1",
    "split.czi": "zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack",
}
PIXELS = noise((2, 3, 3, 2, 9, 12))


def room(reader, fov, channels):
    """One array per channel, each a slice of a batch of frames."""
    info = reader.metadata
    return [np.full((2, *info.fovs[fov].shape), 7, info.pixel_type(channels))[1] for _ in channels]


@pytest.fixture(scope="module", params=FORMS)
def movie(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("movie") / request.param
    write = as_nd2 if path.suffix == ".nd2" else as_czi
    with open_reader(write(path, PIXELS, compression=FORMS[request.param])) as reader:
        yield reader


@pytest.mark.parametrize("channels", [[0], [2], [1, 0], [0, 1, 2], [2, 2, 0], []])
def test_channels_come_as_asked(movie, channels):
    for fov, frame, z in np.ndindex(2, 3, 2):
        out = room(movie, fov, channels)
        movie.read_into(out, fov, frame, channels=channels, z=z)
        assert np.array_equal(np.reshape(out, (-1, 9, 12)), PIXELS[fov, frame, channels, z])
    whole = np.zeros((3, 9, 12), np.uint16)
    movie.read_into(whole, 1, 2, z=1)
    assert np.array_equal(whole, PIXELS[1, 2, :, 1])


def test_memory_that_does_not_fit_is_refused(movie):
    unfit = {
        "contiguous, writable arrays": [
            np.zeros((9, 12), np.int16), np.zeros((9, 12), np.uint8), np.zeros((12, 9), np.uint16),
            np.zeros((9, 24), np.uint16)[:, ::2], np.zeros((12, 9), np.uint16).T,
            np.broadcast_to(np.uint16(0), (9, 12)),
        ],
        "2 arrays for 1 channels": [],
    }  # fmt: skip
    for message, planes in unfit.items():
        for out in [[plane] for plane in planes] or [[np.zeros((9, 12), np.uint16)] * 2]:
            with pytest.raises(ValueError, match=message):
                movie.read_into(out, 0, 0, channels=[1])
            assert not np.any(out)


@pytest.mark.parametrize("z", [None, 1, "max"])
def test_planes_of_a_run(movie, z):
    out = room(movie, 0, [2, 0])
    assert read_planes(movie, 0, 1, [2, 0], z, out) is out
    new = read_planes(movie, 0, 1, [2, 0], z)
    assert np.array_equal(out, new)
    stack = PIXELS[0, 1, [2, 0]]
    assert np.array_equal(new, stack.max(axis=1) if z == "max" else stack[:, z or 0])
    assert digest_of(out) == digest_of(new) == google_crc32c.value(new.tobytes())


def test_missing_frames_and_wrong_numbers_are_refused(tmp_path):
    with open_reader(as_czi(tmp_path / "a.czi", PIXELS[:, :, :, :1], skip={(0, 1, 2, 0)})) as reader:
        out = room(reader, 0, [2])
        with pytest.raises(MissingFrameError, match="no frame 1 in channels"):
            reader.read_into(out, 0, 1, channels=[2])
        for wrong in ({"fov": 2}, {"frame": 3}, {"channels": [3]}, {"z": 1}):
            with pytest.raises(IndexError, match=r"outside 0\.\."):
                reader.read_into(out, **{"fov": 0, "frame": 0, "channels": [0]} | wrong)
        assert np.all(out[0] == 7)


def test_images_in_a_folder(tmp_path):
    pixels = random_pixels()
    write_ome(tmp_path / "a.ome.tif", pixels)
    with open_reader(tmp_path / "a.ome.tif") as reader:
        out = room(reader, 1, [1, 0])
        reader.read_into(out, 1, 2, channels=[1, 0])
        assert np.array_equal(out, reader.read_frame(1, 2, channels=[1, 0]))
        assert np.any(out)


@pytest.mark.parametrize("channels", [[1], [1, 0]])
@pytest.mark.parametrize("wells", [{}, WELLS], ids=["sites", "wells"])
@pytest.mark.parametrize("shaded", [False, True], ids=["plain", "shading"])
def test_views(channels, wells, shaded):
    profile = np.linspace(0.5, 1.5, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    view = View(wells, FlatField({1: profile}, dark=10) if shaded else None)
    reader = view.on(Sites())
    out = room(reader, 1, channels)
    reader.read_into(out, 1, 2, channels=channels)
    assert np.array_equal(out, reader.read_frame(1, 2, channels=channels))
    if wells:
        with pytest.raises(ValueError, match="contiguous"):
            reader.read_into([plane.T for plane in out], 1, 2, channels=channels)


def test_a_digest_copies_no_pixels():
    planes = [noise((512, 512)), noise((512, 512), seed=1)]
    tracemalloc.start()
    try:
        found = digest_of(planes)
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()
    assert found == digest_of(np.stack(planes)) == google_crc32c.value(np.stack(planes).tobytes())
    assert digest_of(planes[::-1]) != found


GROWTH = """
import sys
import numpy as np, psutil
from pyama_dask.readers import open_reader
for path in sys.argv[1:]:
    with open_reader(path) as reader:
        frames = reader.metadata.n_frames
        reader.read_frame(0, 0)
        before = psutil.Process().memory_info().rss
        for frame in range(frames):
            reader.read_frame(0, frame)
        print(psutil.Process().memory_info().rss - before)
"""


def test_memory_stays_flat_in_the_length_of_a_movie(tmp_path):
    """Over 48 MiB of small frames, which any leak or mapped file would show."""
    pixels = np.broadcast_to(noise((1, 1, 1, 256, 256)), (1, 400, 1, 256, 256))
    paths = [as_nd2(tmp_path / "a.nd2", pixels), as_nd2(tmp_path / "b.nd2", pixels[:, :100], compression="lossless")]
    paths += [as_czi(tmp_path / "a.czi", pixels), as_czi(tmp_path / "b.czi", pixels[:, :100], compression="zstd1:")]
    assert paths[0].stat().st_size > 48 * 2**20
    command = [sys.executable, "-c", GROWTH, *map(str, paths)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert len(told) == len(paths)
    assert max(map(int, told)) < 3 * 2**20
