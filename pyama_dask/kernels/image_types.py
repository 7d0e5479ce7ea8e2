"""Types of images by their axes: what a step of a pipeline takes and gives, as its signature says.

The annotation of a function's first parameter says what it is called with, and that of its result what it gives:

    def sharpened(frame: Frame, *, amount: float = 1.0) -> Frame: ...

All other parameters are keywords.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy.typing as npt


@dataclass(frozen=True)
class Axes:
    """Axes of an array, in order: t for frames, z for planes, y and x."""

    names: str
    is_labels: bool = False
    """True if pixels are whole numbers that name objects, and 0 for none."""


Frame = Annotated[npt.NDArray[Any], Axes("yx")]
"""(H, W) pixels of one channel of one frame."""
Stack = Annotated[npt.NDArray[Any], Axes("tyx")]
"""(T, H, W) pixels of one channel of consecutive frames."""
Planes = Annotated[npt.NDArray[Any], Axes("zyx")]
"""(Z, H, W) pixels of one channel of all planes of a frame."""
Labels = Annotated[npt.NDArray[Any], Axes("yx", is_labels=True)]
"""(H, W) whole numbers: 0 for background, and one number for each object."""
LabelStack = Annotated[npt.NDArray[Any], Axes("tyx", is_labels=True)]
"""(T, H, W) labels of consecutive frames."""
