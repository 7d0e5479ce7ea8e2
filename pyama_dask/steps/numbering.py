"""Numbers of the objects of a frame, as labels are stored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.cell_maps import without_gaps
from pyama_dask.methods.call import Chosen


def numbered(labels: np.ndarray, method: Chosen, where: str) -> npt.NDArray[np.uint16]:
    """Number objects 1..N in the order of their labels; 0 is background.

    Parameters
    ----------
    labels
        (H, W) whole numbers, as a segmenter or a step returned them.
    method, where
        For messages.

    Returns
    -------
    (H, W) labels, a new array.

    Raises
    ------
    WrongReturnError
        If a label is negative, or there are more than 65535 objects.
    """
    if labels.dtype == np.uint16:
        return without_gaps(labels.copy())
    values, places = np.unique(labels, return_inverse=True)
    if values[0] < 0 or np.count_nonzero(values) > np.iinfo(np.uint16).max:
        given = f"{np.count_nonzero(values)} labels of {values[0]} to {values[-1]}"
        raise method.wrong(where, given, "0 for background and at most 65535 objects")
    return np.where(labels == 0, 0, places.reshape(labels.shape) + (values[0] != 0)).astype(np.uint16)
