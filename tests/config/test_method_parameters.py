"""Parameters of methods, from their signatures."""

from pathlib import Path

import pytest

from pyama_dask.config.method_parameters import lengths_in_pixels, method_parameters, parameter_model
from pyama_dask.errors import ConfigError
from pyama_dask.kernels.bright import segment_bright
from pyama_dask.kernels.segmentation import segment
from pyama_dask.kernels.tracking import keep_cells, link
from pyama_dask.methods.unet import segment_unet
from pyama_dask.runs.template import default_params


def test_a_name_belongs_to_the_function_that_has_it():
    filled = method_parameters("params.tracking_params", {"min_frames": 2}, link, keep_cells)
    assert filled == {"min_iou": 0.1, "min_frames": 2, "border_margin": 50}


def test_limits_of_the_built_in_methods_are_those_of_their_signatures():
    assert set(parameter_model(segment).model_fields) == set(default_params()["segmentation_params"])


@pytest.mark.parametrize(
    ("given", "pixels"), [(14, 14), (7.5, 7.5), ("7", 7), ("7 px", 7), ("12 um", 24), ("12um", 24), ("2.5 \u00b5m", 5)]
)
def test_lengths_are_pixels_or_micrometres(given, pixels):
    filled = method_parameters("key", {"diameter": given}, segment_bright)
    assert lengths_in_pixels("key", filled, segment_bright, 0.5, "movie.nd2") == filled | {"diameter": pixels}


@pytest.mark.parametrize("given", [0, -1, "0 um", "wide", "12 nm", True, 1e9, "1e3 um"])
def test_lengths_that_are_none_are_refused(given):
    with pytest.raises(ConfigError, match=r"key\.diameter: "):
        method_parameters("key", {"diameter": given}, segment_bright)


def test_files_may_be_given_as_paths():
    assert method_parameters("key", {"model": Path("mine.onnx")}, segment_unet)["model"] == "mine.onnx"


def test_micrometres_need_a_pixel_size():
    filled = method_parameters("key", {"diameter": "12 um"}, segment_bright)
    with pytest.raises(
        ConfigError, match=r"key\.diameter: movie\.nd2 states no pixel size for '12 um'\. Fix: give it in"
    ):
        lengths_in_pixels("key", filled, segment_bright, None, "movie.nd2")


def test_texts_of_other_parameters_stay():
    def plugin(frame, *, name: str = "3 um"):
        return frame

    assert lengths_in_pixels("key", {"name": "3 um"}, plugin, 0.5, "movie.nd2") == {"name": "3 um"}
