"""A run in a thread, for notebooks and programs with windows, which stay usable while it works."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from distributed import Client

from pyama_dask.config.models import Config
from pyama_dask.errors import BusyError
from pyama_dask.execute.events import Progress
from pyama_dask.files.html import never_failing, text
from pyama_dask.plan.plan import Plan
from pyama_dask.runs.bars import Bars, OnStart, bars_html, check_progress, in_notebook
from pyama_dask.runs.movies import MoviesReport, given_configs, run_given
from pyama_dask.runs.progress import MoviesProgress, MoviesTally, RunProgress, Tally
from pyama_dask.runs.status import RunReport
from pyama_dask.workflow.graph import Step

GLANCE = 0.2
"""Seconds between looks whether the program is about to end."""
_turn = threading.Lock()
_at_work: list[BackgroundRun] = []
"""The run at work in this process, at most one: settings of Dask and the log belong to the process."""


class BackgroundRun:
    """A run at work in a thread of this process; `start` returns it.

    When the program ends, or a notebook's kernel, an unfinished run is cancelled first: its output is unlocked, and
    the next run resumes it.

    Attributes
    ----------
    output : Path
        Directory of the results; of several movies, the folder above.
    """

    def __init__(
        self, given: Config | list[Config], progress: Progress | Literal[False] | None, options: Mapping[str, Any]
    ) -> None:
        self._tally: Tally | MoviesTally
        if isinstance(given, list):
            self.output, self._tally = given[0].output.parent.absolute(), MoviesTally(len(given))
        else:
            self.output, self._tally = given.output.absolute(), Tally()
        self._cancel, self._done = threading.Event(), threading.Event()
        self._report: RunReport | MoviesReport | None = None
        self._error: BaseException | None = None
        self._callback = progress if callable(progress) else None
        self._bars = Bars(self._tally) if progress is None and in_notebook() else None
        self._on_start: OnStart | None = options.get("on_start")
        calls = {"progress": self._event, "on_start": self._start, "cancel": self._cancel}
        work = contextvars.copy_context()
        # not a daemon: the interpreter waits for the thread at its end, while threads and processes can still be used
        self._thread = threading.Thread(
            target=work.run, args=(self._work, given, {**options, **calls}), name="pyama-run", daemon=False
        )
        self._watch = threading.Thread(target=self._end_with_program, name="pyama-run-end", daemon=True)

    def _begin(self) -> None:
        """Start the threads, unless another run is at work."""
        with _turn:
            if _at_work:
                raise BusyError(
                    f"{self.output}: cannot be processed now, as a run into {_at_work[0].output} is at work in this "
                    "process. Fix: wait() for that run, or use another process"
                )
            _at_work.append(self)
        if self._bars:
            self._bars.__enter__()  # ended by `_work`
        self._thread.start()
        self._watch.start()

    # ------------------------------------------------------------------------------------- in the thread

    def _work(self, given: Config | list[Config], options: Mapping[str, Any]) -> None:
        try:
            self._report = run_given(given, **options)
        except BaseException as error:  # noqa: BLE001  (`wait` and `result` raise it)
            self._error = error
        finally:
            self._tally.end()
            if self._bars:
                self._bars.end(self._repr_html_())
            _at_work.remove(self)
            self._done.set()

    def _event(self, event: dict[str, Any]) -> None:
        self._tally.event(event)
        if self._callback:
            self._callback(event)

    def _start(self, plan: Plan, dashboard: str | None) -> None:
        self._tally.start(plan, dashboard)
        if self._on_start:
            self._on_start(plan, dashboard)

    def _end_with_program(self) -> None:
        """Cancel the run as soon as the main thread has ended, as the interpreter waits for the run then."""
        while not self._done.wait(GLANCE):
            if not threading.main_thread().is_alive():
                self.cancel()
                return

    # ------------------------------------------------------------------------------------ for the caller

    @property
    def progress(self) -> RunProgress | MoviesProgress:
        """Progress at this moment."""
        return self._tally.now()

    @property
    def done(self) -> bool:
        """True once the run has ended, in whatever way."""
        return self._done.is_set()

    @property
    def result(self) -> RunReport | MoviesReport | None:
        """Report of the run; None while it is at work.

        Raises
        ------
        Exception
            The error that ended the run, such as `ConfigError`.
        """
        if self._error:
            raise self._error
        return self._report if self.done else None

    def cancel(self) -> None:
        """Stop the run soon; finished work stays recorded, and the next run resumes it. Returns at once."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> RunReport | MoviesReport:
        """Wait for the end of the run. Interrupting the wait, as with Ctrl-C, leaves the run at work.

        Parameters
        ----------
        timeout
            Seconds; None to wait as long as it takes.

        Returns
        -------
        The report of the run, as `pyama_dask.run` returns it.

        Raises
        ------
        TimeoutError
            If the run is still at work after `timeout`.
        Exception
            The error that ended the run, such as `ConfigError`.
        """
        if not self._done.wait(timeout):
            raise TimeoutError(f"{self.output}: the run is still at work: {self.progress}")
        if self._error:
            raise self._error
        assert self._report is not None
        return self._report

    def __repr__(self) -> str:
        return f"<BackgroundRun {self.output.name}: {self._state}>"

    @property
    def _state(self) -> str:
        """State in a few words."""
        if self._error:
            return f"failed: {self._error}"
        state = "ended" if self._report else "stopping" if self._cancel.is_set() else "at work"
        return f"{state}, {self.progress}"

    @never_failing
    def _repr_html_(self) -> str:
        if self._report is not None:
            return self._report._repr_html_()
        return f"<div>{text(repr(self))}</div>{'' if self._error else bars_html(self.progress)}"


def start(
    config: Config | Mapping[str, Any] | str | Path,
    *,
    client: Client | None = None,
    progress: Progress | Literal[False] | None = None,
    steps: Sequence[Step] | None = None,
    force: Sequence[Step] = (),
    retry_failed: bool = False,
    extend: bool = False,
    into: bool = False,
    on_start: OnStart | None = None,
) -> BackgroundRun:
    """Begin a run in a thread, and return at once. A process has at most one such run at work.

    Parameters
    ----------
    config, client, progress, steps, force, retry_failed, extend, into, on_start
        As for `pyama_dask.run`. `progress` and `on_start` are called in threads.

    Returns
    -------
    Handle with ``progress``, ``cancel()``, ``wait()``, ``result`` and ``done``.

    Raises
    ------
    ConfigError
        If the config or `progress` is invalid. Later errors are raised by ``wait()`` and ``result``.
    OutputError, PlanError
        If several movies are named, but `output` is that of one; or none has failed FOVs to try again.
    BusyError
        If another run in a thread is at work in this process.
    """
    check_progress(progress)
    options = {
        "client": client, "steps": steps, "force": force, "retry_failed": retry_failed, "extend": extend, "into": into,
        "on_start": on_start,
    }  # fmt: skip
    begun = BackgroundRun(given_configs(config, retry_failed=retry_failed), progress, options)
    begun._begin()
    return begun
