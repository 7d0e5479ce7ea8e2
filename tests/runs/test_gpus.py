"""Steps that need a GPU: where they are done, with made-up devices, and what is refused without any."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
from support.ledgers import recorded
from support.movies import as_czi, config, file_bytes, pixels, write_config

import pyama_dask
from pyama_dask.errors import ConfigError
from pyama_dask.execute.fov_run import FovRun
from pyama_dask.launch import devices
from pyama_dask.launch.devices import Device
from pyama_dask.launch.gpu_workers import gpu_workers
from pyama_dask.runs.live import LiveRun
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import LEDGER, read_status, warn_of_mixed_processors
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import FovRecords
from pyama_dask.workflow.graph import Graph, Part
from pyama_dask.workflow.task import Receipt, Task, parse_key

METHODS = """
import os, signal, time
from pathlib import Path
import numpy as np
from pyama_dask.kernels.segmentation import segment as on_cpu
from pyama_dask.methods.device import has_gpu

HERE = Path(__file__).parent

def note(what):
    with (HERE / "calls.txt").open("a") as file:
        file.write(f"{what} {os.environ.get('CUDA_VISIBLE_DEVICES', 'unset') or 'none'} {has_gpu()} {os.getpid()}\\n")

def segment(frame):
    note("segment")
    dies = HERE / "dies"
    if dies.exists() and has_gpu():
        dies.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return on_cpu(frame, morph_iterations=1)

segment.gpu_memory = "6GiB"

def cell_sum(shapes):
    note("measure")
    return np.asarray(shapes.area, float)
"""
LOCAL = {"kind": "local", "workers": 4, "dashboard": "127.0.0.1:0", "gpu": {"devices": ["GPU-a", "GPU-b"]}}
SLURM = {"kind": "slurm", "jobs": 1, "memory": "2GiB", "walltime": "01:00:00", "dashboard": "127.0.0.1:0"}


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Give a config whose methods note where they are called."""
    (tmp_path / "mine.py").write_text(METHODS)
    monkeypatch.chdir(tmp_path)
    movie = as_czi(tmp_path / "movie.czi", pixels(fovs=2, frames=4, shape=(96, 128), cells=3))
    basic = {
        "params.segmentation_method": "mine.py:segment", "params.segmentation_params": {}, "storage.block_frames": 2,
        "params.tracking_params": {"min_frames": 2, "border_margin": 0}, "channels.pc.features": ["mine.py:cell_sum"],
    }  # fmt: skip
    return lambda output, **changes: config(movie, tmp_path / output, basic | changes)


def with_gpu(need, cluster=None):
    return {"params.segmentation_gpu": need} | ({"cluster": cluster} if cluster else {})


def test_each_gpu_part_is_on_a_worker_with_one_device_and_no_other_part_is(given, tmp_path):
    """A worker that is killed starts again with its device, and another attempt does its task."""
    (tmp_path / "dies").touch()
    report = pyama_dask.run(given("out", **with_gpu(1, LOCAL)))
    assert report.exit_status == 0
    seen = defaultdict(set)
    for line in (tmp_path / "calls.txt").read_text().splitlines():
        what, device, owned, process = line.split()
        seen[what, device, owned].add(process)
    del seen["measure", "unset", "False"], seen["segment", "unset", "False"]  # tried when the run was planned
    assert {*seen} == {
        ("segment", "GPU-a", "True"), ("segment", "GPU-b", "True"), ("measure", "none", "False")
    }  # fmt: skip
    counts = sorted(len(seen["segment", device, "True"]) for device in ("GPU-a", "GPU-b"))
    assert counts == [1, 2]  # one was started again
    assert seen["segment", "GPU-a", "True"].isdisjoint(seen["segment", "GPU-b", "True"])
    assert len(seen["measure", "none", "False"]) <= 4
    processors = recorded(Ledger(tmp_path / "out" / LEDGER), "processors")
    assert {parse_key(key).kind for key, of in processors.items() if of == {"segment": "GPU"}} == {"block1_gpu"}

    told = {of.worker.rpartition("/")[2] for of in LiveRun(tmp_path / "out").snapshot().workers if of.has_gpu}
    assert told
    assert told <= seen["segment", "GPU-a", "True"] | seen["segment", "GPU-b", "True"]

    again = given("plain", **with_gpu("off"))
    assert pyama_dask.run(again).exit_status == 0
    assert file_bytes(tmp_path / "plain") == file_bytes(tmp_path / "out")


