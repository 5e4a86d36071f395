"""The results of many jobs in the forms that cross processes: packed rows in events, dicts in XComs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_zilliz._protocol.job_parsing import parse_job
from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState
from airflow_zilliz._protocol.scrubbing import mask_patterns
from airflow_zilliz._wait.packing import pack, unpack

#: What an event has of a job: the characters of its reason, the failed files, the characters of each file's reason, and
#: the other files.
MAX_REASON, MAX_FAILED_FILES, MAX_FILE_REASON, MAX_FILES = 1_000, 3, 300, 100
#: The states in which an ended job may be stored: no wait ends in another.
ENDED = frozenset(
    (ImportState.COMPLETED, ImportState.FAILED, ImportState.UNCOMMITTED, ImportState.COMMITTING),
)
#: A row's columns, in the API's own words, which `parse_job` reads.
_COLUMNS = (
    "jobId",
    "state",
    "importedRows",
    "totalRows",
    "fileSize",
    "completeTime",
    "createTime",
    "collectionName",
    "reason",
    "details",
)


def slim(job: ImportProgress, *, keep_files: bool) -> ImportProgress:
    """Return an ended job without the fields that are no longer needed, since thousands are kept.

    :param keep_files: whether the names of files that did not fail are needed
    """
    failed = [part for part in job.details if _has_failed(part)]
    others = [part for part in job.details if part.file_name and not _has_failed(part)] if keep_files else []
    details = tuple(replace(part, complete_time=None) for part in (*failed[:MAX_FAILED_FILES], *others[:MAX_FILES]))
    return replace(job, raw={"createTime": job.raw.get("createTime")}, details=details)


def row_of(job: ImportProgress) -> list[Any]:
    """Return an ended job as a row of JSON types that is as short as possible."""
    files: list[Any] = [
        {"fileName": _name(part), "state": ImportState.FAILED.value, "reason": _short(part.reason)}
        if _has_failed(part)
        else _name(part)
        for part in job.details
    ]
    row: list[Any] = [
        job.job_id,
        job.state.value,
        job.imported_rows,
        job.total_rows,
        job.file_size,
        job.complete_time.isoformat() if job.complete_time else None,
        job.create_time.isoformat() if job.create_time else None,
        job.collection_name,
        _short(job.reason, MAX_REASON),
        files or None,
    ]
    return row


def pack_jobs(jobs: Iterable[ImportProgress]) -> str:
    """Return ended jobs as packed text, column by column, which is a sixth shorter."""
    return pack(list(zip(*(row_of(job) for job in jobs), strict=True)))


def unpack_jobs(text: object) -> list[ImportProgress]:
    """Return the jobs in a packed text; unreadable rows are left out."""
    columns = unpack(text)
    if not isinstance(columns, list) or not all(isinstance(column, list) for column in columns):
        return []
    found = map(_job, zip(*columns, strict=False))
    return [job for job in found if job is not None]


def result_of(job: ImportProgress) -> dict[str, Any]:
    """Return a job's result, with its reason if it failed."""
    result = job.result()
    if job.state is ImportState.FAILED:
        result["reason"] = job.reason
    if files := [part.file_name for part in job.details if not _has_failed(part)]:
        result["files"] = files
    return result


def job_of_result(value: object) -> ImportProgress | None:
    """Return the job in a result, None if it is invalid, since a user may have edited it."""
    if not isinstance(value, Mapping) or not isinstance(value.get("job_id"), str):
        return None
    names = {
        "jobId": "job_id",
        "collectionName": "collection_name",
        "state": "state",
        "importedRows": "imported_rows",
        "totalRows": "total_rows",
        "fileSize": "file_size",
        "completeTime": "complete_time",
        "reason": "reason",
    }
    files = value.get("files")
    return _ended({**{wire: value.get(name) for wire, name in names.items()}, "details": _details(files)})


def event_of(jobs: Sequence[ImportProgress]) -> dict[str, Any]:
    """Return an asset event's payload for many jobs: their sums, in the fields of a single job.

    ``collection_name`` is None if they have several, and so is a sum if one of its parts is unknown.
    """
    collections = {job.collection_name for job in jobs}
    ends = [job.complete_time for job in jobs if job.complete_time is not None]
    begins = [job.create_time for job in jobs if job.create_time is not None]
    is_timed = bool(ends) and len(begins) == len(jobs)
    return {
        "jobs": len(jobs),
        "collection_name": collections.pop() if len(collections) == 1 else None,
        "imported_rows": _sum(job.imported_rows for job in jobs),
        "total_rows": _sum(job.total_rows for job in jobs),
        "file_size": _sum(job.file_size for job in jobs),
        "complete_time": max(ends).isoformat() if ends else None,
        "duration": (max(ends) - min(begins)).total_seconds() if is_timed else None,
    }


def _sum(values: Iterable[int | None]) -> int | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None


def _has_failed(part: FileProgress) -> bool:
    return bool(part.reason) or part.state is ImportState.FAILED


def _name(part: FileProgress) -> str | None:
    return part.file_name and _short(mask_patterns(part.file_name))


def _details(files: object) -> list[Any]:
    """Return files as the API would describe them: failed ones with all fields, imported ones with their names only."""
    found = files if isinstance(files, list) else []
    return [{"fileName": one, "state": "Completed"} if isinstance(one, str) else one for one in found]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many jobs have ended, and with how many rows.

    :param rows: imported by those that are not Failed, as far as known
    :param total_rows: of all of them, as far as known
    :param unknown: jobs whose total is not known
    """

    ended: int = 0
    failed: int = 0
    rows: int = 0
    total_rows: int = 0
    unknown: int = 0

    def plus(self, job: ImportProgress) -> Tally:
        """Return the tally with one more job."""
        is_failed = job.state is ImportState.FAILED
        total = job.total_rows if job.total_rows is not None else job.imported_rows
        return Tally(
            self.ended + 1,
            self.failed + is_failed,
            self.rows + (0 if is_failed else job.imported_rows or 0),
            self.total_rows + (total or 0),
            self.unknown + (total is None),
        )

    @classmethod
    def of(cls, jobs: Iterable[ImportProgress]) -> Tally:
        """Return the tally of jobs."""
        tally = cls()
        for job in jobs:
            tally = tally.plus(job)
        return tally

    def as_json(self) -> list[int]:
        """Return the tally for a trigger's arguments."""
        return [self.ended, self.failed, self.rows, self.total_rows, self.unknown]

    @classmethod
    def from_json(cls, value: object) -> Tally:
        """Return the tally in what `as_json` returned; an empty one for anything else."""
        if isinstance(value, (list, tuple)) and len(value) == 5 and all(type(part) is int for part in value):
            return cls(*value)
        return cls()


def _job(row: Sequence[Any]) -> ImportProgress | None:
    if not isinstance(row[0], str):
        return None
    data = dict(zip(_COLUMNS, row, strict=False))
    return _ended({**data, "details": _details(data.get("details"))})


def _ended(data: Mapping[str, Any]) -> ImportProgress | None:
    job = parse_job(data)
    return job if job is not None and job.state in ENDED else None


def _short(text: str | None, limit: int = MAX_FILE_REASON) -> str | None:
    return text if text is None or len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"
