"""Images of pipelines in a task: how often frames are read and functions called, and where arrays are converted."""

from collections import Counter
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import scipy.ndimage
from support import steps
from support.strategies import movie, plan_of

from pyama_dask.methods import call
from pyama_dask.steps import movie_frames
from pyama_dask.steps.flow import flow_of
from pyama_dask.steps.own_images import OwnImages, as_stored
from pyama_dask.workflow.task import Job, Task

FRAMES = 10
MINE = steps.__file__
MEAN = {"do": f"{MINE}:mean_of_three", "channels": ["C1"], "halo": 1}
ROWS = {"do": f"{MINE}:stack_light", "of": ["C0", "C1"], "halo": 1, "to": "light"}
SMOOTH = {"do": "dask_image.ndfilters:gaussian_filter", "sigma": [1, 1, 1], "channels": ["C1"]}
BRIGHTER = {"do": f"{MINE}:brighter", "by": 7}
PIXELS = np.random.default_rng(0).integers(100, 900, (FRAMES, 2, 30, 40), np.uint16)
DEEP = np.random.default_rng(1).integers(100, 900, (FRAMES, 2, 3, 30, 40), np.uint16)
"""(T, C, Z, H, W) of a movie with planes."""
SEVEN = {"name": "cells", "input": "own", "steps": "seven"}


class Worker:
    """A task on frames `start` to `stop` of a movie, without files; it counts what is read and called."""

    def __init__(self, config, start, stop, monkeypatch):
        self.params, self.pc, self.fl = config.params, 0, (1,)
        self.job = Job(None, None, config, tuple(range(FRAMES)), stop - start)
        self.task = Task("ingest", 0, (30, 40), start, stop, 0, {})
        self.frames = range(start, stop)
        self.bytes_read, self.frames_read, self.movie = 0, {}, SimpleNamespace(reader=None)
        self.reads, self.calls = Counter(), Counter()
        self.flow = flow_of(config)
        self.images = OwnImages(self, self.flow)

        def read(reader, fov, number, channels, z=None):
            self.reads[number] += 1
            return (PIXELS if config.params.z != "all" else DEEP)[number, channels].copy()

        monkeypatch.setattr(movie_frames, "read_planes", read)
        monkeypatch.setattr(movie_frames, "read_stacks", read)
        run = call.Chosen.lazy
        monkeypatch.setattr(
            call.Chosen, "lazy", lambda chosen, *of: self.calls.update([chosen.name.split(":")[-1]]) or run(chosen, *of)
        )

    def at(self, frame):
        return f"frame {frame}"

    def go(self, at_once=None):
        """Images of all steps that are stored and of copying, as the parts of a task ask for them."""
        found = {}
        length = at_once or len(self.frames)
        for first in range(self.task.start, self.task.stop, length):
            self.images.forget()
            self.frames = range(first, min(first + length, self.task.stop))
            for frame in self.frames:
                for name, image in self.flow.seen.get("copy", {}).items():
                    found[name, frame] = self.images.frame(image, frame)
                for own in self.flow.own:
                    for image in own.gives if own.is_stored else ():
                        found[own.name, image.name, frame] = self.images.frame(image, frame)
                    if not own.gives and frame == self.frames.start:
                        found |= self.given(own)
        return found

    def given(self, own):
        """Stacks that a function gets which gives rows."""
        first, last = self.images.window(own.step, self.frames.start, self.frames.stop)
        (images,) = self.images.given_to(own.step, own.gets[0], first, last)
        return {(name, t): stack[t - first] for name, stack in images.items() for t in self.frames}


def worker(monkeypatch, *pipelines, start=4, stop=8, planes=1):
    plan = plan_of(movie(fovs=1, frames=FRAMES, shape=(30, 40), z_planes=planes), pipelines=list(pipelines))
    return Worker(plan.job.config, start, stop, monkeypatch)


CHAINS = {
    "frames": ([BRIGHTER, BRIGHTER], 0),
    "one halo": ([BRIGHTER, MEAN], 1),
    "two halos": ([MEAN, BRIGHTER, MEAN], 2),
    "Dask": ([BRIGHTER, SMOOTH], 4),
    "checkpoint": ([MEAN | {"checkpoint": True}, MEAN | {"checkpoint": True}, BRIGHTER], 2),
    "both channels": ([BRIGHTER, MEAN | {"channels": "all"}], 1),
    "start": ([MEAN, MEAN | {"source": "start", "to": "other"}], 1),
    "rows": ([BRIGHTER | {"channels": ["C1"]}, ROWS], 1),
    "rows of what has a halo": ([MEAN, ROWS], 2),
}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("with_seven", [True, False])
def test_source_frames_are_read_once_and_those_of_a_halo_once_more(monkeypatch, chain, with_seven):
    chosen, reach = CHAINS[chain]
    own = {"name": "own", "steps": chosen}
    task = worker(monkeypatch, own, *([SEVEN] if with_seven else []))
    whole = task.go()
    around = set(range(max(0, 4 - reach), min(FRAMES, 8 + reach)))
    assert set(task.reads) == around
    assert set(task.reads.values()) == {1}
    task.reads.clear()
    in_parts = task.go(at_once=2)
    once_more = Counter(
        frame for first in (4, 6) for frame in range(max(0, first - reach), min(FRAMES, first + 2 + reach))
    )
    assert task.reads == once_more
    assert whole.keys() == in_parts.keys()
    for key, pixels in whole.items():
        assert np.array_equal(pixels, in_parts[key])


