"""The methods that a config names, at work on data: what goes wrong in one says which it was, and on what."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from pyama_dask import plugins
from pyama_dask.at_work import at_work
from pyama_dask.errors import AlgorithmError, WrongReturnError
from pyama_dask.kernels.methods import find_method, is_plugin
from pyama_dask.quantities import exception_text

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
        with at_work(f"{where}, in {self._title}"):
            try:
                with threads_watched():
                    made = self.function(data, **self._parameters)
                    if isinstance(made, Iterator):  # a generator runs when it is asked
                        made = list(made)
            except MemoryError:  # says nothing of the method: with more memory it may do
                raise
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and ctrl_c_raises():
                    raise
                raise AlgorithmError(f"{where}: {self._title} failed: {exception_text(error)}") from error
            try:
                return convert(made)
            except MemoryError:
                raise
            except Exception as error:  # an array of another library says by any exception that it is none of NumPy
                raise self.wrong(where, f"{type(made).__name__} ({exception_text(error)})", wanted) from error

    def wrong(self, where: str, given: object, wanted: str) -> WrongReturnError:
        """Error for a method that gave something else than is wanted."""
        what = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else str(given)
        return WrongReturnError(f"{where}: {self._title} gave {what}, but must give {wanted}")


@contextmanager
def threads_watched() -> Iterator[None]:
    """Raise what a thread raises that was started in the block, as its work is missing then."""
    before, hook, failed = set(threading.enumerate()), threading.excepthook, list[BaseException]()

    def see(ended: threading.ExceptHookArgs) -> None:
        if ended.thread in before or ended.exc_value is None:
            hook(ended)
        else:
            failed.append(ended.exc_value)

    threading.excepthook = see
    try:
        yield
    finally:
        threading.excepthook = hook
    if failed:
        raise failed[0]


def ctrl_c_raises() -> bool:
    """Whether Ctrl-C raises `KeyboardInterrupt` here, so that one need not come from the method."""
    here = threading.current_thread() is threading.main_thread()
    return here and signal.getsignal(signal.SIGINT) is signal.default_int_handler
