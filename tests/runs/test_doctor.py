"""What the doctor finds; on a queue, see the tests of Slurm."""

import os
import re
from dataclasses import replace

import psutil
import pytest
from support.movies import config, listing, write_config

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.load import parse_config
from pyama_dask.runs import doctor
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.timings import Calibration, settings_digest, write_calibration

QUEUE = {"kind": "slurm", "jobs": 2, "memory": "2GiB", "walltime": "00:01:00"}


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def plan_of(small_czi, output, **changes):
    return plan_run(parse_config(config(small_czi, output, changes)))[0]


def found(small_czi, output, **changes):
    """Findings of a config without its worker, by what they are about."""
    given = parse_config(config(small_czi, output, {"cluster": {"kind": "serial"}} | changes))
    return {finding.about: finding for finding in doctor.findings(given, wait=1)}


def test_all_is_well_and_nothing_is_written(small_czi, output):
    here = found(small_czi, output)
    assert all(finding.good for finding in here.values())
    assert here.keys() == {"plan", "memory", "output", "space", "files"}
    assert listing(output.parent) == set()


def test_a_worker_of_this_machine_is_there_and_back(small_czi, output, call):
    local = {"kind": "local", "workers": 1, "dashboard": "127.0.0.1:0"}
    run_yaml = write_config(output.parent / "run.yaml", config(small_czi, output, {"cluster": local}))
    status, told, _ = call("doctor", run_yaml)
    assert status == 0, told
    for words in ("worker:   started on", "output:   the worker sees it", "versions: the same", "scratch:  "):
        assert f"ok    {words}" in told
    assert listing(output.parent) == {"run.yaml"}


def test_a_worker_with_a_gpu_is_tried_if_a_step_needs_one(small_czi, output, call):
    (output.parent / "mine.py").write_text("def segment(frame):\n    return (frame > 0).astype('uint16')\n")
    local = {"kind": "local", "workers": 1, "dashboard": "127.0.0.1:0", "gpu": {"devices": ["GPU-a"]}}
    keys = {
        "cluster": local, "params.segmentation_gpu": 1, "params.segmentation_params": {},
        "params.segmentation_method": f"{output.parent}/mine.py:segment",
    }  # fmt: skip
    status, told, _ = call("doctor", write_config(output.parent / "run.yaml", config(small_czi, output, keys)))
    assert status == 0, told
    assert "ok    worker:   started on" in told
    assert re.search(r"ok    GPU: +a worker with one came to \S+, and sees device GPU-a\n", told), told


@pytest.mark.parametrize(("devices", "told"), [("0,1", "sees devices 0,1"), (None, "has no CUDA_VISIBLE_DEVICES")])
def test_a_worker_that_may_see_several_gpus_is_told(devices, told):
    finding = doctor.device({"host": "n1", "devices": devices})
    assert not finding.good
    assert f"came to n1, and {told}. Fix: have the queue give each job one GPU" in finding.text


def test_a_config_that_cannot_run_is_the_only_finding(small_czi, output):
    here = found(small_czi, output, **{"channels.pc.channel": 7})
    assert here.keys() == {"plan"}
    assert not here["plan"].good
    assert "7" in here["plan"].text


def test_an_output_that_takes_nothing(small_czi, output, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor, "write_bytes", full)
    assert "No space left on device. Fix: choose another" in found(small_czi, output)["output"].text


def test_a_clock_and_locks_of_a_disk(small_czi, output, monkeypatch):
    monkeypatch.setattr(doctor.time, "time", lambda: small_czi.stat().st_mtime - 7200)
    monkeypatch.setattr(doctor, "takes_turns", lambda file: False)
    here = found(small_czi, output)
    assert not here["clock"].good
    assert "differs by 7" in here["clock"].text
    assert "does not keep locks" in here["lock"].text


def test_memory(small_czi, output):
    plan = plan_of(small_czi, output, cluster=QUEUE)
    assert doctor.memory(plan, None).good
    assert "2.0 GiB of its job" in doctor.memory(plan, None).text
    small = doctor.memory(replace(plan, worker_memory=plan.memory), None)
    assert not small.good
    assert "raise cluster.memory" in small.text
    measured = Calibration("", {}, 0, 0, 2**40, 0, 0)
    assert not doctor.memory(plan, measured).good


def test_interfaces(monkeypatch):
    name = next(name for name, of in psutil.net_if_addrs().items() if any(a.address == "127.0.0.1" for a in of))
    cluster = Cluster(**QUEUE)
    assert "127.0.0.1" in doctor.network(cluster.model_copy(update={"interface": name})).text
    wrong = doctor.network(cluster.model_copy(update={"interface": "ib7"}))
    assert not wrong.good
    assert name in wrong.text
    monkeypatch.setattr(doctor, "get_ip", lambda: "127.0.0.1")
    alone = doctor.network(cluster)
    assert not alone.good
    assert "which no other machine reaches" in alone.text
    monkeypatch.setattr(doctor, "get_ip", lambda: "10.0.0.7")
    assert doctor.network(cluster).good


@pytest.mark.parametrize(
    ("seconds", "good", "words"),
    [
        (0.1, True, "takes up to 0.4 s"),
        (5, False, "fewer than five"),
        (100, False, "takes 400 s or more, but a job has 40 s"),
    ],
)
def test_walltime(small_czi, output, seconds, good, words):
    plan = plan_of(small_czi, output, cluster=QUEUE)
    measured = Calibration("", {"ingest": seconds}, 0, 0, 0, 0, 0)
    assert doctor.walltime(plan, measured).good is good
    assert words in doctor.walltime(plan, measured).text
    assert "--calibrate" in doctor.walltime(plan, None).text


def test_files(small_czi, output, monkeypatch):
    plan = plan_of(small_czi, output)
    measured = Calibration(settings_digest(plan.job.config), {}, 0, 0, 0, 0, cells=10.0)
    write_calibration(output, measured)
    count = 2 * plan.files_per_fov + 20 * plan.files_per_cell
    assert f"{count} are written, with those of cells" in found(small_czi, output)["files"].text
    few = os.statvfs_result((4096, 4096, 10**6, 10**6, 10**6, 10**6, count, count, 0, 255))
    monkeypatch.setattr(doctor.os, "statvfs", lambda _: few)
    assert f"only {count} are free" in doctor.files(plan, measured).text


def test_what_a_worker_elsewhere_sees(small_czi, output):
    plan = plan_of(small_czi, output)
    mine = doctor.versions()
    here = {"host": "n1", "versions": mine, "scratch": "/scratch", "scratch_free": 2**40, "note": "x", "movie": True}
    assert all(finding.good for finding in doctor.compare(here, "x", plan))
    other = here | {"versions": mine | {"numpy": "1.0"}, "scratch_free": 2**20, "movie": False, "note": "y"}
    bad = {finding.about: finding for finding in doctor.compare(other, "x", plan)}
    assert not any(finding.good for finding in bad.values())
    assert "choose one on a shared disk" in bad["output"].text
    assert "cannot read it" in bad["movie"].text
    assert f"numpy {mine['numpy']} here, 1.0 there" in bad["versions"].text
    assert "cluster.local_directory" in bad["scratch"].text
    read_only = here | {"disk_error": "Read-only file system"}
    assert "Read-only file system" in next(iter(doctor.compare(read_only, "x", plan))).text
