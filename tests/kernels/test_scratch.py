"""Memory of arrays is used again when nothing can see it, and never before."""

import threading

import numpy as np
import pytest

from pyama_dask.kernels import scratch


def address(array):
    return array.__array_interface__["data"][0]


@pytest.fixture(autouse=True)
def nothing_known():
    scratch._pieces.known = []


def test_memory_of_an_array_that_is_gone_is_used_again():
    first = scratch.empty((40, 50), np.uint16)
    place = address(first)
    first[:] = 7
    del first
    again = scratch.zeros((50, 40), np.int16)
    assert address(again) == place
    assert again.dtype == np.int16
    assert again.flags.c_contiguous
    assert again.flags.writeable
    assert not again.any()


@pytest.mark.parametrize(
    "kept",
    [
        lambda a: a,
        lambda a: a[3:7, ::2],
        lambda a: a.T[1:],
        lambda a: a.view(np.uint8)[0],
        lambda a: memoryview(a)[1:],
        lambda a: np.asarray(a.ravel()[9:10]),
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 3, 0),
    ],
    ids=["itself", "slice", "transposed", "other type", "buffer", "flat", "strides"],
)
def test_memory_that_anything_holds_is_not_touched(kept):
    array = scratch.zeros((40, 50), np.uint16)
    held = kept(array)
    del array
    others = [scratch.zeros((40, 50), np.uint16) for _ in range(2 * scratch.MOST)]
    for other in others:
        other.fill(9)
    assert not np.asarray(held).any()
    assert len({address(other) for other in others}) == len(others)


def test_a_thread_keeps_few_bytes(monkeypatch):
    monkeypatch.setattr(scratch, "MOST_FREE", 1000)
    held = [scratch.empty((size,), np.uint8) for size in (400, 700, 600)]
    for _ in range(len(held)):
        del held[0]
        scratch.empty((10,), np.uint8)
    assert [memory.nbytes for memory, _ in scratch._pieces.known] == [600, 10]
    held = [scratch.empty((size,), np.uint8) for size in (900, 800)]
    scratch.empty((5,), np.uint8)
    assert {memory.nbytes for memory, _ in scratch._pieces.known} >= {900, 800}  # they are held


def test_a_thread_keeps_few_pieces():
    for size in range(1, 5 * scratch.MOST):
        scratch.empty((size,), np.uint8)
    assert len(scratch._pieces.known) == scratch.MOST


def test_threads_share_nothing():
    place = address(scratch.empty((99,), np.float32))
    found = []
    other = threading.Thread(target=lambda: found.append(scratch.empty((99,), np.float32)))
    other.start()
    other.join()
    assert address(found[0]) != place


def test_an_array_of_nothing():
    assert scratch.zeros((0, 5), np.uint16).shape == (0, 5)
