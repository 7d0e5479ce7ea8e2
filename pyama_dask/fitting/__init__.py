"""Models of traces and their fits, on arrays; no files, no scheduler."""

from pyama_dask.fitting.catalog import MODELS, check_model, find_model, known_models, model_identity
from pyama_dask.fitting.least_squares import Fits, Limits, fit_cells
from pyama_dask.fitting.models import Loss, Model, NumericSlopes, Parameter

__all__ = [
    "MODELS",
    "Fits",
    "Limits",
    "Loss",
    "Model",
    "NumericSlopes",
    "Parameter",
    "check_model",
    "find_model",
    "fit_cells",
    "known_models",
    "model_identity",
]
