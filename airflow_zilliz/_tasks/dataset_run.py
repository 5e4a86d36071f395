"""Imports a dataset as its ledger says: sends, waits, commits, aborts, and stores the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._submit.ledger import (
    Abort,
    Commit,
    Enter,
    Entry,
    Finish,
    Ledger,
    Pause,
    Phase,
    Send,
    Stage,
    Wait,
)
from airflow_zilliz._submit.record import PATIENCE
from airflow_zilliz._submit.returned_job import Origin
from airflow_zilliz._tasks.dataset_state import DatasetState
from airflow_zilliz._tasks.dataset_wait import DatasetWait
from airflow_zilliz._tasks.errors import error_of, name_import
from airflow_zilliz._tasks.many_requests import send_for_each
from airflow_zilliz._tasks.room_pause import pause, room_pause
from airflow_zilliz._tasks.task_state import task_try
from airflow_zilliz._wait.list_outcome import ListOutcome
from airflow_zilliz._wait.outcome import Ending, Outcome
from airflow_zilliz._wait.texts import plural
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizConfigError,
    ZillizError,
    ZillizSubmissionUnknown,
    ZillizTooManyJobs,
)


class DatasetRun:
    """One stretch of a dataset's import on a worker."""

    def __init__(self, state: DatasetState) -> None:
        self._state = state
        self._waiting = DatasetWait(state)
        self._began = time.time()
        self._has_room = True
        self._aborts_since_now = False

    # -- entry points ---------------------------------------------------------------------------------------------

    def go(self) -> Ledger:
        """Take the ledger's next steps until nothing is left to do in this try.

        :raises BaseException: Airflow's exception for a deferral, a failure or a timeout
        """
        while True:
            self._check_phases()
            step = self._state.ledger.next(self._state.task.max_active_jobs, has_room=self._has_room)
            match step:
                case Send(index):
                    self._send(index)
                case Wait():
                    self._waiting.wait(step)
                    self._has_room = True
                case Pause():
                    self._pause()
                case Enter(phase):
                    self._enter(phase)
                case Commit(indices):
                    self._commit(indices)
                case Abort(indices):
                    self._abort(indices)
                case Finish():
                    return self._state.ledger

    def resume(self, event: object) -> Ledger:
        """Resume after the trigger."""
        outcome = ListOutcome.from_event(event)
        if outcome is None:
            self._state.task.log.warning("The trigger's event cannot be read (%r): polling the jobs themselves", event)
        else:
            ids = self._state.ids(self._state.ledger.at(Stage.RUNNING, Stage.COMMITTED))
            self._waiting.take(outcome, ids, logs_failures=True)
        return self.go()

    def end_of_backstop(self, *, execution_timeout: bool) -> Ledger:
        """Poll once more after Airflow ended the deferral itself.

        :param execution_timeout: whether that was the earlier deadline, instead of the task's own timeout
        """
        step = self._state.ledger.next(self._state.task.max_active_jobs)
        if isinstance(step, Wait):
            self._waiting.poll_last(step.indices)
        if isinstance(self._state.ledger.next(self._state.task.max_active_jobs), Finish):
            return self._state.ledger
        ending = Ending.of_deadline(execution_timeout=execution_timeout)
        text = f"Timed out ({ending.deadline_name}): no triggerer reported before the deadline, so none may be running"
        raise self._state.failure(error_of(Outcome(ending, text)) or AirflowSensorTimeout(text))

    # -- submitting -----------------------------------------------------------------------------------------------

    def _send(self, index: int) -> None:
        task, job = self._state.task, self._state.ledger.jobs[index]
        # earlier tries sent their requests before this process began
        patience = replace(PATIENCE, settle=max(0.0, PATIENCE.settle - (time.time() - self._began)))
        entry = self._state.ledger.entries[index]
        this = task_try(self._state.context, task, entry.record, remembers=self._state.store.outlives_a_try)
        try:
            submission = task._submission_of_job(self._state.plan.sources_of(job), self._state.context, patience)
            submitted = task._hook().submit(submission, this, lambda record: self._state.remember(index, record))
        except ZillizTooManyJobs as err:
            self._has_room = False
            task.log.info("The server runs as many jobs as it may, so job %d is sent later: %s", index + 1, err)
        except ZillizSubmissionUnknown as err:
            self._state.put(index, stage=Stage.IN_DOUBT, reason=str(err))
            task.log.error("Job %d of %d: %s", index + 1, len(self._state.ledger.jobs), err)
        except ZillizError as err:
            name_import(err, task.collection_name, task.zilliz_conn_id)
            raise self._state.failure(err) from None
        else:
            if (other := self._state.ledger.index_of(submitted.job_id, index)) is not None:
                reason = f"the server returned import job {submitted.job_id}, which is job {other + 1} of this task"
                self._state.put(index, stage=Stage.IN_DOUBT, reason=reason)
                return
            is_new = submitted.origin is Origin.STARTED
            self._state.put(index, stage=Stage.RUNNING, record=submitted.record, is_new=is_new)
            where = (submitted.job_id, index + 1, len(self._state.ledger.jobs), plural(len(job.paths), "file"))
            task.log.info("Import job %s (%d of %d, %s): %s", *where, submitted.origin.name.lower())

    def _pause(self) -> None:
        """Pause before sending again a job for which the server had no room."""
        left = (self._state.span.deadline or time.time()) - time.time()
        if left <= 0:
            raise self._state.failure(
                AirflowSensorTimeout(
                    f"Timed out after {self._state.task.timeout:g} s: the server had no room for another job"
                )
            )
        self._has_room = True
        if self._state.task.deferrable:
            self._state.store.before_deferral(self._state.ledger)
        pause(self._state.task, room_pause(self._state.task.poke_interval, left), vars(self._state.span))

    # -- two phases -----------------------------------------------------------------------------------------------

    def _check_phases(self) -> None:
        ledger = self._state.ledger
        if not ledger.is_atomic or ledger.phase is not Phase.LOADING or not (done := ledger.at(Stage.COMPLETED)):
            return
        is_retry = self._state.context["ti"].try_number > 1
        if is_retry and not self._state.store.outlives_a_try and not ledger.starts_jobs:
            # an earlier try without a record may have begun to commit, which means that it had started all jobs
            if not ledger.at(Stage.OPEN):
                self._enter(Phase.COMMITTING)
            return
        raise self._state.failure(
            ZillizConfigError(
                f"atomic=True cannot be guaranteed: {plural(len(done), 'job')} completed before the others were "
                "loaded. Either the server has no two-phase imports and commits by itself, or an earlier try ran "
                "without atomic. Set atomic=False and clear the task to import what is missing"
            )
        )

    def _enter(self, phase: Phase) -> None:
        self._state.enter(phase)
        self._aborts_since_now = phase is Phase.ABORTING

    def _commit(self, indices: Sequence[int]) -> None:
        hook, ids = self._state.task._hook(), self._state.task._ids()
        self._send_each(
            indices, lambda job_id: hook.commit_import(job_id, **ids), "committed", lambda _: {"stage": Stage.COMMITTED}
        )

    def _abort(self, indices: Sequence[int]) -> None:
        def changes(entry: Entry) -> dict[str, Any]:
            record = entry.record.failed() if entry.record is not None else None
            if not self._aborts_since_now:
                return {"stage": Stage.OPEN, "record": record, "reason": None}
            reason, result = "aborted, since other jobs failed", {"job_id": entry.job_id}
            return {"stage": Stage.FAILED, "record": record, "reason": reason, "result": result}

        self._send_each(indices, self._abort_one, "aborted", changes)
        if not self._aborts_since_now:  # an earlier try began to abort, and this one starts again
            self._enter(Phase.LOADING)

    def _abort_one(self, job_id: str) -> None:
        hook, ids = self._state.task._hook(), self._state.task._ids()
        try:
            hook.abort_import(job_id, **ids)
        except ZillizApiError:
            if hook.get_import_progress(job_id, **ids).state is not ImportState.FAILED:
                raise

    def _send_each(
        self,
        indices: Sequence[int],
        send: Callable[[str], None],
        done: str,
        changes: Callable[[Entry], dict[str, Any]],
    ) -> None:
        by_id = {str(self._state.ledger.entries[index].job_id): index for index in indices}

        def send_one(job_id: str) -> None:
            send(job_id)
            self._state.put(by_id[job_id], **changes(self._state.ledger.entries[by_id[job_id]]))

        try:
            send_for_each(list(by_id), send_one, done)
        except ZillizError as err:
            raise self._state.failure(err) from None