def test_without_a_gpu_it_is_refused_or_done_elsewhere(given, tmp_path, call, monkeypatch):
    monkeypatch.setattr(devices, "nvml_devices", lambda: ())
    for cluster, told in {
        "serial": "cluster.kind is serial, which has no such workers. Fix: set it to local; or set it to optional",
        "local": "Fix: ",
        "slurm": "cluster.gpu does not say how jobs with a GPU are submitted. Fix: add",
    }.items():
        of = SLURM if cluster == "slurm" else {"kind": cluster, "dashboard": "127.0.0.1:0"}
        path = write_config(tmp_path / "run.yaml", given("out", **with_gpu(1, of)))
        for command in ("plan", "run") if cluster != "slurm" else ("plan",):
            status, _, error = call(command, path)
            assert status == 2
            assert len(error.splitlines()) == 1
            assert "params.segmentation_gpu: segment needs a GPU, but " in error
            assert told in error
    assert not (tmp_path / "out").exists()

    report = pyama_dask.run(given("out", **with_gpu("optional")))
    assert report.exit_status == 0
    assert any("segment: is done without a GPU, as cluster.kind is serial" in told for told in report.warnings)
    assert pyama_dask.run(given("plain")).exit_status == 0
    assert file_bytes(tmp_path / "plain") == file_bytes(tmp_path / "out")
    status, told, _ = call("plan", write_config(tmp_path / "run.yaml", given("out", **with_gpu("optional"))))
    assert "GPU:     none; segment on workers without one" in told
    again = []
    pyama_dask.run(given("out", **with_gpu("optional")), on_start=lambda plan, _: again.extend(plan.tasks))
    assert not again


def test_a_finished_output_may_be_done_on_a_gpu_and_back(given, tmp_path):
    assert pyama_dask.run(given("out")).exit_status == 0
    before = file_bytes(tmp_path / "out")
    for need in ("optional", "off"):
        assert pyama_dask.run(given("out", **with_gpu(need))).exit_status == 0
        assert file_bytes(tmp_path / "out") == before
        assert {fov["status"] for fov in read_status(tmp_path / "out")["fovs"]} == {"done"}


