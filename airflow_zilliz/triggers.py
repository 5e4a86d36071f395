"""The trigger that waits for an import job in the triggerer. It only reads."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_zilliz.api import ImportState, Target
from airflow_zilliz.exceptions import ZillizError
from airflow_zilliz.policy import WaitPolicy, spread_of
from airflow_zilliz.polling import endpoint_of_connection, follow
from airflow_zilliz.seen import Seen
from airflow_zilliz.telling import tell
from airflow_zilliz.waiting import ImportWait, Step

#: Airflow 3.0 to 3.2 fails a task whose trigger fires within a second of its deferral.
SHORTEST_FIRST_DELAY = 2.0

# thousands of waits have the same one
_target = functools.lru_cache(maxsize=128)(Target)


class ZillizImportTrigger(BaseTrigger):
    """Poll one import job until its wait ends, and fire one event that says how: see `WaitEnd.as_event`.

    All parameters are primitive and none is a secret, since Airflow stores and logs them in the clear. Each but
    the first two has a default, so that waits in flight survive an upgrade. Times are epoch seconds of the wall
    clock, for a trigger moves between machines.

    :param job_id: the job
    :param zilliz_conn_id: Airflow connection, looked up in the triggerer
    :param started_at: when the wait began; None for now
    :param deadline: when it times out; None for never
    :param execution_deadline: when the task's ``execution_timeout`` passes; None for never
    :param seen: what the wait remembers of earlier looks, as JSON text, see `Seen`
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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow leaves it untyped
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

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the constructor's arguments."""
        names = (
            "job_id",
            "zilliz_conn_id",
            "cluster_id",
            "project_id",
            "region_id",
            "db_name",
            "target_state",
            "poke_interval",
            "poll_failure_tolerance",
            "exponential_backoff",
            "max_wait",
            "ignore_errors",
            "started_at",
            "deadline",
            "execution_deadline",
            "seen",
            "stall_warning",
        )
        return "airflow_zilliz.triggers.ZillizImportTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, together with the other waits on the same target, and fire once at the end of the wait."""
        wait = self._wait()
        loop = asyncio.get_running_loop()
        looked_up_after = 0.0
        first_look = loop.time() + max(wait.policy.delay(wait.now), SHORTEST_FIRST_DELAY)
        while True:
            try:
                endpoint = await endpoint_of_connection(self.zilliz_conn_id, looked_up_after)
                target = wait.target.merged(endpoint.target)
            except ZillizError as err:
                await asyncio.sleep(first_look - loop.time())  # an end must not come before
                step = wait.on_error(err, time.time())
                await tell(self, step)
            else:
                step = await follow(endpoint, target, wait, first_look - loop.time(), self)
            if step.end is not None:
                yield TriggerEvent(step.end.as_event())  # type: ignore[no-untyped-call] # Airflow leaves it untyped
                return
            looked_up_after = loop.time()
            await asyncio.sleep(step.delay)

    def tell(self, step: Step) -> None:
        """Write what a step says into the task's log."""
        for level, text in step.notes:
            self.log.log(level, "%s", text)

    def _wait(self) -> ImportWait:
        policy = WaitPolicy(
            started_at=self.started_at,
            target_state=ImportState.from_word(self.target_state),
            deadline=self.deadline,
            execution_deadline=self.execution_deadline,
            poke_interval=self.poke_interval,
            poll_failure_tolerance=self.poll_failure_tolerance,
            stall_warning=self.stall_warning,
            exponential_backoff=self.exponential_backoff,
            max_wait=self.max_wait,
            ignore_errors=self.ignore_errors,
            spread=spread_of(self.job_id, self.started_at),
        )
        seen = Seen.from_json(self.seen)
        if seen.trouble_since is not None:
            # how long there was no triggerer says nothing of the server, so trouble is counted anew from here
            seen = replace(seen, trouble_since=None)
        target = _target(self.cluster_id, self.project_id, self.region_id, self.db_name)
        return ImportWait(self.job_id, self.zilliz_conn_id, target, policy, time.time(), seen)
