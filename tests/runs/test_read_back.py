"""Checkpoints that are done are read again, so that a changed step does not redo those before it."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from support import steps
from support.ledgers import recorded
from support.movies import as_czi, as_nd2, config, differences, pixels, products

import pyama_dask
from pyama_dask.runs.status import LEDGER
from pyama_dask.store.ledger import Ledger

MINE = Path(steps.__file__).as_posix()
SLOW = """
from pathlib import Path

import numpy as np

from pyama_dask.kernels.image_types import Frame, Stack


def count(pixels):
    if pixels.shape[-2:] == (60, 64):  # not a trial
        with (Path(__file__).parent / "calls").open("a") as file:
            file.write("x")
    return pixels.astype("float32")


def roots(frame: Frame) -> Frame:
    return np.sqrt(count(frame))


def means(stack: Stack) -> Stack:
    padded = np.pad(count(stack), ((1, 1), (0, 0), (0, 0)), mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / np.float32(3)
"""
SHAPE, BLOCK = (60, 64), 3


@pytest.fixture(scope="module")
def data():
    return pixels(fovs=1, frames=7, shape=SHAPE, cells=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data):
    """Movies without and with planes, and a file of functions that count their calls."""
    folder = tmp_path_factory.mktemp("read")
    (folder / "slow.py").write_text(SLOW)
    as_czi(folder / "movie.czi", data)
    as_nd2(folder / "deep.nd2", np.stack([data, data // 2], axis=3))
    return folder


def run(folder, output, *pipelines, movie="movie.czi"):
    """Run pipelines, and return how often slow functions were called."""
    calls = folder / "calls"
    calls.write_text("")
    changes = {
        "pipelines": list(pipelines), "storage.block_frames": BLOCK,
        "params.tracking_params": {"min_frames": 2, "border_margin": 0},
    }  # fmt: skip
    report = pyama_dask.run(config(folder / movie, output, changes))
    assert not report.exit_status, (report.stopped, report.failed)
    return len(calls.read_text())


def slow(folder, name, **more):
    return {"do": f"{folder.as_posix()}/slow.py:{name}", "channels": ["GFP"], "checkpoint": True, **more}


def brighter(by):
    return {"do": f"{MINE}:brighter", "channels": ["GFP"], "by": by}


MEAN = {"do": f"{MINE}:mean_of_three", "channels": ["GFP"], "halo": 1}
CHAINS = {
    "frames": ("roots", {}, [], 7),
    "stacks": ("means", {"halo": 1}, [], 3),
    "a halo after it": ("roots", {}, [MEAN], 7 + 4),
    "a halo after stacks": ("means", {"halo": 1}, [MEAN], 3),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_changed_step_reads_the_checkpoint_before_it(folder, tmp_path, chain):
    name, more, after, calls = CHAINS[chain]
    first, out = slow(folder, name, **more), tmp_path / "out"
    assert run(folder, out, {"name": "one", "steps": [first, brighter(1), *after]}) == calls
    changed = {"name": "one", "steps": [first, brighter(2), *after]}
    assert run(folder, out, changed) == 0
    run(folder, tmp_path / "whole", changed)
    assert differences(products(out), products(tmp_path / "whole")) == []


def test_a_checkpoint_before_copying_and_its_planes(folder, tmp_path):
    """Where raw frames of other blocks are needed, these are made of the checkpoint, too."""

    def pipelines(by):
        flat = {"do": "max_projection", "over": "z"}
        listed = ["copy", brighter(by), MEAN, "segment", "track", "background", "crop", "extract", "cache"]
        first = {"name": "first", "steps": [slow(folder, "roots"), flat]}
        return first, {"name": "cells", "input": "first", "steps": listed}

    assert run(folder, tmp_path / "out", *pipelines(1), movie="deep.nd2") > 0
    assert run(folder, tmp_path / "out", *pipelines(2), movie="deep.nd2") == 0
    run(folder, tmp_path / "whole", *pipelines(2), movie="deep.nd2")
    assert differences(products(tmp_path / "out"), products(tmp_path / "whole")) == []


def test_a_checkpoint_that_is_gone_or_damaged_is_made_again(folder, data, tmp_path):
    first, out = slow(folder, "roots"), tmp_path / "out"
    run(folder, out, {"name": "one", "steps": [first, brighter(1), MEAN]})
    shards = sorted((out / "fov_000/one.zarr/roots_1/0").glob("c.*"))
    assert len(shards) == 3
    shards[1].unlink()
    damaged = bytearray(shards[2].read_bytes())
    damaged[len(damaged) // 2] ^= 255
    shards[2].write_bytes(damaged)
    changed = {"name": "one", "steps": [first, brighter(2), MEAN]}
    read = recorded(Ledger(out / LEDGER), "frames_read")
    assert run(folder, out, changed) >= 3 + 1
    assert recorded(Ledger(out / LEDGER), "frames_read") == read
    run(folder, tmp_path / "whole", changed)
    assert differences(products(out), products(tmp_path / "whole")) == []
    stored = zarr.open_array(out / "fov_000/one.zarr/roots_1/0", mode="r")[:]
    assert np.array_equal(stored, np.sqrt(data[0, :, 1].astype("float32")))
