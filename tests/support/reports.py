"""Made outputs of runs with many FOVs, for reports: records, summaries, and one frame of images and traces per FOV."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pyama_dask.runs.status import LEDGER, PLAN, REPORT
from pyama_dask.steps.standard import GRAPH, TRACES
from pyama_dask.store import intermediate
from pyama_dask.store.layout import IMAGES, ArraySpec
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.ngff import documents
from pyama_dask.store.summary import save_summary
from pyama_dask.workflow.kinds import on_blocks
from pyama_dask.workflow.task import WORK, Receipt, fov_name, task_key
from support.shards import write_block
from support.summaries import made_summary

FEATURES = (
    "area_ch_0", "aspect_ratio_ch_0", "intensity_total_ch_1", "intensity_mean_ch_1", "intensity_max_ch_1",
    "intensity_variance_ch_1",
)  # fmt: skip
BLOCK = 14
START = 1_796_000_000.0
"""UTC seconds of the first task."""


def write_made_output(
    output: Path, *, fovs: int, cells: int, frames: int, side: int = 2048, workers: int = 8, copies: int = 20
) -> Path:
    """Write an output of a run that never took place; FOVs from `copies` on share images and traces as hard links."""
    (output / WORK).mkdir(parents=True)
    _write_documents(output, fovs, frames, side)
    with Ledger(output / LEDGER) as ledger:
        ledger.record(*_receipts(fovs, cells, frames, workers))
    for fov in range(fovs):
        rng, work = np.random.default_rng(fov), output / WORK / fov_name(fov)
        work.mkdir()
        save_summary(work, _summary(rng, cells, frames))
        if fov < copies:
            _write_images(output / fov_name(fov) / IMAGES, work, rng, frames, side, cells)
            (output / _table(fov)).write_text(_traces(rng, fov, cells, frames))
        else:
            _link(output, fov, fov % copies)
    return output


def _blocks(frames: int) -> int:
    return -(-frames // BLOCK)


def _write_documents(output: Path, fovs: int, frames: int, side: int) -> None:
    channels = {"pc": {"channel": 0, "features": ["area"]}, "fl": [{"channel": 1, "features": ["intensity_total"]}]}
    settings = {
        "channels": channels, "storage": {"block_frames": BLOCK},
        "params": {"frames": f"0-{frames - 1}", "copy_only": False, "tracking_params": {"border_margin": 50},
                   "segmentation_method": "logstd"},
    }  # fmt: skip
    kinds = {
        kind: {"tasks": n, "steps": {part.step: ["d"] * n for part in parts}}
        for kind, parts in GRAPH.kinds.items()
        for n in [_blocks(frames) if on_blocks(kind) else 1]
    }
    plan = {
        "input": "movie.nd2", "identity": "2-abc", "first_identity": "2-abc", "warnings": [], "current": "now",
        "settings": {"now": settings},
        "fovs": [
            {"fov": k, "name": f"Pos{k}", "problem": None, "kinds": kinds, "settings": "now"} for k in range(fovs)
        ],
    }  # fmt: skip
    metadata = {
        "format": "ND2", "n_frames": frames, "pixel_size_um": 0.65, "channels": [{"name": "Phase"}, {"name": "GFP"}],
        "fovs": [{"fov": k, "name": f"Pos{k}", "shape": [side, side], "missing": []} for k in range(fovs)],
    }  # fmt: skip
    (output / PLAN).write_text(json.dumps(plan))
    (output / REPORT).write_text(json.dumps({"seconds": 3600.0, "ended": "2026-11-29T12:00:00+00:00", "warnings": []}))
    (output / "processing_config.yaml").write_text(yaml.safe_dump(settings | {"metadata": metadata}))


def _receipts(fovs: int, cells: int, frames: int, workers: int) -> Iterator[Receipt]:
    number = 0
    for fov in range(fovs):
        for kind, parts in GRAPH.kinds.items():
            for block in range(_blocks(frames)) if on_blocks(kind) else (None,):
                steps = dict.fromkeys([part.step for part in parts], "d")
                is_last = GRAPH.kind_of[TRACES] == kind
                notes: dict[Any, Any] = {"extract": {"cells": cells, "rows": cells * frames}} if is_last else {}
                files: dict[Any, Any] = {"extract": {_table(fov): (1, 1)}} if is_last else {}
                place, turn = number % workers, number // workers
                yield Receipt(
                    task_key(kind, fov, block), steps, files, 9.0, 0, 0, 800 << 20, notes=notes,
                    begun=START + 10.0 * turn, worker=f"node{place // 4:02d}/{place}",
                    spent=dict.fromkeys(steps, 9.0 / len(steps)),
                    frames_read=tuple(range(1 << 31, (1 << 31) + BLOCK)) if kind == "ingest" else (),
                )  # fmt: skip
                number += 1


def _table(fov: int) -> str:
    return f"{fov_name(fov)}/movie_{fov_name(fov)}_traces.csv"


def _summary(rng: np.random.Generator, cells: int, frames: int) -> Any:
    t = np.arange(frames)
    found = cells + rng.poisson(40, frames)
    lengths, kept = np.bincount(rng.integers(1, frames + 1, cells), minlength=frames + 1), np.zeros(frames + 1, int)
    kept[frames] = cells
    spread = np.array([0.6, 0.85, 1, 1.2, 1.6])[:, None] * (1 + 5 / (1 + np.exp(-(t - frames / 2) / 15)))
    features = np.array([1e3, 1.2, 1e6, 400, 2000, 1e5])[:, None, None] * spread * rng.normal(1, 0.01, (6, 1, frames))
    level = np.array([9000.0, 600.0])[:, None] * rng.normal(1, 0.02, (2, frames))
    return made_summary(
        frames, features=FEATURES, found=found, kept=np.minimum(found, cells), cells=cells, tracks=2 * cells,
        short=cells // 2, border=cells // 2, lengths=lengths + kept, kept_lengths=kept, quantiles=features, level=level,
        spread=level / 10, sharpness=900 * rng.normal(1, 0.05, frames),
    )  # fmt: skip


def _write_images(images: Path, work: Path, rng: np.random.Generator, frames: int, side: int, cells: int) -> None:
    """One frame in the middle: round objects on noise; tracks of which half the objects are kept."""
    y, x = rng.integers(20, side - 20, (2, cells))
    labels, grey = np.zeros((side, side), np.uint16), rng.integers(90, 130, (side // 2, side // 2), dtype=np.uint8)
    disc = np.hypot(*np.indices((31, 31)) - 15) < 15
    for k in range(cells):
        here = np.s_[max(y[k] - 15, 0) : y[k] + 16, max(x[k] - 15, 0) : x[k] + 16]
        labels[here][disc[: labels[here].shape[0], : labels[here].shape[1]]] = k + 1
    grey[labels[::2, ::2] > 0] += 80
    block = frames // 2 // BLOCK
    whole = {"block_frames": BLOCK, "codec": "lz4"}
    specs = {
        spec.path: spec
        for spec in (
            ArraySpec("pc_ch_0", "raw", 0, (frames, side, side), "uint16", **whole),
            ArraySpec("pc_ch_0", "display", 1, (frames, side // 2, side // 2), "uint8", **whole),
            ArraySpec("seg_tracked_ch_0", "tracks", 0, (frames, side, side), "uint16", **whole),
        )
    }
    for path, content in documents(specs, scale=(10.0, 0.65), attributes={}).items():
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        (images / path).write_bytes(content)
    size = min(BLOCK, frames - block * BLOCK)
    for path, frame in (("pc_ch_0/1", grey), ("seg_tracked_ch_0/0", labels)):
        pixels = np.zeros((size, *frame.shape), frame.dtype)
        pixels[frames // 2 - block * BLOCK] = frame
        write_block(images, specs[path], block * BLOCK, pixels)
    intermediate.save(work / "cells.npz", ids=np.arange(1, cells + 1, 2))


def _traces(rng: np.random.Generator, fov: int, cells: int, frames: int) -> str:
    """Table of a FOV; some cells have gaps."""
    names = [
        "fov",
        "cell",
        "frame",
        "time",
        "good",
        "position_x",
        "position_y",
        "bbox_x0",
        "bbox_y0",
        "bbox_x1",
        "bbox_y1",
    ]
    lines = [",".join([*names, *FEATURES])]
    for cell in range(1, cells + 1):
        x, y = rng.integers(60, 1900, 2)
        for frame in range(frames):
            if cell % 50 == 0 and frame == 7:
                continue
            values: Sequence[float] = (
                x,
                y,
                x - 15,
                y - 15,
                x + 15,
                y + 15,
                700 + cell,
                1.1,
                1e5 + frame,
                300.5,
                1000,
                5e4,
            )
            lines.append(f"{fov},{cell},{frame},{10 * frame},True," + ",".join(f"{value:.6g}" for value in values))
    return "\n".join(lines) + "\n"


def _link(output: Path, fov: int, of: int) -> None:
    """Give a FOV the images and traces of another one."""
    here, there = output / fov_name(fov), output / fov_name(of)
    for file in sorted(there.rglob("*")):
        target = here / file.relative_to(there)
        if file.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif not file.name.endswith(".csv"):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, target)
    os.link(output / _table(of), output / _table(fov))
    os.link(output / WORK / fov_name(of) / "cells.npz", output / WORK / fov_name(fov) / "cells.npz")
