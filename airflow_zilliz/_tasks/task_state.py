"""What a task stores for its next process, in the task state store that Airflow has from 3.3 on."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_zilliz._submit.record import Record, TaskTry
from airflow_zilliz._wait.checkpoint import EMPTY_CHECKPOINT, Checkpoint
from airflow_zilliz.exceptions import ZillizUnavailable

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_MEMORY_KEY = "zilliz_import"
_WAIT_KEY = "zilliz_wait"

log = logging.getLogger(__name__)


class ImportMemory:
    """The record of an import task.

    :param task: the operator, for its retries
    """

    def __init__(self, context: Context, task: Any) -> None:
        self._store: Any = context.get("task_state_store")
        self._is_readable = self._store is not None
        self._record: Record | None = None
        self._task = task
        self._context = context
        try:
            self._record = Record.from_json(self._store.get(_MEMORY_KEY)) if self._store is not None else None
        except Exception as err:  # noqa: BLE001 - any failure of a store leaves what is known without it
            self._is_readable = False
            log.warning("The task state store cannot be read: %s", err)

    @property
    def record(self) -> Record | None:
        """The stored record."""
        return self._record

    def this_try(self) -> TaskTry:
        """Return what Airflow knows of this try."""
        return task_try(self._context, self._task, self._record, remembers=self._is_readable)

    def write(self, record: Record) -> None:
        """Store a record.

        :raises ZillizUnavailable: a record that a retry needs cannot be stored, so that nothing may be sent
        """
        self._record = record
        if self._store is None:
            return
        try:
            self._store.set(_MEMORY_KEY, record.as_json())
        except Exception as err:
            if record.sending:
                raise ZillizUnavailable(
                    f"The task state store cannot be written ({err}), so no import was sent, and a retry is safe",
                    was_sent=False,
                ) from err
            # a retry finds the job by the record from before
            log.warning("The task state store cannot be written: %s", err)

    def completed(self, job_id: str, result: dict[str, Any]) -> None:
        """Record that the job was seen Completed."""
        if self._record is not None and self._record.job_id == job_id:
            self.write(replace(self._record, result=result))

    def failed(self, job_id: str) -> None:
        """Record that the job is Failed."""
        if self._record is not None and self._record.job_id == job_id:
            self.write(self._record.failed())

    def given_up(self, job_id: str) -> None:
        """Record that the server has forgotten the job, so that clearing the task starts another."""
        if self._record is not None and self._record.job_id == job_id and self._record.given_up is None:
            self.write(replace(self._record, given_up=self.this_try().clears))


def task_try(context: Context, task: Any, record: Record | None, *, remembers: bool) -> TaskTry:
    """Return what Airflow knows of a try of an import task.

    :param record: the record of earlier tries
    :param remembers: whether there is a store that can be read
    """
    ti: Any = context["ti"]
    retries = int(getattr(task, "retries", 0) or 0)
    known = clears_of(ti)
    clears = known if known is not None else retries
    return TaskTry(
        now=time.time(),
        record=record,
        remembers=remembers,
        number=ti.try_number,
        clears=clears,
        knows_clears=known is not None,
        was_cleared=clears > retries,
        run_due=_run_due(context),
        least_pause=_least_pause(task),
    )


def clears_of(ti: Any) -> int | None:
    """Return a number that grows whenever a user clears a task instance, None for unknown."""
    max_tries = getattr(ti, "max_tries", None)
    return max_tries if isinstance(max_tries, int) and not isinstance(max_tries, bool) else None


def _run_due(context: Context) -> float | None:
    """Return when the run was due: no try of it can have begun earlier, also if it was cleared since."""
    run: Any = context.get("dag_run")
    for name in ("run_after", "data_interval_end", "logical_date"):
        if isinstance(moment := getattr(run, name, None), datetime):
            return moment.timestamp()
    return None


def _least_pause(task: Any) -> float:
    """Return the least seconds between the end of a try and its retry."""
    spans = (getattr(task, name, None) for name in ("retry_delay", "max_retry_delay"))
    return min((span.total_seconds() for span in spans if isinstance(span, timedelta)), default=0.0)


class StateStore:
    """Airflow 3.3's task state store. Failures are only logged, since a task can do without what it keeps here."""

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")

    @property
    def exists(self) -> bool:
        """Whether this Airflow has one."""
        return self._store is not None

    def get(self, key: str, consequence: str = "") -> Any:
        """Return a value, None if there is none or it cannot be read.

        :param consequence: what the log says follows from a failure
        """
        try:
            return self._store.get(key) if self._store is not None else None
        except Exception as err:  # noqa: BLE001 - any failure of a store leaves what is known without it
            log.warning("The task state store cannot be read%s: %s", consequence, err)
            return None

    def set(self, key: str, value: Any) -> bool:
        """Return whether a value was stored."""
        if self._store is None:
            return False
        try:
            self._store.set(key, value)
        except Exception as err:  # noqa: BLE001 - any failure of a store must not fail the wait
            log.warning("The task state store cannot be written: %s", err)
            return False
        return True


class WaitMemory:
    """What a rescheduled sensor remembers between polls; before Airflow 3.3 it remembers nothing."""

    def __init__(self, context: Context) -> None:
        self._store = StateStore(context)
        # the store outlives a try, but a wait does not
        self._try_number = getattr(context.get("ti"), "try_number", None)

    def load(self) -> Checkpoint:
        """Return the checkpoint of the last poll, an empty one if it cannot be read."""
        kept = self._store.get(_WAIT_KEY, ", so this poll starts without earlier state")
        if not isinstance(kept, Mapping) or kept.get("try_number") != self._try_number:
            return EMPTY_CHECKPOINT
        return Checkpoint.from_json(kept.get("seen"))

    def save(self, seen: Checkpoint) -> bool:
        """Return whether the checkpoint was stored."""
        return self._store.set(_WAIT_KEY, {"try_number": self._try_number, "seen": seen.as_json()})
