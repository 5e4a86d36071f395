"""The sensor that waits for an import job."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._tasks.arguments import check_literals, normalise_arguments
from airflow_zilliz._tasks.base import WaitsForImport
from airflow_zilliz.exceptions import ZillizImportFailed

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz._protocol.models import ImportProgress
    from airflow_zilliz._tasks.task_state import WaitMemory
    from airflow_zilliz._wait.outcome import Outcome
    from airflow_zilliz._wait.state_machine import Decision, ImportWait


T = TypeVar("T")


class ZillizImportSensor(WaitsForImport, BaseSensorOperator):
    """Wait until a bulk-import job of Zilliz Cloud or Milvus is Completed; fail with its reason when it is Failed.

    The first poll is on the worker, before any deferral. ``return_value`` is a dict of ``job_id``,
    ``collection_name``, ``state``, ``imported_rows``, ``total_rows``, ``file_size`` (bytes) and ``complete_time``.

    With a list of jobs, one task and one trigger wait for all of them: ``return_value`` is then a list of such dicts,
    in the order of the ids. XCom ``results`` is such a list as well, written while the wait continues; it includes
    Failed jobs, with their ``reason``. An empty list skips the task.

    :param job_id: the job, as the import call returned it, or a list of jobs: ids or dicts with ``job_id``, their JSON
        text, or the output of a mapped task. A repeated id counts once (templated)
    :param zilliz_conn_id: Airflow connection of type ``zilliz`` (templated)
    :param cluster_id: Zilliz Cloud cluster; None as the connection says (templated)
    :param project_id: project of a project database, with ``region_id``; None as the connection says (templated)
    :param region_id: region of a project database; None as the connection says (templated)
    :param db_name: database inside the cluster; None as the connection says (templated)
    :param deferrable: wait in the triggerer and hold no worker; default as ``[operators] default_deferrable``
    :param poke_interval: the longest pause between two polls, seconds or timedelta. A young wait polls more often:
        after 2 s, then after a tenth of its age; not in ``mode="reschedule"``
    :param poll_failure_tolerance: how long polls may go without a usable response before the task fails, seconds or
        timedelta
    :param stall_warning: how long state, percentage and rows may stay unchanged before one warning, seconds or
        timedelta; None for no warning
    :param retry_on_failure: let Airflow retry the task when the job is Failed; such a job never completes, so
        this is for a task that is cleared together with the one that starts the job
    :param fail_fast: of many jobs, fail at the first Failed one, instead of after all have ended
    :param target_state: ``"Completed"``, or ``"Uncommitted"`` for the first phase of a two-phase import
    :raises ZillizImportFailed: the job is Failed, or some of many are (``failed`` holds them); not retried unless
        ``retry_on_failure``
    :raises ZillizAuthError: the key was refused, also after the connection was looked up again
    :raises ZillizJobNotFound: the server does not know the job, a minute or more into the wait
    :raises ZillizUnavailable: no usable response for ``poll_failure_tolerance``
    :raises AirflowSensorTimeout: nothing final within ``timeout``
    """

    template_fields: Sequence[str] = ("job_id", "zilliz_conn_id", "cluster_id", "project_id", "region_id", "db_name")
    ui_color = "#d3e8ff"

    def __init__(
        self,
        *,
        job_id: str | Sequence[Any],
        zilliz_conn_id: str = "zilliz_default",
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = 30,
        poll_failure_tolerance: timedelta | float = timedelta(minutes=10),
        stall_warning: timedelta | float | None = timedelta(minutes=30),
        retry_on_failure: bool = False,
        fail_fast: bool = False,
        target_state: str = ImportState.COMPLETED.value,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            zilliz_conn_id=zilliz_conn_id,
            cluster_id=cluster_id,
            project_id=project_id,
            region_id=region_id,
            db_name=db_name,
            deferrable=deferrable,
            poke_interval=poke_interval,
            poll_failure_tolerance=poll_failure_tolerance,
            stall_warning=stall_warning,
            retry_on_failure=retry_on_failure,
            target_state=target_state,
            **kwargs,
        )
        self.job_id = job_id
        self.fail_fast = fail_fast
        check_literals(self)

    def execute(self, context: Context) -> Any:
        """Poll once, and then wait as ``deferrable`` and ``mode`` say."""
        normalise_arguments(self)
        if isinstance(self.job_id, list):
            self._skip_if_empty()
            self._store_links(context)
            return self._job_list(context, *self._time_span(context)).wait()
        # here, since parsing a DAG needs no memory
        from airflow_zilliz._tasks.task_state import WaitMemory
        from airflow_zilliz._wait.checkpoint import EMPTY_CHECKPOINT, Checkpoint

        memory = WaitMemory(context or {})
        span = self._time_span(context)
        seen = memory.load() if self.reschedule else EMPTY_CHECKPOINT
        if self.reschedule and seen == EMPTY_CHECKPOINT and time.time() - span[0] >= self.poke_interval:
            seen = Checkpoint(at=span[0])  # it would not have been rescheduled if the job had not been seen
        wait = self._job_wait(context, *span)
        self._store_links(context)
        return wait.wait(seen, partial(self._reschedule_if_possible, memory))

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Poll once; return the result of a job that is done, False while it is not, and raise as `execute` does."""
        normalise_arguments(self)
        if isinstance(self.job_id, list):
            self._skip_if_empty()
            results = self._job_list(context, *self._time_span(context)).poke()
            return False if results is None else PokeReturnValue(is_done=True, xcom_value=results)
        end = self._job_wait(context, *self._time_span(context)).poll_once()
        return False if end is None else PokeReturnValue(is_done=True, xcom_value=self._finish(end, context))

    def _on_broken_trigger(self, reason: str) -> None:
        if self.never_fail:
            raise AirflowSkipException(f"The trigger failed: {reason}")

    def _reschedule_if_possible(self, memory: WaitMemory, wait: ImportWait, step: Decision) -> None:
        # without a store, a rescheduled poll would not know how long the trouble has lasted, so it stays
        if not self.deferrable and self.reschedule and (memory.save(wait.seen) or not wait.is_in_doubt):
            from airflow_zilliz._tasks.errors import reschedule_exception  # here, since parsing a DAG needs no errors

            raise reschedule_exception()(datetime.now(timezone.utc) + timedelta(seconds=step.delay))

    def _policy_options(self) -> dict[str, Any]:
        return {
            # every poll of a rescheduled sensor costs a process, so it keeps to poke_interval
            "eager": not self.reschedule or self.deferrable,
            "exponential_backoff": self.exponential_backoff,
            "max_wait": self.max_wait.total_seconds() if self.max_wait else None,
            "ignore_errors": self.silent_fail,
        }

    def _time_span(self, context: Context) -> tuple[float, float, float | None]:
        started_at, deadline, execution_deadline = super()._time_span(context)
        if self.reschedule and not self.deferrable:
            ti = context["ti"]
            first = ti.get_first_reschedule_date(context) if hasattr(ti, "get_first_reschedule_date") else ti.start_date
            if isinstance(first, datetime):
                return first.timestamp(), first.timestamp() + self.timeout, execution_deadline
        return started_at, deadline, execution_deadline

    def _skip_if_empty(self) -> None:
        if not self.job_id:
            raise AirflowSkipException("job_id is an empty list: there is no job to wait for")

    def _finish(self, end: Outcome, context: Context) -> dict[str, Any] | None:
        return self._softly(partial(super()._finish, end, context))

    def _finish_list(
        self, jobs: Sequence[ImportProgress], error: BaseException | None, text: str, context: Context
    ) -> Any:
        return self._softly(partial(super()._finish_list, jobs, error, text, context))

    def _softly(self, finish: Callable[[], T]) -> T:
        """Finish, and skip where Airflow's own options say so."""
        try:
            return finish()
        except Exception as error:
            if self.never_fail or (self.soft_fail and isinstance(error, (ZillizImportFailed, AirflowSensorTimeout))):
                raise AirflowSkipException(str(error)) from error
            raise
