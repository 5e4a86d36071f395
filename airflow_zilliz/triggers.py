"""The triggers: those for one job are here, those for many jobs and for a collection come from `_triggers`.

Airflow stores their class paths, so each must stay importable from here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_zilliz._poller.poller import join, leave
from airflow_zilliz._poller.task_log import log_ignored, log_notes
from airflow_zilliz._progress.triggerer import WaitProgress, wait_progress
from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._triggers import base
from airflow_zilliz._triggers.base import COMMON_ARGUMENTS, WaitTrigger, class_path_of
from airflow_zilliz._triggers.collection import ZillizImportEventTrigger
from airflow_zilliz._triggers.job_list import ZillizImportListTrigger
from airflow_zilliz._triggers.killed_task import abort_after_kill
from airflow_zilliz._wait.checkpoint import Checkpoint
from airflow_zilliz._wait.outcome import Outcome
from airflow_zilliz._wait.packing import pack, unpack
from airflow_zilliz._wait.policy import spread_of
from airflow_zilliz._wait.state_machine import NOT_POLLED, ImportWait
from airflow_zilliz.exceptions import ZillizError

__all__ = [
    "ZillizImportEventTrigger",
    "ZillizImportListTrigger",
    "ZillizImportTrigger",
    "ZillizOwnedImportListTrigger",
    "ZillizOwnedImportTrigger",
    "ZillizPauseTrigger",
]


class ZillizImportTrigger(WaitTrigger):
    """Poll one import job until its wait ends, and fire one event that says how: see `Outcome.as_event`. It only reads.

    All parameters are primitive and none is a secret, since Airflow stores and logs them in plain text. Each except
    the first two has a default, so that waits in flight survive an upgrade. Times are epoch seconds of the wall
    clock, since a trigger moves between machines.

    :param job_id: the job
    :param zilliz_conn_id: Airflow connection, looked up in the triggerer
    :param started_at: when the wait began; None for now
    :param deadline: when it times out; None for never
    :param execution_deadline: when the task's ``execution_timeout`` passes; None for never
    :param seen: the wait's checkpoint as JSON text, see `Checkpoint`; Airflow has stored this name
    :param withhold_reasons: leave a Failed job's reasons out of the event, which Airflow logs as it is: they may
        contain an object storage's keys, which only the worker knows
    :param unknown: arguments of a newer version, which are ignored after a rollback to this one
    """

    def __init__(
        self,
        job_id: str,
        zilliz_conn_id: str,
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
        target_state: str = ImportState.COMPLETED.value,
        poke_interval: float = 30.0,
        poll_failure_tolerance: float = 600.0,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        ignore_errors: bool = False,
        started_at: float | None = None,
        deadline: float | None = None,
        execution_deadline: float | None = None,
        seen: str | None = None,
        stall_warning: float | None = 1800.0,
        withhold_reasons: bool = False,
        **unknown: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow leaves it untyped
        self._unknown = sorted(unknown)
        self.job_id = job_id
        self.zilliz_conn_id = zilliz_conn_id
        self.cluster_id = cluster_id
        self.project_id = project_id
        self.region_id = region_id
        self.db_name = db_name
        self.target_state = target_state
        self.poke_interval = poke_interval
        self.poll_failure_tolerance = poll_failure_tolerance
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.ignore_errors = ignore_errors
        self.started_at = started_at if started_at is not None else time.time()
        self.deadline = deadline
        self.execution_deadline = execution_deadline
        self.seen = seen
        self.stall_warning = stall_warning
        self.withhold_reasons = withhold_reasons

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the constructor's arguments."""
        names = (
            "job_id",
            *COMMON_ARGUMENTS,
            "seen",
            # a triggerer of the version before does not know it, so it is passed only if it matters
            *(("withhold_reasons",) if self.withhold_reasons else ()),
        )
        return class_path_of(self), {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, together with the other waits on the same target, and fire once at the end of the wait."""
        await log_ignored(self.log, self._unknown)
        wait = self._wait()
        progress = wait_progress(getattr(self, "task_instance", None), wait, withhold_reasons=self.withhold_reasons)
        try:
            end = await self._end_of(wait, progress)
        finally:
            if progress is not None:
                progress.end()
        end = end.without_reasons() if self.withhold_reasons else end
        yield TriggerEvent(end.as_event())  # type: ignore[no-untyped-call] # Airflow leaves it untyped

    async def _end_of(self, wait: ImportWait, progress: WaitProgress | None) -> Outcome:
        loop = asyncio.get_running_loop()
        looked_up_after = 0.0
        first_poll = loop.time() + max(wait.delay(wait.now), base.SHORTEST_FIRST_DELAY)
        while True:
            step = NOT_POLLED
            subscription = join(self.zilliz_conn_id, wait, first_poll, looked_up_after)
            try:
                while not step.is_last:
                    await subscription.changes()
                    for step in subscription.take():
                        if progress is not None:
                            progress.on_step(wait, step)
                        if step.notes:
                            await log_notes(self, step)
            except ZillizError as err:
                await asyncio.sleep(first_poll - loop.time())  # an end must not come before
                step = wait.on_error(err, time.time())
                await log_notes(self, step)
            finally:
                leave(subscription)
            if step.end is not None:
                return step.end
            looked_up_after = loop.time()
            await asyncio.sleep(step.delay)

    def _wait(self) -> ImportWait:
        seen = Checkpoint.from_json(self.seen)
        if seen.trouble_since is not None:
            # the time without a triggerer says nothing about the server, so trouble counts from here again
            seen = replace(seen, trouble_since=time.time(), polled_at=None, due=None)
        return ImportWait(
            self.job_id,
            self.zilliz_conn_id,
            self._place(),
            self._wanted(),
            self.started_at,
            time.time(),
            seen,
            deadline=self.deadline,
            execution_deadline=self.execution_deadline,
            spread=spread_of(self.job_id, self.started_at),
        )


class ZillizOwnedImportTrigger(ZillizImportTrigger):
    """Wait for a two-phase job that its task started, and abort it when a user kills or clears the task."""

    async def on_kill(self) -> None:
        """Abort the job, unless its task is still deferred."""
        await abort_after_kill(self, [self.job_id])


class ZillizOwnedImportListTrigger(ZillizImportListTrigger):
    """Wait for two-phase jobs that its task started, and abort them when a user kills or clears the task.

    :param owned_ids: what to abort, packed by `pack`, or as a list: the open jobs, and those that are Uncommitted
    :param arguments: as for `ZillizImportListTrigger`
    """

    def __init__(self, *, owned_ids: str | Sequence[str] = (), **arguments: Any) -> None:
        super().__init__(**arguments)
        self.owned_ids = owned_ids if isinstance(owned_ids, str) else pack(list(owned_ids))

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the constructor's arguments."""
        path, arguments = super().serialize()
        return path, {**arguments, "owned_ids": self.owned_ids}

    async def on_kill(self) -> None:
        """Abort the jobs, unless their task is still deferred."""
        owned = unpack(self.owned_ids)
        if isinstance(owned, list) and owned:
            await abort_after_kill(self, owned)


class ZillizPauseTrigger(BaseTrigger):
    """Fire one event when a worker is to send an import again, for which the server had no room before.

    :param until: epoch seconds
    """

    def __init__(self, until: float, **_: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow leaves it untyped
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores of the trigger."""
        return class_path_of(self), {"until": self.until}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep, and fire."""
        await asyncio.sleep(max(base.SHORTEST_FIRST_DELAY, self.until - time.time()))
        yield TriggerEvent({"until": self.until})  # type: ignore[no-untyped-call] # Airflow leaves it untyped
