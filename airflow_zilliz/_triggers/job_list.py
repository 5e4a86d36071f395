"""The trigger that waits for many jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_zilliz._poller.list_poll import ListPoll
from airflow_zilliz._poller.task_log import log_ignored, log_notes
from airflow_zilliz._progress.triggerer import jobs_progress
from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._triggers import base
from airflow_zilliz._triggers.base import COMMON_ARGUMENTS, WaitTrigger, class_path_of
from airflow_zilliz._wait.job_results import Tally
from airflow_zilliz._wait.list_memory import Memory
from airflow_zilliz._wait.list_notes import Note
from airflow_zilliz._wait.list_wait import ListPlan, ListWait
from airflow_zilliz._wait.packing import pack, unpack
from airflow_zilliz._wait.state_machine import Decision


class ZillizImportListTrigger(WaitTrigger):
    """Poll many import jobs until all have ended, and fire one event: see `ListOutcome`. It only reads.

    It fires earlier to record what has ended: an hour after the last time, or when the event has no room for more.
    All parameters are primitive and none is a secret, since Airflow stores and logs them in plain text.
    Each except the first two has a default, so that waits in flight survive an upgrade. Times are epoch seconds.

    :param job_ids: the open jobs: packed by `pack`, or as a list
    :param zilliz_conn_id: Airflow connection, looked up in the triggerer
    :param started_at: when the wait began; None for now
    :param deadline: when it times out; None for never
    :param execution_deadline: when the task's ``execution_timeout`` passes; None for never
    :param memory: what is remembered of the open jobs, packed by `Memory`
    :param recorded: the jobs that have ended and are recorded, see `Tally`
    :param checkpoint_at: when they were last recorded; None for ``started_at``
    :param checkpoint_jobs: fire as soon as so many jobs have ended; None for an hour's worth
    :param fail_fast: fire at the first Failed job
    :param withhold_reasons: leave Failed jobs' reasons out of the event and of the log: they may contain an object
        storage's keys, which only the worker knows
    :param keep_files: put the names of the jobs' files into the event, for OpenLineage
    :param unknown: arguments of a newer version, which are ignored after a rollback to this one
    """

    def __init__(
        self,
        job_ids: str | Sequence[str],
        zilliz_conn_id: str,
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
        target_state: str = ImportState.COMPLETED.value,
        poke_interval: float = 30.0,
        poll_failure_tolerance: float = 600.0,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        ignore_errors: bool = False,
        started_at: float | None = None,
        deadline: float | None = None,
        execution_deadline: float | None = None,
        stall_warning: float | None = 1800.0,
        memory: str | None = None,
        recorded: Sequence[int] = (),
        checkpoint_at: float | None = None,
        checkpoint_jobs: int | None = None,
        fail_fast: bool = False,
        withhold_reasons: bool = False,
        keep_files: bool = False,
        **unknown: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow leaves it untyped
        self._unknown = sorted(unknown)
        self.job_ids = job_ids if isinstance(job_ids, str) else pack(list(job_ids))
        self.zilliz_conn_id = zilliz_conn_id
        self.cluster_id = cluster_id
        self.project_id = project_id
        self.region_id = region_id
        self.db_name = db_name
        self.target_state = target_state
        self.poke_interval = poke_interval
        self.poll_failure_tolerance = poll_failure_tolerance
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.ignore_errors = ignore_errors
        self.started_at = started_at if started_at is not None else time.time()
        self.deadline = deadline
        self.execution_deadline = execution_deadline
        self.stall_warning = stall_warning
        self.memory = memory
        self.recorded = list(recorded)
        self.checkpoint_at = checkpoint_at
        self.checkpoint_jobs = checkpoint_jobs
        self.fail_fast = fail_fast
        self.withhold_reasons = withhold_reasons
        self.keep_files = keep_files

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the constructor's arguments."""
        names = (
            "job_ids",
            *COMMON_ARGUMENTS,
            "memory",
            "recorded",
            "checkpoint_at",
            "checkpoint_jobs",
            "fail_fast",
            "withhold_reasons",
            "keep_files",
        )
        return class_path_of(self), {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, together with all other waits on the same target, and fire once."""
        await log_ignored(self.log, self._unknown)
        # thousands of ids and memories take longer than the loop may be blocked
        wait = await asyncio.to_thread(self._wait)
        progress = jobs_progress(getattr(self, "task_instance", None), self.started_at)
        try:
            offer = progress.offer if progress is not None else None
            outcome = await ListPoll(wait, self._log_notes, offer).run(base.SHORTEST_FIRST_DELAY)
        finally:
            if progress is not None:
                progress.end()
        event = await asyncio.to_thread(outcome.as_event)
        yield TriggerEvent(event)  # type: ignore[no-untyped-call] # Airflow leaves it untyped

    async def _log_notes(self, notes: tuple[Note, ...]) -> None:
        await log_notes(self, Decision(notes=notes))

    def _wait(self) -> ListWait:
        plan = ListPlan(
            self.zilliz_conn_id,
            self._place(),
            self._wanted(),
            self.started_at,
            self.deadline,
            self.execution_deadline,
            self.checkpoint_at,
            self.checkpoint_jobs,
            self.fail_fast,
            self.withhold_reasons,
            self.keep_files,
        )
        now = time.time()
        job_ids = unpack(self.job_ids)
        if not isinstance(job_ids, list):
            raise ValueError("job_ids cannot be read: they are neither a list nor packed by this provider")
        # the time without a triggerer says nothing about the server, so trouble counts from here again
        memory = Memory.unpacked(self.memory).without_trouble_before(now)
        recorded = Tally.from_json(self.recorded)
        return ListWait(plan, [str(job_id) for job_id in job_ids], now, memory, recorded, logs_at_once=False)
