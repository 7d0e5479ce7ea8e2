"""The jobs of a run, held against a queue whose jobs are files."""

import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_slurm import FakeSlurm
from support.processes import wait_until

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import ConfigError
from pyama_dask.launch.canceller import Canceller
from pyama_dask.launch.job_logs import READ
from pyama_dask.launch.job_scripts import Place
from pyama_dask.launch.jobs import NO_WORKER, Jobs, Timing
from pyama_dask.launch.queue_kinds import KINDS
from pyama_dask.launch.queued import JobWorkers

RUNS, WAITS = "RUNNING None", "PENDING Resources"


FAST = Timing(interval=0.02, least_interval=0.0, known_after=0.2, longest_pause=0.0, listed_after=0.0)


class Clock:
    """Clock that goes on by itself, and by as much as a test sets."""

    forward = 0.0

    def __call__(self):
        return time.monotonic() + self.forward


@pytest.fixture
def queue(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "queue")
    monkeypatch.setenv("PATH", f"{fake.bin}:{os.environ['PATH']}")
    return fake


class Run:
    """What a run gives to `Jobs`, which looks when it is told to."""

    def __init__(self, logs, timing, **keys):
        self.retired = set()
        cluster = {"kind": "slurm", "jobs": 2, "memory": "1GiB", "walltime": "01:00:00"} | keys
        self.workers, self.demand, self.logs = set(), 100, logs
        self.jobs = Jobs(
            Cluster.model_validate(cluster),
            Place("tls://h:1", "pyama-123e4", logs),
            lambda: self.workers,
            lambda: self.demand,
            lambda: self.retired,
            timing,
        )

    def submit(self):
        """Begin, without a thread that looks by itself, and see what was submitted."""
        self.jobs.submit_first()
        self.jobs.wake()
        self.look()
        return self

    def look(self):
        self.jobs.update()

    def come(self, *numbers):
        """Connect the workers of jobs, which are numbered alike in the queue and in the run."""
        self.workers |= {f"pyama-123e4-{number}" for number in numbers}

    def leave(self, *numbers):
        self.workers -= {f"pyama-123e4-{number}" for number in numbers}

    def log(self, number, text, end="err"):
        (self.logs / f"pyama-123e4-{number}.{end}").write_text(text)


@pytest.fixture
def run(queue, tmp_path):
    (tmp_path / "logs").mkdir()
    made = []

    def make(timing=FAST, **keys):
        made.append(Run(tmp_path / "logs", timing, **keys))
        return made[-1]

    yield make
    for each in made:
        each.jobs.close()
        assert each.jobs.canceller.process.poll() is not None


@pytest.fixture
def working(run, queue):
    """Two jobs that run, with a worker each."""
    queue.new(RUNS)
    started = run().submit()
    started.come(1, 2)
    started.look()
    return started


# ------------------------------------------------------------------------------------------ how many jobs


def test_as_many_jobs_are_submitted_as_are_asked_for(run, queue):
    started = run(jobs=3).submit()
    assert queue.jobs == [1, 2, 3]
    assert started.jobs.status() == "jobs: 0 running, 3 pending; all are waiting in the queue (Resources)"
    queue.put(2, RUNS)
    started.look()
    assert (started.jobs.counts.running, started.jobs.counts.pending, started.jobs.counts.submitted) == (1, 2, 3)
    assert started.jobs.status() == "jobs: 1 running, 2 pending; no worker has connected to tls://h:1 yet"
    started.come(2)
    started.look()
    assert started.jobs.status() == "jobs: 1 running, 2 pending"


def test_jobs_for_the_first_tasks_are_submitted_at_once(run, queue):
    started = run(replace(FAST, interval=60.0, least_interval=30.0), jobs=3).jobs
    started.start()
    started.wake()
    wait_until(lambda: started.counts.submitted == 3)
    assert queue.jobs == [1, 2, 3]


def test_no_more_jobs_than_there_are_tasks_for(run, queue):
    started = run(jobs=5, cores=2)
    started.demand = 3
    started.submit()
    assert queue.jobs == [1, 2]


