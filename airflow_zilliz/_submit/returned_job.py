"""Whether the job that a server returned for an idempotency key is the requested import. No I/O.

A server that honours keys returns the first job of a key for 24 hours, a Failed one too, and does not compare what is
to be imported (wire 1.7).
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from enum import Enum, auto
from typing import Any

from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._submit.file_matching import Match
from airflow_zilliz._submit.job_search import Clock, Described, Log, Pause, age_of, describe
from airflow_zilliz._submit.record import CLOCK_SKEW, Earlier, TaskTry
from airflow_zilliz._submit.values import Submission, loaded_nothing, reused, unknown
from airflow_zilliz.exceptions import ZillizError


class Origin(Enum):
    """Where the job of an import comes from."""

    STARTED = auto()  # started by this try
    RESUMED = auto()  # recorded by an earlier try
    FOUND = auto()  # found in the job list
    RETURNED = auto()  # returned by the server for the same key
    REMEMBERED = auto()  # Completed before, whatever the server says now


def origin_of(
    submission: Submission, job_id: str, before: frozenset[str] | None, earlier: Earlier | None, this: TaskTry
) -> Generator[Any, Any, Origin | None]:
    """Return the origin of a job that the server returned, None if another job has to be started.

    A server that honours keys returns a Failed job too, for as long as it remembers the key.
    """
    was_listed = None if before is None else job_id in before
    if submission.is_own_key:
        return (yield from _origin_by_files(submission, job_id, was_listed))
    if was_listed is False:
        return Origin.STARTED
    if was_listed and earlier is None and this.remembers:
        # this try has recorded that it sends, and sent once
        yield _of_earlier_run(job_id)
        return None
    try:
        described = yield from describe(submission.target, job_id)
    except ZillizError:
        if was_listed and earlier is None:
            raise unknown(submission, f"The server returned job {job_id}, which was there before") from None
        return Origin.RETURNED if was_listed else Origin.STARTED
    job = described.job
    if job is None:
        return Origin.STARTED  # the wait finds out whether it is a new one that is not shown yet
    if loaded_nothing(job):
        return None
    if earlier is not None:
        return Origin.RETURNED
    return (yield from _origin_by_age(submission, described, job, was_listed, this))


def _origin_by_age(
    submission: Submission, described: Described, job: ImportProgress, was_listed: bool | None, this: TaskTry
) -> Generator[Any, Any, Origin | None]:
    """Distinguish a job of this try from one of an earlier run with the same run id, if no other try has sent anything.

    Before Airflow 3.3, a scheduler that lost sight of this try may run it a second time.
    """
    now = yield Clock()
    age = age_of(job, described.server_time, now)
    if age is None and was_listed is None and not job.state.is_final:
        return Origin.STARTED
    if age is None and not this.remembers:
        raise unknown(
            submission, f"The server returned job {job.job_id}, which may belong to an earlier run with the same run id"
        )
    if age is not None and age <= now - this.now + CLOCK_SKEW:
        return Origin.RETURNED if was_listed else Origin.STARTED
    yield _of_earlier_run(job.job_id)
    return None


def _of_earlier_run(job_id: str) -> Log:
    return Log(
        logging.INFO,
        f"Job {job_id}, which the server returned, belongs to an earlier run with the same run id: starting another",
    )


def _origin_by_files(
    submission: Submission, job_id: str, was_listed: bool | None
) -> Generator[Any, Any, Origin | None]:
    """Compare a job that the server returned for a user's own key with the request."""
    origin = Origin.RETURNED if was_listed else Origin.STARTED
    error: ZillizError | None = None
    for seconds in (*submission.patience.pauses, None):
        try:
            job = (yield from describe(submission.target, job_id)).job
        except ZillizError as err:
            job, error = None, err
        if job is not None:
            if loaded_nothing(job):
                return None
            match = submission.match(job)
            if match is Match.OTHER:
                raise reused(submission, job_id, "the server returned it, and it is of other files")
            if match is Match.SAME:
                return origin
        if was_listed is False:
            return origin  # its files are compared again when it has ended
        if seconds is None or (job is not None and job.state.is_final):
            break
        yield Pause(seconds)
    what = f"The server returned job {job_id} for idempotency_key {submission.key!r}"
    raise unknown(submission, f"{what}, and it is not known whether it is of these files") from error


def check_key(submission: Submission, job: ImportProgress) -> None:
    """Compare a loaded job's files with the requested ones, for a key that may stand for another import.

    :raises ZillizIdempotencyKeyReused: they are others
    """
    if submission.match(job) is Match.OTHER:
        raise reused(submission, job.job_id, "the server returned it, and it is of other files")
