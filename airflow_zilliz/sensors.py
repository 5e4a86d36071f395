"""The sensor that waits for an import job."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_zilliz.api import ImportState, Target
from airflow_zilliz.ending import WaitEnd
from airflow_zilliz.exceptions import ZillizConfigError, ZillizError, ZillizImportFailed
from airflow_zilliz.policy import WaitPolicy, spread_of
from airflow_zilliz.seen import NOTHING_SEEN, Seen
from airflow_zilliz.waiting import ImportWait, Step

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz.hooks import ZillizHook

#: Airflow itself ends a deferral this much after the trigger's own deadline, in case no triggerer is alive.
BACKSTOP_MARGIN = timedelta(minutes=2)
TARGET_STATES = (ImportState.COMPLETED, ImportState.UNCOMMITTED)
_MEMORY_KEY = "zilliz_wait"

log = logging.getLogger(__name__)


class ZillizImportSensor(BaseSensorOperator):
    """Wait until a bulk-import job of Zilliz Cloud or Milvus is Completed; fail with its reason when it is Failed.

    The first look is on the worker, before any deferral. ``return_value`` is a dict of ``job_id``,
    ``collection_name``, ``state``, ``imported_rows``, ``total_rows``, ``file_size`` (bytes) and ``complete_time``.

    :param job_id: the job, as the import call returned it (templated)
    :param zilliz_conn_id: Airflow connection of type ``zilliz`` (templated)
    :param cluster_id: Zilliz Cloud cluster; None as the connection says (templated)
    :param project_id: project of a project database, with ``region_id``; None as the connection says (templated)
    :param region_id: region of a project database; None as the connection says (templated)
    :param db_name: database inside the cluster; None as the connection says (templated)
    :param deferrable: wait in the triggerer and hold no worker; default as ``[operators] default_deferrable``
    :param poke_interval: the longest pause between two looks, seconds or timedelta. A wait younger than ten of
        these looks more often, but for ``mode="reschedule"``
    :param poll_failure_tolerance: how long looks may go without a usable answer before the task fails, seconds or
        timedelta
    :param stall_warning: how long neither state, percentage nor rows may change before the log is warned once, seconds
        or timedelta; None for no warning
    :param retry_on_failure: let Airflow retry the task when the job is Failed; such a job never completes, so this
        is for tasks that are cleared together with the one that submits
    :param target_state: ``"Completed"``, or ``"Uncommitted"`` for the first phase of a two-phase import
    :raises ZillizImportFailed: the job is Failed; not retried unless ``retry_on_failure``
    :raises ZillizAuthError: the key was refused, also after the connection was looked up again
    :raises ZillizJobNotFound: the server does not know the job, a minute or more into the wait
    :raises ZillizUnavailable: no usable answer for ``poll_failure_tolerance``
    :raises AirflowSensorTimeout: nothing final within ``timeout``
    """

    template_fields: Sequence[str] = ("job_id", "zilliz_conn_id", "cluster_id", "project_id", "region_id", "db_name")
    ui_color = "#d3e8ff"

    def __init__(
        self,
        *,
        job_id: str,
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
        target_state: str = ImportState.COMPLETED.value,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.job_id = job_id
        self.zilliz_conn_id = zilliz_conn_id
        self.cluster_id = cluster_id
        self.project_id = project_id
        self.region_id = region_id
        self.db_name = db_name
        self.deferrable = deferrable
        self.poll_failure_tolerance = _seconds("poll_failure_tolerance", poll_failure_tolerance)
        self.stall_warning = None if stall_warning is None else _seconds("stall_warning", stall_warning)
        self.retry_on_failure = retry_on_failure
        self.target_state = target_state
        self._check_arguments()

    def execute(self, context: Context) -> Any:
        """Look once, and then wait as ``deferrable`` and ``mode`` say."""
        memory = _Memory(context or {})
        wait = self._begin(*self._time_span(context), seen=memory.load() if self.reschedule else NOTHING_SEEN)
        with self._hook() as hook:
            while True:
                step = self._look(hook, wait)
                if step.end is not None:
                    return self._finish(step.end)
                if self.deferrable:
                    self._defer(wait)
                # without a memory a rescheduled look could never say how long the trouble has lasted, so it stays
                if self.reschedule and (memory.save(wait.seen) or not wait.in_trouble):
                    raise _reschedule_exception()(_utcnow() + timedelta(seconds=step.delay))
                time.sleep(step.delay)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once; return the result of a job that is done, False while it is not, and raise as `execute` does."""
        wait = self._begin(*self._time_span(context))
        with self._hook() as hook:
            step = self._look(hook, wait)
        return False if step.end is None else PokeReturnValue(is_done=True, xcom_value=self._finish(step.end))

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        *,
        started_at: float | None = None,
        deadline: float | None = None,
        execution_deadline: float | None = None,
        seen: str | None = None,
    ) -> Any:
        """Take over from the trigger: finish with its event, or look again where that does not describe the job."""
        end = WaitEnd.from_event(event)
        if end is None:
            self.log.warning("The trigger's event cannot be read (%r): looking at the job itself", event)
        elif not end.needs_description:
            if end.progress is not None:
                self.log.info("Import job %s: %s", end.progress.job_id, end.progress.summary())
            return self._finish(end)
        span = (started_at or time.time(), deadline, execution_deadline)
        wait = self._begin(*span, seen=Seen.from_json(seen), claimed=end)
        with self._hook() as hook:
            while (step := self._look(hook, wait)).end is None:
                if wait.claimed is None:
                    self._defer(wait)
                time.sleep(step.delay)
        return self._finish(step.end)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; how it ended is translated here alike on every Airflow, soft_fail included."""
        kwargs = next_kwargs or {}
        if next_method != "__fail__":
            return getattr(self, next_method)(context, **kwargs)
        reason = str(getattr(kwargs.get("error"), "value", kwargs.get("error")))
        if "timeout" in reason.lower():
            return self._finish(self._end_of_backstop())
        if self.never_fail:
            raise AirflowSkipException(f"The trigger failed: {reason}")
        # The sensor base would turn a broken trigger into a skip under soft_fail; poke mode does not, nor does this.
        return super(BaseSensorOperator, self).resume_execution(next_method, next_kwargs, context)

    def _end_of_backstop(self) -> WaitEnd:
        """Look once more, since no trigger did: the job may have ended, and else its last state is worth knowing."""
        wait = self._begin(time.time(), None, None)
        with self._hook() as hook:
            end = self._look(hook, wait).end
        if end is not None and end.tells_of_the_job:
            return end
        by_execution = self.execution_timeout is not None and self.execution_timeout.total_seconds() < self.timeout
        return wait.on_backstop(execution_timeout=by_execution)

    def _check_arguments(self) -> None:
        if self.target_state not in [state.value for state in TARGET_STATES]:
            wanted = " or ".join(repr(state.value) for state in TARGET_STATES)
            raise ValueError(f"target_state must be {wanted}, not {self.target_state!r}")
        self.target_state = ImportState(self.target_state).value
        if self.cluster_id and (self.project_id or self.region_id):
            raise ValueError(
                "cluster_id cannot be given together with project_id or region_id: a serving cluster takes the first, "
                "a project database the other two"
            )

    def _target(self) -> Target:
        return Target(self.cluster_id or None, self.project_id or None, self.region_id or None, self.db_name or None)

    def _begin(
        self,
        started_at: float,
        deadline: float | None,
        execution_deadline: float | None,
        seen: Seen = NOTHING_SEEN,
        claimed: WaitEnd | None = None,
    ) -> ImportWait:
        job_id = "" if self.job_id is None else str(self.job_id).strip()
        if job_id in ("", "None"):
            raise ZillizConfigError(
                f"job_id of task {self.task_id!r} is empty: did the task that submits the import return its id?"
            )
        self.job_id = job_id
        policy = WaitPolicy(
            started_at=started_at,
            target_state=ImportState(self.target_state),
            deadline=deadline,
            execution_deadline=execution_deadline,
            poke_interval=self.poke_interval,
            poll_failure_tolerance=self.poll_failure_tolerance,
            stall_warning=self.stall_warning,
            spread=spread_of(job_id, started_at),
            # every look of a rescheduled sensor costs a process, so it keeps to poke_interval
            eager=not self.reschedule or self.deferrable,
            exponential_backoff=self.exponential_backoff,
            max_wait=self.max_wait.total_seconds() if self.max_wait else None,
            ignore_errors=self.silent_fail,
        )
        return ImportWait(job_id, self.zilliz_conn_id, self._target(), policy, time.time(), seen, claimed)

    def _time_span(self, context: Context) -> tuple[float, float, float | None]:
        """Return when the wait began, when it times out, and when execution_timeout passes while deferred."""
        now = time.time()
        started_at = now
        if self.reschedule and not self.deferrable:
            ti = context["ti"]
            first = ti.get_first_reschedule_date(context) if hasattr(ti, "get_first_reschedule_date") else ti.start_date
            started_at = first.timestamp() if isinstance(first, datetime) else now
        execution_deadline = None
        if self.deferrable and self.execution_timeout:
            # Airflow 3 forgets execution_timeout while a task is deferred
            execution_deadline = now + self.execution_timeout.total_seconds()
        return started_at, started_at + self.timeout, execution_deadline

    def _hook(self) -> ZillizHook:
        from airflow_zilliz.hooks import ZillizHook  # here, since parsing a DAG needs no HTTP client

        return ZillizHook(self.zilliz_conn_id)

    def _look(self, hook: ZillizHook, wait: ImportWait) -> Step:
        while True:
            try:
                progress = hook.get_import_progress(wait.job_id, **self._ids())
            except ZillizError as err:
                step = wait.on_error(err, time.time())
            else:
                step = wait.on_progress(progress, time.time())
            for level, text in step.notes:
                self.log.log(level, "%s", text)
            if not step.look_up_connection:
                return step
            hook.forget_connection()

    def _ids(self) -> dict[str, Any]:
        return {
            "cluster_id": self.cluster_id,
            "project_id": self.project_id,
            "region_id": self.region_id,
            "db_name": self.db_name,
        }

    def _defer(self, wait: ImportWait) -> None:
        from airflow_zilliz.triggers import ZillizImportTrigger

        policy = wait.policy
        span: dict[str, Any] = {
            "started_at": policy.started_at,
            "deadline": policy.deadline,
            "execution_deadline": policy.execution_deadline,
            "seen": json.dumps(wait.seen.as_json()),
        }
        ends = [end for end in (policy.deadline, policy.execution_deadline) if end is not None]
        timeout = timedelta(seconds=max(0.0, min(ends) - time.time())) + BACKSTOP_MARGIN if ends else None
        self.defer(
            trigger=ZillizImportTrigger(
                job_id=wait.job_id,
                zilliz_conn_id=self.zilliz_conn_id,
                **self._ids(),
                target_state=policy.target_state.value,
                poke_interval=policy.poke_interval,
                poll_failure_tolerance=policy.poll_failure_tolerance,
                stall_warning=policy.stall_warning,
                exponential_backoff=policy.exponential_backoff,
                max_wait=policy.max_wait,
                ignore_errors=policy.ignore_errors,
                **span,
            ),
            method_name="execute_complete",
            kwargs=span,
            timeout=timeout,
        )

    def _finish(self, end: WaitEnd) -> dict[str, Any] | None:
        error = end.error(retry_on_failure=self.retry_on_failure)
        if error is None:
            job = end.progress or end.listed
            return job.result() if job else None
        skip_softly = self.soft_fail and isinstance(error, (ZillizImportFailed, AirflowSensorTimeout))
        if skip_softly or (self.never_fail and isinstance(error, Exception)):
            raise AirflowSkipException(str(error)) from error
        raise error


class _Memory:
    """What a rescheduled sensor remembers from look to look: Airflow 3.3's task state store, nothing before."""

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        # the store outlives a try, a wait does not
        self._try_number = getattr(context.get("ti"), "try_number", None)

    def load(self) -> Seen:
        try:
            kept = self._store.get(_MEMORY_KEY) if self._store is not None else None
        except Exception as err:  # noqa: BLE001 - any failure of a store must not fail the wait
            log.warning("The task state store cannot be read, so this look remembers none before: %s", err)
            return NOTHING_SEEN
        if not isinstance(kept, Mapping) or kept.get("try_number") != self._try_number:
            return NOTHING_SEEN
        return Seen.from_json(kept.get("seen"))

    def save(self, seen: Seen) -> bool:
        """Return whether the memory is kept."""
        if self._store is None:
            return False
        try:
            self._store.set(_MEMORY_KEY, {"try_number": self._try_number, "seen": seen.as_json()})
        except Exception as err:  # noqa: BLE001 - any failure of a store must not fail the wait
            log.warning("The task state store cannot be written: %s", err)
            return False
        return True


def _seconds(name: str, value: object) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise ValueError(f"{name} must be a timedelta or a number of seconds, and not negative: {value!r}")
    return float(seconds)


def _utcnow() -> datetime:
    return datetime.now(timezone.utc)


def _reschedule_exception() -> type[Exception]:
    # the one exception of Airflow's sensors that common-compat does not bridge
    try:
        from airflow.sdk.exceptions import AirflowRescheduleException
    except ImportError:
        from airflow.exceptions import AirflowRescheduleException
    return AirflowRescheduleException