def test_a_job_is_not_replaced_when_there_is_nothing_left_to_do(working, queue):
    working.demand = 0
    queue.end(1)
    working.look()
    working.look()
    assert queue.jobs == [2]


def test_adaptive_jobs_follow_what_there_is_to_do(run, queue):
    started = run(jobs=None, adaptive={"minimum": 1, "maximum": 4}).submit()
    assert queue.jobs == [1, 2, 3, 4]
    queue.put(1, RUNS)
    queue.put(2, RUNS)
    started.demand = 0
    started.look()  # those that wait are not needed any more; those that run end with the run
    assert queue.jobs == [1, 2]
    started.demand = 3
    started.look()
    assert queue.jobs == [1, 2, 5]
    assert started.jobs.counts.lost == started.jobs.counts.never_connected == 0


def test_adaptive_jobs_begin_with_the_smallest_number(run, queue):
    started = run(jobs=None, adaptive={"minimum": 2, "maximum": 4})
    started.demand = 0
    started.submit()
    assert queue.jobs == [1, 2]


# ---------------------------------------------------------------------------------------------- their ends


SAID = [
    ("JobState=OUT_OF_MEMORY Reason=OutOfMemory", "memory"),
    ("JobState=PREEMPTED Reason=None", "pre-empted"),
    ("JobState=NODE_FAIL Reason=NodeDown", "its node failed"),
    ("JobState=TIMEOUT Reason=TimeLimit", "walltime"),
    ("JobState=CANCELLED Reason=None", "cancelled"),
    ("JobState=FAILED Reason=NonZeroExitCode", "ended"),
    ("", "ended"),
]


@pytest.mark.parametrize(("said", "why"), SAID)
def test_a_job_that_ends_after_its_workers_came_is_replaced_and_counted(said, why, working, queue):
    queue.end(1, said)
    working.look()
    assert queue.jobs == [2, 3]
    counts = working.jobs.counts
    assert counts.ended == {why: 1}
    assert (counts.lost, counts.never_connected, counts.submitted) == (int(why != "walltime"), 0, 3)
    assert working.jobs.fault is None
    assert working.jobs.summary() == f"3 submitted; ended before the run: 1 {why}"


def test_a_job_whose_workers_have_left_before_its_walltime_is_not_lost(working, queue):
    working.retired = {"pyama-123e4-1-0", "pyama-123e4-1-1"}
    working.leave(1)
    queue.end(1)
    working.look()
    assert (working.jobs.counts.ended, working.jobs.counts.lost) == ({"walltime": 1}, 0)
    assert working.jobs.counts.submitted == 3


LOGGED = [
    ("slurmstepd: error: Detected 1 oom_kill event in StepId=1.batch. Some of the step tasks have been OOM Killed.\n",
     "memory"),
    ("slurmstepd: error: *** JOB 1 ON n1 CANCELLED AT 2026-11-21T20:02:00 DUE TO TIME LIMIT ***\n", "walltime"),
    ("slurmstepd: error: *** JOB 1 ON n1 CANCELLED AT 2026-11-21T20:02:00 DUE TO PREEMPTION ***\n", "pre-empted"),
    ("slurmstepd: error: *** JOB 1 ON n1 CANCELLED AT 2026-11-21T20:02:00 ***\n", "cancelled"),
    ("=>> PBS: job killed: walltime 65 exceeded limit 60\n", "walltime"),
    ("=>> PBS: job killed: mem 2097152kb exceeded limit 1048576kb\n", "memory"),
    ("TERM_MEMLIMIT: job killed after reaching LSF memory usage limit.\n", "memory"),
    ("TERM_RUNLIMIT: job killed after reaching LSF run time limit.\n", "walltime"),
    ("distributed.nanny.memory - WARNING - Worker exceeded 95% memory budget. Restarting...\n", "ended"),
    ("asyncio.exceptions.CancelledError\nOSError: Timed out: timeout in room 12 of the zoom\n", "ended"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "why"), LOGGED)
def test_queues_say_in_the_log_why_a_job_ended_and_workers_do_not(text, why, working, queue):
    working.log(1, text)
    queue.end(1)
    working.look()
    assert working.jobs.counts.ended == {why: 1}


