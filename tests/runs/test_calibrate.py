"""A block that is done for real says what a whole run takes."""

import json
import subprocess
import sys
import threading
from functools import partial
from itertools import count

import pytest
from support.ledgers import costs_of
from support.movies import as_czi, config, pixels, write_config

import pyama_dask
from pyama_dask.config.load import parse_config
from pyama_dask.errors import CancelledError, PlanError
from pyama_dask.runs.calibrate import TRIAL, calibrate
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import LEDGER
from pyama_dask.runs.timings import (
    CALIBRATION,
    Calibration,
    predict,
    read_calibration,
    settings_digest,
    summed_up,
    write_calibration,
)
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import Cost

NEAR = 0.3
"""How far a prediction may be from the run that follows."""


def cost(key, seconds, memory=100):
    return Cost(key, seconds, memory, {})


def plan_of(tmp_path, small_czi, **changes):
    plan, _ = plan_run(parse_config(config(small_czi, tmp_path / "out", changes)))
    return plan


def test_the_later_half_of_each_kind_counts_and_the_first_is_what_a_worker_does_once(tmp_path, small_czi):
    plan = plan_of(tmp_path, small_czi)
    ingests = [cost(f"ingest-fov00{k}-b000", seconds, 100 + k) for k, seconds in enumerate((5.0, 9.0, 0.8, 0.8))]
    others = [cost("link-fov000", 0.4), cost("finish-fov000-b000", 0.2), cost("gather-fov000", 0.04)]
    found = summed_up(plan.job, 4, [*ingests, *others], around=3.0, size=10.0, cells=2.5)
    assert found.seconds == pytest.approx({"ingest": 0.2, "link": 0.1, "finish": 0.05, "gather": 0.01})
    assert (found.first, found.around, found.memory) == (pytest.approx(4.2), 3.0, 103)


def test_what_is_predicted_by_hand(tmp_path, small_czi):
    """2 FOVs of 10 frames: per FOV 2 s of ingest, 1 of link, 0.5 of finish, 0.1 of gather."""
    plan = plan_of(tmp_path, small_czi)
    seconds = {"ingest": 0.2, "link": 0.1, "finish": 0.05, "gather": 0.01}
    found = Calibration("x", seconds, first=4.0, around=3.0, memory=2**40, size=100.0, cells=2.5)
    one, two, many = (predict(plan, found, workers) for workers in (1, 2, 1000))
    assert (one.worker_seconds, one.seconds) == (pytest.approx(7.2 + 4), pytest.approx(3 + 4 + 7.2))
    alone = 0.2 * 4 + 0.1 * 10 + 0.05 * 4 + 0.01 * 10  # the blocks of a FOV beside each other
    assert two.seconds == pytest.approx(3 + 4 + 3.6 + alone / 2)
    assert many.seconds == pytest.approx(3 + 4 + max(7.2 / 6 + alone / 2, alone))
    assert (one.memory, one.size) == (2**40, 100 * 10 * 2)
    assert one.files == 2 * plan.files_per_fov + 5 * plan.files_per_cell


def test_what_was_measured_counts_for_the_same_settings_only(tmp_path, small_czi):
    output = tmp_path / "out"
    changes = {"cluster": {"kind": "serial"}}
    given = parse_config(config(small_czi, output, changes))
    plan, measured = calibrate(given)
    resolved = plan.job.config
    assert (output / CALIBRATION).exists()
    assert not (output / TRIAL).exists()
    assert read_calibration(resolved) == measured
    assert measured.cells > 0
    other = resolved.params.model_copy(update={"background_weight": 0.5})
    assert read_calibration(resolved.model_copy(update={"params": other})) is None
    fewer = resolved.params.model_copy(update={"fovs": "0", "frames": "0-3"})
    assert read_calibration(resolved.model_copy(update={"params": fewer})) == measured
    (output / CALIBRATION).write_text("{")
    assert read_calibration(resolved) is None
    assert pyama_dask.run(given).exit_status == 0  # it is no result that a run would find in its way


