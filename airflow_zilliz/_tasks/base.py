"""The base of the sensor and the operators: their common arguments, their deferral, and the end of a task.

The wait itself is in `job_wait` for one job and in `job_list` for many, what a task leaves for others in `reports`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._tasks.arguments import normalise_arguments, seconds_of
from airflow_zilliz._tasks.reports import ReportsImports
from airflow_zilliz.exceptions import ZillizConfigError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz._progress.worker import WorkerProgress
    from airflow_zilliz._tasks.job_list import JobList
    from airflow_zilliz._tasks.job_wait import JobWait
    from airflow_zilliz._wait.outcome import Outcome
    from airflow_zilliz._wait.state_machine import ImportWait
    from airflow_zilliz.triggers import ZillizImportTrigger

#: Airflow itself ends a deferral this much after the trigger's own deadline, in case no triggerer is alive.
BACKSTOP_MARGIN = timedelta(minutes=2)
TARGET_STATES = (ImportState.COMPLETED, ImportState.UNCOMMITTED)


class WaitsForImport(ReportsImports):
    """A task that waits for an import job, on its worker or deferred."""

    job_id: Any
    #: whether the wait for many jobs ends at the first Failed one
    fail_fast = False
    poke_interval: float
    timeout: float
    _progress: WorkerProgress | None = None

    def __init__(
        self,
        *,
        zilliz_conn_id: str,
        cluster_id: str | None,
        project_id: str | None,
        region_id: str | None,
        db_name: str | None,
        deferrable: bool,
        poll_failure_tolerance: timedelta | float,
        stall_warning: timedelta | float | None,
        retry_on_failure: bool,
        target_state: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.zilliz_conn_id = zilliz_conn_id
        self.cluster_id = cluster_id
        self.project_id = project_id
        self.region_id = region_id
        self.db_name = db_name
        self.deferrable = deferrable
        self.poll_failure_tolerance = seconds_of("poll_failure_tolerance", poll_failure_tolerance)
        self.stall_warning = None if stall_warning is None else seconds_of("stall_warning", stall_warning)
        self.retry_on_failure = retry_on_failure
        self.target_state = target_state
        self._check_arguments()

    def _check_arguments(self) -> None:
        if self.target_state not in [state.value for state in TARGET_STATES]:
            wanted = " or ".join(repr(state.value) for state in TARGET_STATES)
            raise ValueError(f"target_state must be {wanted}, not {self.target_state!r}")
        self.target_state = ImportState(self.target_state).value
        if self.cluster_id and (self.project_id or self.region_id):
            raise ValueError(
                "cluster_id cannot be given together with project_id or region_id: name a cluster by the first, or a "
                "project database by the other two"
            )

    # -- what subclasses override -------------------------------------------------------------------------------------

    def _policy_options(self) -> dict[str, Any]:
        """Return the `WaitPolicy` options of this kind of task."""
        return {}

    def _trigger_options(self) -> dict[str, Any]:
        """Return the trigger arguments of this kind of task."""
        return {}

    def _trigger_class(self) -> type[ZillizImportTrigger]:
        from airflow_zilliz.triggers import ZillizImportTrigger  # here, since parsing a DAG needs no trigger

        return ZillizImportTrigger

    # -- waits --------------------------------------------------------------------------------------------------------

    def _time_span(self, context: Context) -> tuple[float, float, float | None]:
        """Return when the wait began, when it times out, and when execution_timeout passes while deferred."""
        started_at = time.time()
        execution_deadline = None
        if self.deferrable and self.execution_timeout:
            # Airflow 3 forgets execution_timeout while a task is deferred
            execution_deadline = started_at + self.execution_timeout.total_seconds()
        return started_at, started_at + self.timeout, execution_deadline

    def _job_wait(
        self,
        context: Context,
        started_at: float | None = None,
        deadline: float | None = None,
        execution_deadline: float | None = None,
    ) -> JobWait:
        """Return the wait for the job of a task that was given one.

        :raises ZillizConfigError: there is no job id
        """
        from airflow_zilliz._tasks.job_wait import JobWait  # here, since parsing a DAG needs no polls
        from airflow_zilliz._tasks.waiting_task import Span

        normalise_arguments(self)
        span = Span(time.time() if started_at is None else started_at, deadline, execution_deadline)
        return JobWait(self, context, self._only_job_id(), span, margin=BACKSTOP_MARGIN)

    def _only_job_id(self) -> str:
        if not self.job_id:
            raise ZillizConfigError(
                f"job_id of task {self.task_id!r} is empty: did the task that submits the import return its id?"
            )
        return str(self.job_id)

    def _job_list(
        self,
        context: Context,
        started_at: float | None = None,
        deadline: float | None = None,
        execution_deadline: float | None = None,
    ) -> JobList:
        """Return the wait for the jobs of a task that was given a list."""
        from airflow_zilliz._tasks.job_list import JobList, Span  # here, since parsing a DAG needs no polls

        normalise_arguments(self)
        span = Span(time.time() if started_at is None else started_at, deadline, execution_deadline)
        return JobList(self, context, list(self.job_id), span, margin=BACKSTOP_MARGIN, fail_fast=self.fail_fast)

    # -- what Airflow calls after a deferral --------------------------------------------------------------------------

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; its end is handled here, in the same way on every Airflow."""
        normalise_arguments(self)
        kwargs = next_kwargs or {}
        if next_method != "__fail__":
            return getattr(self, next_method)(context, **kwargs)
        reason = str(getattr(kwargs.get("error"), "value", kwargs.get("error")))
        if "timeout" in reason.lower():
            return self._on_backstop(context)
        self._on_broken_trigger(reason)
        # The sensor base would turn a broken trigger into a skip under soft_fail; poke mode does not, nor does this.
        return BaseOperator.resume_execution(self, next_method, next_kwargs, context)

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        *,
        started_at: float | None = None,
        deadline: float | None = None,
        execution_deadline: float | None = None,
        seen: str | None = None,
        **unknown: Any,
    ) -> Any:
        """Resume after the trigger: finish with its event, or poll if that does not describe the job.

        :param unknown: arguments of a newer version, which are ignored after a rollback to this one
        """
        self._log_ignored(unknown)
        span = (started_at or time.time(), deadline, execution_deadline)
        if isinstance(self.job_id, list):  # it was one job when the task deferred
            return self._job_list(context, *span).wait()
        return self._job_wait(context, *span).resume(event, seen)

    def execute_list_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        *,
        started_at: float | None = None,
        deadline: float | None = None,
        execution_deadline: float | None = None,
        **unknown: Any,
    ) -> Any:
        """Resume after the trigger that waits for many jobs: record those that have ended, and finish or wait on.

        :param unknown: as for `execute_complete`
        """
        self._log_ignored(unknown)
        span = (started_at or time.time(), deadline, execution_deadline)
        if not isinstance(self.job_id, list):  # it was a list when the task deferred
            return self._job_wait(context, *span).wait()
        return self._job_list(context, *span).resume(event)

    def _log_ignored(self, unknown: Mapping[str, Any]) -> None:
        if unknown:
            from airflow_zilliz._wait.texts import IGNORED  # here, since parsing a DAG needs no texts of a wait

            self.log.warning(IGNORED, ", ".join(sorted(unknown)))

    def _on_backstop(self, context: Context) -> Any:
        """Finish after Airflow ended the deferral itself."""
        late = self._ends_by_execution_timeout
        if isinstance(self.job_id, list):
            return self._job_list(context).end_of_backstop(execution_timeout=late)
        return self._job_wait(context).end_of_backstop(execution_timeout=late)

    def _on_broken_trigger(self, reason: str) -> None:
        """Raise a milder exception than Airflow would, if the task asks for that."""

    @property
    def _ends_by_execution_timeout(self) -> bool:
        return self.execution_timeout is not None and self.execution_timeout.total_seconds() < self.timeout

    # -- the end of a task --------------------------------------------------------------------------------------------

    def _start_progress(self, wait: ImportWait, context: Context, *, forgot: bool = False) -> None:
        """Write the wait's progress from here on, if that is switched on."""
        from airflow_zilliz._progress.worker import worker_progress  # here, since parsing a DAG needs no progress

        self._progress = worker_progress(context or {}, wait, forgot=forgot)

    def _finish(self, end: Outcome, context: Context) -> dict[str, Any] | None:
        """Return the result of a job that has reached its target state, and raise for anything else."""
        from airflow_zilliz._tasks.errors import error_of  # here, since parsing a DAG needs no errors

        error = error_of(end, retry_on_failure=self.retry_on_failure)
        job = end.progress or end.listed
        if self._progress is not None:
            self._progress.on_end(end)
        if job is not None:
            self._note_lineage([job], None if error is None else str(error))
        if error is not None:
            raise error
        if job is None:
            return None
        self._add_outlet_extra(job.event(), context)
        return job.result()

    def _finish_list(
        self, jobs: Sequence[ImportProgress], error: BaseException | None, text: str, context: Context
    ) -> Any:
        """Return the results of jobs that have reached their target state, or raise.

        :param text: how many jobs ended in which state, for the log
        """
        from airflow_zilliz._wait.job_results import event_of  # here, since parsing a DAG needs no results

        self._note_lineage(jobs, None)
        if error is not None:
            raise error
        self.log.info("%s", text)
        self._add_outlet_extra(event_of(jobs), context)
        return [job.result() for job in jobs]