def test_a_job_that_lived_about_as_long_as_it_may_is_not_lost(run, queue):
    clock = Clock()
    queue.new(RUNS)
    started = run(replace(FAST, clock=clock), walltime="00:10:00").submit()
    started.come(1, 2)
    started.look()
    clock.forward = 540
    queue.end(1)
    started.look()
    assert (started.jobs.counts.ended, started.jobs.counts.lost) == ({"walltime": 1}, 0)


def test_the_time_that_a_job_waited_is_none_of_its_life(run, queue):
    clock = Clock()
    started = run(replace(FAST, clock=clock), walltime="00:10:00").submit()
    clock.forward = 3600
    queue.put(1, RUNS)
    started.come(1)
    started.look()
    queue.end(1)
    started.look()
    assert (started.jobs.counts.ended, started.jobs.counts.lost) == ({"ended": 1}, 1)


def test_jobs_that_end_before_a_worker_comes_are_replaced_until_it_is_too_many(run, queue):
    started = run(jobs=1, failed_jobs=3).submit()
    for number in (1, 2, 3):
        assert started.jobs.fault is None
        assert queue.jobs == [number]
        started.log(number, "bash: line 3: module: command not found\nNo module named distributed\n")
        queue.end(number, "JobState=FAILED Reason=NonZeroExitCode")
        started.look()
    assert queue.jobs == []
    assert started.jobs.counts.never_connected == 3
    assert started.jobs.counts.lost == 0
    text = str(started.jobs.fault)
    assert "3 jobs in a row ended before a worker connected; job 3 (ended) logged:" in text
    assert "\n  bash: line 3: module: command not found\n  No module named distributed\n" in text
    assert str(started.logs) in text
    assert started.jobs.status().endswith("the last 3 ended before a worker connected: No module named distributed")
    started.look()
    assert queue.jobs == []


def test_a_worker_that_comes_ends_the_row(run, queue):
    started = run(jobs=1, failed_jobs=2).submit()
    queue.end(1)
    started.look()
    queue.put(2, RUNS)
    started.come(2)
    started.look()
    queue.end(2)
    started.leave(2)
    started.look()
    queue.end(3)
    started.look()
    assert started.jobs.fault is None
    assert queue.jobs == [4]


def test_a_node_that_ends_all_its_jobs_does_not_end_those_that_work(working, queue):
    for number in range(2, 12):  # the second worked, the others never
        queue.end(number)
        working.look()
    assert working.jobs.fault is None
    assert working.jobs.counts.never_connected == 9
    working.leave(1, 2)
    queue.end(1)
    working.look()
    queue.end(12)
    working.look()
    assert "10 jobs in a row" in str(working.jobs.fault)


def test_a_queue_that_ends_all_jobs_is_not_asked_for_jobs_all_the_time(run, queue):
    clock = Clock()
    started = run(replace(FAST, clock=clock, longest_pause=3600.0), jobs=1, failed_jobs=50).submit()
    for number, pause in ((1, 1024), (2, 2048), (3, 4096)):
        started.jobs._in_a_row = number + 8  # pauses that are long beside the test
        queue.end(number)
        started.look()
        clock.forward += min(pause, 3600) - 60
        started.look()
        assert queue.jobs == []
        clock.forward += 61
        started.look()
        assert queue.jobs == [number + 1]


def test_jobs_are_taken_for_gone_when_the_queue_had_time_to_list_them(run, queue):
    clock = Clock()
    started = run(replace(FAST, clock=clock, listed_after=600.0), jobs=1)
    started.jobs.submit_first()
    queue.end(1)
    started.look()
    assert started.jobs.counts.never_connected == 0
    clock.forward = 601
    started.look()
    assert started.jobs.counts.never_connected == 1


def test_a_job_that_the_queue_put_aside_is_cancelled_and_replaced(run, queue, monkeypatch):
    monkeypatch.setitem(KINDS, "slurm", replace(KINDS["slurm"], stuck="SPECIAL_EXIT"))
    started = run(jobs=1).submit()
    queue.put(1, "SPECIAL_EXIT no such image")
    started.look()
    assert (queue.jobs, queue.cancelled) == ([2], [1])
    assert started.jobs.status().endswith("a worker connected: no log; the queue answers: no such image")