def test_a_single_fov_is_tried_on_two_blocks(tmp_path, small_czi, monkeypatch):
    ran = []
    monkeypatch.setattr(
        "pyama_dask.runs.calibrate.run", lambda trial, **options: ran.append(trial) or pyama_dask.run(trial, **options)
    )
    calibrate(parse_config(config(small_czi, tmp_path / "out", {"params.fovs": "1"})))
    (trial,) = ran
    assert (trial.params.fovs, trial.params.frames) == ("1", "0-7")
    assert trial.params.tracking_params["min_frames"] == 4


def test_a_trial_that_fails_or_is_cancelled_leaves_nothing(tmp_path, small_czi):
    broken = tmp_path / "broken.py"
    broken.write_text("def f(frame):\n    raise ValueError('no such thing')\n")
    given = parse_config(config(small_czi, tmp_path / "out", {"params.preprocess": [f"{broken}:f"]}))
    with pytest.raises(PlanError, match=r"the trial failed: .*no such thing"):
        calibrate(given)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError, match="the trial was cancelled"):
        calibrate(parse_config(config(small_czi, tmp_path / "out")), cancel=cancel)
    assert not (tmp_path / "out" / TRIAL).exists()
    assert not (tmp_path / "out" / CALIBRATION).exists()


def test_plan_says_it(tmp_path, small_czi, call):
    run_yaml = write_config(tmp_path / "run.yaml", config(small_czi, tmp_path / "out"))
    status, out, _ = call("plan", run_yaml, "--calibrate", "--jobs", 3, "--json")
    assert status == 0
    predicted = json.loads(out)["predicted"]
    assert predicted["workers"] == 3
    assert predicted["seconds"] > 0


def test_a_queue_takes_blocks_of_a_minute_and_refuses_those_that_no_job_lasts_for(tmp_path, small_czi):
    queue = {"kind": "slurm", "jobs": 1, "memory": "8GiB", "walltime": "00:01:30"}
    changes = {"storage.block_frames": "auto", "cluster": queue}
    given = parse_config(config(small_czi, tmp_path / "out", changes))
    plan, _ = plan_run(given)
    assert plan.job.block_frames == 10  # all: these are small frames
    seconds = {"ingest": 20.0, "link": 0.1, "finish": 1.0, "gather": 0.1}
    write_calibration(tmp_path / "out", Calibration(settings_digest(plan.job.config), seconds, 0, 0, 0, 0, 0))
    assert plan_run(given)[0].job.block_frames == 3  # of 60 s
    longer = parse_config(config(small_czi, tmp_path / "out", changes | {"storage.block_frames": 10}))
    with pytest.raises(PlanError, match=r"takes 200 s or more, but a job has 70 s for tasks"):
        plan_run(longer)


@pytest.mark.slow
def test_size_files_and_memory_are_as_predicted(tmp_path):
    """Seconds are compared in `bench.calibration`."""
    movie = as_czi(tmp_path / "movie.czi", pixels(fovs=4, frames=16, shape=(256, 256), cells=10))
    workers = {"kind": "local", "workers": 1, "dashboard": "127.0.0.1:0"}
    document = config(movie, tmp_path / "out", {"storage.block_frames": 8, "cluster": workers})
    plan, measured = calibrate(parse_config(document))
    predicted = predict(plan, measured, 1)
    file = write_config(tmp_path / "run.yaml", document)
    # as users run it: tests have imported more than the process of a run
    subprocess.run([sys.executable, "-m", "pyama_dask", "run", file], check=True, capture_output=True, timeout=150)
    files = [path for path in (tmp_path / "out").glob("fov_*/**/*") if path.is_file()]
    assert predicted.size == pytest.approx(sum(path.stat().st_size for path in files), rel=NEAR)
    assert predicted.files == pytest.approx(len(files), rel=NEAR)
    with Ledger(tmp_path / "out" / LEDGER) as ledger:
        held = [cost.memory for cost in costs_of(ledger)]
    assert measured.memory == pytest.approx(max(held), rel=NEAR)
    assert max(held) <= predicted.memory <= 1.5 * max(held)


def test_the_time_around_tasks_runs_from_the_start_to_the_first_and_from_the_last_to_the_end(tmp_path, small_czi):
    """By a clock that goes on by 1000 s whenever it is read; the first task's own seconds are subtracted."""
    given = parse_config(config(small_czi, tmp_path / "out", {"cluster": {"kind": "serial"}}))
    _, measured = calibrate(given, clock=partial(next, count(step=1000)))
    assert 1900 < measured.around < 2000
