"""Calls of the methods named in a config; errors name the method and the data it was called with."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from pyama_dask.config.units import exception_text
from pyama_dask.errors import AlgorithmError, OutOfMemoryError, WrongReturnError
from pyama_dask.methods import entry_points
from pyama_dask.methods.current_call import at_work
from pyama_dask.methods.device import has_gpu, needs_of
from pyama_dask.methods.registry import find_method, is_plugin

Made = TypeVar("Made")


class Chosen:
    """A method from the config, with its parameters.

    Parameters
    ----------
    kind, name
        As for `find_method`.
    parameters
        Keyword arguments of the method.
    """

    def __init__(self, kind: str, name: str, /, **parameters: Any) -> None:
        self.function, self._parameters = find_method(kind, name), parameters
        self._names_lines = kind == "step"
        self.batch = needs_of(self.function, name).frames_at_once(on_gpu=has_gpu()) if kind == "segmenter" else 0
        """Frames that it takes at once, as (N, H, W); 0 if it takes one frame, (H, W)."""
        self.name = name
        self.title = f"the {kind} {name!r}{entry_points.defined_at(self.function) if is_plugin(kind, name) else ''}"
        """Name for messages."""

    def array(self, where: str, *data: Any) -> np.ndarray:
        """Array that the method returns for some data.

        Raises
        ------
        AlgorithmError
            If the method fails; the message names the method and `where`.
        OutOfMemoryError
            If it raises a `MemoryError`.
        WrongReturnError
            If the return value is not an array.
        """
        return self._run(where, data, "an array", np.asarray)

    def lazy(self, where: str, *data: Any) -> Any:
        """Array of any type, such as one of Dask, that the method returns for some data; raises as `array` does."""
        return self._run(where, data, "an array", lambda made: made)

    def labels(self, where: str, data: Any) -> np.ndarray:
        """Array that a segmenter returns, alone or as the first of (labels, probabilities); raises as `array` does."""
        return self._run(where, (data,), "an array of labels", _first)

    def arrays(self, where: str, data: Any) -> list[np.ndarray]:
        """Arrays that the method returns for some data, one per frame; raises as `array` does."""
        return self._run(where, (data,), "one array per frame", lambda made: [np.asarray(one) for one in made])

    def tracks(self, where: str, data: Any) -> tuple[list[np.ndarray], dict[Any, Any] | None]:
        """Arrays of a tracker, one per frame, and the mother of each daughter by id, if any; raises as `array` does.

        A tracker returns the arrays alone, or a tuple of the arrays and a mapping.
        """

        def convert(made: Any) -> tuple[list[np.ndarray], dict[Any, Any] | None]:
            ids, parents = made if _has_parents(made) else (made, None)
            return [np.asarray(one) for one in ids], None if parents is None else dict(parents)

        return self._run(where, (data,), "one array per frame", convert)

    def _run(self, where: str, data: Sequence[Any], wanted: str, convert: Callable[[Any], Made]) -> Made:
        with at_work(f"{where}, in {self.title}"):
            try:
                with threads_watched():
                    made = self.function(*data, **self._parameters)
                    if isinstance(made, Iterator):  # a generator only runs when consumed
                        made = list(made)
            except MemoryError as error:  # not the method's fault: it may succeed with more memory
                raise self._out_of_memory(where, error) from error
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and ctrl_c_raises():
                    raise
                line = entry_points.line_of(error, self.function) if self._names_lines else ""
                raise AlgorithmError(f"{where}: {self.title} failed: {exception_text(error)}{line}") from error
            try:
                return convert(made)
            except MemoryError as error:
                raise self._out_of_memory(where, error) from error
            except Exception as error:  # np.asarray on a foreign array may raise anything
                raise self.wrong(where, f"{type(made).__name__} ({exception_text(error)})", wanted) from error

    def _out_of_memory(self, where: str, error: MemoryError) -> OutOfMemoryError:
        return OutOfMemoryError(f"{where}: {self.title} failed: {exception_text(error)}")

    def unfit(self, where: str, problem: str, fix: str) -> WrongReturnError:
        """Error for a method whose result does not fit: the predicate of a sentence about it, and how to fix it."""
        return WrongReturnError(f"{where}: {self.title} {problem}. Fix: {fix}")

    def wrong(self, where: str, returned: object, wanted: str) -> WrongReturnError:
        """Error for a method that returned something other than `wanted`."""
        what = f"{returned.dtype} {returned.shape}" if isinstance(returned, np.ndarray) else str(returned)
        return WrongReturnError(f"{where}: {self.title} returned {what}, but must return {wanted}")


def _has_parents(made: Any) -> bool:
    """Check whether a tracker returned a mapping of mothers beside its ids."""
    return isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Mapping)


def _first(made: Any) -> np.ndarray:
    return np.asarray(made[0] if isinstance(made, tuple) and len(made) == 2 else made)


class _ThreadWatch:
    """Exceptions in threads that running methods have started.

    Python reports them through one hook per process, and a worker may run several tasks concurrently. The hook is
    therefore replaced once, while any method runs. A failed thread counts against every method that may have started
    it: each one that began before the thread was first seen.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watching: dict[int, tuple[set[threading.Thread], list[BaseException]]] = {}
        self._hook: Callable[[threading.ExceptHookArgs], Any] = threading.excepthook

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Raise the exception of a thread that was started in the block, because its results are missing."""
        failed = list[BaseException]()
        with self._lock:
            if not self._watching:
                self._hook, threading.excepthook = threading.excepthook, self._see
            self._watching[id(failed)] = {*threading.enumerate()}, failed
        try:
            yield
        finally:
            with self._lock:
                del self._watching[id(failed)]
                if not self._watching:
                    threading.excepthook = self._hook
        if failed:
            raise failed[0]

    def _see(self, ended: threading.ExceptHookArgs) -> None:
        with self._lock:
            started_in = [failed for before, failed in self._watching.values() if ended.thread not in before]
        if not started_in or ended.exc_value is None:
            self._hook(ended)
        else:
            for failed in started_in:
                failed.append(ended.exc_value)


threads_watched = _ThreadWatch().watch


def ctrl_c_raises() -> bool:
    """True if Ctrl-C raises `KeyboardInterrupt` here, so that the method may not be its source."""
    here = threading.current_thread() is threading.main_thread()
    return here and signal.getsignal(signal.SIGINT) is signal.default_int_handler
