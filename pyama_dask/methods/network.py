"""Open networks: a model whose input and output are known to fit, and the maps that it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import exception_text
from pyama_dask.errors import ConfigError
from pyama_dask.methods.onnx_model import CPU, ModelCard, read_model

MULTIPLE = 32
"""Frames are padded to multiples of this many pixels."""
TRIAL = 64
"""Width in pixels of the image on which a model is tried."""


@dataclass(frozen=True)
class Network:
    """An open model whose input and output are known to fit."""

    card: ModelCard
    session: Any
    factor: int
    """Pixels of the input per pixel of the output, by axis."""
    probabilities: bool
    """True if the map of the foreground has probabilities, not logits."""

    @property
    def takes_several(self) -> bool:
        """True if several frames go through it at once: on a GPU; on a CPU, that is no faster, and may change bits."""
        return self.session.get_providers()[0] != CPU and not isinstance(self.session.get_inputs()[0].shape[0], int)

    def maps(self, flat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run the network on a flattened frame.

        Returns
        -------
        (3, h, w) maps, or (1, h, w) with a map above 0 in the foreground, of the frame padded to multiples of 32.

        Raises
        ------
        ValueError
            If a value is not finite.
        """
        return self._through(flat[None])[0]

    def maps_of(self, flats: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        """Maps of flattened frames of one shape, together if the network takes several; see `maps`."""
        if self.takes_several:
            return self._through(np.stack(flats))
        return [self.maps(flat) for flat in flats]

    def _through(self, flats: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Maps of frames (N, H, W); see `maps`."""
        rest = [(0, 0), *((0, -n % MULTIPLE) for n in flats.shape[1:])]
        found: npt.NDArray[np.float32] = _run(self.session, np.pad(flats, rest, mode="reflect"))
        if not np.isfinite(found).all():
            raise ValueError("the network returned values that are not finite")
        return [*(found - np.float32(0.5) if self.probabilities else found)]


@lru_cache(maxsize=2)
def open_network(path: Path, providers: tuple[str, ...] = (), content: str = "") -> Network:
    """Open a model, check its input and output, and try it once; each process keeps the last two.

    Parameters
    ----------
    path, providers, content
        As for `methods.onnx_model.read_model`.

    Raises
    ------
    ConfigError
        If it cannot be opened (see `read_model`), has other inputs or outputs than `methods.unet` describes, or
        returns values that are not finite.
    """
    card, session = read_model(path, providers, content)
    _check_ends(path, session)
    image = np.random.default_rng(0).normal(size=(TRIAL, TRIAL)).astype(np.float32)
    try:
        found = _run(session, image[None])[0]
    except Exception as error:  # onnxruntime's exceptions have no common base
        said = exception_text(error, 200)
        raise ConfigError(
            f"{path}: the model fails on an image of {TRIAL} x {TRIAL} pixels ({said}). Fix: name another"
        ) from error
    count, height, width = found.shape if found.ndim == 3 else (0, 1, 1)
    factor = TRIAL // max(height, 1)
    if (count, factor) not in {(3, 2), (1, 1), (1, 2), (1, 4)} or height != width or factor * height != TRIAL:
        raise ConfigError(
            f"{path}: the model makes {found.shape} of an image of {TRIAL} x {TRIAL} pixels, but must make three maps "
            "of half the size, or one of the full size, a half or a quarter. Fix: name a model made for pyama_dask"
        )
    if not np.isfinite(found).all():
        raise ConfigError(f"{path}: the model returns values that are not finite. Fix: train it again, or name another")
    probabilities = count == 1 and float(found.min()) >= 0 and float(found.max()) <= 1
    return Network(card, session, factor, probabilities)


def _run(session: Any, images: npt.NDArray[np.float32]) -> Any:
    return session.run(None, {session.get_inputs()[0].name: images[:, None]})[0]


def _check_ends(path: Path, session: Any) -> None:
    """Refuse a model with other inputs or outputs than one of float32, and of images of any size."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = list(inputs[0].shape) if inputs else []
    fits = len(inputs) == len(outputs) == 1 and inputs[0].type == outputs[0].type == "tensor(float)" and len(shape) == 4
    if not fits or (isinstance(shape[1], int) and shape[1] != 1):
        ends = "; ".join(f"{of.name}: {of.type} {of.shape}" for of in (*inputs, *outputs))
        raise ConfigError(
            f"{path}: the model has other inputs or outputs ({ends}) than one float32 image (N, 1, H, W) and its maps. "
            "Fix: name a model made for pyama_dask, or export it so"
        )
    if fixed := [n for n in shape[2:] if isinstance(n, int)]:
        raise ConfigError(f"{path}: the model takes images of {fixed[0]} pixels only. Fix: export it with dynamic axes")
