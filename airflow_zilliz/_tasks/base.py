"""What the tasks that wait for an import job share: polls on the worker, the deferral, the end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._protocol.target import Target, target_arguments
from airflow_zilliz._tasks.arguments import normalise_arguments
from airflow_zilliz._wait.policy import spread_of
from airflow_zilliz.exceptions import ZillizConfigError, ZillizError
from airflow_zilliz.links import CONSOLE_KEY, HAS_PAGES, LINKS, PROGRESS_LINK_KEY, ZillizProgressLink, console_url_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz._progress.worker import WorkerProgress
    from airflow_zilliz._tasks.job_list import JobList
    from airflow_zilliz._tasks.openlineage import Lineage
    from airflow_zilliz._wait.checkpoint import Checkpoint
    from airflow_zilliz._wait.outcome import Outcome
    from airflow_zilliz._wait.state_machine import Decision, ImportWait
    from airflow_zilliz.hooks import ZillizHook
    from airflow_zilliz.triggers import ZillizImportTrigger

#: Airflow itself ends a deferral this much after the trigger's own deadline, in case no triggerer is alive.
BACKSTOP_MARGIN = timedelta(minutes=2)
TARGET_STATES = (ImportState.COMPLETED, ImportState.UNCOMMITTED)


class WaitsForImport(BaseOperator):
    """A task that waits for an import job, on its worker or deferred."""

    operator_extra_links = LINKS

    job_id: Any
    #: whether the wait for many jobs ends at the first Failed one
    fail_fast = False
    poke_interval: float
    timeout: float
    _lineages: tuple[Lineage, ...] = ()
    _only_hook: ZillizHook | None = None
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

    def _wait(
        self, wait: ImportWait, context: Context, pause: Callable[[ImportWait, Decision], None] | None = None
    ) -> Any:
        """Poll until the wait ends, or defer after the first poll.

        :param pause: what to do between two polls
        """
        self._show(wait, context)
        with self._hook() as hook:
            while True:
                step = self._poll(hook, wait)
                if step.end is not None:
                    return self._finish(step.end, context)
                (pause or self._pause)(wait, step)

    def _show(self, wait: ImportWait, context: Context, *, forgot: bool = False) -> None:
        """Let the wait's progress be shown from here on."""
        from airflow_zilliz._progress.worker import worker_progress  # here, since parsing a DAG needs no progress

        self._progress = worker_progress(context or {}, wait, forgot=forgot)

    def _pause(self, wait: ImportWait, step: Decision) -> None:
        if self.deferrable:
            self._defer(wait)
        time.sleep(step.delay)

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
        from airflow_zilliz._wait.checkpoint import Checkpoint  # here, since parsing a DAG needs no outcome
        from airflow_zilliz._wait.outcome import Outcome

        end = Outcome.from_event(event)
        span = (started_at or time.time(), deadline, execution_deadline)
        forgot = seen is None  # `airflow dags test` of Airflow 2 passes nothing but the event
        if end is None:
            self.log.warning("The trigger's event cannot be read (%r): polling the job itself", event)
        elif end.is_timeout:
            # the trigger may have come too late to poll, or may not have reached the server
            wait = self._begin(*span, seen=Checkpoint.from_json(seen))
            self._show(wait, context, forgot=forgot)
            return self._finish(self._last_poll(wait) or end, context)
        elif not end.needs_description:
            if end.progress is not None:
                self.log.info("Import job %s: %s", end.progress.job_id, end.progress.summary())
            self._show(self._begin(*span, seen=Checkpoint.from_json(seen)), context, forgot=forgot)
            return self._finish(end, context)
        wait = self._begin(*span, seen=Checkpoint.from_json(seen), claimed=end)
        self._show(wait, context, forgot=forgot)
        with self._hook() as hook:
            while (step := self._poll(hook, wait)).end is None:
                if wait.claimed is None:
                    self._defer(wait)
                time.sleep(step.delay)
        return self._finish(step.end, context)

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
        """Take over from the trigger that waits for many jobs: write down what has ended, and finish or go on.

        :param unknown: as for `execute_complete`
        """
        self._log_ignored(unknown)
        return self._job_list(context, started_at or time.time(), deadline, execution_deadline).resume(event)

    def _log_ignored(self, unknown: Mapping[str, Any]) -> None:
        if unknown:
            from airflow_zilliz._wait.texts import IGNORED  # here, since parsing a DAG needs no texts of a wait

            self.log.warning(IGNORED, ", ".join(sorted(unknown)))

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

    def _finish_list(
        self, jobs: Sequence[ImportProgress], error: BaseException | None, text: str, context: Context
    ) -> Any:
        """Return the results of jobs that are as they should be, or raise.

        :param text: how many ended how, for the log
        """
        from airflow_zilliz._wait.job_results import event_of  # here, since parsing a DAG needs no results

        self._note_lineage(jobs, None)
        if error is not None:
            raise error
        self.log.info("%s", text)
        self._tell_outlets(event_of(jobs), context)
        return [job.result() for job in jobs]

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

    def _on_backstop(self, context: Context) -> Any:
        """Finish after Airflow ended the deferral itself."""
        if isinstance(self.job_id, list):
            return self._job_list(context).end_of_backstop(execution_timeout=self._ends_by_execution_timeout)
        return self._finish(self._end_of_backstop(), context)

    def _on_broken_trigger(self, reason: str) -> None:
        """Raise a milder exception than Airflow would, if the task asks for that."""

    def _end_of_backstop(self) -> Outcome:
        """Poll once more, since no trigger did: the job may have ended; otherwise the error needs its last state."""
        wait = self._begin(time.time(), None, None)
        if (end := self._last_poll(wait)) is not None:
            return end
        return wait.on_backstop(execution_timeout=self._ends_by_execution_timeout)

    @property
    def _ends_by_execution_timeout(self) -> bool:
        return self.execution_timeout is not None and self.execution_timeout.total_seconds() < self.timeout

    def _last_poll(self, wait: ImportWait) -> Outcome | None:
        """Poll once after the deadline, and return the end of a job that is done, which counts as done."""
        with self._hook() as hook:
            end = self._poll(hook, wait).end
        return end if end is not None and end.tells_of_the_job else None

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

    def _policy_options(self) -> dict[str, Any]:
        """Return the `WaitPolicy` options of this kind of task."""
        return {}

    def _target(self) -> Target:
        return Target(self.cluster_id or None, self.project_id or None, self.region_id or None, self.db_name or None)

    def _begin(
        self,
        started_at: float,
        deadline: float | None,
        execution_deadline: float | None,
        seen: Checkpoint | None = None,
        claimed: Outcome | None = None,
    ) -> ImportWait:
        from airflow_zilliz._tasks.waiting_task import policy_of
        from airflow_zilliz._wait.checkpoint import EMPTY_CHECKPOINT
        from airflow_zilliz._wait.state_machine import ImportWait  # here, since parsing a DAG needs no state machine

        normalise_arguments(self)
        if not self.job_id:
            raise ZillizConfigError(
                f"job_id of task {self.task_id!r} is empty: did the task that submits the import return its id?"
            )
        job_id = str(self.job_id)
        policy = policy_of(self, ImportState(self.target_state))
        return ImportWait(
            job_id,
            self.zilliz_conn_id,
            self._target(),
            policy,
            started_at,
            time.time(),
            seen or EMPTY_CHECKPOINT,
            claimed,
            deadline=deadline,
            execution_deadline=execution_deadline,
            spread=spread_of(job_id, started_at),
        )

    def _time_span(self, context: Context) -> tuple[float, float, float | None]:
        """Return when the wait began, when it times out, and when execution_timeout passes while deferred."""
        started_at = time.time()
        execution_deadline = None
        if self.deferrable and self.execution_timeout:
            # Airflow 3 forgets execution_timeout while a task is deferred
            execution_deadline = started_at + self.execution_timeout.total_seconds()
        return started_at, started_at + self.timeout, execution_deadline

    def _store_links(self, context: Context) -> None:
        """Store the addresses of the task's buttons, before anything can fail."""
        ti: Any = context.get("ti") if context else None
        if ti is None:  # not in everybody's tests
            return
        if HAS_PAGES:
            ti.xcom_push(key=PROGRESS_LINK_KEY, value=ZillizProgressLink().get_link(self, ti_key=ti))
        try:
            url = console_url_of(self._hook().endpoint())
        except ZillizError:
            return  # the first request says what is wrong with the connection
        # without one, Airflow stores an empty address itself, after an error line about what it did not find
        ti.xcom_push(key=CONSOLE_KEY, value=url or "")

    def _hook(self) -> ZillizHook:
        """Return the hook of this stay on a worker, which looks its connection up once."""
        if self._only_hook is None:
            from airflow_zilliz.hooks import ZillizHook  # here, since parsing a DAG needs no HTTP client

            self._only_hook = ZillizHook(self.zilliz_conn_id)
        return self._only_hook

    def _poll(self, hook: ZillizHook, wait: ImportWait) -> Decision:
        while True:
            try:
                progress = hook.get_import_progress(wait.job_id, **self._ids())
            except ZillizError as err:
                step = wait.on_error(err, time.time())
            else:
                step = wait.on_progress(progress, time.time())
            for level, text in step.notes:
                self.log.log(level, "%s", text)
            if step.look_up_connection:
                hook.forget_connection()
            if self._progress is not None:
                self._progress.on_poll(wait, step)
            if not step.look_up_connection or step.delay > 0:
                return step

    def _ids(self) -> dict[str, Any]:
        return target_arguments(self)

    def _defer(self, wait: ImportWait) -> None:
        policy = wait.policy
        span: dict[str, Any] = {
            "started_at": wait.started_at,
            "deadline": wait.deadline,
            "execution_deadline": wait.execution_deadline,
            "seen": json.dumps(wait.seen.as_json()),
        }
        timeout = None
        if (ends_by := wait.ends_by) is not None:
            timeout = timedelta(seconds=max(0.0, ends_by - time.time())) + BACKSTOP_MARGIN
        self.defer(
            trigger=self._trigger_class()(
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
                **self._trigger_options(),
                **span,
            ),
            method_name="execute_complete",
            kwargs=span,
            timeout=timeout,
        )

    def _trigger_options(self) -> dict[str, Any]:
        """Return the trigger arguments of this kind of task."""
        return {}

    def _trigger_class(self) -> type[ZillizImportTrigger]:
        from airflow_zilliz.triggers import ZillizImportTrigger  # here, since parsing a DAG needs no trigger

        return ZillizImportTrigger

    def _finish(self, end: Outcome, context: Context) -> dict[str, Any] | None:
        """Return the result of a job that is as it should be, and raise for anything else."""
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
        self._tell_outlets(job.event(), context)
        return job.result()

    def _note_lineage(self, jobs: Sequence[ImportProgress], error: str | None) -> None:
        """Store what OpenLineage requests after the task's end, when no connection can be looked up.

        :param error: why the wait for a single job failed; of many, each Failed one has its reason
        """
        from airflow_zilliz._tasks.openlineage import is_told, lineage_of  # here, since parsing a DAG needs none

        if not is_told():
            return
        try:
            endpoint = self._hook().endpoint()
        except ZillizError:
            return
        target = self._target().merged(endpoint.target)
        self._lineages = tuple(
            lineage_of(
                endpoint,
                target,
                job,
                self._paths(),
                error or (job.reason or "no reason" if job.state is ImportState.FAILED else None),
            )
            for job in jobs
        )

    def _paths(self) -> Sequence[str]:
        """Return the files that the task itself imports."""
        return ()

    def get_openlineage_facets_on_complete(self, task_instance: object) -> Any:
        """Return what OpenLineage's listener asks an operator for."""
        from airflow_zilliz._tasks.openlineage import operator_lineage

        return operator_lineage(*self._lineages) if self._lineages else None

    def get_openlineage_facets_on_failure(self, task_instance: object) -> Any:
        """Return the same as on completion; the error is among the facets."""
        return self.get_openlineage_facets_on_complete(task_instance)

    def _tell_outlets(self, event: Mapping[str, Any], context: Context) -> None:
        """Let the event of each asset among the outlets say what was imported."""
        events: Any = context.get("outlet_events")
        for outlet in self.outlets if events is not None else ():
            if getattr(outlet, "uri", None):  # an alias has none, and stands for whatever the task adds to it
                events[outlet].extra.update(event)


def seconds_of(name: str, value: object) -> float:
    """Return an argument's seconds.

    :raises ValueError: it is no time span
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise ValueError(f"{name} must be a timedelta or a number of seconds, and not negative: {value!r}")
    return float(seconds)
