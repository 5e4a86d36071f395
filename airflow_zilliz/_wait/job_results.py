"""The ends of many jobs in the shapes in which they cross processes: packed rows for events, results for XComs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_zilliz._protocol.models import ImportProgress, ImportState, parse_job
from airflow_zilliz._protocol.scrubbing import mask_patterns
from airflow_zilliz._wait.packing import pack, unpack

#: What of a reason is kept in an event, and of how many failed files.
MAX_REASON, MAX_FILES, MAX_FILE_REASON = 1_000, 3, 300
#: The states in which a job may be kept: no wait ends in another.
ENDED = frozenset(
    (ImportState.COMPLETED, ImportState.FAILED, ImportState.UNCOMMITTED, ImportState.COMMITTING),
)
#: A row's columns, in the API's own words: `parse_job` reads them back.
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


def row_of(job: ImportProgress) -> list[Any]:
    """Return a job that has ended as a short row of JSON types: nothing of it is longer than it has to be."""
    failed = [
        {"fileName": name and mask_patterns(name), "state": ImportState.FAILED.value, "reason": _short(reason)}
        for name, reason in job.file_reasons[:MAX_FILES]
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
        failed or None,
    ]
    while row[-1] is None:
        row.pop()
    return row


def pack_jobs(jobs: Iterable[ImportProgress]) -> str:
    """Return jobs that have ended as packed text."""
    return pack([row_of(job) for job in jobs])


def unpack_jobs(text: object) -> list[ImportProgress]:
    """Return the jobs behind a packed text; rows that cannot be read are left out."""
    rows = unpack(text)
    found = (_job(row) for row in rows) if isinstance(rows, list) else ()
    return [job for job in found if job is not None]


def result_of(job: ImportProgress) -> dict[str, Any]:
    """Return a job's result, with its reason where it failed."""
    result = job.result()
    if job.state is ImportState.FAILED:
        result["reason"] = job.reason
    return result


def job_of_result(value: object) -> ImportProgress | None:
    """Return the job behind a result, None for what is none: anybody may have edited it."""
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
    return _ended({wire: value.get(name) for wire, name in names.items()})


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
        """Return it for a trigger's arguments."""
        return [self.ended, self.failed, self.rows, self.total_rows, self.unknown]

    @classmethod
    def from_json(cls, value: object) -> Tally:
        """Return what `as_json` returned; anything else counts nothing."""
        if isinstance(value, (list, tuple)) and len(value) == 5 and all(type(part) is int for part in value):
            return cls(*value)
        return cls()


def _job(row: object) -> ImportProgress | None:
    if not isinstance(row, list) or not row or not isinstance(row[0], str):
        return None
    return _ended(dict(zip(_COLUMNS, row, strict=False)))


def _ended(data: Mapping[str, Any]) -> ImportProgress | None:
    job = parse_job(data)
    return job if job is not None and job.state in ENDED else None


def _short(text: str | None, limit: int = MAX_FILE_REASON) -> str | None:
    return text if text is None or len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"
