"""Jobs of a run: as many in the queue as it needs, dead ones replaced, and none left when the run ends.

dask-jobqueue submits jobs and forgets them: it does not replace a job that ends before its worker connects, or one of
several processes. Here, every few seconds, the list of the run's jobs is compared with the queue and with the connected
workers. If a queue does not answer, the state of its jobs is unknown, and none counts as dead.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.units import walltime_seconds
from pyama_dask.errors import ClusterError, ConfigError, QueueError
from pyama_dask.launch.canceller import PAUSES, Canceller
from pyama_dask.launch.job_logs import read_logs, reason_in, tail
from pyama_dask.launch.job_record import JobCounts, QueuedJob, jobs_of
from pyama_dask.launch.job_scripts import Place, make_job
from pyama_dask.launch.queue_commands import Listed, cancel_jobs, listed, more_of, submit
from pyama_dask.launch.queue_kinds import KINDS

log = logging.getLogger(__name__)

NO_WORKER = 300.0
"""Seconds that a job may run without a worker before it is cancelled and replaced."""
SHORT_LIFE = 30.0
"""Seconds: a shorter job counts as failed, even if its worker connected."""
LEAVING = 3.0
"""Seconds to wait, twice, until the queue knows that the jobs are not needed any more."""


@dataclass(frozen=True)
class Timing:
    """Clock and intervals of `Jobs`, in seconds."""

    clock: Callable[[], float] = time.monotonic
    interval: float = 5.0
    """Time between comparisons with the queue."""
    least_interval: float = 1.0
    """Shortest time between comparisons, if workers are lost or tasks wait."""
    known_after: float = 6.0
    """Time within which a queue knows that a job has ended whose workers are gone."""
    longest_pause: float = 60.0
    """Longest time between attempts to submit."""
    listed_after: float | None = None
    """Time within which the queue may not list a new job yet; None for the usual one of its kind."""
    cancel_pauses: tuple[float, ...] = PAUSES
    """Time after each failed attempt to cancel jobs."""

    def pause_after(self, failures: int) -> float:
        """Pause after a number of failures in a row; doubles with each."""
        return min(2.0 ** min(failures, 20), self.longest_pause)


class Jobs:
    """Keeps the jobs of a run in the queue, from a thread.

    Parameters
    ----------
    cluster
        Part of the config.
    place
        Where the workers find the scheduler.
    connected
        Returns the names of the connected workers.
    demand
        Returns the number of unfinished tasks.
    retired
        Returns the names of the workers that have left before their walltime.
    timing
        Clock and intervals.
    title
        Name of these jobs in reports.
    """

    def __init__(
        self, cluster: Cluster, place: Place, connected: Callable[[], set[str]], demand: Callable[[], int],
        retired: Callable[[], set[str]] = set, timing: Timing = Timing(), title: str = "jobs",
    ) -> None:  # fmt: skip
        self.name, self._title = place.name, title
        self._cluster, self._place, self._timing, self._clock = cluster, place, timing, timing.clock
        self._connected, self._demand, self._retired = connected, demand, retired
        self._jobs: list[QueuedJob] = []
        self._gone_jobs: dict[str, QueuedJob] = {}
        self._number = self._submitted = self._lost = self._never_connected = self._in_a_row = self._refused = 0
        self._end_of_job: dict[str, str] = {}
        """Reasons for the end of jobs, by their names."""
        self._ends: dict[str, int] = {}
        """Number of ended jobs by reason."""
        self._silence = self._refusal = self._last_log = ""
        self._next_submission = 0.0
        self._trust = cluster.most_jobs
        """Most jobs without a connected worker at the same time."""
        self._asks_queue = self._has_tasks = False
        self._stop, self._look = threading.Event(), threading.Event()
        self.fault: ClusterError | None = None
        """Reason why no more jobs are submitted."""
        numbers = place.logs / f"{cluster.kind}{title.removeprefix('jobs').replace(' ', '-')}.numbers"
        self.canceller = Canceller(cluster.kind, numbers, timing.cancel_pauses)
        self._thread = threading.Thread(target=self._keep, name="jobs", daemon=True)

    def start(self) -> None:
        """Submit the first job, and start the thread.

        Raises
        ------
        ConfigError
            If the queue rejects the job for good, or for now and the run has to end with the first failed job.
        """
        self.submit_first()
        self._thread.start()

    def submit_first(self) -> None:
        """Cancel the jobs of a run before that was killed, and submit the first job; see `start`."""
        self.canceller.cancel_leftover()
        try:
            self._submit()
        except QueueError as error:
            if not error.passing or self._cluster.failed_jobs == 1:
                raise ConfigError(
                    f"cluster: the queue rejects jobs: {error}. "
                    "Fix: correct 'queue', 'account', 'memory', 'walltime' or 'directives'"
                ) from error
            self._postpone(error)

    def wake(self) -> None:
        """Submit jobs for new tasks now, if there are too few."""
        if not self._has_tasks or (len(self._jobs) < self.wanted() and self._clock() >= self._next_submission):
            self._has_tasks = True
            self._look.set()

    def close(self) -> None:
        """Cancel all jobs."""
        self._stop.set()
        self._look.set()
        self.canceller.close()
        if self._thread.is_alive():
            self._thread.join(LEAVING)  # a job that the queue accepts meanwhile is cancelled in the thread
        self.canceller.wait(LEAVING)

    # --------------------------------------------------------------------------------------- reports

    @property
    def counts(self) -> JobCounts:
        """Number of jobs by state."""
        states = [job.listed.state if job.listed else "pending" for job in list(self._jobs)]
        return JobCounts(
            running=states.count("running"), pending=states.count("pending"), submitted=self._submitted,
            lost=self._lost, never_connected=self._never_connected, ended=dict(self._ends),
        )  # fmt: skip

    def why(self, worker: str, since: float) -> str | None:
        """Find out why the job of a worker has ended, if it has.

        Parameters
        ----------
        worker
            Name of a lost worker.
        since
            Time of the loss on the monotonic clock.

        Returns
        -------
        A key of `job_logs.REASONS`, or ``ended``; None if the job continues, or the queue does not know.
        """
        for job in list(self._jobs):
            job.connected = job.connected or job.name in jobs_of(worker)  # it may have come and gone unseen
        while (why := self._end_of(worker)) is None and self._clock() < since + self._timing.known_after:
            self._look.set()
            if self._stop.wait(0.5):
                break
        return why

    def _end_of(self, worker: str) -> str | None:
        return next((self._end_of_job[name] for name in jobs_of(worker) if name in self._end_of_job), None)

    def status(self) -> str:
        """Return the number of jobs by state, and what is wrong with them."""
        counts = self.counts
        lost = f", {counts.lost + counts.never_connected} lost" if counts.lost + counts.never_connected else ""
        problem = self._problem(counts)
        return f"{self._title}: {counts.running} running, {counts.pending} pending{lost}" + (
            f"; {problem}" if problem else ""
        )

    def summary(self) -> str:
        """Return the number of submitted jobs, and the reasons why some ended before the run."""
        counts = self.counts
        ended = ", ".join(f"{number} {why}" for why, number in sorted(counts.ended.items()))
        failed = f"; {counts.never_connected} before a worker connected" if counts.never_connected else ""
        of = "" if self._title == "jobs" else f"{self._title}: "
        return f"{of}{counts.submitted} submitted" + (f"; ended before the run: {ended}{failed}" if ended else "")

    def _problem(self, counts: JobCounts) -> str:
        if self._silence:
            return self._silence
        if self._refused:
            return f"the queue rejects jobs: {self._refusal}"
        if self._in_a_row:
            last_line = self._last_log.rpartition("\n")[2].strip()
            return f"the last {self._in_a_row} ended before a worker connected: {last_line}"
        if counts.pending and not counts.running:
            reasons = {job.listed.reason for job in list(self._jobs) if job.listed} - {"", "None"}
            return f"all are waiting in the queue ({', '.join(sorted(reasons))})" if reasons else ""
        if counts.running and not any(job.connected for job in list(self._jobs)):
            return f"no worker has connected to {self._place.scheduler} yet"
        return ""

    # ------------------------------------------------------------------------------------- the thread

    def _keep(self) -> None:
        pause = self._timing.interval - self._timing.least_interval
        self._look.wait(pause)  # the first tasks, for which further jobs are needed, follow in a moment
        while not self._stop.is_set():
            self._look.clear()
            try:
                self.update()
            except Exception:  # whatever a queue answers, the next update may succeed
                log.exception("the jobs could not be compared with the queue; retrying")
            if not self._stop.wait(self._timing.least_interval):
                self._look.wait(pause)

    def update(self) -> None:
        """Compare the jobs with the queue, and replace those that are gone."""
        now, self._asks_queue = self._clock(), True
        known = list(self._jobs)
        try:
            in_queue = listed(self._cluster.kind)
        except QueueError as error:
            self._silence = self._silence or f"the queue has not answered since {time.strftime('%H:%M:%S')}: {error}"
            log.info("%s", error)
            return
        self._silence = ""
        connected = {name for worker in self._connected() for name in jobs_of(worker)}
        for number in self._gone_jobs.keys() & in_queue.keys():
            if in_queue[number].state != "stuck":
                self._take_back(self._gone_jobs.pop(number))
        for job in known:
            self._update_job(job, in_queue.get(job.number), connected, now)
        if self.fault is None:
            self._adjust()

    def _take_back(self, job: QueuedJob) -> None:
        """Keep a job again that had ended, and that the queue has requeued."""
        log.warning("job %s was requeued", job.number)
        self._count("requeued")
        self._end_of_job.pop(job.name, None)
        self._jobs.append(QueuedJob(job.number, job.name, job.submitted))
        self.canceller.add(job.number)

    def _update_job(self, job: QueuedJob, found: Listed | None, connected: set[str], now: float) -> None:
        """Update a job; `connected` has the names of the jobs with connected workers."""
        has_worker = job.name in connected
        if has_worker and not job.connected:
            job.connected, self._in_a_row = True, 0
            self._trust = min(2 * self._trust, self._cluster.most_jobs)
        if found is None:
            if job.listed or job.connected or now - job.submitted > self._listed_after:
                self._end(job)
            return
        if found.state == "stuck":
            self._end(job, found.reason)
            self._cancel(job)
            return
        if job.listed and (job.listed.state, found.state) == ("running", "pending") and not has_worker:
            log.warning("job %s was requeued", job.number)
            self._count("requeued")
        job.listed = found
        job.began = (job.began or now) if found.state == "running" else None
        job.idle_since = (job.idle_since or now) if found.state == "running" and not has_worker else None
        if job.idle_since and now - job.idle_since > NO_WORKER:
            log.warning("job %s has run for %.0f s without a worker, and is cancelled", job.number, NO_WORKER)
            self._cancel(job)

    @property
    def _listed_after(self) -> float:
        usual = KINDS[self._cluster.kind].listed_after
        return usual if self._timing.listed_after is None else self._timing.listed_after

    def _end(self, job: QueuedJob, answer: str = "") -> None:
        """Take an ended job off the list; `answer` is what the queue says of it."""
        logs, answer = read_logs(self._place.logs, job.number), answer or self._more_of(job)
        why = self._reason(job, "\n".join([answer, *logs.values()]))
        self._jobs.remove(job)
        self._gone_jobs[job.number], self._end_of_job[job.name] = job, why
        self.canceller.remove(job.number)
        self._count(why)
        if job.connected:
            self._lost += why != "walltime"
            log.log(logging.INFO if why == "walltime" else logging.WARNING, "job %s ended: %s", job.number, why)
            if why != "walltime" and self._clock() - (job.began or 0) < SHORT_LIFE:
                self._trust = max(1, self._trust // 2)
            return
        self._last_log = tail(logs) or f"  no log; the queue answers: {answer or 'nothing'}"
        log.warning("job %s ended before a worker connected (%s): %s", job.number, why, self._last_log)
        self._count_failed(job, why)

    def _count_failed(self, job: QueuedJob, why: str) -> None:
        """Count a job that has ended before a worker connected; too many in a row are a fault."""
        self._never_connected += 1
        self._in_a_row += 1
        self._trust = 1
        self._next_submission = self._clock() + self._timing.pause_after(self._in_a_row)
        if self._in_a_row >= self._cluster.failed_jobs and not any(map(is_promising, self._jobs)):
            self.fault = ClusterError(
                f"{self._in_a_row} jobs in a row ended before a worker connected; job {job.number} ({why}) logged:\n"
                f"{self._last_log}\nFix: read the logs in {self._place.logs}; 'pyama-dask doctor' tries one job"
            )

    def _more_of(self, job: QueuedJob) -> str:
        """Answer of the queue about a job, unless it was slow to answer a moment ago."""
        if not self._asks_queue:
            return ""
        began = time.monotonic()
        try:
            return more_of(self._cluster.kind, job.number)
        except QueueError as error:  # it may have forgotten the job
            log.info("%s", error)
            return ""
        finally:
            self._asks_queue = time.monotonic() - began < self._timing.interval

    def _reason(self, job: QueuedJob, text: str) -> str:
        """Reason for the end of a job, from its life and from what the queue and its logs say."""
        lived = self._clock() - job.began if job.began else 0.0
        if any(job.name in jobs_of(worker) for worker in self._retired()):
            return "walltime"
        if self._cluster.walltime and job.connected and lived > 0.8 * walltime_seconds(self._cluster.walltime):
            return "walltime"
        return reason_in(text) or "ended"

    def _count(self, why: str) -> None:
        self._ends[why] = self._ends.get(why, 0) + 1

    # ----------------------------------------------------------------------------- submit and cancel

    def wanted(self) -> int:
        """Number of jobs that the unfinished tasks need, within the limits of the config."""
        needed = -(-self._demand() // self._cluster.cores) if self._has_tasks else 1
        if limits := self._cluster.adaptive:
            return max(limits.minimum, min(limits.maximum, needed))
        return min(self._cluster.jobs or 1, max(needed, 1))

    def _adjust(self) -> None:
        """Submit missing jobs, and cancel waiting ones that are not needed."""
        wanted = self.wanted()
        while self._may_submit(wanted):
            try:
                self._submit()
            except QueueError as error:
                self._postpone(error)
                return
        most = wanted if self._cluster.adaptive else self._cluster.most_jobs
        waiting = [job for job in reversed(self._jobs) if job.listed and job.listed.state == "pending"]
        for job in waiting[: max(0, len(self._jobs) - most)]:
            self._cancel(job)
            self._jobs.remove(job)

    def _may_submit(self, wanted: int) -> bool:
        undecided = sum(not job.connected for job in self._jobs)
        due = self._clock() >= self._next_submission and not self._stop.is_set()
        return due and len(self._jobs) < wanted and undecided < self._trust

    def _submit(self) -> None:
        self._number += 1
        name = f"{self._place.name}-{self._number}"
        job = QueuedJob(submit(make_job(self._cluster, self._place, name)), name, self._clock())
        self._jobs.append(job)
        self.canceller.add(job.number)  # at once, as this process may be killed at any time
        self._submitted += 1
        self._refused = 0
        log.info("job %s submitted, %s", job.number, name)

    def _postpone(self, error: QueueError) -> None:
        """Submit later; pauses double with each refusal."""
        self._refused += 1
        self._refusal = str(error)
        if not error.passing and not self._jobs and self._refused >= self._cluster.failed_jobs:
            self.fault = ClusterError(
                f"the queue rejects all jobs: {error}. Fix: correct 'cluster' in the config, and run again"
            )
        pause = self._timing.pause_after(self._refused)
        self._next_submission = self._clock() + pause
        log.warning("%s; retrying in %.0f s", error, pause)

    def _cancel(self, job: QueuedJob) -> None:
        cancel_jobs(self._cluster.kind, [job.number])


def is_promising(job: QueuedJob) -> bool:
    """True if a worker of a job has connected or may still connect; other nodes work if one is broken."""
    return job.connected or bool(job.listed and job.listed.state == "running")
