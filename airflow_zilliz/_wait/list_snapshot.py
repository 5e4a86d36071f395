"""The progress of many jobs as a person sees it: sums, and the jobs that matter most. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._wait.job_results import Tally
from airflow_zilliz._wait.list_progress import NOT_SEEN, ListProgress, progress_of
from airflow_zilliz._wait.snapshot import Part, Snapshot
from airflow_zilliz._wait.snapshot_json import MAX_PARTS
from airflow_zilliz._wait.state_machine import ImportWait
from airflow_zilliz._wait.texts import plural

_FAILED, _COMPLETED = ImportState.FAILED.value, ImportState.COMPLETED.value


def snapshot_of(
    progress: ListProgress,
    ended: Sequence[ImportProgress],
    waits: Iterable[ImportWait],
    started_at: float,
    now: float,
) -> Snapshot:
    """Return the snapshot of many jobs: Failed ones first, then those that run, then the others, as many as are shown.

    :param progress: how far all of them are
    :param ended: the jobs that are known to have ended
    :param waits: those that have not
    :param started_at: when the wait began, with ``now`` in epoch seconds
    """
    parts = tuple(islice(_parts(ended, waits), MAX_PARTS))
    collections = {job.collection_name for job in ended if job.collection_name}
    return Snapshot(
        Part(
            plural(progress.jobs, "job"),
            _state(progress),
            int(progress.part * 100),
            progress.rows,
            progress.total_rows,
            seconds_left=progress.seconds_left,
            seen_at=now,
        ),
        started_at,
        collections.pop() if len(collections) == 1 else None,
        now,
        parts=parts,
        parts_are="jobs",
        counts=progress.states,
    )


def snapshot_of_ended(
    ended: Sequence[ImportProgress], open_ids: Sequence[str], started_at: float, now: float
) -> Snapshot:
    """Return the snapshot of many jobs if it is only known which of them have ended."""
    tally = Tally.of(ended)
    reached = next((job.state.value for job in ended if job.state is not ImportState.FAILED), _COMPLETED)
    found = progress_of(tally, (), reached)
    jobs = len(ended) + len(open_ids)
    states = (*found.states, *(((NOT_SEEN, len(open_ids)),) if open_ids else ()))
    total = None if open_ids else found.total_rows
    progress = ListProgress(jobs, states, len(ended) / max(jobs, 1), found.rows, total)
    return snapshot_of(progress, ended, (), started_at, now)


def _parts(ended: Sequence[ImportProgress], waits: Iterable[ImportWait]) -> Iterator[Part]:
    yield from (_of_job(job) for job in ended if job.state is ImportState.FAILED)
    yield from (_of_wait(wait) for wait in waits)
    yield from (_of_job(job) for job in ended if job.state is not ImportState.FAILED)


def _of_job(job: ImportProgress) -> Part:
    percent = 100 if job.state is ImportState.COMPLETED else None
    return Part(
        job.job_id, job.state.value, percent, job.imported_rows, job.total_rows, job.file_size, reason=job.reason
    )


def _of_wait(wait: ImportWait) -> Part:
    seen = wait.seen
    return Part(wait.job_id, wait.state_word, seen.percent, seen.rows, seen.total_rows, seen_at=seen.at)


def _state(progress: ListProgress) -> str:
    words = [word for word, _ in progress.states]
    if len(words) == 1:
        return words[0]
    return _FAILED if progress.part >= 1 and _FAILED in words else ImportState.IMPORTING.value
