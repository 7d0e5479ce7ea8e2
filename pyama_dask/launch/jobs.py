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
from pyama_dask.launch.queues import KINDS, Listed, Place, cancel_command, listed, listing_of, make_job, more_of, submit
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
    began: float | None = None
    """When it was found to run."""
    idle_since: float | None = None
    """Since when it has run without a worker."""


def jobs_of(worker: str) -> tuple[str, str]:
    """Names that the job of a worker may have: the worker's own, or that without the number of its process."""
    return worker, worker.rpartition("-")[0]


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
        self._tell()
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
            self._look.wait(LOOKING)
            self._look.clear()

    def _tick(self) -> None:
        began = time.monotonic()
        known = list(self._jobs)
        try:
            there = listed(self._cluster.kind)
        except QueueError as error:
            self._silence = self._silence or f"the queue has not answered since {time.strftime('%H:%M:%S')}: {error}"
            log.info("%s", error)
            return
        self._silence = ""
        came = {name for worker in self._workers() for name in jobs_of(worker)}
        for job in known:
            self._see(job, there.get(job.number), came, began)
        if self.fault is None:
            self._replace()

    def _see(self, job: Job, found: Listed | None, came: set[str], now: float) -> None:
        """Take in how a job stands; those whose workers are connected have ``came``."""
        has_worker = job.name in came
        if has_worker and not job.came:
            job.came, self._in_a_row = True, 0
        if found is None:
            if now - job.submitted > LISTED_AFTER:
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
        logs, said = self._logs(job), said or more_of(self._cluster.kind, job.number)
        why = self._why_ended(job, "\n".join([said, *logs.values()]))
        self._jobs.remove(job)
        self._ended[job.name] = why
        self._count(why)
        if job.came:
            self._lost += why != "walltime"
            log.log(logging.INFO if why == "walltime" else logging.WARNING, "job %s ended: %s", job.number, why)
            return
        self._never += 1
        self._in_a_row += 1
        self._not_before = time.monotonic() + pause_after(self._in_a_row)
        self._last_words = tail(logs) or f"  no log, and the queue says: {said or 'nothing'}"
        log.warning("job %s ended before a worker of it came (%s): %s", job.number, why, self._last_words)
        if self._in_a_row >= self._cluster.failed_jobs and not any(other.came for other in self._jobs):
            self.fault = ClusterError(
                f"{self._in_a_row} jobs in a row ended before a worker of theirs came; job {job.number} ({why}) said:\n"
                f"{self._last_words}\nTheir logs are in {self._place.logs}; 'pyama-dask doctor' tries one job"
            )

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
                return
        waiting = [job for job in self._jobs if job.listed and job.listed.state == "pending"]
        for job in waiting[: max(0, len(self._jobs) - wanted)] if self._cluster.adaptive else []:
            self._cancel(job)
            self._jobs.remove(job)

    def _submit(self) -> None:
        self._number += 1
        name = f"{self._place.name}-{self._number}"
        job = Job(submit(make_job(self._cluster, self._place, name)), name, time.monotonic())
        self._jobs.append(job)
        self._submitted += 1
        self._refused = 0
        log.info("job %s submitted, %s", job.number, name)
        self._tell(job)

    def _tell(self, job: Job | None = None) -> None:
        """Tell the process that cancels of a job; if somebody has ended it, another one is told of all."""
        told = [job] if job else []
        if self._canceller.poll() is not None and not self._canceller.stdin.closed:
            with suppress(OSError):
                self._canceller.stdin.close()
            self._canceller, told = _canceller(self._cluster.kind), list(self._jobs)
        try:
            self._canceller.stdin.write("".join(f"{each.number}\n" for each in told))
            self._canceller.stdin.flush()
        except (OSError, ValueError):  # ended just now, or the run was closed while the queue took a long time
            for each in told:
                self._cancel(each)

    def _wait(self, error: QueueError) -> None:
        """Try again later, each time after twice as long."""
        self._refused += 1
        self._refusal = str(error)
        pause = pause_after(self._refused)
        self._not_before = time.monotonic() + pause
        log.warning("%s; tried again in %.0f s", error, pause)

    def _cancel(self, job: Job) -> None:
        command = [*cancel_command(self._cluster.kind), job.number]
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=LEAVING, check=False, stdin=subprocess.DEVNULL)


def pause_after(failures: int) -> float:
    """Seconds to wait after failures in a row, twice as long after each."""
    return min(2.0 ** min(failures, 20), LONGEST_WAIT)


def tail(logs: Mapping[str, str]) -> str:
    """Last lines of what logs say: of those of errors, if they say anything."""
    errors = [text for name, text in logs.items() if re.search(r"\.(err|e\d+)$", name) and text.strip()]
    lines = [line for text in errors or logs.values() for line in text.splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-TAIL:])


CANCELLER = """
trap '' INT TERM HUP
said() { printf '%s\n' "$1" | grep -Eq "$2"; }
jobs=
while read -r job; do jobs="$jobs $job"; done
[ -n "$jobs" ] || exit 0
lines="^ *($(echo $jobs | tr ' ' '|'))([^0-9]|$)"
for pause in 2 5 15 30 60 120; do
  CANCEL $jobs </dev/null >/dev/null 2>&1 && exit 0
  left=$(LIST 2>&1 </dev/null) || said "$left" NONE || left=unknown
  [ "$left" = unknown ] || said "$left" "$lines" || exit 0
  sleep $pause
done
"""
"""Reads the numbers of jobs until its input ends, which it does when the driver ends in any way; then cancels them.

Where not all could be cancelled, the others may have ended; that is so if the queue lists none of them any more.
"""


def _canceller(kind: str) -> Any:
    """Process that ends a run's jobs when this process ends, even if it is killed."""
    words = {"CANCEL": cancel_command(kind), "LIST": listing_of(kind), "NONE": [KINDS[kind].none]}
    script = CANCELLER
    for name, command in words.items():
        script = script.replace(name, shlex.join(command))
    return subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        text=True, start_new_session=True, cwd=Path("/"),
    )  # fmt: skip
