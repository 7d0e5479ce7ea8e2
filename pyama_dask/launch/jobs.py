"""The jobs of a run: as many in the queue as it needs, each replaced that dies, none left when the run ends.

dask-jobqueue submits jobs and forgets them: one that dies before its worker has come, or one of several processes, is
never replaced. Here the run's list of jobs is held against the queue's own and against the workers that have come,
every few seconds. A queue that does not answer says nothing: unknown is not dead.
"""

from __future__ import annotations

import logging
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.units import walltime_seconds
from pyama_dask.errors import ClusterError, ConfigError, QueueError
from pyama_dask.launch.canceller import _canceller
from pyama_dask.launch.job_counts import Job, JobCounts, jobs_of
from pyama_dask.launch.job_scripts import Place, make_job
from pyama_dask.launch.queue_commands import Listed, cancel_command, environment, listed, more_of, submit
from pyama_dask.launch.queue_kinds import ANSWERS, KINDS

log = logging.getLogger(__name__)
LOOKING = 5.0
"""Seconds between looks at the queue."""
LEAST = 1.0
"""Least seconds between looks, whoever asks for one."""
SEEN_AFTER = 6.0
"""Seconds within which a queue knows that a job has ended whose workers are gone."""
NO_WORKER = 300.0
"""Seconds that a job may run without any worker; it is ended then, and replaced."""
LONGEST_WAIT = 60.0
"""Most seconds between attempts to submit."""
LEAVING = 3.0
"""Seconds to wait, twice, until the queue has been told that the jobs are not needed any more."""
SHORT_LIFE = 30.0
"""Seconds of a job whose worker came, and that is taken for a failed one all the same."""
FORGOTTEN = 7 * 86400.0
"""Seconds after which a queue may have given the numbers of its jobs to others."""
TAIL = 8
"""Lines of a job's log that are shown."""
MOST_LEFT = 1000
"""Jobs of a run before that are cancelled at most, the newest."""
READ = 2**16
"""Bytes at the end of a log that are read."""
ENDS: Mapping[str, str] = {
    "memory": r"OUT_OF_MEMORY|OutOfMemory|oom.?kill|out.of.memory handler|TERM_MEMLIMIT|"
    r"job killed: \w*mem .*exceeded|over (cgroup )?memory limit|memory usage (has )?exceeded",
    "pre-empted": r"State=PREEMPTED|DUE TO PREEMPTION|TERM_PREEMPT|Job was evicted",
    "its node failed": r"State=(NODE|BOOT)_FAIL|DUE TO NODE FAILURE",
    "walltime": r"State=(TIMEOUT|DEADLINE)|DUE TO TIME LIMIT|TERM_RUNLIMIT|job killed: walltime .*exceeded",
    "cancelled": r"State=CANCELLED|\*\*\* (JOB|STEP) .* CANCELLED AT|TERM_(OWNER|ADMIN|FORCE_\w+)|Job was aborted",
}
"""Why jobs end, and how queues say so, some of them in a job's log. Workers write there, too, of memory and timeouts
that are theirs.
"""


