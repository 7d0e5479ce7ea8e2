"""The methods that a config names, at work on data: what goes wrong in one says which it was, and on what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from pyama_dask import plugins
from pyama_dask.errors import AlgorithmError, WrongReturnError
from pyama_dask.kernels.methods import find_method, is_plugin

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
        self.function, self._parameters = find_method(kind, name), parameters
        self.name = name
        self._title = f"the {kind} {name!r}{plugins.defined_at(self.function) if is_plugin(kind, name) else ''}"

    def array(self, where: str, data: Any) -> np.ndarray:
        """Array that the method makes of data.

        Raises
        ------
        AlgorithmError
            If the method fails; names it and where. That memory was short stays a `MemoryError`.
        WrongReturnError
            If what it gives is no array.
        """
        return self._run(where, data, "an array", np.asarray)

    def arrays(self, where: str, data: Any) -> list[np.ndarray]:
        """Arrays that the method makes of data, one a frame; raises as `array` does."""
        return self._run(where, data, "one array a frame", lambda made: [np.asarray(one) for one in made])

    def _run(self, where: str, data: Any, wanted: str, convert: Callable[[Any], Made]) -> Made:
        try:
            made = self.function(data, **self._parameters)
            if isinstance(made, Iterator):  # a generator runs when it is asked
                made = list(made)
        except MemoryError:  # says nothing of the method: with more memory it may do
            raise
        except Exception as error:
            raise AlgorithmError(f"{where}: {self._title} failed: {type(error).__name__}: {error}") from error
        try:
            return convert(made)
        except MemoryError:
            raise
        except Exception as error:  # an array of another library says by any exception that it is none of NumPy
            raise self.wrong(where, f"{type(made).__name__} ({error})", wanted) from error

    def wrong(self, where: str, given: object, wanted: str) -> WrongReturnError:
        """Error for a method that gave something else than is wanted."""
        what = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else str(given)
        return WrongReturnError(f"{where}: {self._title} gave {what}, but must give {wanted}")
