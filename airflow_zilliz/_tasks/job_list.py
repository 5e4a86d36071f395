"""The wait of a task for many jobs: poll on its worker, defer, record ended jobs, resume, finish.

An operator with its own jobs uses `JobList` as the sensor does: `wait` in ``execute``, `resume` in the method that it
passed to `JobList` as ``method``, which receives the trigger's event and its other arguments.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_zilliz._progress.worker import write_jobs_progress
from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._tasks.errors import error_of, reschedule_exception
from airflow_zilliz._tasks.job_records import JobRecords
from airflow_zilliz._tasks.list_worker import poll_on_worker, with_reasons
from airflow_zilliz._tasks.openlineage import has_openlineage
from airflow_zilliz._tasks.waiting_task import Span, WaitingTask, defer_for_jobs, policy_of
from airflow_zilliz._wait.job_results import Tally
from airflow_zilliz._wait.list_memory import NO_MEMORY, Memory
from airflow_zilliz._wait.list_outcome import ListOutcome, failures, named, place_of
from airflow_zilliz._wait.list_progress import progress_of
from airflow_zilliz._wait.list_wait import CHECKPOINT_EVERY, ListPlan, ListWait
from airflow_zilliz._wait.outcome import Ending, Outcome
from airflow_zilliz._wait.texts import plural
from airflow_zilliz.exceptions import ZillizImportFailed, ZillizImportFailedNoRetry

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


__all__ = ["JobList", "Span", "WaitingTask"]

#: For how long a worker polls before the task defers or is rescheduled, and at the end of a wait that timed out.
FIRST_POLL_SECONDS = 10.0
LAST_POLL_SECONDS = 30.0


class JobList:
    """The wait of one task for many jobs.

    :param task: the sensor or operator
    :param job_ids: the jobs, each once
    :param span: when the wait began and when it ends
    :param margin: how long after its end Airflow itself ends a deferral, in case no triggerer is running
    :param method: the method with which Airflow resumes the task; it passes the event to `resume`
    :param checkpoint_jobs: resume as soon as so many more jobs have ended; None for an hour's worth
    """

    def __init__(
        self,
        task: WaitingTask,
        context: Context,
        job_ids: Sequence[str],
        span: Span,
        *,
        margin: timedelta,
        method: str = "execute_list_complete",
        fail_fast: bool = False,
        checkpoint_jobs: int | None = None,
        withhold_reasons: bool = False,
    ) -> None:
        self._task = task
        self._context = context
        self._method = method
        self._margin = margin
        self._job_ids = job_ids
        state = ImportState(task.target_state)
        self.records = JobRecords(context or {}, job_ids, state)
        self._plan = ListPlan(
            task.zilliz_conn_id,
            task._target(),
            policy_of(task, state),
            span.started_at,
            span.deadline,
            span.execution_deadline,
            checkpoint_jobs=checkpoint_jobs,
            fail_fast=fail_fast,
            withhold_reasons=withhold_reasons,
            keep_files=has_openlineage(),
        )

    # -- entry points ---------------------------------------------------------------------------------------------

    def wait(self) -> list[dict[str, Any]]:
        """Poll each job once, and then wait as the task says; return the results once all have ended.

        :raises BaseException: Airflow's exception for a deferral, a reschedule, a failure or a timeout
        """
        self.records.load(xcom=False)
        if self._task.deferrable:
            outcome = self._poll(NO_MEMORY, FIRST_POLL_SECONDS)
        elif getattr(self._task, "reschedule", False):
            outcome = self._poll_until_rescheduled()
        else:
            outcome = self._poll(NO_MEMORY, None)
        return self._go_on(outcome)

    def poke(self) -> list[dict[str, Any]] | None:
        """Poll each job once; return the results once all have ended, None before."""
        self.records.load(xcom=False)
        outcome = self._poll(NO_MEMORY, FIRST_POLL_SECONDS)
        self._take(outcome)
        return None if self._has_to_go_on(outcome) else self._finish(outcome)

    def resume(self, event: object) -> list[dict[str, Any]]:
        """Resume after the trigger: record ended jobs, and finish or wait for the others."""
        self.records.load(xcom=True)
        outcome = ListOutcome.from_event(event)
        if outcome is None:
            self._task.log.warning("The trigger's event cannot be read (%r): polling the jobs themselves", event)
            outcome = self._poll(NO_MEMORY, FIRST_POLL_SECONDS)
        elif outcome.ending is not None and outcome.ending.is_timeout:
            # the trigger may have come too late to poll, or may not have reached the server
            self._take(outcome)
            self._poll_last(outcome.memory)
        return self._go_on(outcome)

    def end_of_backstop(self, *, execution_timeout: bool) -> list[dict[str, Any]]:
        """Poll once more after Airflow ended the deferral itself, and finish with the jobs that have ended by then."""
        self.records.load(xcom=True)
        self._poll_last(NO_MEMORY)
        ending = Ending.of_deadline(execution_timeout=execution_timeout)
        text = (
            f"Timed out ({ending.deadline_name}): no triggerer reported before the deadline, so none may be running. "
        )
        return self._go_on(ListOutcome(ending, message=text + self._whole_wait()))

    # -- polling on the worker ------------------------------------------------------------------------------------

    def _poll(self, memory: Memory, within: float | None) -> ListOutcome:
        """Poll until the wait ends, or until each job was polled once; checkpoints are recorded on the way.

        :param within: seconds that polling each once may take; None until the wait ends
        """
        while True:
            wait = self._begin(memory)
            outcome = self._poll_on_worker(wait, within) or wait.pause()
            if within is not None or outcome.ending is not None:
                return outcome
            self._take(outcome)
            memory = outcome.memory

    def _poll_until_rescheduled(self) -> ListOutcome:
        """Poll each job once, and leave the worker; stay if the next process would not know what this one does."""
        records = self.records
        memory, logged = records.load_memory()
        age = time.time() - self._plan.started_at
        if memory is NO_MEMORY and age >= self._task.poke_interval:
            # it would not have been rescheduled if the jobs had not been seen
            memory = Memory({}, {"at": self._plan.started_at})
        while True:
            wait = self._begin(memory, logged)
            outcome = self._poll_on_worker(wait, FIRST_POLL_SECONDS) or wait.pause()
            self._take(outcome)
            if not self._has_to_go_on(outcome):
                return outcome
            delay, memory, logged = wait.delay(time.time()), outcome.memory, wait.last_line
            # servers forget ended jobs, so those that ended long ago must not be polled again and again
            is_safe = not wait.is_in_doubt and (not records.jobs or age < CHECKPOINT_EVERY)
            if records.save_memory(memory, logged) or (not records.outlives_a_process and is_safe):
                self._show()
                raise reschedule_exception()(datetime.now(timezone.utc) + timedelta(seconds=delay))
            time.sleep(delay)
            age = time.time() - self._plan.started_at

    def _poll_last(self, memory: Memory) -> None:
        """Poll once after the deadline: a job that is done by then counts as done."""
        plan, self._plan = self._plan, self._plan.for_last_poll
        try:
            self._take(self._poll(memory, LAST_POLL_SECONDS))
        finally:
            self._plan = plan

    def _begin(self, memory: Memory, logged: tuple[str, float] = ("", 0.0)) -> ListWait:
        tally = Tally.of(self.records.jobs.values())
        plan = replace(self._plan, checkpoint_at=time.time() if self.records.jobs else None)
        return ListWait(plan, self.records.open_ids, time.time(), memory, tally, logged=logged)

    def _poll_on_worker(self, wait: ListWait, within: float | None) -> ListOutcome | None:
        return poll_on_worker(wait, self._task._hook(), self._task.log, within)

    # -- what comes next ------------------------------------------------------------------------------------------

    def _take(self, outcome: ListOutcome) -> None:
        """Record the ended jobs, except those that are recorded: an outcome may be taken again."""
        ended = tuple(job for job in outcome.ended if job.job_id not in self.records.jobs)
        if self._plan.withhold_reasons:
            ended = with_reasons(ended, self._task._hook(), self._task._ids())
        self.records.take(ended, "The trigger's event")
        if ended:
            self.records.save()

    def _has_to_go_on(self, outcome: ListOutcome) -> bool:
        return outcome.jobs_have_ended and bool(self.records.open_ids) and not (self._plan.fail_fast and self._failed())

    def _failed(self) -> list[ImportProgress]:
        return [job for job in self.records.in_order() if job.state is ImportState.FAILED]

    def _go_on(self, outcome: ListOutcome) -> list[dict[str, Any]]:
        self._take(outcome)
        while self._has_to_go_on(outcome):
            if self._task.deferrable:
                self._defer(outcome.memory)
            # not every record could be read again
            outcome = self._poll(outcome.memory, None)
            self._take(outcome)
        return self._finish(outcome)

    def _finish(self, outcome: ListOutcome) -> list[dict[str, Any]]:
        self.records.save()
        self._show()
        results: list[dict[str, Any]] = self._task._finish_list(
            self.records.in_order(), self._error_of(outcome), self._whole_wait(), self._context
        )
        return results

    def _show(self) -> None:
        jobs, open_ids = self.records.in_order(), self.records.open_ids
        write_jobs_progress(self._context or {}, jobs, open_ids, self._plan.started_at)

    def _error_of(self, outcome: ListOutcome) -> BaseException | None:
        failed, plan = self._failed(), self._plan
        if not outcome.jobs_have_ended and self.records.open_ids:
            text = outcome.message
            if failed:
                text += f". {failures(failed, len(self._job_ids), place_of(plan.conn_id, plan.target))}"
            return error_of(Outcome(outcome.ending or Ending.TIMED_OUT, text, facts=dict(outcome.facts)))
        if not failed:
            return None
        text = failures(failed, len(self._job_ids), place_of(plan.conn_id, plan.target))
        cls = ZillizImportFailed if self._task.retry_on_failure else ZillizImportFailedNoRetry
        return cls(f"{text}. {self._whole_wait()}", progress=failed[0], failed=failed)

    def _whole_wait(self) -> str:
        open_ids = self.records.open_ids
        tally = Tally.of(self.records.jobs.values())
        text = progress_of(tally, (), self._plan.policy.target_state.value).text.partition(";")[0]
        done = f"{plural(len(self._job_ids), 'job')}: {text.partition(': ')[2] or 'none has ended'}"
        return f"{done}, {len(open_ids):,} open: {named(open_ids)}" if open_ids else done

    def _defer(self, memory: Memory) -> NoReturn:
        records = self.records
        records.save()  # also if nothing has ended: Airflow logs an error for an XCom that is read and not there
        self._show()
        tally = Tally.of(records.jobs.values())
        method, margin = self._method, self._margin
        defer_for_jobs(self._task, self._plan, records.open_ids, memory, tally, method=method, margin=margin)
