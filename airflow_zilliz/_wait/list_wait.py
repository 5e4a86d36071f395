"""The wait for many jobs, decided without I/O and without a clock: which are open, which have ended, what comes next.

Each job has its own `ImportWait`, so that the wait for one of many jobs does not differ from that for a single one. The
owner of a `ListWait` subscribes `begin`'s waits to polls, passes decisions to `on_decision`, and checks `outcome`.

A task that waits for many jobs (see `_tasks/job_list`)

1. defers with `ZillizImportListTrigger(job_ids=pack(ids), ...)`; ``checkpoint_jobs=n`` lets the trigger fire as soon as
   n jobs have ended, for the next wave;
2. reads the event with `ListOutcome.from_event`. Its ``ended`` has the jobs that ended since it deferred, including
   failed ones. Its ``ending`` is None for a checkpoint (record ``ended``, and defer again for the others),
   ``REACHED`` once all have ended, ``JOB_FAILED`` with ``fail_fast``, and else what ended the wait for the open jobs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._wait.checkpoint import Checkpoint, duration
from airflow_zilliz._wait.job_results import Tally, pack_jobs, row_of, slim
from airflow_zilliz._wait.list_memory import NO_MEMORY, Memory
from airflow_zilliz._wait.list_notes import LINE_EVERY, ListNotes, Note
from airflow_zilliz._wait.list_outcome import ListOutcome, named, place_of
from airflow_zilliz._wait.list_plan import Again, ListPlan
from airflow_zilliz._wait.list_progress import ListProgress, counted, progress_of
from airflow_zilliz._wait.list_snapshot import snapshot_of
from airflow_zilliz._wait.outcome import Ending, Outcome
from airflow_zilliz._wait.policy import spread_of
from airflow_zilliz._wait.snapshot import Snapshot
from airflow_zilliz._wait.state_machine import TROUBLE_DELAY, Decision, ImportWait
from airflow_zilliz._wait.texts import plural
from airflow_zilliz.exceptions import ZillizError

__all__ = ["Again", "ListPlan", "ListWait"]

#: After so many seconds, ended jobs are recorded: servers forget them after 3 hours, and a triggerer may be killed at
#: any time.
CHECKPOINT_EVERY = 3600.0
#: A process that has just begun collects ended jobs for so many seconds before it pauses for a checkpoint.
GATHERING = 60.0
#: The packed results that an event has room for, in bytes; they are measured each time after so many more.
MAX_PACKED = 44_000
MEASURED_EVERY = 8_000


class ListWait:
    """The wait for many jobs.

    :param job_ids: the open jobs, each once
    :param now: when this process begins, epoch seconds
    :param memory: what an earlier process of the same wait remembered of each
    :param recorded: the jobs that have ended and are recorded
    :param logged: what `last_line` was in an earlier process
    :param logs_at_once: log progress once each job was polled, instead of a minute later
    """

    def __init__(
        self,
        plan: ListPlan,
        job_ids: Sequence[str],
        now: float,
        memory: Memory = NO_MEMORY,
        recorded: Tally = Tally(),  # noqa: B008 - frozen
        *,
        logs_at_once: bool = True,
        logged: tuple[str, float] = ("", 0.0),
    ) -> None:
        self.plan = plan
        self.tally = recorded
        self._now = now
        self._memory = memory
        self._open: dict[str, ImportWait | None] = dict.fromkeys(job_ids)
        self._ended: list[ImportProgress] = []
        self._timed_out: dict[str, Outcome] = {}
        self._stopped: dict[str, Outcome] = {}
        self._notes = ListNotes(max(logged[1], now if logs_at_once else now + LINE_EVERY), logged[0])
        self._pace: tuple[float, float] | None = None
        self._has_failed = False
        self._unmeasured = self._packed = 0

    # -- jobs -----------------------------------------------------------------------------------------------------

    def begin(self) -> Iterator[ImportWait]:
        """Yield each open job's wait. It takes a while for thousands: the caller lets other tasks run in between."""
        for job_id in self.open_ids:
            wait = self._open[job_id]
            if wait is None:
                wait = self._open[job_id] = self._wait_for(job_id, self._memory.of(job_id), self._now)
            yield wait

    @property
    def open_ids(self) -> list[str]:
        """The jobs that have not ended."""
        return list(self._open)

    @property
    def are_polled(self) -> bool:
        """Whether this process has polled each open job, successfully or not, and none is about to be described."""
        return all(wait is not None and wait.is_polled and wait.undescribed is None for wait in self._open.values())

    # -- polls ----------------------------------------------------------------------------------------------------

    def on_decision(self, job_id: str, step: Decision, now: float) -> Again | None:
        """Handle the decision of a job's wait; return the wait if it is to be subscribed again."""
        wait = self._open.get(job_id)
        if wait is None:
            return None
        self._notes.gather(job_id, step.notes, now)
        if step.look_up_connection:
            wait.is_polled = False  # its result does not count
            return Again(wait, step.delay, look_up=True)
        end = step.end
        if end is None:
            return None
        if wait.undescribed is not None and end.is_timeout:
            end = wait.undescribed  # it is done, and lacks only its description
        elif wait.undescribed is None and end.needs_description:
            describing = self._wait_for(job_id, replace(wait.seen, distrusts_list=True), now, end)
            self._open[job_id] = describing
            return Again(describing)
        del self._open[job_id]
        if (job := end.progress or end.listed) is not None and end.job_has_ended:
            self._on_end(job, end.message)
        elif end.is_timeout:
            self._timed_out[job_id] = end
        else:
            self._stopped[job_id] = end
        return None

    def on_error(self, job_id: str, error: ZillizError, now: float) -> Again | None:
        """Handle a job that cannot be polled at all, because there is no usable connection."""
        wait = self._open.get(job_id)
        if wait is None:
            return None
        step = wait.on_error(error, now)
        again = self.on_decision(job_id, step, now)
        # a wait that does not end continues, with the connection looked up again
        return again or (Again(wait, step.delay, look_up=True) if step.end is None else None)

    # -- what comes next ------------------------------------------------------------------------------------------

    def outcome(self, now: float) -> ListOutcome | None:
        """Return how the wait ended or that it pauses, None while it continues."""
        if self._stopped:
            end = next(iter(self._stopped.values()))
            more = len(self._stopped) - 1
            others = f" The wait for {plural(more, 'other job')} failed, too." if more else ""
            return self._outcome(end.ending, f"{end.message}.{others} {self._whole_wait()}", end)
        if self.plan.fail_fast and self._has_failed:
            return self._outcome(Ending.JOB_FAILED)
        if not self._open:
            return self._time_out(now) if self._timed_out else self._outcome(Ending.REACHED)
        return self._outcome(None) if self._checkpoint_is_due(now) else None

    @property
    def is_to_be_measured(self) -> bool:
        """Whether so much has ended since `measure` that the event may have no room for more."""
        return self._unmeasured >= MEASURED_EVERY

    def measure(self) -> None:
        """Measure the size of the results. It takes some milliseconds, and may run in a thread."""
        self._unmeasured, self._packed = 0, len(pack_jobs(self._ended))

    def pause(self) -> ListOutcome:
        """Return the ended jobs and the memory, for a process that stops before the wait ends."""
        return self._outcome(None)

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last poll of some job did not show it; for how long must be remembered."""
        return any(wait is not None and wait.is_in_doubt for wait in self._open.values())

    def delay(self, now: float) -> float:
        """Return the seconds until the next poll of the job that is due first."""
        waits = [wait for wait in self._open.values() if wait is not None]
        return min((min(wait.delay(now), TROUBLE_DELAY if wait.is_in_doubt else math.inf) for wait in waits), default=0)

    def checkpoint_in(self, now: float) -> float | None:
        """Return the seconds until a checkpoint is due by time, None if there is nothing to record."""
        if not self._ended:
            return None
        since = self.plan.started_at if self.plan.checkpoint_at is None else self.plan.checkpoint_at
        return max(0.0, since + CHECKPOINT_EVERY - now, self._now + GATHERING - now)

    def progress(self, now: float) -> ListProgress:
        """Return the progress of the jobs. It reads each wait, and may run in a thread."""
        reached = self.plan.policy.target_state.value
        waits = [wait for wait in list(self._open.values()) if wait is not None]
        found = progress_of(self.tally, waits, reached)
        if self._pace is None:
            self._pace = (now, found.part)
        began, part = self._pace
        gained, seconds = found.part - part, now - began
        if gained <= 0 or seconds < 1 or found.part >= 1:
            return found
        return replace(found, seconds_left=(1 - found.part) * seconds / gained)

    def snapshot(self, progress: ListProgress, now: float) -> Snapshot:
        """Return what a person is shown of the jobs."""
        waits = (wait for wait in self._open.values() if wait is not None)
        return snapshot_of(progress, self._ended, waits, self.plan.started_at, now)

    def progress_is_due(self, now: float) -> bool:
        """Whether a line of progress may be logged: at most one a minute, and none before all jobs were polled."""
        return self._notes.progress_is_due(now) and (now - self._now >= GATHERING or self.are_polled)

    def on_progress(self, progress: ListProgress, now: float) -> None:
        """Log the progress of the jobs if it has changed."""
        self._notes.progress(progress.text, progress.line, now)

    @property
    def last_line(self) -> tuple[str, float]:
        """The last line of progress, and when the next one is due, epoch seconds."""
        return self._notes.last_line

    def take_notes(self, now: float) -> tuple[Note, ...]:
        """Return the lines to log now."""
        return self._notes.take(now)

    # -- internals ------------------------------------------------------------------------------------------------

    def _wait_for(self, job_id: str, seen: Checkpoint, now: float, undescribed: Outcome | None = None) -> ImportWait:
        plan = self.plan
        return ImportWait(
            job_id,
            plan.conn_id,
            plan.target,
            plan.policy,
            plan.started_at,
            now,
            seen,
            undescribed,
            deadline=plan.deadline,
            execution_deadline=plan.execution_deadline,
            spread=spread_of(job_id, plan.started_at),
            is_one_of_many=True,
        )

    def _on_end(self, job: ImportProgress, message: str) -> None:
        if job.state is ImportState.FAILED:
            self._has_failed = True
            if self.plan.withhold_reasons:
                job, message = replace(job, reason=None, details=()), f"Import job {job.job_id!r} failed"
            self._notes.say(logging.ERROR, message if len(message) <= 2000 else f"{message[:2000]}...")
        job = slim(job, keep_files=self.plan.keep_files)
        self._ended.append(job)
        self.tally = self.tally.plus(job)
        self._unmeasured += len(str(row_of(job)))

    def _checkpoint_is_due(self, now: float) -> bool:
        wanted = self.plan.checkpoint_jobs
        if self._packed >= MAX_PACKED or (wanted is not None and len(self._ended) >= wanted):
            return True
        return self.checkpoint_in(now) == 0

    def _outcome(self, ending: Ending | None, message: str = "", end: Outcome | None = None) -> ListOutcome:
        memory = {job_id: self._memory.of(job_id) if wait is None else wait.seen for job_id, wait in self._open.items()}
        return ListOutcome(ending, tuple(self._ended), message, end.facts if end else {}, Memory(memory))

    def _time_out(self, now: float) -> ListOutcome:
        end = next(iter(self._timed_out.values()))
        name = end.ending.deadline_name
        waited = duration(now - self.plan.started_at)
        text = f"Timed out ({name}) after {waited}. {self._whole_wait()}; the jobs themselves were not touched"
        return self._outcome(end.ending, text, end)

    def _whole_wait(self) -> str:
        """Return the last known state of all jobs, for a wait that ends before they do."""
        waiting = [*self._timed_out, *self._stopped, *self._open]
        failed = f", {self.tally.failed:,} Failed" if self.tally.failed else ""
        rows = f" with {counted(self.tally.rows)} rows" if self.tally.rows else ""
        jobs = plural(self.tally.ended + len(waiting), "import job")
        return (
            f"Of {jobs} ({place_of(self.plan.conn_id, self.plan.target)}), "
            f"{self.tally.ended - self.tally.failed:,} are {self.plan.policy.target_state.value}{rows}{failed}, "
            f"{len(waiting):,} open: {named(waiting)}"
        )
