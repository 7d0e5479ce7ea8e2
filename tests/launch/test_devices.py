"""GPUs of this machine, and workers that own one each, with made-up devices."""

import sys
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from pyama_dask.config.cluster import Cluster, GpuWorkers
from pyama_dask.execute.walltime import room_of
from pyama_dask.launch import script_of
from pyama_dask.launch.devices import Device, devices_here, places
from pyama_dask.launch.gpu_workers import gpu_workers
from pyama_dask.launch.settings import with_at_most

LOCAL = Cluster(kind="local", workers=4)
SLURM = Cluster(
    kind="slurm", jobs=2, cores=2, memory="4GiB", walltime="01:00:00", queue="cpus", directives=("--nice",),
    gpu=GpuWorkers(jobs=3, queue="gpus", directives=("--gres=gpu:1",)),
)  # fmt: skip


@pytest.fixture
def cards(monkeypatch):
    """NVML finds two cards; gives a function that changes what programs may see."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    made = SimpleNamespace(
        nvmlInit=lambda: None, nvmlShutdown=lambda: None, nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda k: k, nvmlDeviceGetUUID=lambda k: f"GPU-{k}{k}",
        nvmlDeviceGetName=lambda k: b"A100" if k else "L4",
        nvmlDeviceGetMemoryInfo=lambda k: SimpleNamespace(total=(24 + 16 * k) * 2**30), NVMLError=LookupError,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return lambda visible: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


def names(cluster=LOCAL):
    return [device.name for device in devices_here(cluster)]


def test_cards_that_nvml_finds_are_known_by_their_uuid(cards):
    assert devices_here(LOCAL) == (Device("GPU-00", "L4", 24 * 2**30), Device("GPU-11", "A100", 40 * 2**30))
    found = gpu_workers(LOCAL)
    assert (found.count, found.text, found.memory) == (2, "2 workers here, on L4, A100", 24 * 2**30)


@pytest.mark.parametrize(
    ("visible", "seen"),
    [("1", ["1"]), ("GPU-11,GPU-00", ["GPU-11", "GPU-00"]), ("", []), ("-1", []), ("1,-1,0", ["1"])],
)
def test_only_cards_that_programs_may_see_count(cards, visible, seen):
    cards(visible)
    assert names() == seen


def test_the_config_may_name_them(cards):
    cards("")
    assert names(LOCAL.model_copy(update={"gpu": GpuWorkers(devices=(3, "GPU-ab"))})) == ["3", "GPU-ab"]


def test_of_unlike_cards_a_number_means_one_only_if_cuda_counts_as_nvml_does(cards, monkeypatch):
    cards("1,0,2")
    found = gpu_workers(LOCAL)
    assert (found.text, found.memory, found.unknown) == ("3 workers here, on GPU 1, GPU 0, GPU 2", 0, "1, 0, 2")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert devices_here(LOCAL) == (Device("1", "A100", 40 * 2**30), Device("0", "L4", 24 * 2**30), Device("2"))
    found = gpu_workers(LOCAL)
    assert (found.memory, found.unknown) == (24 * 2**30, "2")


def test_of_cards_that_are_alike_each_number_is_known(cards, monkeypatch):
    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetName", lambda k: "L4")
    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetMemoryInfo", lambda k: SimpleNamespace(total=2**30))
    cluster = LOCAL.model_copy(update={"gpu": GpuWorkers(devices=(1, "GPU-0"))})
    assert devices_here(cluster) == (Device("1", "L4", 2**30), Device("GPU-0", "L4", 2**30))


def broken(k):
    if k == 0:
        raise LookupError("GPU is lost")
    return k


def test_a_card_that_nvml_cannot_read_is_left_out_with_a_warning(cards, monkeypatch):
    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetHandleByIndex", broken)
    found = gpu_workers(LOCAL)
    assert (found.count, found.text) == (1, "1 worker here, on A100")
    assert found.warning.startswith("1 GPU of this machine cannot be read by NVML")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    cards("1")  # CUDA may count without the broken one
    assert devices_here(LOCAL) == (Device("1"),)


def unknown(k):
    raise LookupError("Not Supported")


def test_a_card_that_does_not_tell_its_memory_is_used(cards, monkeypatch):
    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetMemoryInfo", unknown)
    assert devices_here(LOCAL) == (Device("GPU-00", "L4"), Device("GPU-11", "A100"))
    assert gpu_workers(LOCAL).unknown == "GPU-00, GPU-11"


def test_an_error_of_nvml_itself_means_no_cards(cards, monkeypatch):
    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetCount", lambda: broken(0))
    assert names() == []


def test_without_nvml_there_is_none_and_that_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert names() == []
    found = gpu_workers(LOCAL)
    assert found.count == 0
    assert found.text == (
        "the package nvidia-ml-py, which finds GPUs, is not installed. Fix: pip install 'pyama-dask[gpu]', or name the "
        "GPUs in cluster.gpu: {devices: [0]}"
    )


def test_each_local_worker_sees_its_own_card_or_none():
    of = places(2, [Device("GPU-00"), Device("GPU-11")])
    assert [(dict(place.environment), dict(place.resources)) for place in of] == [
        ({"CUDA_VISIBLE_DEVICES": ""}, {"CPU": 1}), ({"CUDA_VISIBLE_DEVICES": ""}, {"CPU": 1}),
        ({"CUDA_VISIBLE_DEVICES": "GPU-00"}, {"GPU": 1}), ({"CUDA_VISIBLE_DEVICES": "GPU-11"}, {"GPU": 1}),
    ]  # fmt: skip
    assert [(dict(place.environment), dict(place.resources)) for place in places(1, [])] == [({}, {})]


def test_jobs_with_a_gpu_are_a_group_of_their_own():
    cpu, gpu = script_of(SLURM).split("script of a job with a GPU:\n")
    assert "#SBATCH --gres" not in cpu
    assert "#SBATCH -p cpus" in cpu
    assert "--resources CPU=1" in cpu
    assert "--nworkers 2" in cpu
    for line in ("#SBATCH --nice", "#SBATCH --gres=gpu:1", "#SBATCH -p gpus", "#SBATCH --mem=2148M", "#SBATCH -n 1"):
        assert line in gpu, gpu
    assert "--resources GPU=1" in gpu
    assert "--nthreads 1" in gpu
    assert "--resources" not in script_of(SLURM, gpu=False)
    assert gpu_workers(SLURM).text == "3 jobs of one worker each (--gres=gpu:1)"


def test_their_jobs_may_have_memory_and_a_walltime_of_their_own():
    given = {**SLURM.gpu.model_dump(), "memory": "16GiB", "walltime": "00:30:00"}
    cluster = Cluster.model_validate(SLURM.model_dump() | {"gpu": given})
    cpu, gpu = script_of(cluster).split("script of a job with a GPU:\n")
    assert "#SBATCH --mem=16384M" in gpu
    assert "#SBATCH -t 00:30:00" in gpu
    assert "#SBATCH -t 01:00:00" in cpu
    assert room_of(cluster, "ingest") - room_of(cluster, "block1_gpu") == 1800


def test_there_are_no_more_of_them_than_tasks_for_them():
    assert with_at_most(SLURM, 100, 2).gpu.jobs == 2
    assert with_at_most(SLURM, 100, 9).gpu.jobs == 3
    assert with_at_most(SLURM, 100).gpu is None


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"kind": "serial", "gpu": {}}, "starts no workers with a GPU"),
        ({"kind": "local", "gpu": {"jobs": 2}}, "only 'devices'"),
        ({"kind": "local", "gpu": {"walltime": "01:00:00"}}, "only 'devices'"),
        (SLURM.model_dump() | {"gpu": {"jobs": 1, "memory": "2000MiB"}}, "2000MiB, is less than .*, 2148MiB, to which"),
        (SLURM.model_dump() | {"gpu": {}}, "needs 'jobs' with a queue"),
        (SLURM.model_dump() | {"options": {"worker_extra_args": ["--resources", "A=1"]}}, "has --resources"),
    ],
)
def test_settings_that_do_not_fit_are_refused(keys, told):
    with pytest.raises(ValidationError, match=told):
        Cluster.model_validate(keys)
