"""Pins: results of today that a change of structure must leave as they are.

`pinned.json` holds what these tests compare with:

- ``movies``: the bytes of the movies, so that another movie is told apart from another result;
- ``outputs``: size and CRC-32C of all products and documents of three outputs. Left out is what changes from run to run
  (ledger, log, report), and what the tasks of a FOV leave for each other;
- ``plans``: the document of the plan and the tasks with their steps, of these three and of more configs;
- ``digests``: the digests of all tasks of a base config by part of a step, such as ``finish.crop``; and of configs that
  each differ from it in one key, the parts whose digests differ: ``-`` what is not there, ``+`` what is there besides.

Renew the pins with ``python -m pytest tests/test_pinned.py --pin``; delete the file first if names have changed. Every
renewed pin must be justified in the commit message: `git diff tests/pinned.json` names them.
"""

import json
import logging
import os
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import google_crc32c
import numpy as np
import pytest
import yaml
from support.movies import INTENSITIES, SHAPES, as_czi, config
from support.write_nd2 import Nd2Channel, Nd2Writer

import pyama_dask
from pyama_dask.demo.movie import make_movie
from pyama_dask.demo.session import demo_config
from pyama_dask.execute.pool import SerialPool
from pyama_dask.launch import start
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import PLAN
from pyama_dask.steps import run_task

PINNED = Path(__file__).with_name("pinned.json")
PLUGINS = """
import numpy as np


def darker(frame):
    return np.right_shift(frame, 1)


def squares(frame, *, least: int = 9000):
    labels = np.zeros(frame.shape, np.uint16)
    for number, (row, column) in enumerate(((10, 20), (60, 80)), 1):
        labels[row : row + 25, column : column + 25] = number
    return labels * (np.median(frame) < least)
"""
"""Methods of a user, in a file beside the movies: the path in their names is relative, so that digests are the same."""


# ------------------------------------------------------------------------------------------------- movies
# Two movies are drawn with whole numbers only, so that they are the same on every processor.


def drawn(fovs, frames, channels, planes, shape, seed):
    """(FOV, T, C, Z, H, W) uint16 with three textured disks in phase contrast that light up in the other channels."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    movie = np.empty((fovs, frames, channels, planes, *shape), np.uint16)
    for fov, t, c, z in np.ndindex(*movie.shape[:4]):
        inside = np.zeros(shape, bool)
        for row, column, radius in ((24, 30, 11), (30, 90, 13), (66, 60 + 8 * fov, 12)):
            inside |= (y - row - t) ** 2 + (x - column + t) ** 2 <= (radius - z) ** 2
        if c == 0:
            movie[fov, t, c, z] = 8000 + rng.integers(-40, 40, shape) + inside * rng.integers(-3000, 3000, shape)
        else:
            movie[fov, t, c, z] = 300 + y // 4 + rng.integers(0, 20, shape) + inside * (400 * c + 150 * t + y)
    return movie


def demo_movie(folder):
    """Write the demo's own movie, but small."""
    movie = make_movie(folder, fovs=2, frames=6, shape=(96, 128), cells=2, border_margin=5)
    return without_guids(movie)


def stacks(folder):
    """Write an ND2 of odd shape with three planes; FOV 2 lacks frame 4, and FOV 0 a plane of the last frame."""
    data = drawn(fovs=3, frames=8, channels=3, planes=3, shape=(97, 131), seed=5)
    channels = [Nd2Channel("Phase", "phase"), Nd2Channel("GFP"), Nd2Channel("mCherry")]
    sizes = dict(zip("TPZCYX", np.array(data.shape)[[1, 0, 3, 2, 4, 5]].tolist(), strict=True))
    with Nd2Writer(folder / "stacks.nd2", sizes, channels=channels) as writer:
        for t, fov, z in np.ndindex(8, 3, 3):
            if (t, fov) != (4, 2) and (t, fov, z) != (7, 0, 1):
                writer.write(data[fov, t, :, z], T=t, P=fov, Z=z)
    return folder / "stacks.nd2"