class Jobs:
    """Keeps a run's jobs in the queue, from a thread of its own.

    Parameters
    ----------
    cluster
        Part of the config.
    place
        Where the jobs' workers find the scheduler.
    workers
        Gives the names of the workers that are connected.
    demand
        Gives the number of tasks that are handed out and not done.
    left
        Gives the names of the workers that have left as their walltime was near.
    """

    def __init__(
        self, cluster: Cluster, place: Place, workers: Callable[[], set[str]], demand: Callable[[], int],
        left: Callable[[], set[str]] = set,
    ) -> None:  # fmt: skip
        self._cluster, self._place = cluster, place
        self._workers, self._demand, self._left = workers, demand, left
        self._jobs: list[Job] = []
        self._number = self._submitted = self._lost = self._never = self._in_a_row = self._refused = 0
        self._ended: dict[str, str] = {}
        self._why: dict[str, int] = {}
        self._silence = self._refusal = self._last_words = ""
        self._not_before = 0.0
        self._trust = cluster.most_jobs
        """Jobs that may be on their way, of which it is not known yet whether a worker will come."""
        self._gone_jobs: dict[str, Job] = {}
        self._asks_why = self._woken = False
        self._stop, self._look = threading.Event(), threading.Event()
        self.fault: ClusterError | None = None
        """Why no jobs are submitted any more."""
        self._canceller = _canceller(cluster.kind)
        self._thread = threading.Thread(target=self._keep, name="jobs", daemon=True)

    def start(self) -> None:
        """Submit the first job, which may be refused, and go on in a thread.

        Raises
        ------
        ConfigError
            If the queue refuses it for good, or for now and the run is to end with the first job that fails.
        """
        self._cancel_leftover()
        try:
            self._submit()
        except QueueError as error:
            if not error.passing or self._cluster.failed_jobs == 1:
                raise ConfigError(f"cluster: the queue takes no job: {error}") from error
            self._wait(error)
        self._thread.start()

    def wake(self) -> None:
        """Look after the jobs now, if there are fewer than are needed."""
        if not self._woken or (len(self._jobs) < self.wanted() and time.monotonic() >= self._not_before):
            self._woken = True
            self._look.set()

    def close(self) -> None:
        """End all jobs."""
        self._stop.set()
        self._look.set()
        self._tell()
        with suppress(OSError):
            self._canceller.stdin.close()  # it cancels all that it has been told of
        if self._thread.is_alive():
            self._thread.join(LEAVING)  # a job that the queue takes meanwhile is cancelled from there
        with suppress(subprocess.TimeoutExpired):
            if self._canceller.wait(LEAVING) == 0:
                self._numbers.unlink(missing_ok=True)

    @property
    def counts(self) -> JobCounts:
        """How many jobs there are."""
        states = [job.listed.state if job.listed else "pending" for job in list(self._jobs)]
        return JobCounts(
            states.count("running"), states.count("pending"), self._submitted, self._lost, self._never, dict(self._why)
        )

    def why(self, worker: str, since: float) -> str | None:
        """Say why the job of a worker has ended, if it has.

        Parameters
        ----------
        worker
            Name of a worker that is gone.
        since
            When it was found to be gone, by the monotonic clock.

        Returns
        -------
        A key of `ENDS`, or ``ended``; None if the job goes on, or the queue does not say.
        """
        for job in list(self._jobs):
            job.came = job.came or job.name in jobs_of(worker)  # which may come and go between two looks
        while (
            (why := self._said_of(worker)) is None and time.monotonic() < since + SEEN_AFTER and not self._stop.is_set()
        ):
            self._look.set()
            self._stop.wait(0.5)
        return why

    def _said_of(self, worker: str) -> str | None:
        return next((self._ended[name] for name in jobs_of(worker) if name in self._ended), None)

    def status(self) -> str:
        """Say how many jobs there are, and what is wrong with them."""
        counts = self.counts
        lost = f", {counts.lost + counts.never_came} lost" if counts.lost + counts.never_came else ""
        trouble = self._trouble(counts)
        return f"jobs: {counts.running} running, {counts.pending} pending{lost}" + (f"; {trouble}" if trouble else "")

    def summary(self) -> str:
        """Say how many jobs were submitted, and what became of those that ended before the run."""
        counts = self.counts
        ended = ", ".join(f"{number} {why}" for why, number in sorted(counts.ended.items()))
        came = f"; {counts.never_came} before a worker came" if counts.never_came else ""
        return f"{counts.submitted} submitted" + (f"; ended before the run: {ended}{came}" if ended else "")

    def _trouble(self, counts: JobCounts) -> str:
        if self._silence:
            return self._silence
        if self._refused:
            return f"the queue takes no job: {self._refusal}"
        if self._in_a_row:
            last_line = self._last_words.rpartition("\n")[2].strip()
            return f"the last {self._in_a_row} ended before a worker came: {last_line}"
        if counts.pending and not counts.running:
            reasons = {job.listed.reason for job in list(self._jobs) if job.listed} - {"", "None"}
            return f"all wait in the queue ({', '.join(sorted(reasons))})" if reasons else ""
        if counts.running and not any(job.came for job in list(self._jobs)):
            return f"no worker of theirs has come to {self._place.scheduler} yet"
        return ""

    # ------------------------------------------------------------------------------------- the thread

    def _keep(self) -> None:
        while not self._stop.is_set():
            try:
                self._tick()
            except Exception:  # whatever a queue says, its jobs are looked after
                log.exception("the jobs could not be looked after; this is tried again")
            self._stop.wait(LEAST)
            self._look.wait(LOOKING - LEAST)
            self._look.clear()

    def _tick(self) -> None:
        began, self._asks_why = time.monotonic(), True
        known = list(self._jobs)
        try:
            there = listed(self._cluster.kind)
        except QueueError as error:
            self._silence = self._silence or f"the queue has not answered since {time.strftime('%H:%M:%S')}: {error}"
            log.info("%s", error)
            return
        self._silence = ""
        came = {name for worker in self._workers() for name in jobs_of(worker)}
        for number in self._gone_jobs.keys() & there.keys():
            if there[number].state != "stuck":
                self._take_back(self._gone_jobs.pop(number))
        for job in known:
            self._see(job, there.get(job.number), came, began)
        if self.fault is None:
            self._replace()

    def _take_back(self, job: Job) -> None:
        """Take in that a job that had ended is in the queue again, by itself."""
        log.warning("job %s was put back into the queue", job.number)
        self._count("put back into the queue")
        self._ended.pop(job.name, None)
        self._jobs.append(Job(job.number, job.name, job.submitted))
        self._tell(job.number)

    def _see(self, job: Job, found: Listed | None, came: set[str], now: float) -> None:
        """Take in how a job stands; those whose workers are connected have ``came``."""
        has_worker = job.name in came
        if has_worker and not job.came:
            job.came, self._in_a_row = True, 0
            self._trust = min(2 * self._trust, self._cluster.most_jobs)
        if found is None:
            if job.listed or job.came or now - job.submitted > KINDS[self._cluster.kind].listed_after:
                self._gone(job)
            return
        if found.state == "stuck":
            self._gone(job, found.reason)
            self._cancel(job)
            return
        if job.listed and (job.listed.state, found.state) == ("running", "pending") and not has_worker:
            log.warning("job %s was put back into the queue", job.number)
            self._count("put back into the queue")
        job.listed = found
        job.began = (job.began or now) if found.state == "running" else None
        job.idle_since = (job.idle_since or now) if found.state == "running" and not has_worker else None
        if job.idle_since and now - job.idle_since > NO_WORKER:
            log.warning("job %s has run for %.0f s without a worker, and is ended", job.number, NO_WORKER)
            self._cancel(job)

    def _gone(self, job: Job, said: str = "") -> None:
        """Take in that a job has ended."""
        logs, said = self._logs(job), said or self._more_of(job)
        why = self._why_ended(job, "\n".join([said, *logs.values()]))
        self._jobs.remove(job)
        self._gone_jobs[job.number], self._ended[job.name] = job, why
        self._tell(f"-{job.number}")
        self._count(why)
        if job.came:
            self._lost += why != "walltime"
            log.log(logging.INFO if why == "walltime" else logging.WARNING, "job %s ended: %s", job.number, why)
            if why != "walltime" and time.monotonic() - (job.began or 0) < SHORT_LIFE:
                self._trust = max(1, self._trust // 2)
            return
        self._never += 1
        self._in_a_row += 1
        self._trust = 1
        self._not_before = time.monotonic() + pause_after(self._in_a_row)
        self._last_words = tail(logs) or f"  no log, and the queue says: {said or 'nothing'}"
        log.warning("job %s ended before a worker of it came (%s): %s", job.number, why, self._last_words)
        if self._in_a_row >= self._cluster.failed_jobs and not any(map(is_promising, self._jobs)):
            self.fault = ClusterError(
                f"{self._in_a_row} jobs in a row ended before a worker of theirs came; job {job.number} ({why}) said:\n"
                f"{self._last_words}\nTheir logs are in {self._place.logs}; 'pyama-dask doctor' tries one job"
            )

    def _more_of(self, job: Job) -> str:
        """What the queue says of a job, unless it took long to answer to that a moment ago."""
        if not self._asks_why:
            return ""
        began = time.monotonic()
        try:
            return more_of(self._cluster.kind, job.number)
        except QueueError as error:  # it may have forgotten the job
            log.info("%s", error)
            return ""
        finally:
            self._asks_why = time.monotonic() - began < LOOKING

    def _why_ended(self, job: Job, said: str) -> str:
        lived = time.monotonic() - job.began if job.began else 0.0
        if any(job.name in jobs_of(worker) for worker in self._left()):
            return "walltime"
        if self._cluster.walltime and job.came and lived > 0.8 * walltime_seconds(self._cluster.walltime):
            return "walltime"
        return next((why for why, words in ENDS.items() if re.search(words, said, re.IGNORECASE)), "ended")

    def _count(self, why: str) -> None:
        self._why[why] = self._why.get(why, 0) + 1

    def _logs(self, job: Job) -> dict[str, str]:
        """Ends of a job's logs, by file name; a job of another number may have one that begins or ends alike."""
        texts = {}
        for path in sorted(self._place.logs.glob(f"*{job.number}*")):
            if re.fullmatch(rf"(.*\D)?{job.number}(\.0)?(\.[a-z]+)?", path.name):
                with suppress(OSError), path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - READ))
                    texts[path.name] = file.read().decode(errors="replace")
        return texts

    def wanted(self) -> int:
        """Jobs that there should be now: no more than there are tasks for."""
        needed = -(-self._demand() // self._cluster.cores) if self._woken else 1
        if limits := self._cluster.adaptive:
            return max(limits.minimum, min(limits.maximum, needed))
        return min(self._cluster.jobs or 1, max(needed, 1))

    def _replace(self) -> None:
        """Submit the jobs that are missing; end those that wait for nothing."""
        wanted = self.wanted()
        while self._may_submit(wanted):
            try:
                self._submit()
            except QueueError as error:
                self._wait(error)
                return
        most = wanted if self._cluster.adaptive else self._cluster.most_jobs
        waiting = [job for job in reversed(self._jobs) if job.listed and job.listed.state == "pending"]
        for job in waiting[: max(0, len(self._jobs) - most)]:
            self._cancel(job)
            self._jobs.remove(job)

    def _may_submit(self, wanted: int) -> bool:
        undecided = sum(not job.came for job in self._jobs)
        late_enough = time.monotonic() >= self._not_before and not self._stop.is_set()
        return late_enough and len(self._jobs) < wanted and undecided < self._trust

    def _submit(self) -> None:
        self._number += 1
        name = f"{self._place.name}-{self._number}"
        job = Job(submit(make_job(self._cluster, self._place, name)), name, time.monotonic())
        self._jobs.append(job)
        self._tell(job.number)  # before all else, as this process may be killed any time
        self._submitted += 1
        self._refused = 0
        log.info("job %s submitted, %s", job.number, name)
        with suppress(OSError), self._numbers.open("a") as file:
            file.write(f"{job.number}\n")

    def _tell(self, *told: str) -> None:
        """Tell the process that cancels of a job, with a minus that it is gone; if it has ended, another one of all."""
        if self._canceller.poll() is not None and not self._canceller.stdin.closed:
            with suppress(OSError):
                self._canceller.stdin.close()
            self._canceller, told = _canceller(self._cluster.kind), tuple(job.number for job in self._jobs)
        try:
            self._canceller.stdin.write("".join(f"{each}\n" for each in told))
            self._canceller.stdin.flush()
        except (OSError, ValueError):  # ended just now, or the run was closed while the queue took a long time
            self._cancel(*(job for job in self._jobs if job.number in told))

    @property
    def _numbers(self) -> Path:
        """File with the numbers of the run's jobs, for the next run, where this one ends with its whole machine."""
        return self._place.logs / f"{self._cluster.kind}.numbers"

    def _cancel_leftover(self) -> None:
        """Cancel what a run before has left in the queue; the lock of the output says that it is over."""
        with suppress(OSError):
            if time.time() - self._numbers.stat().st_mtime < FORGOTTEN:
                numbers = self._numbers.read_text().split()
                self._cancel(*(Job(number, "", 0.0) for number in numbers[-MOST_LEFT:]))
            self._numbers.unlink()

    def _wait(self, error: QueueError) -> None:
        """Try again later, each time after twice as long."""
        self._refused += 1
        self._refusal = str(error)
        if not error.passing and not self._jobs and self._refused >= self._cluster.failed_jobs:
            self.fault = ClusterError(f"the queue takes no job any more: {error}")
        pause = pause_after(self._refused)
        self._not_before = time.monotonic() + pause
        log.warning("%s; tried again in %.0f s", error, pause)

    def _cancel(self, *jobs: Job) -> None:
        command = [*cancel_command(self._cluster.kind), *(job.number for job in jobs)]
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                command, capture_output=True, timeout=ANSWERS, check=False, stdin=subprocess.DEVNULL,
                env=environment(), start_new_session=True,
            )  # fmt: skip


def is_promising(job: Job) -> bool:
    """Whether a worker of a job has come, or may come still: where one node is broken, others are not."""
    return job.came or bool(job.listed and job.listed.state == "running")


def pause_after(failures: int) -> float:
    """Seconds to wait after failures in a row, twice as long after each."""
    return min(2.0 ** min(failures, 20), LONGEST_WAIT)


def tail(logs: Mapping[str, str]) -> str:
    """Last lines of what logs say: of those of errors, if they say anything."""
    errors = [text for name, text in logs.items() if re.search(r"\.(err|e\d+)$", name) and text.strip()]
    lines = [line for text in errors or logs.values() for line in text.splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-TAIL:])
