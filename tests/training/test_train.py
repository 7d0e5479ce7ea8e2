"""Trainings, all in one subprocess: see `support.trainings`."""

import fcntl
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from support.touching import touching_cells

from pyama_dask.cli.training import SELDOM, TrainDisplay, describe_scores
from pyama_dask.errors import ConfigError
from pyama_dask.kernels.scores import count, match
from pyama_dask.kernels.segmentation import segment
from pyama_dask.methods.network import open_network
from pyama_dask.methods.onnx_model import ModelCard, read_model
from pyama_dask.methods.unet import segment_unet
from pyama_dask.training import packages
from pyama_dask.training.annotated import Annotated
from pyama_dask.training.calibrate import Judged, calibrate, judge, scores
from pyama_dask.training.held_back import Held


@pytest.fixture(scope="module")
def trained(tmp_path_factory, worker_id):
    """Folder with the products of `support.trainings`, and the process; all processes of the tests share one."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder, record = shared / "trainings", shared / "trainings.json"
    with (shared / "trainings.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists():
            folder.mkdir()
            ended = subprocess.run(
                [sys.executable, "-m", "support.trainings", str(folder)],
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
                capture_output=True, text=True, timeout=170, check=False,
            )  # fmt: skip
            record.write_text(json.dumps([ended.args, ended.returncode, ended.stdout, ended.stderr]))
    return folder, subprocess.CompletedProcess(*json.loads(record.read_text()))


@pytest.fixture
def found(trained):
    folder, process = trained
    assert (folder / "found.json").exists(), process.stderr
    return json.loads((folder / "found.json").read_text())


def counts(truth, labels):
    return count([match(truth, labels)])


@pytest.mark.slow
def test_a_tiny_model_finds_cells_that_logstd_merges(trained):
    folder, _ = trained
    frame, truth = touching_cells(seed=99)
    labels = segment_unet(frame, model=str(folder / "tiny.onnx"))
    assert counts(truth, labels).f1 > 0.85
    assert 0.85 < counts(truth, labels).found_per_true < 1.15
    merged = segment(frame, max_object_size=None)
    largest = np.bincount(merged[merged > 0]).argmax()
    assert np.unique(truth[merged == largest]).size > 20
    assert counts(truth, merged).f1 < 0.1


@pytest.mark.slow
def test_the_command_says_what_it_reached_and_shows_it(trained):
    folder, process = trained
    card, _ = read_model(folder / "tiny.onnx")
    assert (folder / "tiny.onnx").stat().st_size < 200_000
    assert (card.name, card.images, card.seed, card.pixel_size_um) == ("tiny", 2, 0, pytest.approx(0.5))
    assert 40 < card.cell_diameter / card.zoom < 50
    assert f"SEG {card.held_back['seg']:.3f}, F1 {card.held_back['f1']:.3f}" in process.stdout
    assert "tiny.onnx: written (139 kB)\nIn a config: segmentation_method: unet" in process.stdout
    assert "held back 1 of 2: step 1 of 60, loss" in process.stderr
    picture = np.asarray(Image.open(folder / "tiny_held_back.png"))
    assert picture.shape[0] > 500
    assert picture.shape[1] > 2 * picture.shape[0] * 0.8


def test_poor_scores_are_a_warning():
    good = {"seg": 0.75, "f1": 0.86, "found_per_true": 1.22}
    said = "Held back: SEG 0.750, F1 0.860, 1.22 found per annotated cell\n(1 image, each judged"
    assert describe_scores(good, 1).startswith(said)
    assert "warning" not in describe_scores(good, 2)
    assert "warning: F1 is below 0.6" in describe_scores(good | {"f1": 0.59}, 2)


def after(step):
    """Progress after a step; its class would import JAX."""
    return SimpleNamespace(phase="all frames", step=step, steps=90, loss=1.5)


def test_the_bar_is_full_when_the_time_limit_comes_before_the_last_step():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with TrainDisplay(console) as display:
        for step in range(1, 31):
            display.event(after(step))
        display.end(complete=True)
    assert "30/30" in console.file.getvalue()


def test_the_remaining_time_is_shown_once_it_can_be_estimated():
    console = Console(file=io.StringIO(), width=80)
    with TrainDisplay(console) as display:
        display.event(after(1))
        display._said -= SELDOM
        display.event(after(11))
    first, later = console.file.getvalue().splitlines()
    assert first == "all frames: step 1 of 90, loss 1.500"
    assert later.endswith("loss 1.500, 0 s left")


@pytest.mark.slow
def test_equal_seeds_give_equal_models(found):
    assert found["same"]
    assert found["differs"]


@pytest.mark.slow
def test_a_cancelled_training_keeps_the_network_with_most_steps(found):
    assert found["first"] == [1, False, 1, 0, True]
    assert found["last"] == [8, False, 4, 2, True]


@pytest.mark.slow
def test_a_training_ends_in_time(found):
    assert found["in time"] == [True, True, True]


@pytest.mark.slow
def test_the_file_computes_what_was_trained(found):
    assert found["difference"] < 0.03 * found["spread"]  # weights are stored in 16 bits


@pytest.mark.slow
def test_ctrl_c_writes_the_best_model_so_far(trained):
    folder, process = trained
    assert process.returncode == 130
    assert "Stopping; the best model so far is written" in process.stderr
    assert "Not judged, as the training was stopped before" in process.stdout
    card, _ = read_model(folder / "stopped.onnx")
    assert (card.steps, card.held_back) == (3, {})


@pytest.mark.slow
def test_thresholds_are_those_that_fit_held_back_parts(trained):
    network = open_network(trained[0] / "tiny.onnx")
    card = network.card
    frame, truth = touching_cells(seed=42)
    wrong = card.model_copy(update={"depth": 0.9, "touch": 2.0, "smallest": 3000})
    parts = [judge(network, Annotated("a", frame.astype(np.float32), truth), Held(0), wrong)]
    fitted = calibrate(parts, wrong)
    assert scores(parts, fitted) == fitted.held_back
    assert fitted.held_back["f1"] > scores(parts, wrong)["f1"] + 0.3
    assert fitted.smallest < 1000


@pytest.mark.parametrize(("missed", "depth"), [(2, 0.2), (10, 0.4)])
def test_thresholds_change_only_where_the_gain_is_clear(missed, depth):
    truth = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((4, 4), np.int32)).astype(np.int32)

    def labels(card):
        return np.where((card.depth != 0.4) & (truth <= missed), 0, truth).astype(np.uint16)

    parts = [Judged("a", truth.astype(np.float32), truth, truth >= 0, labels)]
    card = ModelCard(cell_diameter=5)
    fitted = calibrate(parts, card)
    assert (card.depth, fitted.depth) == (0.2, depth)
    assert (fitted.smallest, fitted.zoom) == (card.smallest, card.zoom)
    assert fitted.held_back == scores(parts, fitted)


# ------------------------------------------------------------------------------------- the command


def test_a_mistake_is_one_message_before_the_training(call, tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # put back at the end
    (tmp_path / "frames").mkdir()
    status, out, said = call("train", tmp_path / "frames", "-o", tmp_path / "m.onnx")
    assert (status, out) == (2, "")
    assert said.startswith(f"pyama-dask: {tmp_path / 'frames'}: has no frames NAME.tif")
    (tmp_path / "m.onnx").touch()
    for to, problem in (
        ("m.onnx", "already exists"),
        ("m.pt", "is not a name of a model"),
        ("no/m.onnx", "the folder"),
    ):
        status, _, said = call("train", tmp_path / "frames", "-o", tmp_path / to)
        assert status == 2
        assert f"{to}: {problem}" in said
        assert "Fix: " in said


def test_missing_packages_are_named_with_their_remedy(monkeypatch):
    monkeypatch.setattr(packages, "NEEDED", ("numpy", "no_such_package"))
    with pytest.raises(ConfigError, match=r"needs no_such_package\. Fix: pip install 'pyama-dask\[train\]'"):
        packages.prepare_training()


def test_nothing_but_training_imports_its_packages():
    code = (
        "import sys, pyama_dask.runs.driver, pyama_dask.steps.standard, pyama_dask.cli.commands, "
        "pyama_dask.methods.registry; print({'jax', 'optax', 'onnx'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.split() == ["set()"]
