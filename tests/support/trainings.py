"""Trainings of tests, in one subprocess that compiles once: python -m support.trainings FOLDER.

JAX warns of processes that fork, so that the process of the tests must not use it. Writes ``tiny.onnx``, the product of
the command line, ``stopped.onnx``, that of one that gets Ctrl-C, and ``found.json``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np

from pyama_dask import cli
from pyama_dask.cli.training import TrainDisplay
from pyama_dask.files.images import write_tiff
from pyama_dask.training.annotated import Annotated
from pyama_dask.training.packages import prepare_training
from support.touching import touching_cells

STEPS = 60
"""Steps of the model that must find cells."""


def main(folder: Path) -> None:
    write_frames(folder / "frames")
    prepare_training()
    command(folder, "tiny", STEPS)
    found = same_seeds() | ends() | exported()
    (folder / "found.json").write_text(json.dumps(found))
    with patch.object(TrainDisplay, "event", interrupted_at(3)):
        command(folder, "stopped", 1000)  # ends the process with its status


def write_frames(folder: Path) -> None:
    folder.mkdir()
    for seed in range(2):
        frame, labels = touching_cells(seed)
        write_tiff(folder / f"f{seed}.tif", frame, 0.5)
        write_tiff(folder / f"f{seed}_labels.tif", labels.astype(np.uint16))


def command(folder: Path, name: str, steps: int) -> None:
    """Train by the command line; returns if its status is 0."""
    sys.argv = ["pyama-dask", "train", str(folder / "frames"), "-o", str(folder / f"{name}.onnx"), f"--steps={steps}"]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise


def interrupted_at(step: int):
    def event(_, progress):
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return event


def annotated() -> list[Annotated]:
    return [Annotated("a", frame.astype(np.float32), labels) for frame, labels in [touching_cells(7, (160, 160))]]


def same_seeds() -> dict[str, bool]:
    from pyama_dask.training.train import Settings, train

    first, again, other = (train(annotated(), Settings(steps=4, seed=seed)).model for seed in (4, 4, 5))
    return {"same": first == again, "differs": first != other}


def ends() -> dict[str, object]:
    """Trainings that are cancelled in the first network, in the last one, and by the time limit."""
    from pyama_dask.training.train import Settings, train

    found = {}
    for name, step in (("first", 1), ("last", 8)):
        seen = []
        given = train(annotated(), Settings(steps=10), seen.append, is_cancelled=lambda s=seen, k=step: len(s) >= k)
        found[name] = [len(seen), given.complete, given.card.steps, len(given.judged), len(given.model) > 100_000]
    seen = []
    times = iter(range(0, 10_000, 30))
    given = train(annotated(), Settings(minutes=2, steps=500), seen.append, clock=lambda: next(times))
    return found | {"in time": [len(seen) < 30, given.complete, bool(given.judged)]}


def exported() -> dict[str, float]:
    """Largest difference between the maps of JAX and those of the ONNX file, with the statistics of the batch."""
    from pyama_dask.methods.onnx_model import ModelCard
    from pyama_dask.training.calibrate import open_written
    from pyama_dask.training.network import MOMENTUM, Weights, forward, initial_weights
    from pyama_dask.training.onnx_file import onnx_model, with_card

    rng = np.random.default_rng(0)
    weights = initial_weights(rng)
    frames = rng.normal(0, 1, (2, 64, 96)).astype(np.float32)
    maps, running = forward(weights, frames)
    of_batch = {
        layer: {k: (np.asarray(v) - MOMENTUM * weights.running[layer][k]) / (1 - MOMENTUM) for k, v in values.items()}
        for layer, values in running.items()
    }
    model = with_card(onnx_model(Weights(weights.learned, of_batch)), ModelCard())
    found = np.stack([open_written(model).maps(frame) for frame in frames])
    return {"difference": float(np.abs(found - np.asarray(maps)).max()), "spread": float(np.std(maps))}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
