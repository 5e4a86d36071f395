"""Writes the progress of a triggerer's waits in the background: no wait awaits a write or handles its failure."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from airflow_zilliz._progress.setting import PROGRESS_KEY, is_shown
from airflow_zilliz._wait.snapshot import Part, Snapshot
from airflow_zilliz._wait.snapshot_json import snapshot_json
from airflow_zilliz._wait.state_machine import Decision, ImportWait
from airflow_zilliz._wait.write_pacing import WriteQueue

log = logging.getLogger(__name__)


class TaskKey(NamedTuple):
    """The task instance that an XCom belongs to."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, task_instance: Any) -> TaskKey:
        """Return the key of a trigger's task."""
        index = task_instance.map_index
        return cls(task_instance.dag_id, task_instance.run_id, task_instance.task_id, -1 if index is None else index)


Write = Callable[[TaskKey, dict[str, Any]], Awaitable[None]]


class WaitProgress:
    """The progress of one deferred wait."""

    def __init__(self, writer: Writer, key: TaskKey, wait: ImportWait, *, withhold_reasons: bool) -> None:
        self._writer = writer
        self._key = key
        self._withhold_reasons = withhold_reasons
        self._snapshot = Snapshot.begin(wait.job_id, wait.started_at, wait.seen)
        writer.begin(key, self._snapshot)

    def on_step(self, wait: ImportWait, step: Decision) -> None:
        """Offer what a poll has shown; the end of a wait is written by its task."""
        if step.end is not None:
            return
        self._snapshot = self._snapshot.after(step.job, wait.seen)
        self._writer.offer(self._key, self._snapshot.without_reasons() if self._withhold_reasons else self._snapshot)

    def end(self) -> None:
        """Stop writing the progress of this wait."""
        self._writer.end(self._key)


class Writer:
    """Writes the progress of all waits on one loop, one after another."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._queue = WriteQueue[TaskKey]()
        self._writing: asyncio.Task[None] | None = None
        self._has_failed = False

    def begin(self, key: TaskKey, written: Snapshot) -> None:
        """Add a wait, with the snapshot that its worker has written."""
        self._queue.begin(key, written, _now())

    def offer(self, key: TaskKey, snapshot: Snapshot) -> None:
        """Queue a snapshot, to be written when its turn comes."""
        self._queue.offer(key, snapshot, _now())
        if self._writing is None or self._writing.done():
            # in no task's context, so that it writes nothing into a task's log
            self._writing = contextvars.Context().run(asyncio.ensure_future, self._write_all())

    def end(self, key: TaskKey) -> None:
        """Remove a wait."""
        self._queue.end(key)

    async def _write_all(self) -> None:
        while (at := self._queue.next_at()) < math.inf:
            await asyncio.sleep(max(0.0, at - _now()))
            if (found := self._queue.take(_now())) is None:
                continue
            key, snapshot = found
            try:
                # never cancelled: Airflow 3.0 to 3.2 would read its response as that of the next request
                await self._write(key, snapshot_json(snapshot))
            except Exception as err:  # noqa: BLE001 - whatever hides the progress must not end the waits
                self._queue.failed(key, snapshot, _now())
                if not self._has_failed:
                    self._has_failed = True
                    log.info("The progress of an import cannot be written to XCom %s: %s", PROGRESS_KEY, err)
            else:
                self._queue.wrote(key, snapshot, _now())
        self._writing = None  # a finished task would keep the loop alive


def _now() -> float:
    return asyncio.get_running_loop().time()


async def write_by_supervisor(key: TaskKey, value: dict[str, Any]) -> None:
    """Write on Airflow 3, through the triggerer's supervisor: on the loop, since a request from a thread ends 3.1's."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import SetXCom

    message = SetXCom(key=PROGRESS_KEY, value=value, **key._asdict())
    await task_runner.SUPERVISOR_COMMS.asend(message)


async def write_to_database(key: TaskKey, value: dict[str, Any]) -> None:
    """Write on Airflow 2, whose triggerer has access to the database."""
    from airflow.models.xcom import XCom

    await asyncio.to_thread(XCom.set, key=PROGRESS_KEY, value=value, **key._asdict())


_writers: WeakKeyDictionary[asyncio.AbstractEventLoop, Writer] = WeakKeyDictionary()


def wait_progress(task_instance: Any, wait: ImportWait, *, withhold_reasons: bool) -> WaitProgress | None:
    """Return the progress of a deferred wait, None if it is switched off.

    :param task_instance: the trigger's
    :param withhold_reasons: leave out the server's texts, which may contain keys that only the worker knows
    """
    found = _writer_of(task_instance)
    return None if found is None else WaitProgress(*found, wait, withhold_reasons=withhold_reasons)


class JobsProgress:
    """The progress of a deferred wait for many jobs."""

    def __init__(self, writer: Writer, key: TaskKey, started_at: float) -> None:
        self._writer = writer
        self._key = key
        writer.begin(key, Snapshot(Part("jobs"), started_at, parts_are="jobs"))

    def offer(self, snapshot: Snapshot) -> None:
        """Queue a snapshot, to be written when its turn comes."""
        self._writer.offer(self._key, snapshot)

    def end(self) -> None:
        """Stop writing the progress of this wait."""
        self._writer.end(self._key)


def jobs_progress(task_instance: Any, started_at: float) -> JobsProgress | None:
    """Return the progress of a deferred wait for many jobs, None if it is switched off.

    :param task_instance: the trigger's
    :param started_at: when the wait began, epoch seconds
    """
    found = _writer_of(task_instance)
    return None if found is None else JobsProgress(*found, started_at)


def _writer_of(task_instance: Any) -> tuple[Writer, TaskKey] | None:
    if task_instance is None or not is_shown():
        return None
    loop = asyncio.get_running_loop()
    if loop not in _writers:
        _writers[loop] = Writer(_write_of_this_airflow())
    return _writers[loop], TaskKey.of(task_instance)


def _write_of_this_airflow() -> Write:
    from airflow import __version__ as airflow_version

    return write_to_database if airflow_version.startswith("2.") else write_by_supervisor
