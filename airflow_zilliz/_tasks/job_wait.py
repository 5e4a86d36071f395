"""The wait of a task for one job: poll on its worker, defer, resume, finish; `job_list` does that for many jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._tasks.waiting_task import Span, WaitingTask, backstop_of, policy_of, trigger_arguments
from airflow_zilliz._wait.checkpoint import EMPTY_CHECKPOINT, Checkpoint
from airflow_zilliz._wait.outcome import Outcome
from airflow_zilliz._wait.policy import spread_of
from airflow_zilliz._wait.state_machine import Decision, ImportWait
from airflow_zilliz.exceptions import ZillizError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz._progress.worker import WorkerProgress
    from airflow_zilliz.hooks import ZillizHook
    from airflow_zilliz.triggers import ZillizImportTrigger


class TaskOfOneJob(WaitingTask, Protocol):
    """What the wait for one job needs of its task, see `WaitsForImport`."""

    _progress: WorkerProgress | None

    def _start_progress(self, wait: ImportWait, context: Context, *, forgot: bool = False) -> None: ...

    def _trigger_class(self) -> type[ZillizImportTrigger]: ...

    def _trigger_options(self) -> dict[str, Any]: ...

    def _finish(self, end: Outcome, context: Context) -> dict[str, Any] | None: ...


class JobWait:
    """The wait of one task for one job, during one stretch on a worker.

    :param task: the sensor or operator
    :param span: when the wait began and when it ends
    :param margin: how long after its end Airflow itself ends a deferral, in case no triggerer is running
    """

    def __init__(self, task: TaskOfOneJob, context: Context, job_id: str, span: Span, *, margin: timedelta) -> None:
        self._task = task
        self._context = context
        self._job_id = job_id
        self._span = span
        self._margin = margin

    # -- entry points ---------------------------------------------------------------------------------------------

    def wait(
        self,
        seen: Checkpoint = EMPTY_CHECKPOINT,
        before_pause: Callable[[ImportWait, Decision], None] | None = None,
    ) -> dict[str, Any] | None:
        """Poll until the wait ends, or defer after the first poll; return the job's result.

        :param seen: what earlier processes of this wait remember
        :param before_pause: called before each pause; it may release the worker by an exception, as a reschedule does
        :raises BaseException: Airflow's exception for a deferral, a failure or a timeout
        """
        wait = self._begin(seen)
        self._task._start_progress(wait, self._context)
        with self._task._hook() as hook:
            while (step := self._poll(hook, wait)).end is None:
                if before_pause is not None:
                    before_pause(wait, step)
                if self._task.deferrable:
                    self._defer(wait)
                time.sleep(step.delay)
        return self._finish(step.end)

    def poll_once(self) -> Outcome | None:
        """Poll the job once; return the outcome if that ends the wait."""
        wait = self._begin()
        with self._task._hook() as hook:
            return self._poll(hook, wait).end

    def resume(self, event: object, seen: str | None) -> dict[str, Any] | None:
        """Resume after the trigger: finish with its event, or poll if that does not describe the job.

        :param seen: the wait's checkpoint as JSON text; None if Airflow passed nothing but the event
        """
        end = Outcome.from_event(event)
        if end is not None and end.job_id not in (None, self._job_id):
            text = "The task waited for import job %s while it was deferred, and its job_id is %s now: waiting for that"
            self._task.log.warning(text, end.job_id, self._job_id)
            return self.wait()
        wait = self._begin(Checkpoint.from_json(seen), end if end is not None and end.needs_description else None)
        # `airflow dags test` of Airflow 2 passes nothing but the event
        self._task._start_progress(wait, self._context, forgot=seen is None)
        if end is None:
            self._task.log.warning("The trigger's event cannot be read (%r): polling the job itself", event)
        elif end.is_timeout:
            # the trigger may have come too late to poll, or may not have reached the server
            return self._finish(self._last_poll(wait) or end)
        elif not end.needs_description:
            if end.progress is not None:
                self._task.log.info("Import job %s: %s", end.progress.job_id, end.progress.summary())
            return self._finish(end)
        with self._task._hook() as hook:
            while (step := self._poll(hook, wait)).end is None:
                if wait.undescribed is None:
                    self._defer(wait)
                time.sleep(step.delay)
        return self._finish(step.end)

    def end_of_backstop(self, *, execution_timeout: bool) -> dict[str, Any] | None:
        """Poll once more after Airflow ended the deferral itself: the job may have ended, or the error needs its state.

        :param execution_timeout: whether that was the earlier deadline, instead of the wait's own timeout
        """
        wait = self._begin()
        return self._finish(self._last_poll(wait) or wait.on_backstop(execution_timeout=execution_timeout))

    # -- polls ----------------------------------------------------------------------------------------------------

    def _begin(self, seen: Checkpoint = EMPTY_CHECKPOINT, undescribed: Outcome | None = None) -> ImportWait:
        task, span = self._task, self._span
        return ImportWait(
            self._job_id,
            task.zilliz_conn_id,
            task._target(),
            policy_of(task, ImportState(task.target_state)),
            span.started_at,
            time.time(),
            seen,
            undescribed,
            deadline=span.deadline,
            execution_deadline=span.execution_deadline,
            spread=spread_of(self._job_id, span.started_at),
        )

    def _poll(self, hook: ZillizHook, wait: ImportWait) -> Decision:
        """Poll once, or twice if the connection is to be looked up again, and log what the wait says."""
        task = self._task
        while True:
            try:
                progress = hook.get_import_progress(wait.job_id, **task._ids())
            except ZillizError as err:
                step = wait.on_error(err, time.time())
            else:
                step = wait.on_progress(progress, time.time())
            for level, text in step.notes:
                task.log.log(level, "%s", text)
            if step.look_up_connection:
                hook.forget_connection()
            if task._progress is not None:
                task._progress.on_poll(wait, step)
            if not step.look_up_connection or step.delay > 0:
                return step

    def _last_poll(self, wait: ImportWait) -> Outcome | None:
        """Poll once after the deadline, and return the end of a job that is done, which counts as done."""
        with self._task._hook() as hook:
            end = self._poll(hook, wait).end
        return end if end is not None and end.job_has_ended else None

    # -- what comes next ------------------------------------------------------------------------------------------

    def _defer(self, wait: ImportWait) -> NoReturn:
        task, seen = self._task, json.dumps(wait.seen.as_json())
        task.defer(
            trigger=task._trigger_class()(
                job_id=wait.job_id,
                **trigger_arguments(task, wait.policy, self._span),
                seen=seen,
                **task._trigger_options(),
            ),
            method_name="execute_complete",
            kwargs={**vars(self._span), "seen": seen},
            timeout=backstop_of(self._span, self._margin),
        )

    def _finish(self, end: Outcome) -> dict[str, Any] | None:
        return self._task._finish(end, self._context)
