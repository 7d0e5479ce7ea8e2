"""Runs with a network: the same bytes everywhere, and a model that is moved, changed or wrong."""

import shutil

import numpy as np
import pytest
from support.bright_cells import bright_movie
from support.ledgers import costs_of
from support.movies import as_nd2, config, differences, file_bytes, products, write_config
from support.onnx_models import CARD, write_model

import pyama_dask
from pyama_dask.config.load import load_config, parse_config
from pyama_dask.errors import ConfigError
from pyama_dask.methods.device import gpu_owned
from pyama_dask.methods.network import Network
from pyama_dask.plan.resources import task_memory
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import LEDGER, read_status
from pyama_dask.steps import runner
from pyama_dask.store.ledger import Ledger

LOCAL = {"cluster": {"kind": "local", "workers": 2, "memory": "1GiB", "dashboard": "127.0.0.1:0"}}


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """Two FOVs of 6 frames, with pixels of 0.5 um."""
    fovs = [
        np.stack([frames, frames // 4], axis=1)
        for frames in (bright_movie((128, 136), 6, 20, seed=s)[0] for s in (1, 2))
    ]
    return as_nd2(tmp_path_factory.mktemp("bright") / "bright.nd2", np.stack(fovs), pixel_size_um=0.5)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx", card=CARD | {"pixel_size_um": 0.5})


def with_network(movie, output, model, changes=None):
    keys = {"params.segmentation_method": "unet", "params.segmentation_params": {"model": model}}
    return config(
        movie, output, keys | {"params.tracking_params": {"min_frames": 2, "border_margin": 0}} | (changes or {})
    )


@pytest.fixture(scope="module")
def finished(movie, model, tmp_path_factory):
    """Output of a serial run; to be read only."""
    output = tmp_path_factory.mktemp("network") / "out"
    report = pyama_dask.run(with_network(movie, output, model))
    assert report.exit_status == 0
    assert not report.warnings
    return output


@pytest.fixture
def output(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "out")


def steps_since(output, count):
    return {step for cost in costs_of(Ledger(output / LEDGER), count) for step in cost.spent}


def test_cells_are_found_and_followed(finished):
    assert (products(finished)["fov_000/images.zarr/seg_tracked_ch_0/0"] > 0).any()


def test_local_processes_give_the_same_bytes(movie, model, finished, tmp_path):
    report = pyama_dask.run(with_network(movie, tmp_path / "local", model, LOCAL))
    assert report.exit_status == 0
    assert differences(products(finished), products(tmp_path / "local")) == []


def test_a_worker_with_a_gpu_gives_it_several_frames_at_once(movie, model, finished, tmp_path, monkeypatch):
    counts, maps_of = [], Network.maps_of
    monkeypatch.setattr(Network, "maps_of", lambda self, flats: counts.append(len(flats)) or maps_of(self, flats))
    with gpu_owned(True):
        with_gpu = with_network(movie, tmp_path / "out", model, {"params.segmentation_gpu": "optional"})
        assert not pyama_dask.run(with_gpu).exit_status
    assert counts[-4:] == [4, 2, 4, 2]
    assert file_bytes(tmp_path / "out") == file_bytes(finished)  # also the numbers of objects that were dropped


def test_a_moved_model_changes_nothing(movie, model, output, tmp_path):
    moved = shutil.copy(model, tmp_path / "moved.onnx")
    assert pyama_dask.run(with_network(movie, output, moved)).tasks == 0


def test_another_model_regenerates_what_depends_on_it(movie, model, output, tmp_path):
    done = Ledger(output / LEDGER).receipts
    other = write_model(tmp_path / "other.onnx", cut=0.8)
    assert pyama_dask.run(with_network(movie, output, other)).exit_status == 0
    assert {"segment", "track", "extract"} <= steps_since(output, done)
    assert "copy" not in steps_since(output, done)
    pyama_dask.run(with_network(movie, tmp_path / "fresh", other))
    assert differences(products(output), products(tmp_path / "fresh")) == []


def test_a_model_that_changes_during_a_run_is_noticed(movie, tmp_path):
    model = write_model(tmp_path / "mine.onnx")
    report = pyama_dask.run(
        with_network(movie, tmp_path / "out", model, LOCAL), on_start=lambda *_: write_model(model, cut=0.3)
    )
    assert report.exit_status != 0
    assert all("mine.onnx: the model changed since the run was planned" in fov.reason for fov in report.fovs)


def test_relative_paths_of_models_start_at_the_configs_folder(movie, model, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(model, tmp_path / "near.onnx")
    monkeypatch.chdir(tmp_path / "elsewhere")
    file = write_config(tmp_path / "run.yaml", with_network(movie, "out", "near.onnx"))
    params = load_config(file).params.segmentation_params
    assert params["model"] == str(tmp_path / "near.onnx")
    planned = plan_run(load_config(file))[0].job.config.params.segmentation_params
    assert planned["zoom"] == 1
    assert planned["content"]


def test_a_wrong_model_is_refused_when_the_run_is_planned(movie, tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ConfigError, match=r"params\.segmentation_params: .*text\.onnx: is not a usable ONNX model"):
        plan_run(parse_config(with_network(movie, tmp_path / "out", tmp_path / "text.onnx")))
    with pytest.raises(ConfigError, match=r"params\.segmentation_params: .*gone\.onnx: does not exist"):
        plan_run(parse_config(with_network(movie, tmp_path / "out", tmp_path / "gone.onnx")))


def test_a_model_for_other_pixels_is_scaled_and_told(movie, tmp_path):
    model = write_model(tmp_path / "m.onnx", card=CARD | {"pixel_size_um": 1.0, "channel": "fluorescence"})
    plan, _ = plan_run(parse_config(with_network(movie, tmp_path / "out", model)))
    assert plan.job.config.params.segmentation_params["zoom"] == 0.5
    assert any("is for fluorescence images, but the channel is phase" in said for said in plan.warnings)
    assert any("those of the movie have 0.5 um, so frames are resized by 0.5" in said for said in plan.warnings)


def test_micrometres_become_pixels(movie, tmp_path):
    document = config(
        movie,
        tmp_path / "out",
        {"params.segmentation_method": "bright", "params.segmentation_params": {"diameter": "7 um"}},
    )
    assert plan_run(parse_config(document))[0].job.config.params.segmentation_params["diameter"] == 14


def test_a_plan_reserves_memory_for_the_network(movie, model, tmp_path):
    documents = config(movie, tmp_path / "out"), with_network(movie, tmp_path / "out", model)
    configs = [plan_run(parse_config(document))[0].job.config for document in documents]
    plain, network = (task_memory(one, "ingest", (2048, 2048), 4) for one in configs)
    assert network - plain > 2048**2 * 27 + 20 * 2**20  # what onnxruntime was measured to hold


# ------------------------------------------------------------------------------------------- kinds of processors


def test_an_output_of_mixed_processors_is_told(movie, model, tmp_path, monkeypatch):
    output = tmp_path / "out"
    assert not pyama_dask.run(with_network(movie, output, model, {"params.fovs": "0"})).warnings
    monkeypatch.setattr(runner, "instruction_set", lambda: "x86_64 other")
    report = pyama_dask.run(with_network(movie, output, model))
    said = [text for text in report.warnings if "different kinds of processors" in text]
    assert len(said) == 1
    assert "FOVs 1 on x86_64 other" in said[0]
    assert said[0] in read_status(output)["warnings"]


def test_logstd_does_not_depend_on_processors(movie, tmp_path, monkeypatch):
    for name in ("x86_64 one", "x86_64 two"):
        monkeypatch.setattr(runner, "instruction_set", lambda name=name: name)
        fovs = {"params.fovs": "0" if name.endswith("one") else "0-1"}
        report = pyama_dask.run(config(movie, tmp_path / "out", fovs))
        assert report.exit_status == 0
        assert not [text for text in report.warnings if "processors" in text]
    assert not Ledger(tmp_path / "out" / LEDGER).processors