def test_a_job_without_a_worker_is_ended(run, queue):
    clock = Clock()
    started = run(replace(FAST, clock=clock), jobs=1).submit()
    queue.put(1, RUNS)
    started.look()
    assert queue.cancelled == []
    clock.forward = NO_WORKER + 1
    started.look()
    assert queue.cancelled == [1]


# ---------------------------------------------------------------------------------------------------- logs


def test_logs_of_other_jobs_are_not_taken_for_a_job_s_own(run, queue):
    started = run(jobs=1, failed_jobs=1).submit()
    started.log(11, "of job 11\n")
    started.log(21, "of job 21\n")
    started.log(3, "of job 3, whose run has a name with 1 in it\n")
    queue.end(1, "JobState=FAILED Reason=None")
    started.look()
    assert "logged:\n  no log; the queue answers: JobState=FAILED Reason=None\n" in str(started.jobs.fault)


@pytest.mark.parametrize(
    "name", ["pyama-123e4-1.err", "pyama-123e4.e1", "pyama-123e4.o1", "pyama-123e4.1.err", "worker-1.0.err"]
)
def test_logs_of_all_queues_are_found(name, run, queue):
    started = run(jobs=1, failed_jobs=1).submit()
    (started.logs / name).write_text("it is here\n")
    queue.end(1)
    started.look()
    assert "logged:\n  it is here\n" in str(started.jobs.fault)


def test_errors_come_before_what_else_was_said_and_only_the_end_is_read(run, queue):
    started = run(jobs=1, failed_jobs=1).submit()
    started.log(1, "all is well\n", end="out")
    started.log(1, "\xe4" * 3 * READ + "\n" + "".join(f"line {i}\n\n" for i in range(20)))
    queue.end(1)
    started.look()
    lines = str(started.jobs.fault).splitlines()[1:-1]
    assert lines == [f"  line {i}" for i in range(12, 20)]


def test_a_folder_of_logs_that_is_gone(run, queue):
    started = run(jobs=1, failed_jobs=1).submit()
    shutil.rmtree(started.logs)
    queue.end(1)
    started.look()
    assert "no log; the queue answers: nothing" in str(started.jobs.fault)


# ------------------------------------------------------------------------------------ jobs that fail in rows


def test_after_a_failure_one_job_at_a_time_is_tried_and_twice_as_many_when_one_comes(run, queue):
    started = run(jobs=6, failed_jobs=50).submit()
    assert queue.jobs == [1, 2, 3, 4, 5, 6]
    for number in queue.jobs:
        queue.end(number)
    started.look()
    assert queue.jobs == [7]
    started.look()
    assert queue.jobs == [7]
    queue.put(7, RUNS)
    started.come(7)
    started.look()
    assert queue.jobs == [7, 8, 9]
    started.come(8, 9)
    started.look()
    assert len(queue.jobs) == 6


def test_a_node_that_ends_all_its_jobs_at_once_does_not_end_the_run(run, queue):
    queue.new(RUNS)
    started = run(jobs=4, failed_jobs=2).submit()
    started.look()
    for number in (1, 2, 3):
        queue.end(number)
    started.look()
    assert started.jobs.fault is None  # the worker of the fourth may come still
    queue.end(4)
    started.look()
    assert "4 jobs in a row ended before" in str(started.jobs.fault)


def test_a_job_that_its_queue_begins_again_is_taken_back(working, queue):
    """While it is put back, Slurm lists it as one that has ended."""
    queue.end(1)
    working.leave(1)
    working.look()
    assert queue.jobs == [2, 3]
    assert working.jobs._end_of("pyama-123e4-1") == "ended"
    queue.put(1, "PENDING Requeued")
    working.look()
    assert working.jobs._end_of("pyama-123e4-1") is None
    assert working.jobs.counts.ended["requeued"] == 1
    working.look()
    assert queue.jobs == [2, 3]  # there are two that run by now: the third is not needed
    assert queue.cancelled == [1]


