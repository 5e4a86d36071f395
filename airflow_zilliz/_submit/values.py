"""An import to start, and the errors for one that may have been started already. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._protocol.object_path import object_of
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._submit.file_matching import Match, match_files
from airflow_zilliz._submit.record import PATIENCE, Patience
from airflow_zilliz.exceptions import ZillizIdempotencyKeyReused, ZillizSubmissionUnknown


@dataclass(frozen=True)
class Submission:
    """An import to start.

    :param request: returns the request for an idempotency key
    :param key: the first of its keys
    :param digest: of what is imported, see `airflow_zilliz._protocol.import_request.digest_of`
    :param groups: the files, which distinguish its job from others of the collection
    :param whole_paths: whether the server shows exactly the requested paths
    :param is_own_key: whether the key is the user's own, so that it may stand for another import as well
    :param former_key: the key that version 0.1 made for this import
    """

    collection_name: str
    target: Target
    request: Callable[[str], Request]
    key: str
    digest: str
    groups: Sequence[Sequence[str]]
    whole_paths: bool = True
    is_own_key: bool = False
    former_key: str | None = None
    patience: Patience = PATIENCE

    def match(self, job: ImportProgress) -> Match:
        """Compare the files that a job shows with the requested ones."""
        return match_files((part.file_name for part in job.details), self.groups, whole_paths=self.whole_paths)


def loaded_nothing(job: ImportProgress) -> bool:
    """Whether a job is Failed and always was: servers before 2026 turn some from Completed to Failed (wire 3.3)."""
    return job.state is ImportState.FAILED and job.complete_time is None


def unknown(submission: Submission, what: str) -> ZillizSubmissionUnknown:
    """Return the error for an import that may have been started."""
    paths = [object_of(path) for group in submission.groups for path in group]
    files = ", ".join(paths[:5]) + (", ..." if len(paths) > 5 else "")
    return ZillizSubmissionUnknown(
        f"It is not known whether the import into collection {submission.collection_name!r} was started. "
        f"{what}. The task is not retried, since a second job would load every row again. Check whether a job of the "
        f"files {files} exists: if so, wait for it with ZillizImportSensor(job_id=...); if not, run the task again "
        "with another idempotency_key"
    )


def forgotten(collection_name: str, job_id: str) -> ZillizSubmissionUnknown:
    """Return the error for a job that the server no longer knows."""
    return ZillizSubmissionUnknown(
        f"Import job {job_id} into collection {collection_name!r}, which this task started, is unknown to the server: "
        "it ended so long ago that it was forgotten, and it is not known whether it was Completed. The task is not "
        "retried, since a second job would load every row again. Check whether the rows are there: if so, mark the "
        "task as success; if not, clear it (on Airflow before 3.3: with another idempotency_key), and it imports the "
        "files again"
    )


def changed(collection_name: str, job_id: str | None) -> ZillizSubmissionUnknown:
    """Return the error for a retry whose arguments are not those of the import that an earlier try has sent.

    :param job_id: the job of that import, if known
    """
    earlier = f"started import job {job_id}" if job_id else "may have started an import"
    return ZillizSubmissionUnknown(
        f"This task {earlier} before, and what it is to import (into collection {collection_name!r} now) has changed "
        "since: database, collection, partition, files, options or idempotency_key. Nothing was sent now, and the task "
        "is not retried, since files that both imports have would be loaded twice. To import what the arguments say "
        "now, leave out of them what the earlier import has loaded, and clear the task. If nobody changed them, some "
        "template, variable or listing in the DAG file has another value in each try"
    )


def reused(submission: Submission, job_id: str, what: str) -> ZillizIdempotencyKeyReused:
    """Return the error for a key that stands for another import."""
    return ZillizIdempotencyKeyReused(
        f"idempotency_key {submission.key!r} stands for job {job_id} of collection {submission.collection_name!r}: "
        f"{what}. The files of this task were not imported. Give each set of files a key of its own, for instance one "
        "with {{ ds }} or the map index in it, or leave idempotency_key out"
    )
