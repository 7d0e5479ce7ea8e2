"""Alarm for runs in which no task ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Literal

log = logging.getLogger(__name__)

WATCH_INTERVAL = 2.0
"""Seconds between checks of the workers."""


class Watch:
    """Reports changes of the workers' status, and raises an alarm if no task ends for too long.

    Parameters
    ----------
    patience
        Seconds without a finished task before the first alarm; doubled after each alarm.
    status
        Returns the status of the workers in a few words; '' if there is nothing to report.
    doing
        Returns what the workers do in a few words, for alarms; '' if unknown.
    clock
        Monotonic clock in seconds.
    """

    def __init__(
        self, patience: float, status: Callable[[], str], doing: Callable[[], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._patience, self._status, self._doing, self._clock = patience, status, doing, clock
        self._progressed = self._checked = clock()
        self._last_status, self._wait = "", patience
        self.alarms: list[str] = []

    def check(self, progressed: bool) -> Iterator[tuple[Literal["jobs", "alarm"], str]]:
        """Yield ``jobs`` with a changed status, and ``alarm`` with its message.

        Parameters
        ----------
        progressed
            True if a task has ended since the last call.
        """
        now = self._clock()
        if progressed:
            self._progressed, self._wait = now, self._patience
        if now - self._checked < WATCH_INTERVAL:
            return
        self._checked = now
        if (status := self._status()) != self._last_status:
            self._last_status = status
            yield "jobs", status
        if now - self._progressed > self._wait:
            self._wait *= 2
            minutes = (now - self._progressed) / 60
            reasons = [part for part in (status, self._doing()) if part]
            alarm = f"no task has ended for {minutes:.1f} min: {'; '.join(reasons) or 'tasks are still running'}"
            self.alarms.append(alarm)
            log.warning("%s", alarm)
            yield "alarm", alarm
