"""Functions of steps: what they take and give, their parameters, and refusals by file and line."""

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pyama_dask.config.pipelines import Step
from pyama_dask.errors import ConfigError
from pyama_dask.methods.array_types import to_numpy
from pyama_dask.methods.made_images import BASE_COLUMNS, ImageType, made_stack, made_traces
from pyama_dask.methods.registry import method_identity
from pyama_dask.methods.step_contract import tried
from pyama_dask.methods.step_functions import read_step
from pyama_dask.methods.step_results import Result, apply_step, as_result, in_array_type, smallest_halo
from pyama_dask.store.trace_csv import BASE_COLUMNS as COLUMNS_OF_TRACES

SOURCE = """
from __future__ import annotations
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated
import dask.array as da
import numpy as np
import pandas as pd
from pydantic import Field
from scipy import ndimage
from pyama_dask.kernels.image_types import Frame, Labels, LabelStack, Planes, Stack
if TYPE_CHECKING:
    import torch

def plain(frame, *, factor=2): return frame * factor
def limited(frame: Frame, *, sigma: Annotated[float, Field(gt=0)], size: tuple[int, int] = (1, 2)) -> Frame:
    assert isinstance(size, tuple)
    return ndimage.gaussian_filter(frame, sigma)
def several(frame, sigma, *more, **others): return frame
def of_stack(stack: Stack) -> Stack: return stack - np.uint16(1)
def writes_stack(movie):
    t, h, w = movie.shape
    movie[0] = 0
    return movie
def only_stack(movie):
    t, h, w = movie.shape
    return movie
def rolling(stack: Stack, *, before=2): return ndimage.uniform_filter1d(stack.astype(float), 2 * before + 1, axis=0)
def normalised(stack: Stack): return stack - stack.astype(np.float32).mean(axis=0)
def fitted(stack: Stack, *, window=5):
    if len(stack) < window: raise ValueError("too few frames")
    return stack
def untyped(table): return table[["cell"]]
def highest(planes: Planes) -> Frame: return planes.max(axis=0)
def cells(frame: Frame) -> Labels: return ndimage.label(frame > 1500)[0]
def guessed(frame): return ndimage.label(frame > 1500)[0]
def grown(labels: Labels, *, by=1) -> Labels: return ndimage.grey_dilation(labels, size=2 * by + 1)
def ratio(images: dict[str, Frame]) -> Frame: return images["GFP"] / (images["RFP"] + 1.0)
def both(images: Mapping[str, Stack]):
    return {"low": np.minimum(*images.values()), "high": np.maximum(*images.values())}
def two(first, second, *, weight=1.0): return first - weight * second
def count_spots(GFP: Frame, tracked: Labels) -> pd.DataFrame:
    ids = np.unique(tracked[tracked > 0])
    return pd.DataFrame({"cell": ids, "spots": [int((GFP[tracked == i] > 1500).sum()) for i in ids]}, dtype="int64")
def mean(frame): return {"mean": float(frame.mean())}
def lazily(stack: da.Array) -> da.Array:
    assert isinstance(stack, da.Array)
    return stack + 1
def foreign(x: torch.Tensor) -> torch.Tensor: return x
def cropped(frame): return frame[100:160, 200:300]
def corner(frame): return frame[:200, :200]
def square(frame): return frame[: min(frame.shape), : min(frame.shape)]
def smaller(frame: Frame): return frame[::2, ::2].astype(np.float32)
def doubled(table: pd.DataFrame) -> pd.DataFrame: return pd.DataFrame({"twice": 2 * table["area_ch_0"]})
def of_well(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.DataFrame({"fov": list(tables), "cells": [t["cell"].nunique() for t in tables.values()]})

# those that do not fit
def flat(frame: Frame): return frame.ravel()
def shorter(stack: Stack): return stack[1:]
def objects(frame): return frame.astype(object)
def nans(frame): return frame / np.where(frame > 0, np.nan, 1)
def nothing(frame): frame.sum()
def yields(frame):
    yield frame
def fails(frame):
    '''Not the line of def.'''
    raise ValueError("no such thing")
def exits(frame): raise SystemExit(3)
def writes(frame):
    frame[0] = 0
    return frame
def prints(frame):
    print("at work")
    return frame
def random(frame): return frame + np.random.default_rng().random(frame.shape)
def counting(frame, *, seen=[]):
    seen.append(1)
    return frame * len(seen)
def endless(frame):
    while True:
        time.sleep(0.001)
def number(frame): return 3
def floats(frame) -> Labels: return frame / 2
def bad_name(frame): return {"a/b": frame}
def varying(frame): return frame[: 10 + int(frame[0, 0]) % 5]
def with_frame(frame): return {"frame": 1, "x": 2}
def without_frame(stack: Stack): return {"x": [1.0, 2.0]}
def objects_column(frame): return pd.DataFrame({"a": [[1]]})
def drops(table: pd.DataFrame): return pd.DataFrame({"a": table["cell"][1:]})
def sorted_by_area(table: pd.DataFrame): return table.sort_values("area_ch_0")[["frame"]].rename(columns={"frame": "a"})
def halves_of_cells(frame: Frame) -> pd.DataFrame: return pd.DataFrame({"cell": [1, 0.5], "a": 1})
def lost_cells(frame: Frame) -> pd.DataFrame: return pd.DataFrame({"cell": [1, np.nan], "a": 1})
def cells_twice(frame: Frame) -> pd.DataFrame: return pd.DataFrame({"cell": [2, 1, 1], "a": 1})
def named_cells(frame: Frame) -> pd.DataFrame: return pd.DataFrame({"cell": ["1"], "a": 1})
def fills(table: pd.DataFrame):
    table["new"] = 1
    return table[["new"]]
def no_data(*, frame): return frame
class Callable_:
    def __call__(self, frame): return frame
instance = Callable_()
"""
WHERE = "pipeline 'p', step 's'"
GFP, MASKS = ImageType((48, 64), "uint16"), ImageType((48, 64), "int32", is_labels=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("steps") / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module")
def contract(file):
    """Contract of a function of the file, or of a module, for the images it is to get."""

    def found(do, images=None, **keys):
        images = {"GFP": GFP} if images is None else images
        seconds = keys.pop("seconds", 20)
        return tried(Step(do if ":" in do else f"{file}:{do}", **keys), WHERE, images, seconds=seconds)

    return found


TOGETHER = {"GFP": GFP, "RFP": GFP}


@pytest.mark.parametrize(
    ("do", "keys", "images", "expected"),
    [
        ("plain", {}, None, ("frame", "frame", "image", "numpy", 0)),
        ("limited", {"sigma": 1}, None, ("frame", "frame", "image", "numpy", 0)),
        ("of_stack", {}, None, ("stack", "stack", "image", "numpy", 0)),
        ("only_stack", {}, None, ("stack", "stack", "image", "numpy", 0)),
        ("plain", {"takes": "stack"}, None, ("stack", "stack", "image", "numpy", 0)),
        ("rolling", {"halo": 2}, None, ("stack", "stack", "image", "numpy", 2)),
        ("highest", {"over": "z"}, None, ("planes", "frame", "image", "numpy", 0)),
        ("cells", {}, None, ("frame", "frame", "labels", "numpy", 0)),
        ("guessed", {}, None, ("frame", "frame", "labels", "numpy", 0)),
        ("grown", {}, {"labels": MASKS}, ("frame", "frame", "labels", "numpy", 0)),
        ("ratio", {"of": ["GFP", "RFP"], "to": "r"}, TOGETHER, ("frame", "frame", "image", "numpy", 0)),
        ("both", {"of": ["GFP", "RFP"]}, TOGETHER, ("stack", "stack", "images", "numpy", 0)),
        ("two", {"of": ["GFP", "RFP"], "to": "r"}, TOGETHER, ("frame", "frame", "image", "numpy", 0)),
        ("mean", {"to": "light"}, None, ("frame", "frame", "table", "numpy", 0)),
        ("lazily", {}, None, ("frame", "frame", "image", "dask", 0)),
        ("untyped", {"to": "t", "takes": "traces"}, {}, ("traces", "fov", "table", "numpy", 0)),
        ("doubled", {"to": "traces"}, {}, ("traces", "fov", "table", "numpy", 0)),
        ("of_well", {"to": "cells"}, {}, ("tables", "well", "table", "numpy", 0)),
        ("dask_image.ndfilters:gaussian_filter", {"sigma": [0, 1, 1]}, None, ("stack", "stack", "image", "dask", 0)),
        ("dask_image.ndfilters:gaussian_filter", {"sigma": 1}, None, ("frame", "frame", "image", "dask", 0)),
        ("dask_image.ndmeasure:label", {}, None, ("frame", "frame", "labels", "dask", 0)),
        ("skimage.filters:gaussian", {"sigma": 1}, None, ("frame", "frame", "image", "numpy", 0)),
        ("numpy:sqrt", {}, None, ("frame", "frame", "image", "numpy", 0)),
        ("numpy:maximum", {"of": ["GFP", "RFP"], "to": "r"}, TOGETHER, ("frame", "frame", "image", "numpy", 0)),
    ],
)  # fmt: skip
def test_the_contract(contract, do, keys, images, expected):
    found = contract(do, images, **keys)
    assert (found.takes, found.per, found.gives, found.array, found.halo) == expected


def test_shapes_and_types_are_those_for_images_of_the_movie(contract):
    large = {"GFP": ImageType((300, 400), "uint16")}
    assert contract("smaller", large).images == {"": ImageType((150, 200), "float32")}
    assert contract("corner", large).images == {"": ImageType((200, 200), "uint16")}
    assert contract("square", large).images == {"": ImageType((300, 300), "uint16")}
    assert contract("cropped", large).images == {"": ImageType((60, 100), "uint16")}  # empty for a small image
    assert contract("cells", large).images == {"": ImageType((300, 400), "int32", is_labels=True)}
    both = contract("both", {"GFP": large["GFP"], "RFP": large["GFP"]}, of=["GFP", "RFP"])
    assert both.images == dict.fromkeys(["low", "high"], large["GFP"])


def test_a_registered_halo_counts_for_stacks_and_is_checked(file):
    def registered(name, params):
        return {"rolling": params.get("before", 2), "plain": 3}[name.rpartition(":")[2]]

    found = tried(Step(f"{file}:rolling", before=4), WHERE, {"GFP": GFP}, halo_of=registered)
    assert found.halo == 4
    assert tried(Step(f"{file}:plain", factor=5), WHERE, {"GFP": GFP}, halo_of=registered).halo == 0
    with pytest.raises(ConfigError, match="than its halo of 1: it looks 6"):
        tried(Step(f"{file}:rolling", before=6), WHERE, {"GFP": GFP}, halo_of=lambda name, params: 1)


def test_columns_of_tables(contract):
    keys = {"of": ["GFP", "tracked"], "to": "traces"}
    spots = contract("count_spots", {"GFP": GFP, "tracked": MASKS}, **keys)
    assert (spots.gives, spots.columns) == ("table", {"cell": "int64", "spots": "int64"})
    assert contract("mean", to="light").columns == {"mean": "float64"}
    assert contract("doubled", {}, to="traces").columns == {"twice": "float64"}


def test_a_call_gives_right_values(contract):
    frames = made_stack(GFP, 2)
    of = {"GFP": frames[0], "RFP": frames[1]}
    for do, data, keys, expected in (
        ("two", of, {"of": ["GFP", "RFP"], "to": "r", "weight": 2.0}, frames[0] - 2.0 * frames[1]),
        ("ratio", of, {"of": ["GFP", "RFP"], "to": "r"}, frames[0] / (frames[1] + 1.0)),
        ("dask_image.ndfilters:gaussian_filter", frames[0], {"sigma": 1}, ndimage.gaussian_filter(frames[0], 1)),
    ):
        function = contract(do, TOGETHER if "of" in keys else None, **keys).function
        made = as_result(apply_step(function, in_array_type(function, data)))
        np.testing.assert_array_equal(made.images[""], expected)


@pytest.mark.parametrize(
    ("do", "keys", "says"),
    [
        ("flat", {}, r"given uint16 \(24, 32\), returned uint16 \(768,\), which has 1 dim.*Fix: return one frame"),
        ("shorter", {}, r"returned uint16 \(39, 24, 32\), which is 39 frames for 40\. Fix: return one frame per frame"),
        ("objects", {}, r"returned object \(24, 32\)\. Fix: return numbers"),
        ("nans", {}, "with NaN or infinite pixels. Fix: replace them"),
        ("nothing", {}, "returned None. Fix: end it with 'return'"),
        ("yields", {}, "returned a generator. Fix: return an array"),
        ("fails", {}, r"failed: ValueError: no such thing, in line \d+.*Fix: correct the function"),
        ("exits", {}, "failed: SystemExit: 3"),
        ("writes", {}, r"changed the data that it got. Fix: work on a copy, such as frame\.copy\(\)"),
        ("writes_stack", {}, "changed the data that it got"),
        ("prints", {}, "printed 'at work'. Fix: delete its prints"),
        ("random", {}, r"twice, returned different results. Fix: seed .*default_rng\(0\)"),
        ("counting", {}, "twice, returned different results. Fix: .*keep nothing between calls"),
        ("endless", {"seconds": 0.2}, r"did not end in 0\.2 s. Fix: make it quicker"),
        ("number", {}, "returned int 3. Fix: return one array; for measurements, return a dict"),
        ("floats", {}, "returned float64 .*labels are whole numbers"),
        ("bad_name", {}, "returned the name 'a/b'. Fix: use letters"),
        ("varying", {}, "other shapes, types or columns for other frames .*Fix: return the same"),
        ("with_frame", {"to": "t"}, "with a column 'frame'. Fix: leave it out"),
        ("without_frame", {"to": "t"}, "does not say to which frames.*Fix: add a column 'frame'"),
        ("objects_column", {"to": "t"}, "column 'a' is of type object. Fix: use columns of numbers"),
        ("mean", {}, "gives a table, but the table has no name. Fix: add  to: NAME"),
        ("mean", {"to": "traces"}, "without a column 'cell'.*Fix: with 'to: traces', return one row"),
        ("drops", {"to": "traces"}, "returned 14 rows|returned 13 rows"),
        ("sorted_by_area", {"to": "traces"}, "returned its rows in another order. Fix: keep the order"),
        ("halves_of_cells", {"to": "traces"}, "with a cell 0.5. Fix: with 'to: traces'"),
        ("lost_cells", {"to": "traces"}, "with a cell nan"),
        ("cells_twice", {"to": "traces"}, "returned several rows of cell 1"),
        ("named_cells", {"to": "traces"}, "column 'cell' is of type (object|str)"),
        ("fills", {"to": "traces"}, "changed the data that it got"),
        ("no_data", {}, r"takes no data by position: its signature is \(\*, frame\)"),
        ("two", {"of": ["GFP", "RFP", "BFP"], "to": "r"}, r"takes 2 images by position .* but 'of' names 3"),
        ("two", {"of": ["GFP", "RFP"]}, "makes one image of GFP, RFP, but the image has no name"),
        ("both", {"of": ["GFP", "RFP"], "to": "r"}, r"several images by name \(low, high\).*Fix: leave out 'to'"),
        ("grown", {}, "takes labels, but gets the image GFP. Fix: name labels"),
        ("count_spots", {"of": ["GFP", "RFP"], "to": "t"}, "takes labels, but gets the image RFP"),
        ("of_stack", {"takes": "frame"}, "takes stack, as annotated, but the step says takes: frame"),
        ("highest", {}, "takes all planes of a frame. Fix: add  over: z"),
        ("plain", {"halo": 1, "takes": "frame"}, "gets single frames, but has a halo of 1"),
        ("rolling", {}, "looks into neighbouring frames: it looks 2 frames along time. Fix: say  halo: 2"),
        ("rolling", {"before": 3, "halo": 1}, "further along time than its halo of 1: it looks 3 .*say  halo: 3"),
        ("rolling", {"before": 17}, "depends on frames more than 16 away"),
        ("fitted", {}, "it looks 4 frames along time. Fix: say  halo: 4"),
        ("fitted", {"window": 19}, r"failed: ValueError: too few frames, in line \d+. Fix: "),
        ("fitted", {"window": 19, "halo": 3}, r"given uint16 \(\d+, 24, 32\), failed: ValueError: too few frames"),
        ("untyped", {"to": "t"}, "gets no image. Fix: annotate the table as pd.DataFrame"),
        ("doubled", {"of": ["GFP", "RFP"], "to": "t"}, "takes 1 table by position .table., but 'of' names 2"),
        ("normalised", {}, "depends on frames more than 16 away"),
    ],
)
def test_functions_that_do_not_fit_are_refused_by_file_and_line(contract, file, do, keys, says):
    images = {} if do in ("drops", "fills", "untyped", "sorted_by_area") else TOGETHER if "of" in keys else None
    with pytest.raises(ConfigError, match=says) as error:
        contract(do, images, **keys)
    assert f"{WHERE}: {file}:{do} ({file}, line " in str(error.value)


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_an_array_type_whose_package_is_missing_is_refused(contract):
    with pytest.raises(ConfigError, match=r"foreign .*arrays of torch, which is not installed\. Fix: pip install"):
        contract("foreign")


class TestParameters:
    def read(self, file, do, **params):
        return read_step(Step(f"{file}:{do}" if ":" not in do else do, params=params), WHERE).parameters

    def test_they_are_converted_to_their_types(self, file):
        assert self.read(file, "limited", sigma=2, size=[3, 4]) == {"sigma": 2.0, "size": (3, 4)}
        assert self.read(file, "several", sigma=[1, 2], other=3) == {"sigma": [1, 2], "other": 3}
        assert self.read(file, "numpy:sqrt") == {}

    @pytest.mark.parametrize(
        ("do", "params", "says"),
        [
            ("limited", {"sgima": 1, "sigma": 1}, "'sgima' is not a parameter here; known are: .*did you mean sigma"),
            ("limited", {}, "needs a value for 'sigma'. Fix: add  sigma: VALUE"),
            ("limited", {"sigma": 0}, "sigma: Input should be greater than 0"),
            ("limited", {"sigma": 1, "size": [1]}, "size"),
            ("plain", {"frame": 1}, "takes no data by position"),
            ("skimage.filters:gaussian", {"sigm": 1}, "did you mean sigma"),
        ],
    )
    def test_wrong_ones_are_refused(self, file, do, params, says):
        with pytest.raises(ConfigError, match=says) as error:
            self.read(file, do, **params)
        assert str(error.value).startswith(WHERE)


class TestNames:
    @pytest.mark.parametrize(
        ("do", "says"),
        [
            ("dask_image.ndfilters:gausian_filter", "has no 'gausian_filter'; did you mean gaussian_filter"),
            ("no_such_package:function", "cannot be loaded: ModuleNotFoundError"),
            ("sharpen_it", "'sharpen_it' is not a step; known are: "),
        ],
    )
    def test_unknown_ones_are_refused(self, do, says):
        with pytest.raises(ConfigError, match=says) as error:
            read_step(Step(do), WHERE)
        assert str(error.value).startswith(WHERE)

    def test_the_identity_is_a_version_or_the_content_of_a_file(self, file, tmp_path):
        from importlib.metadata import version

        name = "skimage.filters:gaussian"
        assert method_identity("step", name) == f"{name}@scikit-image {version('scikit-image')}"
        mine = tmp_path / "mine.py"
        mine.write_text("from scipy.ndimage import gaussian_filter\n")
        first = method_identity("step", f"{mine}:gaussian_filter")
        assert first.startswith(f"{mine}:gaussian_filter@")
        mine.write_text("from scipy.ndimage import gaussian_filter  # other\n")
        assert method_identity("step", f"{mine}:gaussian_filter") != first


@settings(deadline=None, max_examples=15)
@given(before=st.integers(0, 6), after=st.integers(0, 6))
def test_the_halo_is_the_longer_side_of_what_a_function_looks_at(before, after):
    stack = np.random.default_rng(1).integers(0, 1000, (20, 2, 3))

    def summed(frames):
        return np.stack([frames[max(t - before, 0) : t + after + 1].sum(axis=0) for t in range(len(frames))])

    def at(frame, distance):
        first = max(frame - distance, 0)
        return Result({"": summed(stack[first : frame + distance + 1])}).at(frame - first)

    whole = [Result({"": one}) for one in summed(stack)]
    assert smallest_halo(whole, at, 8) == max(before, after)
    assert smallest_halo(whole, at, max(before, after) - 1) is None


def test_made_data_have_cells_and_are_always_the_same():
    small = ImageType((24, 32), "uint16")
    stack, labels = made_stack(small, 10), made_stack(ImageType((24, 32), "int32", is_labels=True), 10)
    assert stack.dtype == np.uint16
    np.testing.assert_array_equal(stack, made_stack(small, 10))
    assert (stack != made_stack(small, 10, channel=1)).any()
    assert [len(np.unique(frame)) - 1 for frame in labels] == [6, 6, 6, 6, 0] * 2
    assert stack[:4][labels[:4] > 0].min() > stack[4].max() - 100
    assert tuple(BASE_COLUMNS) == COLUMNS_OF_TRACES
    assert {name: str(dtype) for name, dtype in made_traces({}).dtypes.items()} == BASE_COLUMNS


def test_arrays_of_dask_are_converted_once():
    import dask.array as da

    lazy = da.ones((4, 4), chunks=2)
    assert to_numpy(lazy).sum() == 16
