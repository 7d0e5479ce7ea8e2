"""Keys and values of a grid are checked before anything is segmented."""

import pytest
from support.movies import config
from support.strategies import movie

from pyama_dask.config.load import parse_config
from pyama_dask.errors import ConfigError
from pyama_dask.previews.grid import full_key, in_yaml, settings

MORPH = "params.segmentation_params.morph_size"


def made(grid, tracks=False, **changes):
    document = config("movie.nd2", "out", {f"params.{key}": value for key, value in changes.items()})
    return settings(parse_config(document), grid, movie(frames=5), tracks=tracks)


@pytest.mark.parametrize(
    ("key", "full"),
    [
        ("morph_size", MORPH),
        ("segmentation_params.morph_size", MORPH),
        (MORPH, MORPH),
        ("segmentation_method", "params.segmentation_method"),
        ("tracking_params.min_size", "params.tracking_params.min_size"),
    ],
)
def test_the_beginning_of_a_key_may_be_left_out(key, full):
    assert full_key(key) == full


@pytest.mark.parametrize(
    "key", ["frames", "cluster.workers", "params.morph_size", "storage", "", "segmentation_params."]
)
def test_keys_without_effect_on_a_frame_are_refused(key):
    with pytest.raises(ConfigError, match=r"grid: .* does not change what is found in a frame"):
        full_key(key)


def test_the_first_key_goes_across_and_the_current_setting_is_marked():
    every = made({"morph_size": [3, 7], "morph_iterations": [1, 2]})
    assert [str(one) for one in every] == [
        "morph_size 3, morph_iterations 1", "morph_size 7, morph_iterations 1",
        "morph_size 3, morph_iterations 2", "morph_size 7, morph_iterations 2",
    ]  # fmt: skip
    assert [one.is_current for one in every] == [False, True, False, False]
    assert every[0].overrides == [f"{MORPH}=3", "params.segmentation_params.morph_iterations=1"]
    assert every[2].config.params.segmentation_params["morph_iterations"] == 2
    assert every[2].config.params.segmentation_params["min_object_size"] == 50


def test_without_a_grid_there_is_the_config_alone():
    (one,) = made({})
    assert (one.values, one.is_current, str(one)) == ({}, True, "")


def test_another_method_drops_the_parameters_of_the_former_one():
    logstd, bright = made({"segmentation_method": ["logstd", "bright"]})
    assert logstd.is_current
    assert not bright.is_current
    assert "morph_iterations" not in bright.config.params.segmentation_params


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"morph": [1]}, r"grid: params\.segmentation_params\.morph: is not a parameter here; known are: .*morph_size"),
        ({"morph_size": [3, 4]}, r"grid: params\.segmentation_params\.morph_size: .*odd"),
        ({"segmentation_method": ["logstd", "logst"]}, "^grid: params: 'logst' is not a segmenter"),
        ({"segmentation_method": ["logstd", "bright"], "morph_size": [3]}, r"morph_size: is not a parameter here"),
        ({"morph_size": []}, "has no values"),
        ({"morph_size": [3, 3]}, "has the value 3 twice"),
        ({"morph_size": [3], "segmentation_params.morph_size": [5]}, "'segmentation_params.morph_size' is given twice"),
        ({"min_object_size": [*range(26)]}, "has 26 settings, and at most 25 fit"),
        ({"min_object_size": [*range(9)], "morph_size": [3, 5, 7]}, "has 27 settings"),
        ({"morph_size": [3], "morph_iterations": [1], "threshold": ["mode"]}, "has 3 keys, and at most 2 fit"),
        ({"tracking_method": ["iou", "lap"]}, "changes tracks only. Fix: add --tracks"),
        ({"tracking_params.min_iou": [0.1]}, "changes tracks only"),
    ],
)
def test_wrong_grids_are_refused(grid, said):
    with pytest.raises(ConfigError, match=said):
        made(grid)


def test_all_keys_of_tracking_matter_with_tracks():
    assert [one.is_current for one in made({"tracking_method": ["iou", "lap"]}, tracks=True)] == [True, False]
    assert len(made({"tracking_params.min_size": [None, 20]})) == 2


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (None, "null"), (True, "true"), ("12 um", "12 um"), ("1", "'1'"), ([1, 2], "[1, 2]")]
)
def test_values_in_yaml(value, text):
    assert in_yaml(value) == text