def test_what_a_run_has_left_behind_is_cancelled_by_the_next(run, queue):
    first = run(jobs=2).submit()
    numbers = first.jobs.canceller.numbers
    assert numbers.read_text().split() == ["1", "2"]
    first.jobs.canceller.process.kill()  # as if the whole machine had gone
    first.jobs.canceller.process.wait(10)
    second = run(jobs=1).submit()
    assert queue.jobs == [3]
    assert numbers.read_text().split() == ["3"]
    second.jobs.close()
    assert not numbers.exists()


class NoWorkers:
    """Stands for a client of a scheduler without workers."""

    status = "running"

    def register_plugin(self, plugin): ...

    def scheduler_info(self, n_workers):
        return {"workers": {}}

    def get_events(self, topic):
        return []


def test_jobs_with_a_gpu_are_counted_apart_and_cancelled_with_the_others(queue, tmp_path):
    """The jobs of both groups that a run has left behind are cancelled by the next, even if it has no such group."""
    keys = {"kind": "slurm", "jobs": 2, "memory": "1GiB", "walltime": "01:00:00", "gpu": {"jobs": 1}}
    place = Place("tls://h:1", "pyama-123e4", tmp_path / "logs")
    workers = JobWorkers(NoWorkers(), Cluster.model_validate(keys))
    assert (workers.gpus, workers.expected) == (1, 3)
    assert workers.resources({}) == {"CPU": 1}
    assert workers.resources({"GPU": 1}) == {"GPU": 1}
    with workers.jobs_at(place):
        wait_until(lambda: len(queue.jobs) >= 2, 20)
        assert "jobs with a GPU: 0 running, 1 pending" in workers.status()
        assert "jobs with a GPU: 1 submitted" in workers.summary()
        left = {path.name: path.read_text() for path in place.logs.glob("*.numbers")}
    assert {*left} == {"slurm.numbers", "slurm-with-a-GPU.numbers"}
    assert queue.jobs == []
    for name in left:  # as if a whole machine had gone
        (place.logs / name).write_text("7\n" if "GPU" in name else "8\n")
    with JobWorkers(NoWorkers(), Cluster.model_validate(keys | {"gpu": None})).jobs_at(place):
        assert {7, 8} <= {*queue.cancelled}


def test_refusals_for_good_end_a_run_that_has_no_job(run, queue):
    started = run(jobs=1, failed_jobs=3).submit()
    queue.say("refusal", "sbatch: error: Batch job submission failed: Invalid account")
    queue.end(1)
    for _ in range(5):
        started.look()
    assert "the queue rejects all jobs: sbatch: error: Batch job submission failed: Invalid account" in str(
        started.jobs.fault
    )


def test_an_adaptive_run_keeps_its_first_job_until_tasks_are_handed_out(run, queue):
    started = run(jobs=None, adaptive={"minimum": 0, "maximum": 3})
    started.demand = 0
    started.jobs.submit_first()
    started.look()
    assert queue.jobs == [1]
    started.jobs.wake()
    started.look()
    assert queue.jobs == []


# ----------------------------------------------------------------------------------- workers and requeueing


def test_a_job_of_many_processes_has_come_with_its_first_worker(run, queue):
    queue.new(RUNS)
    started = run(jobs=1, cores=2).submit()
    started.workers = {"pyama-123e4-1-0", "pyama-123e4-1-1"}
    started.look()
    started.workers = {"pyama-123e4-1-1"}
    queue.end(1)
    started.look()
    assert (started.jobs.counts.lost, started.jobs.counts.never_connected) == (1, 0)
    assert started.jobs.why("pyama-123e4-1-0", time.monotonic()) == "ended"


def test_a_worker_is_of_the_job_that_has_its_whole_name(run, queue):
    queue.new(RUNS)
    started = run(jobs=1).submit()
    started.workers = {"pyama-123e4-10", "pyama-123e4-1x"}
    started.look()
    assert not started.jobs._jobs[0].connected


