"""The jobs of a run: as many in the queue as it needs, each replaced that dies, none left when the run ends.

dask-jobqueue submits jobs and forgets them: one that dies before its worker has come, or one of several processes, is
never replaced. Here the run's list of jobs is held against the queue's own and against the workers that have come,
every few seconds. A queue that does not answer says nothing: unknown is not dead.
"""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyama_dask.config import Cluster
from pyama_dask.errors import ClusterError, ConfigError, QueueError
from pyama_dask.launch.queues import Listed, Place, cancel_command, listed, make_job, more_of, queue_of_kind, submit
from pyama_dask.quantities import walltime_seconds

log = logging.getLogger(__name__)

LOOKING = 5.0
"""Seconds between looks at the queue."""
LISTED_AFTER = 3.0
"""Seconds within which a queue may not list yet what it has taken."""
SEEN_AFTER = 10.0
"""Seconds within which a queue knows that a job has ended whose workers are gone."""
NO_WORKER = 300.0
"""Seconds that a job may run without any worker; it is ended then, and replaced."""
LONGEST_WAIT = 60.0
"""Most seconds between attempts to submit."""
LEAVING = 10.0
"""Seconds to wait until the queue has been told that the jobs are not needed any more."""
TAIL = 8
"""Lines of a job's log that are shown."""

ENDS: Mapping[str, str] = {
    "memory": r"oom|out.?of.?mem|exceeded.*memory|memory limit|memlimit",
    "pre-empted": r"preempt",
    "its node failed": r"node.?fail|node failure",
    "walltime": r"timeout|time limit|runlimit|walltime",
    "cancelled": r"cancel",
}
"""Why jobs end, and how queues and logs say so."""


@dataclass
class Job:
    """A job in the queue."""

    number: str
    name: str
    """Of its workers."""
    submitted: float
    listed: Listed | None = None
    came: bool = False
    """Whether a worker of it has come."""
    ran_since: float | None = None
    """Since when it has run without a worker."""


def is_of(worker: str, job: str) -> bool:
    """Whether a worker is one of a job's, by their names."""
    return worker == job or worker.startswith(f"{job}-")