def grey(folder):
    """Write a CZI of 8 bits with stage positions; FOV 1 lacks frame 3 in the third channel."""
    data = (drawn(fovs=2, frames=7, channels=3, planes=1, shape=(101, 127), seed=6)[:, :, :, 0] // 64).astype(np.uint8)
    return without_guids(as_czi(folder / "grey.czi", data, skip={(1, 3, 2, 0)}, stage_positions_um=[(1, 2), (3.5, 4)]))


def without_guids(movie):
    """Overwrite what is random in a CZI: the GUIDs in its header and in the metadata of its planes."""
    data = movie.read_bytes()
    data = re.sub(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", b"00000000-0000-0000-0000-000000000000", data)
    movie.write_bytes(data[:48] + bytes(32) + data[80:])
    return movie


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of the movies and of the plugins."""
    folder = tmp_path_factory.mktemp("pinned")
    (folder / "methods.py").write_text(PLUGINS)
    return folder


@pytest.fixture(scope="module")
def movies(folder):
    return {make.__name__: make(folder) for make in (demo_movie, stacks, grey)}


@pytest.fixture
def here(folder, monkeypatch):
    """Work in the folder of the plugins, without a log that would be printed below the entries that differ."""
    monkeypatch.chdir(folder)
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


# ------------------------------------------------------------------------------------------------ configs

MEMORY = {"kind": "serial", "memory": "4GiB"}  # the memory of the machine stands in no plan then


def demo(movies, output):
    """Config of the demo itself, with limits that let cells of a small movie pass."""
    document = demo_config(movies["demo_movie"].parent).model_dump(mode="json") | {"cluster": MEMORY}
    document["params"]["tracking_params"] = {"min_frames": 3, "border_margin": 2}
    return document | {"output": str(output)}


def everything(movies, output, changes=None):
    """Config with three blocks of the movie with planes; a FOV with a missing frame fails."""
    wanted = {
        "channels.fl": [
            {"channel": "mCherry", "features": INTENSITIES[:2]},
            {"channel": 1, "features": ["intensity_mean"]},
        ],
        "params.frames": "0-6",
        "params.z": "max",
        "params.segmentation_params.threshold": "mode",
        "params.preprocess": ["methods.py:darker"],
        "params.background_params": {"tile_size": 40, "dilation": 3},
        "params.tracking_params": {"min_frames": 4, "border_margin": 1, "min_iou": 0.2},
        "storage": {"codec": "none", "cells": "zip", "display": "off", "background": "full", "block_frames": 3},
        "cluster": MEMORY,
    }
    return config(movies["stacks"], output, wanted | (changes or {}))


def small(movies, output):
    """Config with the other choice wherever there is one."""
    wanted = {
        "channels.pc": {"channel": 0, "features": SHAPES[:1]},
        "params.frames": "1-4, 6",
        "params.segmentation_method": "methods.py:squares",
        "params.segmentation_params": {"least": 200},
        "params.background_params": {"tile_size": 30},
        "params.background_weight": 0.5,
        "params.tracking_params": {"min_frames": 2, "border_margin": 0},
        "params.time_mapping": {6: 77.5},
        "params.crop_padding": 4,
        "storage": {"codec": "zstd", "background": "grid", "block_frames": 2},
        "cluster": MEMORY,
    }
    return config(movies["grey"], output, wanted)


def base(movies, output, changes=None):
    """Config that others differ from in one key."""
    return config(movies["stacks"], output, {"params.z": 0, "params.fovs": "0-1", "cluster": MEMORY} | (changes or {}))


OUTPUTS = {"demo": demo, "everything": everything, "small": small}
AT_ONCE = {"everything": 2}
"""Frames that a task works on at once, where these are not all of its block."""
PLANS = {
    "copy only": {"params.copy_only": True},
    "no phase contrast": {"channels": {"fl": [{"channel": 1}, {"channel": 2}]}, "storage.cells": "off"},
    "no fluorescence": {"channels.fl": [], "storage": {"display": "off", "block_frames": "auto"}},
    "one block": {"storage": {"background": "grid", "block_frames": 100, "codec": "none"}, "params.z": "max"},
    "a queue": {
        "storage.block_frames": "auto",
        "cluster": {"kind": "slurm", "jobs": 2, "memory": "8GiB", "cores": 2, "walltime": "01:00:00"},
    },
}
DIGESTS = {
    "fovs": {"params.fovs": "0"},
    "frames": {"params.frames": "0-5"},
    "z": {"params.z": 2},
    "copy only": {"params.copy_only": True},
    "preprocess": {"params.preprocess": ["methods.py:darker"]},
    "segmenter": {"params.segmentation_method": "methods.py:squares", "params.segmentation_params": {}},
    "segmentation parameter": {"params.segmentation_params.min_object_size": 30},
    "tracking parameter": {"params.tracking_params.min_iou": 0.3},
    "kept cells": {"params.tracking_params.min_frames": 3},
    "background parameter": {"params.background_params.tile_size": 50},
    "background weight": {"params.background_weight": 0.7},
    "frame interval": {"params.frame_interval": 3},
    "time mapping": {"params.time_mapping": {7: 99}},
    "crop padding": {"params.crop_padding": 2},
    "codec": {"storage.codec": "zstd"},
    "level, shuffle and chunks": {"storage.level": 9, "storage.shuffle": "off", "storage.chunks": "block"},
    "background": {"storage.background": "grid"},
    "cells zip": {"storage.cells": "zip"},
    "cells off": {"storage.cells": "off"},
    "display": {"storage.display": "off"},
    "block frames": {"storage.block_frames": 3},
    "features of phase contrast": {"channels.pc.features": SHAPES[:1]},
    "features of fluorescence": {"channels.fl": [{"channel": 1, "features": []}]},
    "other channel": {"channels.fl": [{"channel": 2, "features": INTENSITIES}]},
    "one channel more": {"channels.fl": [{"channel": 1, "features": INTENSITIES}, {"channel": 2}]},
    "no phase contrast": {"channels": {"fl": [{"channel": 1, "features": INTENSITIES}]}},
    "cluster": {"cluster": MEMORY | {"retries": 0, "batch_size": 1}},
}


# ------------------------------------------------------------------------------------------------- pinning


def check(request, path, found):
    """Compare values by name with the pins at a path, or renew these; a failure names the entries that differ."""
    pinned = json.loads(PINNED.read_text()) if PINNED.exists() else {}
    if request.config.getoption("--pin"):
        inner = pinned
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = found
        PINNED.write_text(json.dumps(pinned, indent=1, sort_keys=True) + "\n")
        return
    for part in path:
        pinned = pinned.get(part, {})
    said = []
    for name in sorted(pinned.keys() | found.keys()):
        before, now = pinned.get(name, "nothing"), found.get(name, "nothing")
        if before != now:
            said.append(f"{' / '.join((*path, name))}:\n    pinned {before}\n    found  {now}")
    if said:
        pytest.fail("\n".join([f"{len(said)} entries differ from {PINNED.name}:", *said]), pytrace=False)


def crc(content):
    return f"{google_crc32c.value(content):08x}"


def crc_of(value):
    return crc(json.dumps(value, sort_keys=True, default=str).encode())


def summary(files, folder):
    """Number and bytes of files, and a CRC-32C of their names in a folder and of their contents."""
    contents = {os.path.relpath(file, folder): file.read_bytes() for file in sorted(files)}
    code = crc_of({name: crc(content) for name, content in contents.items()})
    count = f"{len(contents)} files, " if len(contents) > 1 else ""
    return f"{count}{sum(map(len, contents.values()))} bytes, {code}"


def entry_of(file, output):
    """Name of the entry that a file belongs to: of an array, of a channel's documents, of all cells, or of its own."""
    fov, store, *inner = file.relative_to(output).parts
    if store not in ("cells.zarr", "images.zarr"):
        return f"{fov}/{store}"
    *group, name = inner
    kind, depth = ("documents", 1) if name == "zarr.json" else ("pixels", 2)
    return "/".join([fov, store, *(group[:depth] if store == "images.zarr" else ())]) + f", {kind}"


def output_entries(output):
    """Summaries of all products and documents of an output."""
    files = sorted(f for f in output.rglob("*") if f.is_file() and f.relative_to(output).parts[0] != ".pyama_dask")
    written = next(file for file in files if file.name == "processing_config.yaml")
    files.remove(written)
    named = {}
    for file in files:
        named.setdefault(entry_of(file, output), []).append(file)
    found = {name: summary(of, output) for name, of in named.items()}
    rest, digests = parted(json.loads((output / PLAN).read_text()))
    found |= {"plan.json": crc_of(rest), "plan.json, digests": crc_of(digests)}
    text, paths = re.subn(r"(?m)^(input|output): .*\n", "", written.read_text())
    assert paths == 2
    found[written.name] = f"{len(text)} characters, {crc(text.encode())}"
    return found | {f"{written.name}, {key}": crc_of(value) for key, value in yaml.safe_load(text).items()}


def parted(document):
    """Document of a plan without paths, digests and the wording of messages; and its digests, by FOV and kind."""
    rest = {key: value for key, value in document.items() if key not in ("input", "output")}
    digests = [{kind: of["steps"] for kind, of in fov["kinds"].items()} for fov in document["fovs"]]
    rest["warnings"] = len(document["warnings"])
    rest["fovs"] = [
        fov
        | {"problem": fov["problem"] is not None}
        | {"kinds": {kind: of | {"steps": list(of["steps"])} for kind, of in fov["kinds"].items()}}
        for fov in document["fovs"]
    ]
    return rest, digests


def plan_entries(plan):
    """Digests of the document of a plan and of all its steps, its figures, and its tasks with their steps."""
    document, digests = parted(plan.document())
    figures = ("blocks", "block_frames", "bytes_read", "bytes_written", "files_per_fov", "memory", "warnings")
    tasks = {f"fov {fov.fov}": ["cannot be done"] for fov in plan.fovs if fov.problem}
    for (fov, _, steps), of in groupby(plan.tasks, lambda task: (task.fov, task.kind, " ".join(task.digests))):
        keys = [task.key for task in of]
        tasks[f"fov {fov}"] = [*tasks.get(f"fov {fov}", ()), f"{spread(keys)}: {steps}"]
    said = ", ".join(f"{name} {document[name]}" for name in figures)
    return {"document": crc_of(document), "digests": crc_of(digests), "figures": said} | tasks


def spread(keys):
    """First and last of some keys."""
    return keys[0] if len(keys) == 1 else f"{keys[0]} to {keys[-1].rpartition('-')[2]} ({len(keys)})"


# ------------------------------------------------------------------------------------------------- tests


def of_pinned_movie(request, document):
    """Check that the movie of a config has the pinned bytes, without which nothing can be said of results."""
    movie = Path(document["input"])
    check(request, ("movies", movie.name), {"file": summary([movie], movie.parent)})
    return document


def counted_run(movie, document, at_once=None):
    """Run; give the report, the plan, and how often each plane was read: (FOV, frame, z, channels)."""
    reads, plans = Counter(), []
    with pyama_dask.open_reader(movie) as reader:
        of = type(reader)
    fill = of._fill

    def counting(self, file, out, fov, frame, channels, z):
        reads[fov, frame, z, *channels] += 1
        fill(self, file, out, fov, frame, channels, z)

    with ExitStack() as stack:
        stack.enter_context(patch.object(of, "_fill", counting))
        if at_once:
            pool = SerialPool(lambda task, job: run_task(replace(task, at_once=at_once), job))
            stack.enter_context(patch.object(start, "SerialPool", lambda: pool))
        report = pyama_dask.run(document, on_start=lambda plan, _: plans.append(plan))
    return SimpleNamespace(report=report, plan=plans[0], reads=reads)


DRAWN_OTHERWISE = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.3.0", reason="NumPy before 2.3 rounds some pixels of the demo otherwise"
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=DRAWN_OTHERWISE if name == "demo" else ()) for name in OUTPUTS]
)
def test_output(request, movies, here, tmp_path, name):
    document = of_pinned_movie(request, OUTPUTS[name](movies, tmp_path / "out"))
    made = counted_run(Path(document["input"]), document, AT_ONCE.get(name))
    settings, metadata = made.plan.job.config, yaml.safe_load((tmp_path / "out/processing_config.yaml").read_text())
    channels = [choice.channel for choice in settings.channels.all]
    planes = range(metadata["metadata"]["z_planes"]) if settings.params.z == "max" else [settings.params.z]
    whole = [fov.fov for fov in made.plan.fovs if not fov.problem]
    assert made.reads == Counter((f, t, z, *channels) for f in whole for t in made.plan.job.frames for z in planes)
    status = {f"fov {fov.fov}": f"{fov.status}, {fov.cells} cells, {fov.rows} rows" for fov in made.report.fovs}
    if name == "everything":  # one FOV more, which is only copied, in the same output
        del document["params"]["preprocess"]
        document["params"] |= {"fovs": "2", "frames": "0-3", "copy_only": True}
        document["params"]["tracking_params"]["min_frames"] = 1
        copied = pyama_dask.run(document)
        status["fov 2 copied"] = copied.fovs[0].status
    check(request, ("outputs", name), output_entries(tmp_path / "out") | status)
    check(request, ("plans", name), plan_entries(made.plan))


