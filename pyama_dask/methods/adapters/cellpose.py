"""Segmentation by Cellpose-SAM (Pachitariu et al. 2025, doi:10.1101/2025.04.28.651001).

A run never downloads its weights (1.2 GB): workers often have no network, and many would download them at once.
"""

from __future__ import annotations

import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from pyama_dask.config.units import FileName, Fraction, Whole
from pyama_dask.errors import ConfigError
from pyama_dask.methods.device import has_gpu

URL = "https://huggingface.co/mouseland/cellpose-sam/resolve/main/"
"""Download folder of cellpose's weights."""
NAMES = ("cpsam_v2", "cpsam")
"""Names of the weights for download."""
FOLDER = "CELLPOSE_LOCAL_MODELS_PATH"
"""Environment variable for cellpose's folder of weights; the default is ~/.cellpose/models."""


def segment(
    frame: np.ndarray,
    *,
    model: Annotated[FileName, Field(min_length=1)] = "cpsam_v2",
    diameter: Annotated[float, Field(gt=0, le=1e4)] | None = None,
    flow_threshold: Annotated[float, Field(ge=0, le=10)] = 0.4,
    cellprob_threshold: Annotated[float, Field(ge=-20, le=20)] = 0.0,
    min_object_size: Whole = 50,
    max_size_fraction: Fraction = 0.4,
    gpu: bool = False,
) -> np.ndarray:
    """Segment the cells of one frame.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16.
    model
        Name of a file in cellpose's folder of weights, or path of a weights file.
    diameter
        Cell diameter in pixels, by which the frame is scaled to 30; None for no scaling.
    flow_threshold
        Largest flow error of a cell; 0 for no limit.
    cellprob_threshold
        Limit above which pixels belong to cells; lower it for more and larger cells.
    min_object_size
        Smallest area of a cell in pixels.
    max_size_fraction
        Largest fraction of the frame that a cell may cover.
    gpu
        As ``segmentation_gpu: optional`` of the config. On a worker that owns no GPU, its core is used.

    Returns
    -------
    (H, W) labels: 0 is background, cells are 1..N.

    Raises
    ------
    ConfigError
        If the weights do not exist.
    """
    gpu = has_gpu()  # what the config asks for has decided where this runs
    network = _network(str(weights(model)), gpu)
    with warnings.catch_warnings(action="ignore"):  # torch's are for programmers and would crowd the report
        labels, *_ = network.eval(
            frame,
            batch_size=8 if gpu else 1,
            diameter=diameter,
            flow_threshold=flow_threshold,
            cellprob_threshold=cellprob_threshold,
            min_size=min_object_size,
            max_size_fraction=max_size_fraction,
        )
    return np.asarray(labels).reshape(frame.shape)


def check(*, model: str, **_: Any) -> None:
    """Check that the weights exist; see `weights`."""
    weights(model)


def gpu_problem() -> str:
    """Reason why cellpose cannot use a GPU here; '' if it may."""
    import torch

    if torch.version.cuda or torch.version.hip or torch.backends.mps.is_built():
        return ""
    return "the installed torch is a build for CPUs. Fix: install one with CUDA, see pytorch.org"


def weights(model: str) -> Path:
    """Path of a model's weights.

    Raises
    ------
    ConfigError
        If the file does not exist; the message says how to get it.
    """
    folder = Path(os.environ.get(FOLDER) or Path.home() / ".cellpose" / "models")
    path = folder / Path(model).expanduser()
    if path.is_file():
        return path
    if model in NAMES:
        how = f"download them once (1.2 GB) on a machine with a network: curl --create-dirs -Lo {path} {URL}{model}"
    else:
        how = f"name an existing file, or one of {', '.join(NAMES)}"
    raise ConfigError(
        f"model: cellpose has no weights {path}: {how}; the variable {FOLDER} may name another folder, "
        "which all workers must see"
    )


@lru_cache(maxsize=1)
def _network(path: str, gpu: bool) -> Any:
    """Network with its weights, loaded once per process."""
    import torch
    from cellpose.models import CellposeModel

    torch.set_num_threads(1)
    return CellposeModel(gpu=gpu, pretrained_model=path)
