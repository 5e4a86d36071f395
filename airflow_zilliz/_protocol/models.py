"""An import job: its state, its progress and its files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any

from airflow_zilliz._protocol.scrubbing import Scrubber, mask_patterns


class ImportState(str, Enum):
    """State of an import job. A state that this version does not know is ``UNKNOWN``, and counts as running."""

    PENDING = "Pending"
    IMPORTING = "Importing"
    UNCOMMITTED = "Uncommitted"
    COMMITTING = "Committing"
    COMPLETED = "Completed"
    FAILED = "Failed"
    UNKNOWN = "Unknown"

    @property
    def is_final(self) -> bool:
        """Whether the job will not change again."""
        return self in _FINAL

    @classmethod
    def from_word(cls, word: object) -> ImportState:
        """Return the state that a server's word stands for, regardless of case, spaces and underscores."""
        if isinstance(word, str) and (state := _STATES_BY_NAME.get(word)) is not None:
            return state  # nearly always
        return _STATES_BY_WORD.get(_plain(word), cls.UNKNOWN)


def is_cancelled(word: object) -> bool:
    """Whether a server's word means that the job was cancelled, which is a failure without a reason of its own."""
    return _plain(word) in _CANCELLED


def _plain(word: object) -> str:
    return "".join(str(word).lower().replace("_", " ").split())


_FINAL = frozenset((ImportState.COMPLETED, ImportState.FAILED))
_STATES_BY_NAME: dict[str, ImportState] = {state.value: state for state in ImportState}

# Zilliz Cloud's console can cancel a job, which no call of the import API can (wire 1.10, 3.6).
_CANCELLED = ("cancel", "importcancel", "canceled", "cancelled")

# Beside REST v2's own words: the list's InProgress, v1's Import..., the bulk insert's enum, a task's Retry, the
# words of Cloud's jobs of any kind, and the server's internal states, which no release is known to show (wire 1.8 to
# 1.10, 2.1, 2.4, 3.1).
_STATES_BY_WORD: dict[str, ImportState] = {
    state.value.lower(): state for state in ImportState if state is not ImportState.UNKNOWN
} | {
    word: state
    for state, words in {
        ImportState.PENDING: ("importpending",),
        ImportState.IMPORTING: (
            "inprogress",
            "importrunning",
            "importstarted",
            "retry",
            "preimporting",
            "stats",
            "sorting",
            "indexbuilding",
        ),
        ImportState.UNCOMMITTED: ("waitingcommit",),
        ImportState.COMPLETED: ("importcompleted", "successful"),
        ImportState.FAILED: ("importfailed", "importfailedandcleaned", *_CANCELLED),
    }.items()
    for word in words
}


@dataclass(frozen=True)
class FileProgress:
    """One entry of a job's ``details``: a file, or on Milvus a task that may hold several."""

    file_name: str | None
    state: ImportState
    progress: int
    reason: str | None = None
    imported_rows: int | None = None
    total_rows: int | None = None
    file_size: int | None = None
    complete_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """An import job at one moment.

    :param progress: percent, 0 to 100; a Failed job has 0 on Milvus
    :param reason: why the job failed; None when the server gave none, unless its state says that it was cancelled
    :param file_size: bytes
    :param complete_time: aware; None until Completed, and on Failed jobs
    :param raw: the response's ``data``, unparsed
    """

    job_id: str
    state: ImportState
    progress: int = 0
    reason: str | None = None
    collection_name: str | None = None
    imported_rows: int | None = None
    total_rows: int | None = None
    file_size: int | None = None
    complete_time: datetime | None = None
    details: tuple[FileProgress, ...] = ()
    raw: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def state_word(self) -> str:
        """The state; the server's own word for it if this version does not know it."""
        word = self.raw.get("state")
        return str(word)[:100] if self.state is ImportState.UNKNOWN and word else self.state.value

    @property
    def file_reasons(self) -> tuple[tuple[str, str], ...]:
        """Pairs of file name and reason, for each file that failed or has a reason."""
        return tuple(
            (mask_patterns(part.file_name or "(unnamed file)"), part.reason or "no reason given")
            for part in self.details
            if part.reason or part.state is ImportState.FAILED
        )

    def scrubbed(self, scrub: Scrubber) -> ImportProgress:
        """Return the job with reasons that may be shown; file names stay unchanged, since they identify jobs."""
        if self.reason is None and not any(part.reason for part in self.details):
            return self  # nearly always
        details = tuple(replace(part, reason=part.reason and scrub(part.reason)) for part in self.details)
        return replace(self, reason=self.reason and scrub(self.reason), details=details)

    @property
    def create_time(self) -> datetime | None:
        """When the job was created, aware; None on servers before 2025 and in Zilliz Cloud's pages (wire 2.1)."""
        if (word := self.raw.get("createTime")) is None:
            return None
        from airflow_zilliz._protocol.times import time_of  # here, since parsing a DAG reads no job

        return time_of(word)

    @property
    def duration(self) -> float | None:
        """Seconds from the job's creation to its completion, None unless the server sends both."""
        begin, end = self.create_time, self.complete_time
        return (end - begin).total_seconds() if begin is not None and end is not None else None

    def summary(self) -> str:
        """Return the job's state in a few words, such as ``Importing 40 %, 1,200 of 3,000 rows``."""
        text = self.state_word
        if not self.state.is_final:
            text += f" {self.progress} %"
        if self.imported_rows is not None and self.total_rows:
            text += f", {self.imported_rows:,} of {self.total_rows:,} rows"
        elif rows := self.imported_rows or self.total_rows:
            text += f", {rows:,} rows"
        return text

    def result(self) -> dict[str, Any]:
        """Return a finished wait's XCom: JSON types only."""
        return {
            "job_id": self.job_id,
            "collection_name": self.collection_name,
            "state": self.state.value,
            "imported_rows": self.imported_rows,
            "total_rows": self.total_rows,
            "file_size": self.file_size,
            "complete_time": self.complete_time.isoformat() if self.complete_time else None,
        }

    def event(self) -> dict[str, Any]:
        """Return an asset event's payload for a completed job: its result, with ``duration`` (seconds or None)."""
        return {**self.result(), "duration": self.duration}
