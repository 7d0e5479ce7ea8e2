"""Compile what a fit calls before it begins, so that users are told why they wait, and workers load the result."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from pyama_dask.fitting import curves, lm_steps, maturation
from pyama_dask.fitting.catalog import MODELS
from pyama_dask.fitting.least_squares import fit_cells
from pyama_dask.fitting.models import Loss, Model
from pyama_dask.kernels.compiled import cache_folder, lacks_code

_OF_CURVES: tuple[ModuleType, ...] = (curves, maturation)


def what_to_compile(model: Model, loss: Loss | None = None, loss_scale: float | None = None) -> str:
    """Say what a fit has to compile; '' if all that it calls is compiled or cached.

    Parameters
    ----------
    model, loss, loss_scale
        As for `fit_cells`. Functions of models from other packages and files do not count.
    """
    modules = [lm_steps, *(of for of in _OF_CURVES if of.__name__ == model.curve.__module__)]
    unused = {maturation.mean4.__name__}  # fits call its inner part
    if (loss or model.loss) == "linear" or loss_scale:
        unused.add(lm_steps.noise.__name__)  # which gives the scale of the other loss
    if {name for module in modules for name in lacks_code(module)} <= unused:
        return ""
    if cache_folder() is None:
        return (
            f"Compiling the model {model.name}; each fit does this, as no folder can keep compiled code. "
            "Fix: set NUMBA_CACHE_DIR to a folder that can be written to"
        )
    return f"Compiling the model {model.name}; only the first fit with it does this"


def compile_fit(model: Model, loss: Loss | None = None, loss_scale: float | None = None) -> None:
    """Compile, or load, what `fit_cells` calls with these arguments, by a fit of made values.

    No code of other packages and files is called: a model from there is replaced by a built-in one.
    """
    built_in = MODELS.get(model.name)
    ours = built_in if built_in and built_in.curve is model.curve else MODELS["trivial"]
    hours = np.arange(16.0)
    fit_cells(hours, hours[None] ** 2, ours, loss=loss or model.loss, loss_scale=loss_scale)
