"""Aborts the jobs of a deferred task that a user killed or cleared. Airflow reports that to triggers from 3.3 on.

Airflow 3.3.2 does so also where a trigger merely moves to another triggerer (apache/airflow 73454): the task is still
deferred then, and its jobs are left alone.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from airflow_zilliz._poller.poller import endpoint_of_connection
from airflow_zilliz._poller.task_log import log
from airflow_zilliz._protocol import calls
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport.driver import aexchange, run_async
from airflow_zilliz._wait.texts import plural
from airflow_zilliz.exceptions import ZillizError


class OwningTrigger(Protocol):
    """What is needed of a trigger whose task started the jobs."""

    zilliz_conn_id: str

    @property
    def log(self) -> Any:
        """The task's log."""

    @property
    def task_instance(self) -> Any:
        """Airflow's own."""

    def _place(self) -> Target: ...


async def abort_after_kill(trigger: OwningTrigger, job_ids: Sequence[str]) -> None:
    """Abort jobs, unless their task is still deferred or its state is unknown.

    :param job_ids: at least one
    """
    subject = f"Import job {job_ids[0]}" if len(job_ids) == 1 else plural(len(job_ids), "import job")
    if not await _task_was_killed(trigger, subject):
        text = "%s not aborted: the task is still deferred, or its state is unknown"
        await log(trigger.log, logging.INFO, text, subject)
        return
    for job_id in job_ids:
        try:
            endpoint = await endpoint_of_connection(trigger.zilliz_conn_id)
            target = trigger._place().merged(endpoint.target)
            await run_async(calls.abort(job_id, target), functools.partial(aexchange, endpoint))
        except ZillizError as err:
            text = "The task was killed, but import job %s could not be aborted: %s"
            await log(trigger.log, logging.WARNING, text, job_id, err)
        else:
            await log(trigger.log, logging.INFO, "Import job %s was aborted, since its task was killed", job_id)


async def _task_was_killed(trigger: OwningTrigger, subject: str) -> bool:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    ti: Any = trigger.task_instance
    try:
        states = await asyncio.to_thread(
            RuntimeTaskInstance.get_task_states,
            dag_id=ti.dag_id,
            task_ids=[ti.task_id],
            run_ids=[ti.run_id],
            map_index=ti.map_index,
        )
    except Exception as err:  # noqa: BLE001 - whatever hides the state, the jobs are left alone
        await log(trigger.log, logging.WARNING, "%s: whether the task was killed is unknown: %s", subject, err)
        return False
    return was_killed(states, ti.run_id, ti.task_id, ti.map_index)


def was_killed(states: Mapping[str, Mapping[str, Any]], run_id: str, task_id: str, map_index: int) -> bool:
    """Whether a user ended a deferred task, rather than Airflow moving it to another triggerer.

    :param states: the states of the run's tasks, as Airflow's ``get_task_states`` returns them
    """
    found = states.get(run_id, {})
    name = f"{task_id}_{map_index}" if map_index is not None and map_index >= 0 else task_id
    # if the task is not in the result, leave its jobs alone: a user can still abort them
    return name in found and str(found[name]).rsplit(".", 1)[-1].lower() != "deferred"
