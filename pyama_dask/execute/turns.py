"""Turns of several runs on the same workers: each takes FOVs when the one before has none left to take.

Together they hold no more FOVs than one run would, and workers are busy at the joints: while the last FOVs of a run
end, the next run already submits tasks.
"""

from __future__ import annotations

import threading


class Turns:
    """Order in which runs take FOVs, and the number that each of them holds; runs may be in different threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[int, int] = {}
        self._passed: set[int] = set()

    def turn(self, number: int) -> Turn:
        """Turn of a run; number 0 comes first."""
        return Turn(self, number)

    def has_begun(self, number: int) -> bool:
        """True once a run looks for FOVs to take, or has ended."""
        with self._lock:
            return number in self._held or number in self._passed

    def waiting(self, count: int) -> int:
        """Number of the first `count` runs that have not let the next one take FOVs."""
        with self._lock:
            return sum(number not in self._passed for number in range(count))

    def may_take(self, number: int, held: int, window: int) -> bool:
        """Note how many FOVs a run holds; True if it may take one more."""
        with self._lock:
            self._held[number] = held
            return self._is_next(number) and sum(self._held.values()) < window

    def must_wait(self, number: int, window: int) -> bool:
        """True if a run takes no FOV because of the others."""
        with self._lock:
            others = sum(self._held.values()) - self._held.get(number, 0)
            return not self._is_next(number) or (others > 0 and sum(self._held.values()) >= window)

    def pass_on(self, number: int, held: int) -> None:
        """Let the next run take FOVs."""
        with self._lock:
            self._held[number] = held
            self._passed.add(number)

    def _is_next(self, number: int) -> bool:
        return all(before in self._passed for before in range(number))


class Turn:
    """Turn of one run; alone, it may take FOVs at any time.

    Parameters
    ----------
    turns
        Turns of all runs; None for a run alone.
    number
        Number of this run in their order, from 0.
    """

    def __init__(self, turns: Turns | None = None, number: int = 0) -> None:
        self._turns, self.number = turns or Turns(), number

    def may_take(self, held: int, window: int) -> bool:
        """True if the run, which holds some FOVs, may take one more."""
        return self._turns.may_take(self.number, held, window)

    def must_wait(self, window: int) -> bool:
        """True if only other runs keep it from taking a FOV."""
        return self._turns.must_wait(self.number, window)

    def pass_on(self, held: int = 0) -> None:
        """Let the next run take FOVs, while this one still holds some."""
        self._turns.pass_on(self.number, held)
