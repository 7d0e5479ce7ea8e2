"""Movies that a run of several did not process, noted in the folder above the outputs for status and later reports."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyama_dask.files.atomic import write_bytes
from pyama_dask.files.documents import read_fields
from pyama_dask.runs.several import outputs_below
from pyama_dask.runs.status import REPORT, read_status
from pyama_dask.workflow.task import WORK

log = logging.getLogger("pyama_dask")

REFUSED = f"{WORK}/refused.json"
"""Reasons with their times, by the name of the output that a movie would have."""


def note_refused(folder: Path, faults: Mapping[str, str]) -> None:
    """Note which movies of a run were not processed; what other runs have noted about other movies stays.

    Parameters
    ----------
    folder
        Folder above the outputs.
    faults
        Reason for each movie of the run, by name; '' if it was processed.
    """
    before = _read(folder)
    noted = {name: of for name, of in before.items() if name not in faults}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    noted |= {name: {"reason": reason, "at": now} for name, reason in faults.items() if reason}
    if noted == before:
        return
    try:
        (folder / WORK).mkdir(exist_ok=True)
        write_bytes(folder / REFUSED, json.dumps({"movies": noted}, indent=1).encode())
    except OSError as error:
        log.warning("%s could not be written, so that later reports lack refused movies: %s", folder / REFUSED, error)


def read_refused(folder: Path) -> dict[str, str]:
    """Reasons why movies have not been processed since they were refused, by name."""
    return {name: of["reason"] for name, of in _read(folder).items() if of["at"] >= _last_run(folder / name)}


def read_statuses(folder: Path) -> list[dict[str, Any]]:
    """Status of an output; or of all outputs in a folder, and of the movies that were refused there.

    Returns
    -------
    Documents of `read_status`; that of a movie that was refused has the reason as ``refused``. If the movie has no
    output, there is only the path of it as ``output``, and no FOV in ``fovs``.

    Raises
    ------
    OutputError
        If there is no output, or one cannot be read.
    """
    outputs, refused = outputs_below(folder) or [folder], read_refused(folder)
    documents = {name: {"output": str(folder / name), "fovs": []} for name in refused}
    documents |= {output.name: read_status(output) for output in outputs}
    return [of | ({"refused": refused[name]} if name in refused else {}) for name, of in sorted(documents.items())]


def _read(folder: Path) -> dict[str, dict[str, str]]:
    found = read_fields(folder / REFUSED, {"movies": dict}).get("movies", {})
    return {
        name: of for name, of in found.items()
        if isinstance(of, dict) and all(isinstance(of.get(key), str) for key in ("reason", "at"))
    }  # fmt: skip


def _last_run(output: Path) -> str:
    """Time when the last run of an output has ended, in ISO 8601; '' if none has."""
    ended: str = read_fields(output / REPORT, {"ended": str}).get("ended", "")
    return ended
