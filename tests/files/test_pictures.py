"""Small pictures for pages."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pyama_dask.files.pictures import data_url, picked, shrunk, to_indexed_png, to_jpeg


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40))
def test_a_shrunk_frame_is_small_enough_and_keeps_its_levels(height, width, longest):
    frame = np.full((height, width), 7, np.uint16)
    small = shrunk(frame, longest)
    assert 1 <= max(small.shape) <= longest
    assert (small == 7).all()


def test_blocks_are_averaged():
    frame = np.arange(36).reshape(6, 6)
    assert shrunk(frame, 3).tolist() == frame.reshape(3, 2, 3, 2).mean((1, 3)).tolist()
    assert np.array_equal(shrunk(frame, 6), frame)


def test_labels_are_picked_at_the_same_places():
    labels = np.repeat(np.repeat(np.arange(16).reshape(4, 4), 5, axis=0), 5, axis=1)
    assert np.array_equal(picked(labels, (4, 4)), np.arange(16).reshape(4, 4))
    assert picked(labels, (20, 20)).tolist() == labels.tolist()


def test_files_are_read_back():
    picture = np.full((8, 8, 3), (200, 30, 90), np.uint8)
    read = np.asarray(Image.open(io.BytesIO(to_jpeg(picture, 95))))
    assert np.abs(read.astype(int) - picture).max() < 8
    numbers = np.array([[0, 1], [2, 0]], np.uint8)
    colours = Image.open(io.BytesIO(to_indexed_png(numbers, ["#102030", "#ffffff"]))).convert("RGBA")
    assert colours.getpixel((0, 0)) == (0x10, 0x20, 0x30, 255)
    assert colours.getpixel((1, 0)) == (255, 255, 255, 255)
    assert colours.getpixel((0, 1))[3] == 0
    assert data_url(b"abc", "png") == "data:image/png;base64,YWJj"


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_odd_shapes(shape):
    assert shrunk(np.zeros(shape), 10).size