def test_a_job_that_is_put_back_is_counted_and_kept(working, queue):
    queue.put(1, "PENDING BeginTime")
    working.leave(1)
    working.look()
    working.look()
    assert working.jobs.counts.ended == {"requeued": 1}
    assert (queue.jobs, working.jobs.counts.lost) == ([1, 2], 0)


def test_a_job_that_is_suspended_with_its_workers_was_not_put_back(working, queue):
    queue.put(1, "SUSPENDED None")
    working.look()
    assert working.jobs.counts.ended == {}


def test_why_a_worker_s_job_ended_is_found_as_soon_as_the_queue_knows(run, queue):
    queue.new(RUNS)
    started = run(replace(FAST, interval=60.0, known_after=60.0), jobs=1)
    started.come(1)
    started.jobs.start()

    def has_come():
        started.jobs._look.set()
        return any(job.connected for job in started.jobs._jobs)

    wait_until(has_come)
    queue.end(1, "JobState=PREEMPTED Reason=None")
    assert started.jobs.why("pyama-123e4-1", time.monotonic()) == "pre-empted"


def test_a_worker_that_came_and_went_between_two_looks_has_come(run, queue):
    started = run(jobs=1).submit()
    started.jobs.why("pyama-123e4-1", time.monotonic())
    queue.end(1)
    started.look()
    assert (started.jobs.counts.lost, started.jobs.counts.never_connected) == (1, 0)


def test_why_is_not_known_of_a_job_that_goes_on(working):
    assert working.jobs.why("pyama-123e4-1", time.monotonic()) is None


# ---------------------------------------------------------------------------------- queues that do not answer


def test_a_queue_that_does_not_answer_has_lost_no_jobs(working, queue):
    queue.say("silence", "slurm_load_jobs error: Unable to contact slurm controller")
    queue.end(1)
    working.look()
    assert queue.jobs == [2]
    assert working.jobs.counts.lost == 0
    standing = working.jobs.status()
    assert "jobs: 2 running, 0 pending; the queue has not answered since" in standing
    assert "Unable to contact slurm controller" in standing
    queue.say("silence", None)
    working.look()
    assert queue.jobs == [2, 3]
    assert working.jobs.status() == "jobs: 1 running, 1 pending, 1 lost"


def test_a_refusal_of_the_moment_is_tried_again(run, queue, monkeypatch):
    queue.say("refusal", "sbatch: error: Socket timed out on send/recv operation")
    started = run(jobs=1).submit()
    assert "the queue rejects jobs: sbatch: error: Socket timed out" in started.jobs.status()
    queue.say("refusal", None)
    started.look()
    assert queue.jobs == [1]
    assert started.jobs.status() == "jobs: 0 running, 1 pending"


def test_a_queue_that_takes_no_jobs_is_asked_ever_less_often(run, queue):
    clock, refusal = Clock(), "sbatch: error: Socket timed out on send/recv operation"
    started = run(replace(FAST, clock=clock, longest_pause=3600.0), jobs=1, failed_jobs=50)
    queue.say("refusal", refusal)
    started.jobs._refused = 8  # pauses that are long beside the test
    started.jobs.submit_first()
    for pause in (512, 1024, 2048):
        clock.forward += pause - 60
        queue.say("refusal", None)
        started.look()
        assert queue.jobs == []  # it is not yet time
        queue.say("refusal", refusal)
        clock.forward += 61
        started.look()
    clock.forward += 3601
    queue.say("refusal", None)
    started.look()
    assert queue.jobs == [1]


def test_pauses_grow_up_to_a_limit_however_long_a_queue_refuses():
    assert [Timing().pause_after(n) for n in (1, 5, 50, 5000)] == [2.0, 32.0, 60.0, 60.0]


def test_a_refusal_for_good_of_the_first_job_is_a_fault_of_the_config(run, queue):
    queue.say("refusal", "sbatch: error: Batch job submission failed: Invalid account")
    with pytest.raises(ConfigError, match=r"cluster: the queue rejects jobs: sbatch: error: .* Invalid account"):
        run().jobs.start()