@pytest.mark.parametrize("name", PLANS)
def test_plan(request, movies, here, tmp_path, name):
    document = of_pinned_movie(request, base(movies, tmp_path / "out", PLANS[name]))
    plan, _ = plan_run(pyama_dask.Config.model_validate(document))
    check(request, ("plans", name), plan_entries(plan))


def test_digests(request, movies, here, tmp_path):
    of_pinned_movie(request, base(movies, tmp_path))

    def digests(changes):
        plan, _ = plan_run(pyama_dask.Config.model_validate(base(movies, tmp_path / "out", changes)))
        return {f"{task.key} {step}": digest for task in plan.tasks for step, digest in task.digests.items()}

    def part(of):
        key, step = of.split()
        return f"{key.partition('-')[0]}.{step}"

    first = digests({})
    found = {f"base, {name}": crc_of(of) for name, of in gathered(part, first).items()}
    for name, changes in DIGESTS.items():
        mine = digests(changes)
        others = {of: mine[of] for of in mine if mine[of] != first.get(of)}
        less = {f"-{part(of)}" for of in first.keys() - mine.keys()}
        more = {f"+{part(of)}" for of in mine.keys() - first.keys()}
        changed = {part(of) for of in others.keys() & first.keys()}
        found[name] = f"{crc_of(others)}: {' '.join(sorted(less | more | changed)) or 'as base'}"
    check(request, ("digests",), found)


def gathered(part, digests):
    """Digests of tasks by part of a step."""
    found = {}
    for name, digest in digests.items():
        found.setdefault(part(name), {})[name] = digest
    return found


def test_nothing_else_is_pinned():
    pinned = json.loads(PINNED.read_text())
    assert pinned.keys() == {"movies", "outputs", "plans", "digests"}
    assert pinned["outputs"].keys() == OUTPUTS.keys()
    assert pinned["plans"].keys() == OUTPUTS.keys() | PLANS.keys()
