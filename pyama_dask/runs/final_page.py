"""The page that ends a run: a layer above writes it, which is found by its name, as the code of steps is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path

from pyama_dask.errors import PyamaError
from pyama_dask.runs.status import RunReport

log = logging.getLogger("pyama_dask")

WRITER = "pyama_dask.report.page:write_report_page"
"""Function that writes the page of an output and returns its path."""
INDEX_WRITER = "pyama_dask.report.index_page:write_index_page"
"""Function that writes the page of all outputs in a folder."""
_WANTED: ContextVar[bool] = ContextVar("final_page", default=True)


@contextmanager
def final_pages(on: bool) -> Iterator[None]:
    """Choose whether runs end with a page, in this context and until its end."""
    before = _WANTED.set(on)
    try:
        yield
    finally:
        _WANTED.reset(before)


def write_final_page(report: RunReport) -> Path | None:
    """Write the page of a run; if that fails, it is a warning and changes nothing about the run.

    After a cancel, no page is written: it may take longer than a cancelled run has left.

    Returns
    -------
    The file; None if it was not written.
    """
    return None if report.cancelled else _written(WRITER, report.output)


def write_index(folder: Path) -> Path | None:
    """Write the page of all outputs in a folder."""
    return _written(INDEX_WRITER, folder)


def load_writers(*, cells: bool) -> None:
    """Import what writes pages in a thread, so that the end of a run, or the next movie, need not wait for it.

    Parameters
    ----------
    cells
        True if there may be traces, which a page lists with pandas.
    """
    if _WANTED.get():
        threading.Thread(target=_load, args=[["pandas"] if cells else []], name="pyama-page").start()


def _load(others: Sequence[str]) -> None:
    with suppress(Exception):  # it is told when a page is written
        _function(WRITER)
        for name in others:
            import_module(name)


def _function(place: str) -> Callable[[Path], Path]:
    module, _, name = place.partition(":")
    found: Callable[[Path], Path] = getattr(import_module(module), name)
    return found


def _written(writer: str, output: Path) -> Path | None:
    """Write a page by the function of this name."""
    if not _WANTED.get():
        return None
    try:
        return _function(writer)(output)
    except PyamaError as error:
        log.warning("the report could not be written: %s", error)
    except Exception:
        log.warning("the report could not be written. Fix: run 'pyama-dask report %s'", output, exc_info=True)
    return None
