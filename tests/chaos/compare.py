"""What two outputs hold, against each other, and what one output's records say, against its files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
import zarr
from support.ledgers import recorded
from support.movies import differences, file_bytes, listing, products

from pyama_dask.config.load import read_document
from pyama_dask.files.checksums import checksum
from pyama_dask.files.manifest import MANIFEST
from pyama_dask.report.page import REPORT_PAGE
from pyama_dask.runs.planning import plan_run, what_is_left
from pyama_dask.runs.several import configs_of, outputs_below
from pyama_dask.runs.status import LEDGER, PLAN, read_status
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import WORK

OWN = {f"{WORK}/log.txt", f"{WORK}/dask-report.html", LEDGER, REPORT_PAGE, MANIFEST}
"""Files that tell of single runs."""


def outputs_in(folder: Path) -> list[Path]:
    """Outputs of several movies in a folder, or the folder itself."""
    return outputs_below(folder) or [folder]


def compare(folder: Path, reference: Path) -> tuple[Counter[str], list[str]]:
    """As `compare_output`, for all outputs of several movies together."""
    counts, found = Counter[str](), list[str]()
    for wanted in outputs_in(reference):
        some, differing = compare_output(folder / wanted.relative_to(reference), wanted)
        counts += some
        found += differing
    return counts, found


def compare_output(output: Path, reference: Path) -> tuple[Counter[str], list[str]]:
    """How many arrays, tables and records of a finished output were compared with the reference, and what differs."""
    mine, wanted = products(output), products(reference)
    found = [f"values: {name}" for name in differences(mine, wanted)]
    found += _unequal("bytes", _bytes(output), _bytes(reference))
    found += _unequal("metadata", documents(output), documents(reference))
    records, expected = (Ledger(path / LEDGER) for path in (output, reference))
    for name in ("done", "files", "notes", "warnings"):
        found += _unequal(f"ledger.{name}", recorded(records, name), recorded(expected, name))
    found += _unequal("ledger.failed", records.failed, expected.failed)
    found += [f"left over: {name}" for name in sorted(_names(output) - _names(reference))]
    found += [f"lost: {name}" for name in sorted(_names(reference) - _names(output))]
    kinds = Counter("tables" if name.endswith(".csv") else "arrays" for name in wanted if _is_result(reference, name))
    return kinds + Counter(records=len(recorded(expected))), found + wrong_records(output)


def _bytes(output: Path) -> dict[str, bytes]:
    return file_bytes(output)


def _is_result(output: Path, name: str) -> bool:
    return name.endswith(".csv") or json.loads((output / name / "zarr.json").read_bytes())["node_type"] == "array"


def _names(output: Path) -> set[str]:
    return listing(output) - OWN


def _unequal(what: str, a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    return [f"{what}: {name}" for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]


def documents(output: Path) -> dict[str, Any]:
    """Config, plan and status of an output, but for its own path."""
    config = yaml.safe_load((output / "processing_config.yaml").read_bytes())
    plan = json.loads((output / PLAN).read_bytes())
    found = {"processing_config.yaml": config, "plan.json": plan, "status": read_status(output)}
    return {name: {key: value for key, value in of.items() if key != "output"} for name, of in found.items()}


def wrong_records(output: Path) -> list[str]:
    """Files that are recorded as done, and are not there or have not the recorded size and CRC-32C.

    Parts of crops may be gone once the crops of their FOV are done.
    """
    ledger, found = Ledger(output / LEDGER), []
    done = recorded(ledger)
    for key, steps in recorded(ledger, "files").items():
        crops_done = "crop" in done.get(f"gather-{key.split('-')[1]}", {})
        for name, written in (entry for files in steps.values() for entry in files.items()):
            file = output / name
            if not file.exists():
                if not (crops_done and file.name.startswith("crops_")):
                    found.append(f"recorded, and gone: {name} of {key}")
            elif checksum(file) != tuple(written):
                found.append(f"recorded, and another: {name} of {key}: {checksum(file)}, not {tuple(written)}")
    return found


def what_a_reader_meets(output: Path) -> list[str]:
    """What goes wrong when an output that was left at any moment is looked at."""
    found = []
    if (output / PLAN).exists():
        try:
            read_status(output)
        except Exception as error:  # noqa: BLE001  (none must come)
            found.append(f"status: {type(error).__name__}: {error}")
    for file in output.glob("fov_*/**/zarr.json"):
        try:
            zarr.open(file.parent, mode="r")
        except Exception as error:  # noqa: BLE001
            found.append(f"{file.relative_to(output)}: {type(error).__name__}: {error}")
    return found


def left_to_do(config: Path) -> list[str]:
    """Tasks that another run would do."""
    plans = [plan_run(one)[0] for one in configs_of(read_document(config), str(config))]
    return [f"not done: {task.key} {sorted(task.digests)}" for plan in plans for task in what_is_left(plan).tasks]
