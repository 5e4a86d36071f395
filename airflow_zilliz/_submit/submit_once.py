"""Decides, without I/O and without a clock, which requests start an import exactly once.

A server from Milvus 2.6.24 or 3.0.2 on returns the first job for a repeated ``Idempotency-Key`` (wire 1.7). Older ones
and Zilliz Cloud ignore the key, and no response shows which kind a server is. So nothing here relies on the key alone.
These rules must not be relaxed:

* Before a request is sent, the record says that one may have been sent, with the ids in the job list. Only a certain
  refusal restores the record from before; any other response without a job id counts as lost.
* After a request whose outcome is unknown, no other is sent until its job would have appeared in the list, which is
  `Patience.settle` after it was sent, and never after the server may have forgotten ended jobs of its time.
* A job is ours only if it shows exactly the requested paths and was not there before. A job that may or may not be
  ours is reported, and nothing is sent. Only "unknown job" means that a job is gone.
* The record stays after the task has ended, since the task may then fail, be retried or be cleared. Another job is
  started only after a Failed one, or if a user clears a task that failed for a job that the server has forgotten.
* Another import, of other files or with other arguments, replaces one that may have been started only if a user has
  cleared the task since.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from airflow_zilliz._protocol import calls
from airflow_zilliz._protocol.import_request import is_certain_refusal, is_job_limit
from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._submit.idempotency_keys import MAX_KEYS, chained_key
from airflow_zilliz._submit.job_search import Clock, Log, Pause, Search, SearchResult, Wanted, describe, list_jobs
from airflow_zilliz._submit.record import Earlier, Record, TaskTry, earlier_of
from airflow_zilliz._submit.returned_job import Origin, origin_of
from airflow_zilliz._submit.values import Submission, changed, forgotten, loaded_nothing, reused, unknown
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizError,
    ZillizTooManyJobs,
    ZillizUnavailable,
)

#: Between two readings of the list for a request that may yet show its effect, in seconds.
SETTLING_PAUSE = 15.0


@dataclass(frozen=True)
class Remember:
    """Asks the driver of a flow to store a record before it continues."""

    record: Record


#: What a flow yields. A request receives its response, `Clock` the time, the others nothing.
Step = Request | Pause | Clock | Remember | Log


@dataclass(frozen=True)
class Submitted:
    """An import that was started.

    :param record: its record in the store
    """

    job_id: str
    origin: Origin
    record: Record


def submit(submission: Submission, this: TaskTry) -> Generator[Step, Any, Submitted]:
    """Start an import unless it was started already. Errors of a request are thrown in where it was yielded.

    :raises ZillizSubmissionUnknown: it is not known whether there is a job, or a retry is asked for another import;
        a second job could load rows twice
    :raises ZillizIdempotencyKeyReused: the key stands for an import of other files
    :raises ZillizTooManyJobs: the server accepts no more jobs at the moment; nothing was started
    :raises ZillizUnavailable: nothing was started as far as the list shows; a retry checks it again before it sends
    :raises ZillizApiError: the server refused, and nothing was started
    """
    yield from _check_arguments(submission, this)
    record = _record_of(submission, this.record)
    if record is not None and record.job_id is not None:
        outcome = yield from _continue(submission, record, this)
        if isinstance(outcome, Submitted):
            if record.cleared != this.clears:
                yield Remember(replace(record, cleared=this.clears))
            return outcome
        record = outcome
    before = yield from _listed_ids(submission)
    earlier = earlier_of(record, this)
    record = record or Record(submission.key, submission.digest)
    if earlier is not None:
        job_id = yield from _find_earlier(submission, earlier, before)
        if job_id is not None:
            return (yield from _remember_job(record.started(job_id, record.turn, this.clears), Origin.FOUND))
    for turn in count(record.turn):
        now = yield Clock()
        yield Remember(record.before_sending(now, turn, before, this.clears))
        try:
            job_id = yield from calls.create(submission.request(chained_key(submission.key, turn)))
        except (ZillizApiError, ZillizUnavailable) as err:
            if is_certain_refusal(err):
                yield Remember(record)
                raise _refusal(err) from None
            job_id = yield from _find_lost(submission, before, err)
            return (yield from _remember_job(record.started(job_id, turn, this.clears), Origin.STARTED))
        origin = yield from origin_of(submission, job_id, before, earlier, this)
        if origin is not None or turn >= MAX_KEYS:
            return (yield from _remember_job(record.started(job_id, turn, this.clears), origin or Origin.RETURNED))
    raise AssertionError("the chain of keys ends above")


def _check_arguments(submission: Submission, this: TaskTry) -> Generator[Step, Any, None]:
    """Check that a retry is asked for the import that an earlier try may have started.

    Only a user who clears the task can mean another one. The files of both would be loaded twice.

    :raises ZillizSubmissionUnknown: it is asked for another one
    """
    record = this.record
    if record is None or not (record.sending or record.job_id):
        return
    if not this.knows_clears or record.cleared != this.clears:  # a user may mean another import now
        return
    if record.key in (submission.key, submission.former_key) and record.digest in (None, submission.digest):
        return
    if record.job_id is not None:
        job = (yield from describe(submission.target, record.job_id)).job
        if job is not None and loaded_nothing(job):
            return
    raise changed(submission.collection_name, record.job_id)


def _record_of(submission: Submission, record: Record | None) -> Record | None:
    """Return the record of this import, None if there is none.

    Under a user's own key a record of other files counts as well: the server may return their job.
    """
    if record is None or record.key not in (submission.key, submission.former_key):
        return None
    if record.digest is None:
        return replace(record, key=submission.key, digest=submission.digest)
    if record.digest == submission.digest or (submission.is_own_key and record.job_id is not None):
        return record
    return Record(submission.key, submission.digest, record.turn) if submission.is_own_key else None


def _continue(submission: Submission, record: Record, this: TaskTry) -> Generator[Step, Any, Submitted | Record]:
    """Return the recorded job, or the record with which to start another."""
    job_id = str(record.job_id)
    try:
        job = (yield from describe(submission.target, job_id)).job
    except ZillizError:
        job = None
        is_gone = False  # the wait finds out
    else:
        is_gone = job is None
    if record.digest != submission.digest:
        if job is not None and not loaded_nothing(job):
            raise reused(submission, job_id, "this task imported other files with it before")
        return Record(submission.key, submission.digest, record.turn + 1)
    if record.result is not None:
        has_changed = job is None or job.state is not ImportState.COMPLETED
        return Submitted(job_id, Origin.REMEMBERED if has_changed else Origin.RESUMED, record)
    if job is not None and loaded_nothing(job):
        yield Log(logging.INFO, f"Import job {job_id} of an earlier try is Failed ({job.reason}): starting another")
        return record.failed()
    if record.given_up is not None and is_gone:
        if this.clears <= record.given_up:
            raise forgotten(submission.collection_name, job_id)
        yield Log(
            logging.WARNING,
            f"The server has forgotten import job {job_id}, and the task was cleared since: starting another",
        )
        return record.failed()
    return Submitted(job_id, Origin.RESUMED, record)


def _find_earlier(
    submission: Submission, earlier: Earlier, before: frozenset[str] | None
) -> Generator[Step, Any, str | None]:
    """Return the job of an earlier try, None if there is none."""
    may_have = "An earlier try may have started it"
    if before is None:
        raise unknown(submission, f"{may_have}, and the server's job list cannot be used")
    search = Search(_wanted(submission), earlier.known, earlier.since, submission.patience)
    settling = earlier.settling(submission.patience.settle)
    waited = 0.0
    try:
        while True:
            result = yield from search.run()
            if result.job_id is not None or result.in_doubt:
                return _certain(submission, result)
            if waited >= settling:
                break
            seconds = min(SETTLING_PAUSE, settling - waited)
            yield Pause(seconds)
            waited += seconds
    except ZillizUnavailable as err:
        raise _with_text(err, f"{err}. {may_have}; a retry searches for its job again before it sends") from None
    except ZillizApiError as err:
        raise unknown(submission, f"{may_have}, and the list is refused: {err}") from None
    if earlier.is_stale:
        raise unknown(submission, f"{may_have} so long ago that the server may have forgotten its job meanwhile")
    return None


def _find_lost(
    submission: Submission, before: frozenset[str] | None, err: ZillizApiError | ZillizUnavailable
) -> Generator[Step, Any, str]:
    """Return the job of a request whose response is lost."""
    if before is None:
        raise unknown(submission, f"The response was lost ({err}), and the server's job list cannot be used") from err
    search = Search(_wanted(submission), before, None, submission.patience)
    for seconds in submission.patience.pauses:
        yield Pause(seconds)
        try:
            result = yield from search.run()
        except ZillizUnavailable:
            continue  # whatever lost the response may last a while
        except ZillizApiError as refusal:
            raise unknown(submission, f"The response was lost ({err}), and the job list is refused: {refusal}") from err
        if (job_id := _certain(submission, result)) is not None:
            return job_id
    raise ZillizUnavailable(
        f"The response to the import request into collection {submission.collection_name!r} was lost ({err}), and no "
        f"new job is in the job list after {sum(submission.patience.pauses):.0f} s. A retry checks it again "
        "before it sends",
        retry_after=err.retry_after if isinstance(err, ZillizUnavailable) else None,
        code=err.code,
        http_status=err.http_status,
    ) from err


def _remember_job(record: Record, origin: Origin) -> Generator[Step, Any, Submitted]:
    yield Remember(record)
    return Submitted(str(record.job_id), origin, record)


def _listed_ids(submission: Submission) -> Generator[Step, Any, frozenset[str] | None]:
    """Return the ids of the collection's jobs, None if the server's list cannot be used."""
    try:
        jobs = yield from list_jobs(_wanted(submission))
    except ZillizUnavailable as err:
        raise _with_text(err, f"{err}. No import was sent, and a retry is safe") from None
    except ZillizAuthError as err:
        if err.concerns_every_job:
            raise
        return None  # servers before 2025 refuse the list to some who may import
    except ZillizApiError:
        return None
    return frozenset(job.job_id for job in jobs)


def _wanted(submission: Submission) -> Wanted:
    return Wanted(submission.collection_name, submission.target, submission.groups, submission.whole_paths)


def _certain(submission: Submission, result: SearchResult) -> str | None:
    if result.in_doubt:
        raise unknown(submission, result.in_doubt)
    return result.job_id


def _refusal(err: ZillizApiError | ZillizUnavailable) -> ZillizError:
    if is_job_limit(err):
        return ZillizTooManyJobs(str(err), code=err.code, http_status=err.http_status)
    err.args = (f"{err}. The server refused the import, so no job was started and a retry is safe",)
    return err


def _with_text(err: ZillizUnavailable, text: str) -> ZillizUnavailable:
    err.args = (text,)
    return err
