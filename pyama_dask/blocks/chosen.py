"""The methods that a config names, at work on data: what goes wrong in one says which it was, and on what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from pyama_dask.errors import AlgorithmError
from pyama_dask.kernels.methods import find_method

Made = TypeVar("Made")


class Chosen:
    """A method that the config names, with its parameters.

    Parameters
    ----------
    kind, name
        As for `find_method`.
    parameters
        Keyword arguments of the method.
    """

    def __init__(self, kind: str, name: str, **parameters: Any) -> None:
        self._function, self._parameters = find_method(kind, name), parameters
        self.name, self._title = name, f"the {kind} {name!r}"

    def array(self, where: str, data: Any) -> np.ndarray:
        """Array that the method makes of data.

        Raises
        ------
        AlgorithmError
            If the method fails; names it and where. That memory was short stays a `MemoryError`.
        """
        return self._run(where, data, np.asarray)

    def arrays(self, where: str, data: Any) -> list[np.ndarray]:
        """Arrays that the method makes of data, one a frame; raises as `array` does."""
        return self._run(where, data, lambda made: [np.asarray(one) for one in made])

    def _run(self, where: str, data: Any, convert: Callable[[Any], Made]) -> Made:
        try:
            return convert(self._function(data, **self._parameters))
        except MemoryError:  # says nothing of the method: with more memory it may do
            raise
        except Exception as error:
            raise AlgorithmError(f"{where}: {self._title} failed: {type(error).__name__}: {error}") from error

    def wrong(self, where: str, given: object, wanted: str) -> AlgorithmError:
        """Error for a method that gave something else than is wanted."""
        what = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else str(given)
        return AlgorithmError(f"{where}: {self._title} gave {what}, but must give {wanted}")
