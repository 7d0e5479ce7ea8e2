"""Texts that the commands print: movies, plans, reports and results in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyama_dask.analysis.export import ExportReport
from pyama_dask.analysis.fit_tables import GRADES
from pyama_dask.analysis.merge import MergeReport
from pyama_dask.analysis.overrides import GOOD
from pyama_dask.analysis.quality import QualityReport
from pyama_dask.analysis.tables import cell_key
from pyama_dask.config.units import as_ranges, many
from pyama_dask.runs.outcome import describe_tracks
from pyama_dask.runs.plan_text import cut_lines
from pyama_dask.runs.plate import status_map
from pyama_dask.runs.source_check import MovieCheck
from pyama_dask.runs.status import RunReport
from pyama_dask.runs.verify import Verification
from pyama_dask.steps.standard import label_of

if TYPE_CHECKING:
    from pyama_dask.analysis.fit import FitReport, FittedFile  # imports the libraries of fits
    from pyama_dask.analysis.plots import Drawn

WORTH_SHOWING = 1.0
"""Least worker time in seconds for which the costs of the steps are shown."""


def describe_status(document: Mapping[str, Any]) -> str:
    """Progress of the FOVs of an output, and why its movie was refused."""
    fovs = document["fovs"]
    if not fovs and "refused" in document:
        return f"{document['output']}: {document['refused']}"
    counts = Counter(fov["status"] for fov in fovs)
    lines = [f"{document['output']}: " + ", ".join(f"{many(n, 'FOV')} {status}" for status, n in counts.items())]
    if 0 < (done := sum(fov["tasks_done"] for fov in fovs)) < (tasks := sum(fov["tasks"] for fov in fovs)):
        lines[0] += f"; {done} of {tasks} tasks are done"
    lines += status_map(((fov.get("well"), fov["status"]) for fov in fovs), document["plate_shape"])
    alike: dict[str, list[int]] = {}
    for fov in fovs:
        if fov["status"] != "failed":
            left = f" (next step: {fov['left'][0]})" if fov["status"] == "partial" else ""
            other = ", made with other settings than the last run" if fov["other_settings"] else ""
            other = (
                f", made from frames {fov['other_frames']}, not those of the last run" if fov["other_frames"] else other
            )
            alike.setdefault(fov["status"] + left + other, []).append(fov["fov"])
    lines += [f"  {words}: FOV {as_ranges(of)}" for words, of in alike.items()]
    lines += [f"  {line}" for line in document["tracks"]]
    lines += [f"  Tables: {document['tables']}"] if document["tables"] else []
    failed = [fov for fov in fovs if fov["status"] == "failed"]
    lines += cut_lines([f"  failed: {_failure(fov['fov'], fov['cause'], fov['reason'])}" for fov in failed])
    lines += cut_lines([f"  warning: {warning}" for warning in document["warnings"]])
    lines += cut_lines([f"  warning: {warning}" for fov in fovs for warning in fov["warnings"]])
    lines += [document["attention"]] if document["attention"] else []
    lines += [f"  {document['refused']}"] if "refused" in document else []
    return "\n".join(lines)


def _failure(fov: int, cause: str | None, reason: str | None) -> str:
    """Cause and reason of a failed FOV; most reasons name the FOV themselves."""
    return f"({cause}) {reason}" if f"FOV {fov}" in str(reason) else f"({cause}) FOV {fov}: {reason}"


def describe_verification(found: Verification) -> str:
    """Result of checking an output."""
    how = "checksums" if found.deep else "sizes"
    lines = [f"{many(found.unreadable_lines, 'line')} of the ledger cannot be read"] if found.unreadable_lines else []
    if found.faults:
        lines.append(f"{len(found.faults)} of {found.files} files differ from their recorded {how}:")
        lines += cut_lines([f"  {fault.path}: {fault.what}" for fault in found.faults])
        lines.append(
            "The next run regenerates them" if found.taken_back else "They cannot be repaired: the output is read-only"
        )
    else:
        lines.append(f"{many(found.files, 'file')} checked: all {how} as recorded")
    if found.unrecorded:
        lines.append(
            "The ledger lacks these results, so it has lost lines. Fix: restore the ledger, or choose another output:"
        )
        lines += cut_lines([f"  {path}" for path in found.unrecorded])
    if found.movie:
        lines += describe_movie_check(found.movie, found.taken_back)
    return "\n".join(lines)


def describe_movie_check(found: MovieCheck, taken_back: bool) -> list[str]:
    """Comparison of the movie with the frames that were read, as lines."""
    lines = [f"{found.movie}: {many(found.frames - len(found.faults), 'frame')} unchanged since the run"]
    if found.faults:
        lines.append(f"{many(len(found.faults), 'frame')} changed since the run:")
        lines += cut_lines([f"  FOV {fault.fov}, frame {fault.frame}: {fault.what}" for fault in found.faults])
        if not found.is_recorded:
            lines.append("This is not the movie of this output, so the output stays unchanged")
        elif not taken_back:
            lines.append("They cannot be read again: the output is read-only")
        elif found.to_read_again:
            lines.append("The next run reads the changed blocks again. If the movie is damaged, restore it first")
    if found.unknown:
        lines.append(
            f"{many(found.unknown, 'frame')} cannot be compared: an older version recorded no digests. "
            "Fix: run with --force copy to read them again"
        )
    return lines


def describe_merge(report: MergeReport) -> str:
    """Result of a merge, with warnings about what was left out."""
    lines = [
        f"{sample.name}{f', {sample.movie}' if sample.movie else ''}: {many(sample.cells, 'cell')} with "
        f"{many(sample.rows, 'row')}, FOV {as_ranges(sample.fovs) or 'none'}"
        for sample in report.samples
    ]
    lines += [f"Overrides: {many(report.cells_set, 'cell')} set by hand"] if report.cells_set else []
    lines.append(f"Tables: {many(len(report.files), 'CSV')} and {report.table.name} in {report.table.parent}")
    lines += [f"Wells: {report.wells}"] if report.wells else []
    lines += [f"Traces: {path}" for path in report.traces]
    lines += [f"warning: {warning}" for warning in report.warnings]
    return "\n".join(lines)


def describe_export(report: ExportReport) -> str:
    """Result of an export, with warnings about what was left out."""
    lines = [f"Exported as {report.format}: {report.contents}, to {report.directory}"]
    lines += [f"Overrides: {many(report.cells_set, 'cell')} set by hand"] if report.cells_set else []
    return "\n".join(lines + [f"warning: {warning}" for warning in report.warnings])


def quality_document(report: QualityReport) -> dict[str, Any]:
    """Quality of traces as plain values, for JSON."""
    return {
        "table": str(report.path),
        "thresholds": report.thresholds.model_dump(),
        "counts": report.counts,
        "warnings": list(report.warnings),
        "cells": json.loads(report.table.to_json(orient="records")),
    }


def describe_quality(report: QualityReport) -> str:
    """Flagged cells, counted by flag and listed."""
    table, limits = report.table, report.thresholds
    words = {
        "short": f"fewer than {limits.min_frames} frames" if limits.min_frames else "fewer than half of the frames",
        "gap": f"a gap of more than {many(limits.max_missing, 'frame')}"
        if limits.max_missing
        else "a frame is missing in between",
        "jump": f"area changes by more than {limits.max_jump:.0%} between frames",
        "border": "box touches the border of the image"
        + (f" in more than {many(limits.max_border, 'frame')}" if limits.max_border else ""),
        "merging": f"box overlaps that of another cell by {limits.max_overlap:.0%} or more",
    }
    fovs = many(len(table[cell_key(table)[:-1]].drop_duplicates()), "FOV")
    lines = [f"{many(len(table), 'cell')} of {fovs}, {len(report.flagged)} flagged"]
    lines += [f"  {flag + ':':<9}{count:>6}   {words[flag]}" for flag, count in report.counts.items()]
    if bad := int((~table["good"]).sum()):
        lines.append(f"  {many(bad, 'cell')} set to not good by hand")
    lines += cut_lines([_flagged_line(row, list(words)) for row in report.flagged.to_dict("records")])
    lines.append(f"Table: {report.path}")
    lines += [_next_with(report.good_file)] if report.good_file else []
    return "\n".join(lines + [f"warning: {warning}" for warning in report.warnings])


def _next_with(good: Path) -> str:
    """Next step after overrides were written."""
    named = "" if good.name == GOOD else f" with --good {good}"
    return f"Overrides: {good}; edit it, then merge{named}"


def _flagged_line(cell: Mapping[Any, Any], flags: Sequence[str]) -> str:
    """Flags of a cell, with the values behind them."""
    words_of = {
        "short": many(cell["frames"], "frame"), "gap": f"{cell['missing']} missing",
        "jump": f"by {cell['largest_jump']:.2g}", "border": many(cell["border_frames"], "frame"),
        "merging": many(cell["merging_frames"], "frame"),
    }  # fmt: skip
    found = ", ".join(f"{flag} ({words_of[flag]})" for flag in flags if cell[flag])
    place = " s".join(str(cell[name]) for name in ("well", "site") if name in cell)
    movie = f"{cell['movie']}, " if "movie" in cell else ""
    fov = f"{movie}FOV {cell['fov']}" + (f" ({place})" if place else "")
    return f"{fov}, cell {cell['cell']}: {found}" + ("" if cell["good"] else "; not good")


def describe_fits(report: FitReport) -> str:
    """Result of fits: cells, convergence and grades per table."""
    heads = "".join(f"{grade:>{len(grade) + 3}}" for grade in GRADES)
    width = max(len(file.source.stem) for file in report.files)
    lines = [f"{'table':<{width}}{'cells':>7}{'converged':>12}{heads}"]
    for file in report.files:
        shares = "".join(f"{n / max(file.cells, 1):>{len(grade) + 3}.0%}" for grade, n in file.grades.items())
        lines.append(f"{file.source.stem:<{width}}{file.cells:>7}{file.converged / max(file.cells, 1):>12.1%}{shares}")
    lines += [f"  {grade}: {meaning}" for grade, meaning in GRADES.items()]
    lines += [f"Fits: {file.path}" for file in report.files]
    lines += [f"warning: {_at_bounds(file)}" for file in report.files if file.at_bounds]
    lines += [f"warning: {warning}" for warning in report.warnings]
    return "\n".join(lines)


def _at_bounds(file: FittedFile) -> str:
    """Parameters at a bound, and what to do."""
    first = next(iter(file.at_bounds))
    which = ", ".join(f"{name} in {many(count, 'cell')}" for name, count in file.at_bounds.items())
    return (
        f"{file.source.name}: {which} at a bound. "
        f"Fix: widen the bounds, as with --set parameters.{first}.high=VALUE, or fix a parameter that the traces do "
        f"not determine, as with --set parameters.{first}.fixed=VALUE; the bounds are in the header of the fits"
    )


def describe_plots(drawn: Drawn) -> str:
    """List of the figures that were drawn."""
    names = dict.fromkeys(path.stem for path in drawn.files)
    kinds = " and ".join(dict.fromkeys(path.suffix[1:].upper() for path in drawn.files))
    lines = [f"Figures, as {kinds}, in {drawn.files[0].parent}:", *(f"  {name}" for name in names)]
    return "\n".join(lines + [f"warning: {warning}" for warning in drawn.warnings])


def _costs(report: RunReport) -> list[str]:
    """Costs of steps and jobs, as lines."""
    lines = [f"Jobs: {report.jobs}"] if report.jobs else []
    if sum(step.seconds for step in report.steps) < WORTH_SHOWING:
        return lines
    total = sum(step.seconds for step in report.steps)
    labels = [label_of(step.step) for step in report.steps]
    wide = max(14, *map(len, labels))
    lines.append(f"{'Step':<{wide}}{'worker time':>14}{'share':>8}{'peak memory':>14}")
    for step, label in zip(report.steps, labels, strict=True):
        time = f"{step.seconds / 60:.1f} min" if total > 600 else f"{step.seconds:.1f} s"
        share, memory = step.seconds / total, step.memory / 2**20
        lines.append(f"{label:<{wide}}{time:>14}{share:>8.0%}{memory:>10.0f} MiB")
    return lines


def describe_methods(found: Mapping[str, Mapping[str, str]]) -> str:
    """Methods and models, by kind."""
    lines = []
    for kind, names in found.items():
        lines.append(f"{kind}s:")
        lines += [f"  {name:<24}{place}" for name, place in names.items()] or ["  none"]
    lines.append(
        "Your own: 'package.module:name' or 'file.py:name'; see docs/methods.md, docs/pipelines.md for steps, and "
        "docs/results.md for models"
    )
    return "\n".join(lines)


def describe_report(report: RunReport, wells: Sequence[str] = ()) -> str:
    """Report of a run: how it ended, results, costs, failures and warnings.

    Parameters
    ----------
    report
    wells
        Lines with the result of each well, which replace those about FOVs that failed.
    """
    counts = Counter(fov.status for fov in report.fovs)
    cells = [fov.cells for fov in report.fovs if fov.cells is not None]
    standing = ", ".join(f"{many(n, 'FOV')} {status}" for status, n in counts.items())
    standing += f"; {many(sum(cells), 'cell')}" if cells else ""
    ended = "Stopped" if report.stopped else "Cancelled" if report.cancelled else "Finished"
    lines = [
        f"{ended} after {report.seconds:.1f} s, {report.tasks_done} of {many(report.tasks, 'task')}: {standing}"
        if report.tasks
        else f"Nothing to do: {standing}",
        f"Results: {report.output}",
    ]
    lines += describe_tracks(report.tracks)
    lines += _costs(report)
    lines += wells or cut_lines([f"failed: {_failure(fov.fov, fov.cause, fov.reason)}" for fov in report.failed])
    warnings = [*report.warnings, *(warning for fov in report.fovs for warning in fov.warnings)]
    lines += cut_lines([f"warning: {warning}" for warning in dict.fromkeys(warnings)])
    if report.stopped or report.cancelled:
        lines.append("Finished work is recorded; run the same command again to resume")
    elif report.failed:
        lines.append("Fix the cause, then run again with --retry-failed to process only the failed FOVs")
    lines.append(f"Report: {report.page}" if report.page else f"Report: 'pyama-dask report {report.output}' writes it")
    lines += [report.attention] if report.attention else []
    return "\n".join(lines)
