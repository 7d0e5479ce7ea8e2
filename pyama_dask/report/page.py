"""The report of a run as one HTML page that needs no network, and its file in the output."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

import pyama_dask
from pyama_dask.errors import ConfigError
from pyama_dask.files.atomic import check_names, writable
from pyama_dask.files.manifest import check_free, writing_into
from pyama_dask.files.threads import Threads
from pyama_dask.report import words
from pyama_dask.report.facts import RunFacts, read_facts
from pyama_dask.report.flags import flagged_cells
from pyama_dask.report.fovs import MOST_SHOWN, QUALITY, SIZES, fov_table, legend, order, thumbnail
from pyama_dask.report.overview import Summaries, about_bands, maps, over_time, workers
from pyama_dask.report.wells import plate_figure

REPORT_PAGE = "report.html"
"""Name of the page in the output."""
THREADS = 2
"""Threads that read pictures: decoding runs outside Python."""


def write_report_page(output: str | Path, to: str | Path | None = None, *, force: bool = False) -> Path:
    """Write the report of a run: how it ended, what stands out, its FOVs, cells, times and settings.

    Parameters
    ----------
    output
        Output directory of a run, also of one that failed or is not finished.
    to
        File to write; by default ``report.html`` in the output.
    force
        True to overwrite a file that is not a report, or was changed since.

    Returns
    -------
    The file.

    Raises
    ------
    ConfigError
        If the file does not end in ``.html``.
    OutputError
        If `output` is not the output of a run, or the file cannot be written or would replace another one.
    """
    path = Path(to) if to is not None else Path(output) / REPORT_PAGE
    return write_page(path, lambda: run_page(read_facts(Path(output)), path.parent), force=force)


def write_page(path: Path, page: Callable[[], str], *, force: bool) -> Path:
    """Write a page, unless the file is another one.

    Parameters
    ----------
    path
        File to write.
    page
        Function that returns the text; called after the file is known to be free.
    force
        True to overwrite any page.

    Raises
    ------
    ConfigError
        If the file would not be a page by its name.
    OutputError
        If it cannot be written, or would replace another one.
    """
    if path.suffix.lower() != ".html":
        raise ConfigError(f"{path}: a report is written as .html. Fix: choose this ending")
    check_names(path.parent, [path.name])
    check_free(path.parent, [path.name], force=force)
    text = page()
    with writable(path), writing_into(path.parent, "report", force=force) as folder:
        (folder / path.name).write_text(text, encoding="utf-8")
    return path


@cache
def templates() -> Environment:
    """Templates of the pages; text is escaped."""
    found = Environment(
        loader=PackageLoader("pyama_dask.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    source = (
        {name: found.loader.get_source(found, name)[0] for name in ("style.css", "sort.js")} if found.loader else {}
    )
    found.globals["style"] = Markup(source["style.css"])
    found.globals["script"] = Markup(source["sort.js"])
    found.globals["version"] = pyama_dask.__version__
    return found


def run_page(run: RunFacts, folder: Path) -> str:
    """HTML of the report of a run, to be written to a folder."""
    all_, name = Summaries(run), run.output.absolute().name
    flagged = flagged_cells(run, run.worst_first) if run.finds_cells else None
    return render(
        "run.html", title=f"{name}: report", name=name, bands=about_bands(all_), state=words.state_of(run),
        mood=words.mood_of(run), about=words.about(run), findings=run.findings, judged=words.judged(run),
        failures=[words.failure_row(fov) for fov in run.fovs if fov.report.status == "failed"],
        stopped=run.last.get("stopped"), attention=run.last.get("attention"), warnings=words.warnings_of(run),
        tiles=list(words.tiles(run, all_)), plate=plate_figure(run),
        over_time=list(over_time(all_)), maps=list(maps(all_)), flagged=flagged,
        flagged_text=words.flagged_text(run, flagged), steps=list(words.step_rows(run)),
        cost_text=words.cost_text(run), workers=workers(run), origins=list(words.origins(run)), config=run.config,
        **_fovs(run, folder),
    )  # fmt: skip


def _fovs(run: RunFacts, folder: Path) -> dict[str, Any]:
    """Values of the template's part about FOVs."""
    fovs = run.worst_first
    shown = fovs[:MOST_SHOWN]
    pixels, density = next((size, how) for most, size, how in SIZES if len(shown) <= most)
    heads, rows = fov_table(run, folder)
    with Threads(THREADS, "page") as pool:
        pictures = list(pool.map(lambda fov: thumbnail(run, fov, folder, pixels, QUALITY[density]), shown))
    return {
        "fovs": pictures, "thumb": 220 if density == "few" else pixels,
        "density": density, "legend": legend(run), "order": order(run), "heads": heads, "rows": rows,
        "hidden": f"{len(fovs) - len(shown)} more FOVs are in the table only." if len(fovs) > len(shown) else "",
        "tracks": run.finds_cells,
        "fov_command": f"pyama-dask report {run.output} --fov {fovs[0].number if fovs else 0}",
    }  # fmt: skip


def render(template: str, **values: Any) -> str:
    """Fill in a template."""
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return templates().get_template(template).render(written=written, **values)