def test_what_goes_wrong_while_it_looks_is_tried_again(run, queue, caplog):
    started = run(jobs=1)
    failed, again = threading.Event(), threading.Event()

    def workers():
        if not failed.is_set():
            failed.set()
            raise RuntimeError("the scheduler is closing")
        again.set()
        return set()

    started.jobs._connected = workers
    started.jobs.start()
    assert again.wait(30)
    assert "could not be compared with the queue" in caplog.text


# ------------------------------------------------------------------------------------------------- the end


def test_all_jobs_are_cancelled_at_the_end(working, queue):
    working.jobs.close()
    assert queue.jobs == []
    assert queue.cancelled == [1, 2]
    assert working.jobs.canceller.process.returncode == 0


def test_jobs_that_had_ended_by_themselves_keep_nothing_waiting(run, queue):
    started = run(replace(FAST, cancel_pauses=(600,))).submit()
    queue.end(1)
    started.jobs.close()
    assert started.jobs.canceller.process.returncode == 0  # without a pause
    assert queue.jobs == []


LEFT = {"": True, "77 RUN\n6 RUN": True, "7 RUN": False, "6 RUN\n    7   RUN": False}


@pytest.mark.parametrize(("lists", "over"), LEFT.items())
def test_where_not_all_can_be_cancelled_the_queue_is_asked_what_is_left(lists, over, tmp_path, monkeypatch):
    says = f"printf '{lists}'" if lists else "echo No unfinished job found >&2; exit 255"
    for name, does in (("bkill", f"echo >> {tmp_path}/told; exit 255"), ("bjobs", says)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    process = Canceller("lsf", tmp_path / "numbers", pauses=(0, 0)).process
    process.communicate("5\n7\n", timeout=30)
    assert len((tmp_path / "told").read_text()) == (1 if over else 2)


def test_a_queue_that_does_not_hear_is_told_again(run, queue):
    started = run(replace(FAST, cancel_pauses=(0.1, 5))).submit()
    queue.say("deaf", "")
    started.jobs.close()
    assert queue.jobs == []


def test_the_process_that_cancels_may_be_killed(run, queue):
    started = run(jobs=1).submit()
    started.jobs.canceller.process.kill()
    started.jobs.canceller.process.wait(10)
    queue.end(1)
    started.look()
    assert queue.jobs == [2]
    assert len(started.jobs._jobs) == 1
    started.jobs.canceller.process.kill()
    started.jobs.canceller.process.wait(10)
    started.jobs.close()
    assert queue.jobs == []


def test_an_end_just_before_a_look_is_noticed_after_it(run, queue, monkeypatch):
    kept = run(replace(FAST, interval=60.0), jobs=1).jobs

    def clear():
        kept._stop.set()
        kept._look.set()
        type(kept._look).clear(kept._look)

    monkeypatch.setattr(kept._look, "clear", clear)
    kept._look.set()
    kept.start()
    kept._thread.join(10)
    assert not kept._thread.is_alive()


def test_a_job_that_the_queue_takes_after_the_end_is_cancelled(run, queue):
    started = run(jobs=1).submit()
    started.jobs.close()
    started.jobs._submit()
    assert queue.jobs == []


KILLED = """
import os, signal, sys
from pathlib import Path
from pyama_dask.config.models import Cluster
from pyama_dask.launch import jobs
cluster = Cluster(kind="slurm", jobs=3, memory="1GiB", walltime="01:00:00")
kept = jobs.Jobs(cluster, jobs.Place("tls://h:1", "pyama-run", Path(sys.argv[1])), set, lambda: 100,
    timing=jobs.Timing(interval=0.02, least_interval=0.0))
kept.start()
kept.wake()
while kept.counts.submitted < 3:
    kept._look.set()
print(kept.canceller.process.pid, flush=True)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # of a session or a job that is ended as a whole
    os.kill(kept.canceller.process.pid, number)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_jobs_of_a_run_that_is_killed_are_cancelled_by_the_process_that_is_left(queue, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == -9, ended.stderr
    canceller = Path(f"/proc/{ended.stdout.strip()}")
    until = time.monotonic() + 30
    while canceller.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not canceller.exists()
    assert queue.jobs == []
    assert queue.cancelled == [1, 2, 3]
