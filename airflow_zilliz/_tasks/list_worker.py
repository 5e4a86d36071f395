"""Polls many jobs on a worker: with the triggerer's code, on its own event loop, so that the modes do not differ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_zilliz._poller.list_poll import ListPoll, LookUp
from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._protocol.scrubbing import Scrubber
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._wait.job_results import slim
from airflow_zilliz._wait.list_notes import Note
from airflow_zilliz._wait.list_outcome import MAX_NAMED, ListOutcome
from airflow_zilliz._wait.list_wait import ListWait
from airflow_zilliz.exceptions import ZillizError
from airflow_zilliz.hooks import ZillizHook


def poll_on_worker(wait: ListWait, hook: ZillizHook, log: Any, within: float | None) -> ListOutcome | None:
    """Poll many jobs until their wait ends or pauses, or each of them once.

    :param hook: looks the connection up outside of the loop, since Airflow's look-up may not work on a worker's loop
    :param log: the task's
    :param within: the seconds that polling each job once may take; None to poll until the wait ends or pauses
    :returns: None if each was polled once and the wait continues
    """
    while True:
        try:
            endpoint = hook.endpoint()
        except ZillizError as err:
            delay = _without_connection(wait, err)
            outcome = wait.outcome(time.time())
            _log(log, wait.take_notes(time.time()))
            if outcome is not None or within is not None:
                return outcome
            time.sleep(delay)
            continue
        try:
            return asyncio.run(_run(wait, endpoint, log, within))
        except LookUp:
            hook.forget_connection()


def with_reasons(
    jobs: Sequence[ImportProgress], hook: ZillizHook, ids: Mapping[str, Any]
) -> tuple[ImportProgress, ...]:
    """Return jobs with the reasons of the first Failed ones, which a trigger withheld, masked by the hook.

    :param ids: where the jobs live, as the hook takes them
    """
    lacking = [job.job_id for job in jobs if job.state is ImportState.FAILED and job.reason is None][:MAX_NAMED]
    described: dict[str, ImportProgress] = {}
    for job_id in lacking:
        try:
            job = hook.get_import_progress(job_id, **ids)
        except ZillizError:
            continue  # that it failed is known
        if job.state is ImportState.FAILED:
            described[job_id] = slim(job.scrubbed(Scrubber(hook.other_secrets)), keep_files=True)
    return tuple(described.get(job.job_id, job) for job in jobs)


async def _run(wait: ListWait, endpoint: Endpoint, log: Any, within: float | None) -> ListOutcome | None:
    async def log_notes(notes: tuple[Note, ...]) -> None:
        _log(log, notes)

    poll = ListPoll(wait, log_notes, endpoint=endpoint)
    return await (poll.run() if within is None else poll.run_once(within))


def _log(log: Any, notes: tuple[Note, ...]) -> None:
    for level, text in notes:
        log.log(level, "%s", text)


def _without_connection(wait: ListWait, error: ZillizError) -> float:
    """Let each job's wait handle that there is no usable connection; return the seconds until the next try."""
    now = time.time()
    found = (wait.on_error(one.job_id, error, now) for one in list(wait.begin()))
    return min((again.delay for again in found if again is not None), default=0.0)
