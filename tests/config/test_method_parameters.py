"""Parameters of methods, from their signatures."""

from pyama_dask.config.method_parameters import method_parameters, parameter_model
from pyama_dask.kernels.segmentation import segment
from pyama_dask.kernels.tracking import keep_cells, link
from pyama_dask.runs.template import default_params


def test_a_name_belongs_to_the_function_that_has_it():
    filled = method_parameters("params.tracking_params", {"min_frames": 2}, link, keep_cells)
    assert filled == {"min_iou": 0.1, "min_frames": 2, "border_margin": 50}


def test_limits_of_the_built_in_methods_are_those_of_their_signatures():
    assert set(parameter_model(segment).model_fields) == set(default_params()["segmentation_params"])
