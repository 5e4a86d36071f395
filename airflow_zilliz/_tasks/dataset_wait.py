"""Waits for the jobs of a dataset, on a worker or deferred, and stores how they ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from airflow_zilliz._protocol.import_request import commits_by_itself
from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._protocol.scrubbing import Scrubber
from airflow_zilliz._submit.ledger import Finish, Stage, Wait
from airflow_zilliz._tasks.base import BACKSTOP_MARGIN
from airflow_zilliz._tasks.dataset_account import reason_of, result_of_entry, tally_of
from airflow_zilliz._tasks.dataset_state import DatasetState
from airflow_zilliz._tasks.errors import error_of
from airflow_zilliz._tasks.job_list import FIRST_POLL_SECONDS, LAST_POLL_SECONDS
from airflow_zilliz._tasks.list_worker import poll_on_worker
from airflow_zilliz._tasks.task_state import task_try
from airflow_zilliz._tasks.waiting_task import defer_for_jobs, policy_of
from airflow_zilliz._wait.list_outcome import ListOutcome
from airflow_zilliz._wait.list_wait import ListPlan, ListWait
from airflow_zilliz._wait.outcome import Ending, Outcome
from airflow_zilliz.exceptions import ZillizError, ZillizJobNotFound


class DatasetWait:
    """The wait for a dataset's jobs."""

    def __init__(self, state: DatasetState) -> None:
        self._state = state

    def wait(self, step: Wait) -> None:
        """Wait until enough jobs have ended, on this worker or deferred."""
        ids = self._state.ids(step.indices)
        plan = self._plan(step)
        memory, tally = self._state.memory, tally_of(self._state.ledger)
        wait = ListWait(plan, ids, time.time(), memory, tally, logged=self._state.logged)
        is_deferrable = self._state.task.deferrable
        within = FIRST_POLL_SECONDS if is_deferrable else None
        outcome = poll_on_worker(wait, self._state.task._hook(), self._state.task.log, within) or wait.pause()
        self._state.logged = wait.last_line
        self.take(outcome, ids)
        if is_deferrable and outcome.ending is None and not outcome.ended:
            state = self._state
            state.store.before_deferral(state.ledger)
            tally = tally_of(state.ledger)
            owned = [] if commits_by_itself(state.task.options) else state.task._jobs_to_abort()
            defer_for_jobs(
                state.task,
                plan,
                ids,
                state.memory,
                tally,
                method="execute_wave",
                margin=BACKSTOP_MARGIN,
                owned_ids=owned,
            )

    def _plan(self, step: Wait) -> ListPlan:
        task, span = self._state.task, self._state.span
        is_loading = self._state.ledger.is_atomic and self._state.ledger.entries[step.indices[0]].stage is Stage.RUNNING
        return ListPlan(
            task.zilliz_conn_id,
            task._target(),
            policy_of(task, ImportState.UNCOMMITTED if is_loading else ImportState.COMPLETED),
            span.started_at,
            span.deadline,
            span.execution_deadline,
            checkpoint_at=time.time(),
            checkpoint_jobs=step.wake_after,
            fail_fast=is_loading,
            withhold_reasons=bool(task.storage_conn_id),
        )

    def take(self, outcome: ListOutcome, ids: Sequence[str], *, logs_failures: bool = False) -> None:
        """Store what has ended, and fail if the wait itself has ended.

        :param logs_failures: for an outcome of a trigger, whose log Airflow overwrites when the task defers again
        """
        self._state.memory = outcome.memory
        ledger = self._state.ledger
        by_id = {str(ledger.entries[i].job_id): i for i in ledger.at(Stage.RUNNING, Stage.COMMITTED)}
        for job in outcome.ended:
            if job.job_id in by_id:
                self._on_end(by_id[job.job_id], job)
                if logs_failures and job.state is ImportState.FAILED:
                    self._log_failure(by_id[job.job_id])
        self._state.log_progress()
        if outcome.jobs_have_ended:
            return
        if outcome.ending is not None and outcome.ending.is_timeout:
            left = [by_id[job_id] for job_id in ids if job_id in by_id]
            self.poll_last([i for i in left if self._state.ledger.entries[i].stage in (Stage.RUNNING, Stage.COMMITTED)])
            if isinstance(self._state.ledger.next(self._state.task.max_active_jobs), Finish):
                return
        elif outcome.ending is Ending.UNKNOWN_JOB and self._find_forgotten(ids, by_id):
            return
        ending = outcome.ending or Ending.TIMED_OUT
        raise self._state.failure(
            error_of(Outcome(ending, outcome.message, facts=dict(outcome.facts))) or ZillizError("")
        )

    def _on_end(self, index: int, job: ImportProgress) -> None:
        entry = self._state.ledger.entries[index]
        if entry.stage not in (Stage.RUNNING, Stage.COMMITTED):
            return
        if job.state is ImportState.FAILED:
            # servers before 2026 turn some jobs from Completed to Failed: these loaded their rows
            record = entry.record.failed() if entry.record is not None and job.complete_time is None else entry.record
            reason = f"import job {job.job_id} is Failed: {self._reason_of(job)}"
            self._state.put(index, stage=Stage.FAILED, record=record, reason=reason, result=result_of_entry(job))
        elif job.state is ImportState.COMPLETED:
            self._state.put(index, stage=Stage.COMPLETED, reason=None, result=result_of_entry(job))
        elif entry.stage is Stage.RUNNING and self._state.ledger.is_atomic:
            # someone else has committed it
            self._state.put(index, stage=Stage.LOADED if job.state is ImportState.UNCOMMITTED else Stage.COMMITTED)

    def _log_failure(self, index: int) -> None:
        self._state.task.log.error(
            "Job %d of %d %s", index + 1, len(self._state.ledger.jobs), reason_of(self._state.ledger, index)
        )

    def _reason_of(self, job: ImportProgress) -> str:
        """Return why a job failed; request a reason that the trigger withheld, since a worker can mask the keys."""
        if self._state.task.storage_conn_id:
            try:
                job = self._state.task._hook().get_import_progress(job.job_id, **self._state.task._ids())
            except ZillizError:
                return "its reason is not shown, since it may contain the keys of storage_conn_id"
        parts = [job.reason or "the server gave no reason"]
        parts += [f"{name}: {why}" for name, why in job.file_reasons[:3] if why != job.reason]
        return Scrubber(self._state.task._storage_secrets())("; ".join(parts))[:2000]

    def poll_last(self, indices: Sequence[int]) -> None:
        """Poll once after the deadline: a job that is done by then counts as done."""
        if not indices:
            return
        plan = self._plan(Wait(tuple(indices))).for_last_poll
        wait = ListWait(plan, self._state.ids(indices), time.time(), self._state.memory, tally_of(self._state.ledger))
        outcome = (
            poll_on_worker(wait, self._state.task._hook(), self._state.task.log, LAST_POLL_SECONDS) or wait.pause()
        )
        by_id = {self._state.ledger.entries[index].job_id: index for index in indices}
        for job in outcome.ended:
            self._on_end(by_id[job.job_id], job)

    def _find_forgotten(self, ids: Sequence[str], by_id: dict[str, int]) -> bool:
        """Mark jobs that the server does not know as in doubt, and return whether there are any."""
        clears = task_try(self._state.context, self._state.task, None, remembers=False).clears
        found = False
        for job_id in ids:
            index = by_id.get(job_id)
            if index is None or self._state.ledger.entries[index].stage not in (Stage.RUNNING, Stage.COMMITTED):
                continue
            try:
                self._state.task._hook().get_import_progress(job_id, **self._state.task._ids())
            except ZillizJobNotFound:
                record = self._state.ledger.entries[index].record
                given_up = None if record is None else replace(record, given_up=clears)
                reason = f"import job {job_id} is unknown to the server; check whether its rows are there"
                self._state.put(index, stage=Stage.IN_DOUBT, record=given_up, reason=reason)
                found = True
            except ZillizError:
                continue
        return found
