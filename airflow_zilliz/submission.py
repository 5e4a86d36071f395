"""Starting an import once and no more: which requests that takes, decided without I/O and without a clock.

A server from Milvus 2.6.24 or 3.0.2 on gives the first job back for a repeated ``Idempotency-Key`` (wire 1.7). Older
ones and Zilliz Cloud ignore the key, and no answer tells which kind a server is. So nothing here trusts the key alone:
before a request whose twin may have been sent, and after one whose answer was lost, the job list says what there is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import count, islice

from airflow_zilliz import api
from airflow_zilliz.api import Answer, ImportProgress, ImportState, Request, Target
from airflow_zilliz.exceptions import ZillizApiError, ZillizAuthError, ZillizSubmissionUnknown, ZillizUnavailable
from airflow_zilliz.wire import is_idempotency_key

#: How often a list is read, and a job described, before it is taken for said; with the pauses, in seconds, between.
PAUSES = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0)
#: How far apart the clocks of a server and a worker may be, in seconds.
CLOCK_SKEW = 60.0
#: Jobs of a collection that are described in search of one; with more there is no telling.
MAX_CANDIDATES = 20
#: Keys of one chain, each but the last standing for a Failed job.
MAX_KEYS = 50
_LONGEST_KEY = 200


@dataclass(frozen=True)
class Pause:
    """Asks whoever carries a flow to wait, in seconds."""

    seconds: float


@dataclass(frozen=True)
class Earlier:
    """What is known of earlier tries of the same task.

    :param may_have_sent: whether one may have sent its request without learning of the answer
    :param known: the ids that the list had before it sent, None where nobody wrote them down
    :param not_before: epoch seconds before which none of them can have made a job
    """

    may_have_sent: bool = False
    known: frozenset[str] | None = None
    not_before: float | None = None


@dataclass(frozen=True)
class Submitted:
    """An import that is on its way.

    :param was_there: whether the job had been started by an earlier try, or for the same key
    """

    job_id: str
    was_there: bool


@dataclass(frozen=True)
class Submission:
    """An import to be started.

    :param request: returns the request for a target and an idempotency key
    :param key: the first of its keys
    :param paths: all files, for telling its job from others of the collection
    :param on_sending: called with the ids that the list has, None for unknown, right before the request is sent
    :param on_refused: called where that request cannot have started anything
    """

    collection_name: str
    target: Target
    request: Callable[[Target, str], Request]
    key: str
    paths: tuple[str, ...]
    earlier: Earlier = Earlier()
    on_sending: Callable[[frozenset[str] | None], None] = lambda _: None
    on_refused: Callable[[], None] = lambda: None

    def key_at(self, turn: int) -> str:
        """Return a key of the chain, counted from 1."""
        return self.key if turn == 1 else f"{self.key}~{turn}"


def key_of(*names: object) -> str:
    """Return an idempotency key made of names; one that no server would take is made of their hash instead."""
    text = "/".join(["airflow", *map(str, names)])
    if is_idempotency_key(text) and len(text) <= _LONGEST_KEY:
        return text
    return "airflow/" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def submit(submission: Submission) -> Generator[Request | Pause, Answer, Submitted]:
    """Start an import unless it is on its way already. Errors of a request are thrown in where it was yielded.

    :raises ZillizSubmissionUnknown: it cannot be told whether there is a job; a retry could load all rows twice
    :raises ZillizUnavailable: nothing was started as far as the list tells; a retry looks there again before it sends
    :raises ZillizApiError: the server refused, and nothing was started
    """
    earlier = submission.earlier
    before = yield from _ids(submission)
    if earlier.may_have_sent:
        if before is None:
            raise _unknown(submission, "An earlier try may have started it, and the server's job list cannot be used")
        try:
            found = yield from _find(submission, earlier.known, earlier.not_before)
        except ZillizApiError as refusal:
            raise _unknown(
                submission, f"An earlier try may have started it, and the list is refused: {refusal}"
            ) from None
        if found is not None:
            return Submitted(found, was_there=True)
    for turn in count(1):
        submission.on_sending(before)
        try:
            job_id = yield from api.create(submission.request(submission.target, submission.key_at(turn)))
        except ZillizUnavailable as err:
            return Submitted((yield from _after_lost_answer(submission, before, err)), was_there=False)
        except ZillizApiError as err:
            submission.on_refused()
            err.args = (f"{err}. The server refused the import, so no job was started and a retry is safe",)
            raise
        if turn == MAX_KEYS or not (job_id in before if before is not None else earlier.may_have_sent):
            return Submitted(job_id, was_there=False)
        # such a server gives a Failed job back too, for as long as it remembers the key
        job = yield from _describe(submission, job_id)
        if job is None or job.state is not ImportState.FAILED:
            return Submitted(job_id, was_there=True)
    raise AssertionError("the chain of keys ends above")


def _after_lost_answer(
    submission: Submission, before: frozenset[str] | None, err: ZillizUnavailable
) -> Generator[Request | Pause, Answer, str]:
    if err.was_not_taken:
        submission.on_refused()
        raise _with_text(err, f"{err}. No job was started, and a retry is safe")
    if before is None:
        raise _unknown(submission, f"The answer was lost ({err}), and the server's job list cannot be used") from err
    for seconds in PAUSES:
        yield Pause(seconds)
        try:
            found = yield from _find(submission, before, None)
        except ZillizUnavailable:
            continue  # whatever cost the answer may last a while
        except ZillizApiError as refusal:
            raise _unknown(submission, f"The answer was lost ({err}), and the job list is refused: {refusal}") from err
        if found is not None:
            return found
    raise _with_text(
        err,
        f"The answer to the import request into collection {submission.collection_name!r} was lost ({err}), and no new "
        f"job is in the job list after {sum(PAUSES):.0f} s. A retry looks there again before it sends",
    )


def _ids(submission: Submission) -> Generator[Request | Pause, Answer, frozenset[str] | None]:
    """Return the ids of the collection's jobs, None where the server's list is of no use."""
    try:
        jobs = yield from _jobs(submission)
    except ZillizUnavailable as err:
        raise _with_text(err, f"{err}. No import was sent, and a retry is safe") from None
    except ZillizAuthError:
        raise  # whoever may not list may not import either
    except ZillizApiError:
        return None
    return frozenset(job.job_id for job in jobs)


def _find(
    submission: Submission, known: frozenset[str] | None, not_before: float | None
) -> Generator[Request | Pause, Answer, str | None]:
    """Return the job in the list that is this import, None for none.

    :raises ZillizSubmissionUnknown: there are jobs that may or may not be it
    """
    jobs = yield from _jobs(submission)
    candidates = [job for job in jobs if job.job_id not in (known or ()) and job.state is not ImportState.FAILED]
    if len(candidates) > MAX_CANDIDATES:
        raise _unknown(submission, f"The server lists {len(candidates)} jobs of the collection that may be it")
    sure: list[ImportProgress] = []
    unsure: list[ImportProgress] = []
    for job in candidates:
        verdict = yield from _is_ours(submission, job.job_id, known is not None, not_before)
        if verdict is not False:
            (sure if verdict else unsure).append(job)
    if not sure and not unsure:
        return None
    if len(sure) == 1 and not unsure:
        return sure[0].job_id
    told = ", ".join(f"{job.job_id} ({job.state_word})" for job in [*sure, *unsure])
    raise _unknown(submission, f"The server lists jobs of the collection that may be it: {told}")


def _is_ours(
    submission: Submission, job_id: str, is_new: bool, not_before: float | None
) -> Generator[Request | Pause, Answer, bool | None]:
    """Say whether a job is this import, None for unknown; its files are shown once it has begun to read them."""
    for seconds in (*PAUSES, None):
        job = yield from _describe(submission, job_id)
        if job is None or job.state is ImportState.FAILED:
            return False
        created = job.create_time
        if created is not None and not_before is not None and created.timestamp() < not_before - CLOCK_SKEW:
            return False
        names = " ".join(part.file_name or "" for part in job.details)
        if names.strip():
            same = _shows(names, submission.paths)
            return same if same is not True or is_new or (created is not None and not_before is not None) else None
        if job.state.is_final or seconds is None:
            break
        yield Pause(seconds)
    return None


def _shows(names: str, paths: tuple[str, ...]) -> bool | None:
    """Say whether the file names that a job shows are those of the paths, None for some of them.

    Milvus shows a list of paths as text, Zilliz Cloud a name without its folders (wire 2.2).
    """
    shown = {word.rsplit("/", 1)[-1] for word in re.split(r"[\s\[\]\",]+", names) if word}
    asked = {path.rstrip("/").rsplit("/", 1)[-1] for path in paths}
    if shown == asked:
        return True
    return None if shown & asked or any(path.endswith("/") for path in paths) else False


def _jobs(submission: Submission) -> Generator[Request, Answer, list[ImportProgress]]:
    jobs: list[ImportProgress] = []
    walk = api.walk_list(submission.target, collection_name=submission.collection_name)
    item = next(walk, None)
    while item is not None:
        if isinstance(item, Request):
            answer = yield item
            try:
                item = walk.send(answer)
            except StopIteration:
                break
        else:
            jobs.append(item)
            item = next(walk, None)
    name = submission.collection_name
    # Zilliz Cloud does not document the filter, so it may send all
    return [job for job in jobs if job.collection_name in (None, name)]


def _describe(submission: Submission, job_id: str) -> Generator[Request, Answer, ImportProgress | None]:
    """Return a job, None for one that the server has forgotten meanwhile."""
    try:
        return (yield from api.describe(job_id, submission.target))[0]
    except ZillizApiError:
        return None


def _unknown(submission: Submission, what: str) -> ZillizSubmissionUnknown:
    files = ", ".join(islice(submission.paths, 5)) + (", ..." if len(submission.paths) > 5 else "")
    return ZillizSubmissionUnknown(
        f"It cannot be told whether the import into collection {submission.collection_name!r} has been started. "
        f"{what}. The task is not retried, since a second job would load every row again. Look whether a job of the "
        f"files {files} is there: if so, wait for it with ZillizImportSensor(job_id=...); if not, run the task again "
        "with another idempotency_key"
    )


def _with_text(err: ZillizUnavailable, text: str) -> ZillizUnavailable:
    err.args = (text,)
    return err