def test_the_memory_of_a_device_is_in_the_plan(given, call, tmp_path, monkeypatch):
    cluster = {"kind": "local", "workers": 1, "dashboard": "127.0.0.1:0"}
    cards = (Device("GPU-a", "L4", 24 * 2**30), Device("GPU-b", "T4", 8 * 2**30))
    monkeypatch.setattr(devices, "nvml_devices", lambda: cards)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    path = write_config(tmp_path / "run.yaml", given("out", **with_gpu(1, cluster)))
    status, told, _ = call("plan", path)
    assert status == 0
    assert "GPU:     segment on 2 workers here, on L4, T4; segment needs 6.0 GiB of its memory" in told
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    status, told, error = call("plan", path)
    assert status == 0
    assert (
        "segment needs 6.0 GiB of the memory of a GPU, but it is unknown how much these have: 1. Fix: " in told + error
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(devices, "nvml_devices", lambda: (Device("GPU-a", "P4", 4 * 2**30),))
    status, _, error = call("plan", path)
    assert status == 2
    assert "segment needs 6.0 GiB of the memory of a GPU, but one has 4.0 GiB. Fix: " in error


def test_a_method_says_itself_what_it_needs(given, tmp_path):
    method = tmp_path / "mine.py"
    method.write_text(METHODS + "segment.gpu = 'optional'\n")
    plan, _ = plan_run(pyama_dask.load_config(write_config(tmp_path / "run.yaml", given("out"))))
    assert plan.gpu_tasks == 4
    plan, _ = plan_run(pyama_dask.load_config(write_config(tmp_path / "run.yaml", given("out", **with_gpu("off")))))
    assert plan.gpu_tasks == 0
    method.write_text(METHODS + "segment.gpu = 2\n")
    with pytest.raises(ConfigError, match=r"mine\.py:segment: its attribute 'gpu' is '2'\. Fix: "):
        plan_run(pyama_dask.load_config(write_config(tmp_path / "run.yaml", given("out"))))


def test_a_method_may_take_frames_in_batches(given, tmp_path):
    """Blocks of four frames come as three and one; a wrong number of labels is refused when the run is planned."""
    assert pyama_dask.run(given("plain", **{"storage.block_frames": 4})).exit_status == 0
    together = """
def together(frames):
    with (HERE / "batches.txt").open("a") as file:
        file.write(f"{frames.shape} ")
    return np.stack([segment(frame) for frame in frames])

together.batch = 3

def too_few(frames):
    return together(frames)[1:]

too_few.batch = 3
"""
    (tmp_path / "mine.py").write_text(METHODS + together)
    changes = {"storage.block_frames": 4, "params.segmentation_method": "mine.py:together"}
    assert pyama_dask.run(given("out", **changes)).exit_status == 0
    assert file_bytes(tmp_path / "out") == file_bytes(tmp_path / "plain")
    of_fov = "(3, 96, 128) (1, 96, 128) "
    assert (tmp_path / "batches.txt").read_text().endswith(2 * of_fov)
    changes["params.segmentation_method"] = "mine.py:too_few"
    with pytest.raises(ConfigError, match=r"too_few.* returned .*, but must return labels of shape \(1, 96, 128\)"):
        pyama_dask.run(given("out", **changes))


@pytest.mark.parametrize("method", ["logstd", "bright", "unet"])
def test_methods_that_cannot_use_one_are_refused(given, tmp_path, method):
    changes = {"params.segmentation_method": method, **with_gpu(1, LOCAL)}
    path = write_config(tmp_path / "run.yaml", given("out", **changes))
    told = (
        "the installed onnxruntime has no CUDAExecutionProvider" if method == "unet" else f"{method} works on the CPU"
    )
    with pytest.raises(ConfigError, match=rf"params\.segmentation_gpu: is 1, but {told}.*\. Fix: "):
        plan_run(pyama_dask.load_config(path))


def test_workers_of_a_running_scheduler_have_the_resource():
    of = {"tcp://a": {"resources": {"GPU": 1}}, "tcp://b": {"resources": {}}, "tcp://c": {"resources": {"GPU": 1.0}}}
    client = SimpleNamespace(scheduler_info=lambda n_workers: {"workers": of})
    assert gpu_workers(None, client).count == 2
    of.clear()
    assert "no worker of the scheduler has the resource GPU. Fix: start some with --resources 'GPU=1'" in (
        gpu_workers(None, client).text
    )


# ------------------------------------------------------------------------------- a device keeps no other part waiting


def test_parts_that_need_nothing_of_a_device_do_not_wait_for_it():
    def part(name, scope="block", needs=(), **more):
        return Part(name, name.partition(".")[0], scope, "nowhere:nothing", lambda of: "", needs, **more)

    graph = Graph([
        part("a.copy"), part("b.network", needs=("a.copy",), resources={"GPU": 1}),
        part("c.link", "fov", needs=("a.copy",)), part("d.finish", needs=("c.link",)),
        part("e.table", "fov", needs=("b.network", "d.finish")),
    ])  # fmt: skip
    kinds = [*graph.kinds]
    assert [kind for kind in kinds if graph.needs_gpu(kind)] == ["block1_gpu"]
    tasks = [Task(kind, 0, (8, 8), 0, 2, None, {"any": "digest"}) for kind in kinds]
    run = FovRun(SimpleNamespace(stages=[(task,) for task in tasks]), FovRecords())
    started = []

    def start():
        while stage := run.ready(graph):
            run.stages.remove(stage)
            run.running.add(stage[0].key)
            started.append(stage[0].kind)

    start()
    assert started == [kinds[0]]
    run.running.clear()
    start()
    assert started[1:] == ["block1_gpu", graph.kind_of["c.link"]]  # linking waits for copying, not for the device
    run.running.discard(f"{graph.kind_of['c.link']}-fov000")
    start()
    assert started[3:] == [graph.kind_of["d.finish"]]
    run.running.discard(f"{graph.kind_of['d.finish']}-fov000")
    start()
    assert len(started) == 4  # the table is made of both
    run.running.clear()
    start()
    assert started[4:] == [graph.kind_of["e.table"]]


def test_outputs_of_several_kinds_of_processors_are_told(tmp_path):
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        for fov, processor in enumerate(("GPU", "x86")):
            digests, processors = {"segment": "s"}, {"segment": processor}
            key = f"block1_gpu-fov{fov:03d}-b000"
            ledger.record(Receipt(key, digests, {}, 0.1, 1, 1, 1, processors=processors))
        (told,) = warn_of_mixed_processors(ledger)
    assert "different kinds of processors (FOVs 0 on GPU; FOVs 1 on x86)" in told