@dataclass(frozen=True)
class JobCounts:
    """Jobs of a run."""

    running: int = 0
    pending: int = 0
    submitted: int = 0
    """Since the run began."""
    lost: int = 0
    """Ended before their time, after their workers had come."""
    never_came: int = 0
    """Ended before any worker had come."""
    ended: Mapping[str, int] = field(default_factory=dict)
    """Jobs that are gone, by why."""


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
    """

    def __init__(
        self, cluster: Cluster, place: Place, workers: Callable[[], set[str]], demand: Callable[[], int]
    ) -> None:
        self._cluster, self._place, self._workers, self._demand = cluster, place, workers, demand
        self._jobs: list[Job] = []
        self._number = self._submitted = self._lost = self._never = self._in_a_row = self._refused = 0
        self._ended: dict[str, str] = {}
        self._why: dict[str, int] = {}
        self._silent_since = ""
        self._not_before = 0.0
        self._stop, self._look = threading.Event(), threading.Event()
        self.fault: ClusterError | None = None
        """Why no jobs are submitted any more."""
        self.said = ""
        """What the queue said last when it did not answer, or did not take a job."""
        self._canceller = _canceller(cluster.kind)
        self._thread = threading.Thread(target=self._keep, name="jobs", daemon=True)

    def start(self) -> None:
        """Submit the first job, which may be refused, and go on in a thread.

        Raises
        ------
        ConfigError
            If the queue does not take it.
        """
        try:
            self._submit()
        except QueueError as error:
            if not error.passing:
                raise ConfigError(f"cluster: the queue takes no job: {error}") from error
            self._wait(error)
        self._thread.start()

    def wake(self) -> None:
        """Look after the jobs now, if there are fewer than are needed."""
        if len(self._jobs) < self.wanted():
            self._look.set()

    def close(self) -> None:
        """End all jobs."""
        self._stop.set()
        self._look.set()
        if self._thread.is_alive():
            self._thread.join(LEAVING)
        with suppress(OSError):
            self._canceller.stdin.close()  # it cancels all that it has been told of
        with suppress(subprocess.TimeoutExpired):
            self._canceller.wait(LEAVING)

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
        while (
            (why := self._said_of(worker)) is None and time.monotonic() < since + SEEN_AFTER and not self._stop.is_set()
        ):
            self._look.set()
            self._stop.wait(0.5)
        return why

    def _said_of(self, worker: str) -> str | None:
        return next((why for name, why in list(self._ended.items()) if is_of(worker, name)), None)

    def standing(self) -> str:
        """Say how many jobs there are, and what is wrong with them."""
        counts = self.counts
        lost = f", {counts.lost + counts.never_came} lost" if counts.lost + counts.never_came else ""
        trouble = self._trouble(counts)
        return f"jobs: {counts.running} running, {counts.pending} pending{lost}" + (f"; {trouble}" if trouble else "")

    def account(self) -> str:
        """Say how many jobs were submitted, and what became of those that ended before the run."""
        counts = self.counts
        ended = ", ".join(f"{number} {why}" for why, number in sorted(counts.ended.items()))
        came = f"; {counts.never_came} before a worker came" if counts.never_came else ""
        return f"{counts.submitted} submitted" + (f"; ended before the run: {ended}{came}" if ended else "")

    def _trouble(self, counts: JobCounts) -> str:
        if self._silent_since:
            return f"the queue has not answered since {self._silent_since}: {self.said}"
        if self._refused:
            return f"the queue takes no job: {self.said}"
        if self._in_a_row:
            return f"the last {self._in_a_row} ended before a worker came: {self.said.strip()}"
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
            self._look.wait(LOOKING)
            self._look.clear()

    def _tick(self) -> None:
        began = time.monotonic()
        known = list(self._jobs)
        try:
            there = listed(self._cluster.kind)
        except QueueError as error:
            self._silent_since = self._silent_since or time.strftime("%H:%M:%S")
            self.said = str(error)
            log.info("%s", error)
            return
        self._silent_since = ""
        came = self._workers()
        for job in known:
            self._see(job, there.get(job.number), came, began)
        if self.fault is None:
            self._replace()

    def _see(self, job: Job, found: Listed | None, came: set[str], now: float) -> None:
        """Take in how a job stands."""
        has_worker = any(is_of(worker, job.name) for worker in came)
        if has_worker:
            job.came, job.ran_since, self._in_a_row = True, None, 0
        if found is None:
            if now - job.submitted > LISTED_AFTER:
                self._gone(job)
            return
        if job.came and job.listed and (job.listed.state, found.state) == ("running", "pending"):
            log.warning("job %s was put back into the queue", job.number)
            self._count("put back into the queue")
        job.listed = found
        if found.state == "running" and not has_worker:
            job.ran_since = job.ran_since or now
            if now - job.ran_since > NO_WORKER:
                log.warning("job %s has run for %.0f s without a worker, and is ended", job.number, NO_WORKER)
                self._cancel(job)

    def _gone(self, job: Job) -> None:
        """Take in that a job has ended."""
        self._jobs.remove(job)
        said = self._tail(job)
        why = self._why_ended(job, f"{more_of(self._cluster.kind, job.number)}\n{said}")
        self._ended[job.name] = why
        self._count(why)
        if job.came:
            self._lost += why != "walltime"
            log.log(logging.INFO if why == "walltime" else logging.WARNING, "job %s ended: %s", job.number, why)
            return
        self._never += 1
        self._in_a_row += 1
        self.said = said or f"job {job.number} left no log in {self._place.logs}"
        log.warning("job %s ended before a worker of it came (%s): %s", job.number, why, self.said)
        if self._in_a_row >= self._cluster.failed_jobs:
            self.fault = ClusterError(
                f"{self._in_a_row} jobs in a row ended before a worker of theirs came; job {job.number} ({why}) said:\n"
                f"{self.said}\nTheir logs are in {self._place.logs}; 'pyama-dask doctor' tries one job"
            )

    def _why_ended(self, job: Job, said: str) -> str:
        lived = time.monotonic() - job.submitted
        if self._cluster.walltime and job.came and lived > 0.8 * walltime_seconds(self._cluster.walltime):
            return "walltime"
        return next((why for why, words in ENDS.items() if re.search(words, said, re.IGNORECASE)), "ended")

    def _count(self, why: str) -> None:
        self._why[why] = self._why.get(why, 0) + 1

    def _tail(self, job: Job) -> str:
        """Last lines of a job's log."""
        of_job = re.compile(rf"(?:^|[-.eo]){re.escape(job.number)}(?:\.|$)")
        logs = [path for path in self._place.logs.iterdir() if of_job.search(path.name) and path.stat().st_size]
        errors = [path for path in logs if re.search(r"\.(err|e)", path.name)] or logs
        lines = [line for path in errors for line in path.read_text(errors="replace").splitlines() if line.strip()]
        return "\n".join(f"  {line}" for line in lines[-TAIL:])

    def wanted(self) -> int:
        """Jobs that there should be now: no more than there are tasks for."""
        needed = -(-self._demand() // self._cluster.cores)
        if limits := self._cluster.adaptive:
            return max(limits.minimum, min(limits.maximum, needed))
        return min(self._cluster.jobs or 1, max(needed, 1))

    def _replace(self) -> None:
        """Submit the jobs that are missing; end those that wait for nothing."""
        wanted = self.wanted()
        while len(self._jobs) < wanted and time.monotonic() >= self._not_before and not self._stop.is_set():
            try:
                self._submit()
            except QueueError as error:
                self._wait(error)
        waiting = [job for job in self._jobs if job.listed and job.listed.state == "pending"]
        for job in waiting[: max(0, len(self._jobs) - wanted)] if self._cluster.adaptive else []:
            self._cancel(job)
            self._jobs.remove(job)

    def _submit(self) -> None:
        self._number += 1
        name = f"{self._place.name}-{self._number}"
        number = submit(make_job(self._cluster, self._place, name))
        self._canceller.stdin.write(f"{number}\n")
        self._canceller.stdin.flush()
        self._jobs.append(Job(number, name, time.monotonic()))
        self._submitted += 1
        self._refused = 0
        log.info("job %s submitted, %s", number, name)

    def _wait(self, error: QueueError) -> None:
        """Try again later, each time after twice as long."""
        self._refused += 1
        self.said = str(error)
        pause = min(2.0**self._refused, LONGEST_WAIT)
        self._not_before = time.monotonic() + pause
        log.warning("%s; tried again in %.0f s", error, pause)

    def _cancel(self, job: Job) -> None:
        command = [*cancel_command(self._cluster.kind), job.number]
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=LEAVING, check=False, stdin=subprocess.DEVNULL)


CANCELLER = """
trap '' INT TERM HUP
jobs=
while read -r job; do jobs="$jobs $job"; done
[ -n "$jobs" ] || exit 0
for pause in 2 5 15 30 60 120; do
  COMMAND $jobs </dev/null >/dev/null 2>&1 && exit 0
  LIST >/dev/null 2>&1 && exit 0
  sleep $pause
done
"""
"""Reads the numbers of jobs until its input ends, which it does when the driver ends in any way; then cancels them.

Where the queue lists jobs and has not cancelled all, the others had ended.
"""


def _canceller(kind: str) -> Any:
    """Process that ends a run's jobs when this process ends, even if it is killed."""
    listing = shlex.join(word.replace("{user}", "$USER") for word in queue_of_kind(kind).listing)
    script = CANCELLER.replace("COMMAND", shlex.join(cancel_command(kind))).replace("LIST", listing)
    return subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        text=True, start_new_session=True, cwd=Path("/"),
    )  # fmt: skip