def test_functions_of_stacks_are_called_once_for_a_batch(monkeypatch):
    task = worker(monkeypatch, {"name": "own", "steps": [MEAN | {"checkpoint": True}, BRIGHTER, MEAN]}, SEVEN)
    made = task.go()
    assert task.calls == {"mean_of_three": 2, "brighter": 6 + 4}
    mean = steps.mean_of_three
    expected = mean(mean(PIXELS[:, 1]) + 7)
    assert np.array_equal([made["1", frame] for frame in range(4, 8)], expected[4:8])


@pytest.mark.parametrize("sigma", [[1, 1, 1], [0, 1, 1]])
def test_a_chain_of_dask_steps_is_converted_once_and_computed_once(monkeypatch, sigma):
    chain = [SMOOTH | {"sigma": sigma}] * 3
    task = worker(monkeypatch, {"name": "own", "steps": chain}, SEVEN)
    converted, computed = [], []
    from_array, compute = da.from_array, da.Array.compute
    monkeypatch.setattr(da, "from_array", lambda *of, **more: converted.append(1) or from_array(*of, **more))
    monkeypatch.setattr(da.Array, "compute", lambda *of, **more: computed.append(1) or compute(*of, **more))
    made = task.go()
    assert (len(converted), len(computed)) == (1, 1)
    expected = PIXELS[:, 1]
    for _ in chain:
        expected = scipy.ndimage.gaussian_filter(expected, sigma)
    assert np.array_equal([made["1", frame] for frame in range(4, 8)], expected[4:8])


def test_a_chain_of_dask_steps_of_frames_is_converted_once(monkeypatch):
    chain = [{"do": f"{MINE}:lazily_doubled", "channels": ["C1"]}] * 2
    task = worker(monkeypatch, {"name": "own", "steps": chain}, SEVEN)
    converted, from_array = [], da.from_array
    monkeypatch.setattr(da, "from_array", lambda *of, **more: converted.append(1) or from_array(*of, **more))
    made = task.go()
    assert len(converted) == 4  # once a frame
    assert np.array_equal([made["1", frame] for frame in range(4, 8)], PIXELS[4:8, 1] * np.uint16(4))


def by_plane(function, planes):
    """(T, Z, H, W) that a function of stacks gives for the stack of each plane of the whole movie."""
    return np.stack([function(planes[:, z]) for z in range(planes.shape[1])], axis=1)


@pytest.mark.parametrize("at_once", [None, 1])
def test_functions_of_stacks_get_the_stack_of_each_plane(monkeypatch, at_once):
    """NumPy and Dask, with a halo: as on the whole movie, at the borders of blocks, too."""
    mine = {"do": f"{MINE}:mean_and_difference", "channels": ["C1"], "halo": 1}
    chain = [BRIGHTER | {"channels": ["C1"]}, MEAN | {"checkpoint": True}, SMOOTH, SMOOTH | {"sigma": [0, 1, 1]}, mine]
    projection = {"do": "max_projection", "over": "z", "channels": ["mean"], "to": "highest"}
    task = worker(monkeypatch, {"name": "own", "steps": [*chain, projection]}, planes=3)
    made = task.go(at_once)
    mean = by_plane(steps.mean_of_three, DEEP[:, 1] + np.uint16(7))
    smooth = by_plane(lambda stack: scipy.ndimage.gaussian_filter(stack, 1), mean)
    smooth = by_plane(lambda stack: scipy.ndimage.gaussian_filter(stack, (0, 1, 1)), smooth)
    both = {
        name: by_plane(lambda s, n=name: steps.mean_and_difference(s)[n], smooth) for name in ("mean", "difference")
    }
    expected = {
        ("own.mean_of_three", "1"): mean,
        **{("own.mean_and_difference", name): pixels for name, pixels in both.items()},
        ("own.max_projection", "highest"): both["mean"].max(axis=1),
    }
    assert {key[:2] for key in made} == {*expected}
    for (step, name, frame), pixels in made.items():
        assert np.array_equal(pixels, expected[step, name][frame])
    if at_once is None:
        assert task.calls == {
            "brighter": 3 * FRAMES, "mean_of_three": 3, "gaussian_filter": 6, "mean_and_difference": 3,
            "max_projection": 4,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("pixels", "stored", "out"),
    [
        ([0.4, 0.5, 1.5, 65535.4], [0, 0, 2, 65535], 0),
        ([-1.0, np.nan, 70000.0, 3.0], [0, 0, 65535, 3], 3),
        (np.array([-3, 70000, 5, 6], np.int32), [0, 65535, 5, 6], 2),
        (np.array([False, True]), [0, 1], 0),
        (np.array([3, 4], np.uint8), [3, 4], 0),
    ],
)
def test_images_become_16_bit_grey_levels(pixels, stored, out):
    found, out_of_range = as_stored(np.asarray(pixels)[None])
    assert found.tolist() == [stored]
    assert out_of_range == out
    assert found.dtype in (np.uint8, np.uint16)
