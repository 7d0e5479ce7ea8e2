"""State and speed of a run in words, for the terminal and the dashboard."""

from __future__ import annotations

from pyama_dask.config.units import duration
from pyama_dask.runs.snapshot import Snapshot

SILENCE = 20.0
"""Seconds without a sign of life that are worth a word; a run gives one every 5 s."""


def state_text(snapshot: Snapshot) -> str:
    """State of a run in words."""
    if not snapshot.is_active:
        ends = {
            "complete": "the last one is complete", "failed": "the last one ended with failed FOVs",
            "cancelled": "the last one was cancelled", "stopped": "the last one stopped early",
        }  # fmt: skip
        last = "the last one was killed" if snapshot.state == "killed" else ends.get(snapshot.ended, "")
        return "no run is active" + (f"; {last}" if last else "")
    since = f" for {duration(snapshot.at - snapshot.started)}" if snapshot.started else ""
    where = f" on {snapshot.host}, process {snapshot.pid}" if snapshot.host else ""
    silent = f"; no sign of life for {duration(snapshot.silent)}" if snapshot.silent > SILENCE else ""
    return f"{snapshot.state}{since}{where}{silent}"


def brief_text(snapshot: Snapshot) -> str:
    """State of one of several runs, and of its FOVs, in a few words."""
    fovs = ", ".join(f"{count} {state}" for state, count in snapshot.fov_counts.items())
    return f"{snapshot.ended or snapshot.state}; FOVs: {fovs}"


def speed_text(snapshot: Snapshot) -> str:
    """Speed and time left in words; '' if unknown."""
    if snapshot.rate is None:
        return ""
    minute, ten = snapshot.rate.last_minute, snapshot.rate.last_10_minutes
    left = f"; {duration(snapshot.seconds_left)} left" if snapshot.seconds_left is not None else ""
    return f"{minute:.1f} frames/s in the last minute, {ten:.1f} in 10 minutes{left}"
