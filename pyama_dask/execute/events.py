"""Delivery of the events of a run to the user's callback, which must not delay the run.

The callback runs in a thread. As long as it is quick, the loop waits for it: every event is delivered at once, and a
cancellation or an exception in it takes effect before the next task. A callback that has used up its share of the
run's time is not waited for any more: of the events that come meanwhile, it gets the latest of each step and FOV.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Self

Progress = Callable[[dict[str, Any]], None]

NEWS = ("compile", "jobs", "done", "failed", "alarm")
"""Subjects of events that do not count the frames of a step."""
PATIENCE, SHARE = 2.0, 0.01
"""Time that a run may wait for the callback altogether: seconds, and a share of its duration."""
INTERVAL = 0.1
"""Least seconds between calls with steps, once the run does not wait any more."""
CANCELLED = 2.0
"""Seconds that a cancelled run waits at its end for the callback."""


class Events:
    """Callback that passes events on to another; use as a context manager, which delivers the last ones at its end.

    Parameters
    ----------
    progress
        The user's callback. Events of steps may be left out if a later one of the same step and FOV follows; all
        others are delivered, in their order.
    cancel
        When it is set, the end does not wait for long.
    patience
        Seconds that the run may wait for the callback, beside `SHARE`.

    Raises
    ------
    BaseException
        Whatever the callback raises, with the same or the next event, or at the end.
    """

    def __init__(self, progress: Progress, cancel: threading.Event, patience: float = PATIENCE) -> None:
        self._progress, self._cancel, self._patience = progress, cancel, patience
        self._started, self._waited = time.monotonic(), 0.0
        self._changed = threading.Condition()
        self._pending: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._given = self._delivered = 0
        self._urgent = self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._deliver, name="pyama-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        until = 0.0
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(0.05)  # short, so that a signal is noticed
            if kind is not None or self._cancel.is_set():
                until = until or time.monotonic() + CANCELLED
                if time.monotonic() > until:
                    break
        if kind is None:
            self._raise()

    def __call__(self, event: dict[str, Any]) -> None:
        """Pass an event on; wait for the callback while it has time left."""
        with self._changed:
            self._raise()
            self._given += 1
            of_step = event["step"] not in NEWS
            key = (event["step"], event["fov"]) if of_step else (self._given,)
            self._pending.pop(key, None)  # the later one comes at the end
            self._pending[key] = event
            begun = time.monotonic()
            left = self._patience + SHARE * (begun - self._started) - self._waited
            self._urgent |= left > 0 or not of_step
            self._changed.notify_all()
            if left > 0 and threading.current_thread() is not self._thread:
                given = self._given
                self._changed.wait_for(lambda: self._delivered >= given or self._error, left)
                self._waited += time.monotonic() - begun
            self._raise()

    def _raise(self) -> None:
        if self._error:
            raise self._error

    def _deliver(self) -> None:
        """Call the callback until the end; after an exception, it is not called again."""
        rest = 0.0
        while batch := self._next(rest):
            events, given = batch
            begun = time.monotonic()
            try:
                for event in events:
                    self._progress(event)
            except BaseException as error:  # noqa: BLE001  (it is raised in the loop)
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._delivered = given
                self._changed.notify_all()
            rest = max(INTERVAL, time.monotonic() - begun)  # leave at least half of the time to the loop

    def _next(self, rest: float) -> tuple[list[dict[str, Any]], int] | None:
        """Events to deliver, and how many were given by then; None at the end. Steps wait for `rest` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._urgent or self._closing, rest)
            self._changed.wait_for(lambda: self._pending or self._closing)
            events = list(self._pending.values())
            self._pending.clear()
            self._urgent = False
            return (events, self._given) if events else None
