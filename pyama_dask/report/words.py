"""Sentences and small tables of a report: how a run ended, what it cost, and where it comes from."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import pyama_dask
from pyama_dask.config.units import as_ranges, duration, many
from pyama_dask.report.axes import UNKNOWN, number
from pyama_dask.report.facts import FovFacts, RunFacts
from pyama_dask.report.flags import Flagged
from pyama_dask.report.overview import Summaries
from pyama_dask.steps.standard import label_of
from pyama_dask.workflow.failure import Cause

FIXES: dict[Cause, str] = {
    "input": "copy the movie again, or leave out its frames with --frames or the FOV with --fovs",
    "algorithm": "look at that frame; change the parameters of the method",
    "memory": "raise cluster.memory, or use fewer workers",
    "worker lost": "see docs/troubles.md for the reason; the frames or a plugin may crash the worker",
    "storage": "check the disk, and run 'pyama-dask verify --deep'",
}
"""Fixes for failures whose reason names none."""


def state_of(run: RunFacts) -> str:
    """State of a run in a sentence or two."""
    counts, total = run.counts, len(run.fovs)
    done, failed = counts["done"], counts["failed"]
    if run.last.get("stopped"):
        ended = f"The run stopped early, with {done} of {many(total, 'FOV')} done"
    elif done == total:
        ended = f"All {many(total, 'FOV')} are done" if total != 1 else "The FOV is done"
    else:
        ended = f"{done} of {many(total, 'FOV')} {'is' if 1 in (done, total) else 'are'} done"
        ended = f"The run was cancelled: {ended}" if run.last.get("cancelled") else ended
    left = [f"{failed} failed"] if failed else []
    left += [f"{counts[name]} {name}" for name in ("partial", "pending") if counts[name]]
    ended += f" ({', '.join(left)})" if left else ""
    if not run.finds_cells:
        does = "copies frames" if run.has_seven else "has pipelines without the seven steps"
        return f"{ended}. The run {does} and finds no cells."
    tracks = sum(fov.summary.tracks for fov in run.fovs if fov.summary)
    known = all(fov.summary for fov in run.fovs if fov.report.status == "done")
    return f"{ended}. {many(run.cells, 'cell')} kept" + (f" of {many(tracks, 'track')}." if known and tracks else ".")


def mood_of(run: RunFacts) -> str:
    """Class of the headline."""
    serious = any(finding.weight == 3 for finding in run.findings)
    if run.counts["failed"] or run.last.get("stopped") or serious:
        return "bad"
    return "good" if run.counts["done"] == len(run.fovs) and not run.findings else ""


def about(run: RunFacts) -> str:
    """Movie and end of the last run."""
    ended = str(run.last.get("ended", ""))[:16].replace("T", " ")
    return Path(run.movie).name + (f" · last run ended {ended} UTC" if ended else "")


def judged(run: RunFacts) -> str:
    """Explanation of what findings rest on."""
    with_summary = sum(fov.summary is not None for fov in run.fovs)
    if not run.has_seven:
        return "Frames are not judged: the pipelines of the run have none of the seven steps, which measure them."
    if not with_summary:
        return (
            "Focus, light and cells are not judged: no FOV has a summary. FOVs get one when they are done by this "
            "version; 'pyama-dask run --force extract' regenerates it for the FOVs of an older one."
        )
    which = "all FOVs" if with_summary == len(run.fovs) else f"{with_summary} of {many(len(run.fovs), 'FOV')}"
    calm = "" if run.findings else "Nothing stands out. "
    what = "Focus, light and cells" if run.finds_cells else "Frames"
    return f"{calm}{what} of {which} were compared with their own first frames and with each other."


def tiles(run: RunFacts, all_: Summaries) -> Iterator[tuple[str, str]]:
    """Numbers of the first screen."""
    yield f"{run.counts['done']} of {len(run.fovs)}", "FOVs done"
    if run.finds_cells:
        yield number(run.cells), "cells kept"
        if all_.fovs:
            found = np.nanmedian(all_.stacked("found")) if np.isfinite(all_.stacked("found")).any() else np.nan
            yield number(float(found)), "objects per frame (median)"
            every = list(all_.fovs.values())
            for why, limit in (("border", "border_margin"), ("short", "min_frames")):
                value = run.settings["params"]["tracking_params"].get(limit)
                name = f"tracks dropped: {why}" + (f" ({limit}\N{NO-BREAK SPACE}{value})" if value is not None else "")
                yield number(sum(getattr(of, why) for of in every)), name
    yield number(len(all_.frames)) if all_.frames else UNKNOWN, "frames"
    if run.last.get("tasks") and run.last.get("seconds") is not None:
        yield duration(float(run.last["seconds"])), "last run"


def failure_row(fov: FovFacts) -> Mapping[str, Any]:
    """Cause, reason and fix of a failed FOV."""
    reason, _, fix = str(fov.report.reason).partition("Fix: ")
    usual = FIXES[fov.report.cause] if fov.report.cause else ""
    return {"fov": fov.label, "cause": fov.report.cause, "reason": reason.strip(), "fix": fix.strip() or usual}


def warnings_of(run: RunFacts) -> list[str]:
    """Warnings of the run and of its FOVs, each once."""
    of_fovs = (warning for fov in run.fovs for warning in fov.report.warnings)
    return list(dict.fromkeys([*run.warnings, *of_fovs]))


def flagged_text(run: RunFacts, flagged: Flagged | None) -> str:
    """Sentence about the flagged cells."""
    if flagged is None:
        return ""
    which = "" if flagged.fovs == flagged.of else f" of the {flagged.fovs} worst FOVs"
    found = f"{flagged.cells:,} of {many(flagged.checked, 'cell')}{which} are flagged"
    counts = ", ".join(f"{flag} {count}" for flag, count in flagged.counts.items() if count)
    why = f" ({counts}), a reason to look and not a fault" if counts else ""
    listed = f" The first {len(flagged.rows)} are listed." if flagged.cells > len(flagged.rows) else ""
    return f"{found}{why}.{listed} 'pyama-dask inspect-traces {run.output}' writes the table of all cells, quality.csv."


def step_rows(run: RunFacts) -> Iterator[Mapping[str, str]]:
    """Time, share and memory of each step."""
    total = sum(step.seconds for step in run.steps) or 1.0
    longest = max((step.seconds for step in run.steps), default=1.0) or 1.0
    for step in run.steps:
        yield {
            "name": label_of(step.step), "time": duration(step.seconds) if total > 300 else f"{step.seconds:.1f} s",
            "share": f"{step.seconds / total:.0%}", "width": f"{100 * step.seconds / longest:.1f}",
            "memory": f"{step.memory / 2**20:,.0f} MiB",
        }  # fmt: skip


def cost_text(run: RunFacts) -> str:
    """Sentence about time, tasks and jobs."""
    spent = sum(step.seconds for step in run.steps)
    text = f"{many(len(run.costs), 'task')} took {duration(spent)} of worker time in all runs."
    text += f" Tables of pipelines: {run.tables}." if run.tables else ""
    if run.last.get("tasks") and run.last.get("seconds") is not None:
        text += f" The last run took {duration(float(run.last['seconds']))}."
    return text + (f" Jobs: {run.last['jobs']}." if run.last.get("jobs") else "")


def origins(run: RunFacts) -> Iterator[tuple[str, str]]:
    """Movie, output and versions."""
    yield "movie", run.movie
    yield "digest of its content", run.identity
    if run.metadata:
        size = run.metadata.get("pixel_size_um")
        pixel = f"{size:.4g} µm per pixel" if size else "not calibrated"
        yield "format", f"{run.metadata['format']}, {many(int(run.metadata['n_frames']), 'frame')}, {pixel}"
        yield "channels", ", ".join(f"{k}: {name}" for k, name in run.channels.items())
    yield "output", str(run.output.absolute())
    yield "FOVs", as_ranges([fov.number for fov in run.fovs])
    yield "frames", str(run.settings["params"]["frames"])
    yield "segmentation", _method(run, "segmentation", ("model",)) if run.finds_cells else "off"
    if run.finds_cells:
        yield "tracking", _method(run, "tracking", ("min_frames", "border_margin"))
    versions = (f"{name} {version(name)}" for name in ("dask", "numpy", "zarr"))
    yield "this page", f"pyama_dask {pyama_dask.__version__}, Python {platform.python_version()}, {', '.join(versions)}"


def _method(run: RunFacts, step: str, shown: Sequence[str]) -> str:
    """Method of a step, with some of its parameters."""
    params = run.settings["params"]
    given = params.get(f"{step}_params") or {}
    return ", ".join([str(params.get(f"{step}_method")), *(f"{name} {given[name]}" for name in shown if name in given)])
