"""An import job as the server describes it, in every shape that servers or their documentation have used."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
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
        """Return the state that a server's word stands for, regardless of case."""
        if isinstance(word, str) and (state := _STATES_BY_NAME.get(word)) is not None:
            return state  # nearly always
        return _STATES_BY_WORD.get(str(word).strip().lower(), cls.UNKNOWN)


_FINAL = frozenset((ImportState.COMPLETED, ImportState.FAILED))
_STATES_BY_NAME: dict[str, ImportState] = {state.value: state for state in ImportState}

# Beside REST v2's own words: the list's InProgress, v1's Import..., the bulk insert's enum, a task's Retry, and
# the server's internal states, which no release is known to show (wire 1.8, 1.9, 2.1, 2.4, 3.1).
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
        ImportState.COMPLETED: ("importcompleted",),
        ImportState.FAILED: ("importfailed", "importfailedandcleaned"),
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
    :param reason: why the job failed; None when the server gave none
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
        return time_of(self.raw.get("createTime"))

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


def parse_job(data: Mapping[str, Any], job_id: str | None = None) -> ImportProgress | None:
    """Return the job that one ``data`` object or list record describes, or None when it describes none.

    :param data: the object, of today's API, of v1, or of the SDK page's example
    :param job_id: the requested id, for responses that do not repeat it
    """
    found_id = job_id_of(data) or job_id
    state = _state(data)
    if found_id is None or state is None:
        return None
    details = data.get("details")
    return ImportProgress(
        job_id=found_id,
        state=state,
        progress=_percent(data, state),
        reason=_reason(data),
        collection_name=_text(data.get("collectionName")),
        imported_rows=_count(_first(data, "importedRows", "importRows")),
        total_rows=_count(data.get("totalRows")),
        file_size=_count(data.get("fileSize")),
        complete_time=time_of(data.get("completeTime")),
        details=tuple(_file(part) for part in details if isinstance(part, Mapping))
        if isinstance(details, list)
        else (),
        raw=dict(data),
    )


def job_id_of(data: Mapping[str, Any]) -> str | None:
    """Return the id of the job that an object or record describes."""
    value = data.get("jobId")
    if isinstance(value, str) and value.isascii() and value.isprintable() and (value := value.strip()):
        return value  # nearly always, and needed for each record of each page of a list
    return _text(_first(data, "jobId", "jobID"))


def _file(data: Mapping[str, Any]) -> FileProgress:
    state = _state(data) or ImportState.UNKNOWN
    return FileProgress(
        file_name=_text(data.get("fileName")),
        state=state,
        progress=_percent(data, state),
        reason=_reason(data),
        imported_rows=_count(_first(data, "importedRows", "importRows")),
        total_rows=_count(data.get("totalRows")),
        file_size=_count(data.get("fileSize")),
        complete_time=time_of(data.get("completeTime")),
    )


def _state(data: Mapping[str, Any]) -> ImportState | None:
    """Return the state, derived from percentage and error where the old shape has no word for it."""
    if word := _text(data.get("state")):
        return ImportState.from_word(word)
    ready = _number(data.get("readyPercentage"))
    if _reason(data) is not None and "errorMessage" in data:
        return ImportState.FAILED
    if ready is None:
        return None
    if ready >= 1:
        # v1 counts from 0 to 1; a server that counted to 100 is done at 100 only
        return ImportState.COMPLETED if ready == 1 or ready >= 100 else ImportState.IMPORTING
    return ImportState.IMPORTING if ready > 0 else ImportState.PENDING


def _percent(data: Mapping[str, Any], state: ImportState) -> int:
    if state is ImportState.COMPLETED:
        return 100
    ready = _number(data.get("readyPercentage"))
    value = _number(data.get("progress"))
    if value is None:
        value = ready
    if value is None:
        return 0
    # the SDK page's 0..1; a whole 1 is one percent, since a job at 1.0 of it is Completed and left above
    percent = value * 100 if 0 < value < 1 else value
    return max(0, min(100, int(percent + 1e-9)))


def _reason(data: Mapping[str, Any]) -> str | None:
    return _text(data.get("reason")) or _text(data.get("errorMessage"))


def _first(data: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if (value := data.get(name)) not in (None, ""):
            return value
    return None


def _text(value: object) -> str | None:
    if value is None or value == "" or isinstance(value, bool):
        return None
    if isinstance(value, str):
        if value.isascii() and value.isprintable():
            return value.strip() or None
        # neither a NUL nor half a surrogate pair can be stored by every metadata database
        return value.replace("\x00", "").encode("utf-8", "replace").decode().strip() or None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, (int, float)) else json.dumps(value, default=str)


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value.strip().removesuffix("%"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # an int beyond a double's range is neither a count nor a size nor a percentage
    return None if (isinstance(value, int) and abs(value) >= 2**1000) or not math.isfinite(value) else value


def _count(value: object) -> int | None:
    if value is None:
        return None  # a list's record has no count, and there are thousands of them
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value.strip(), re.ASCII):
        value = int(value)
    number = _number(value)
    # a number beyond 64 bits is not a count, and Airflow could not store it
    return None if number is None or not 0 <= number < 2**63 else int(number)


_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d)?", re.IGNORECASE | re.ASCII
)


def time_of(value: object) -> datetime | None:
    """Return an RFC 3339 time; one without a zone counts as UTC (wire 2.1)."""
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}")
        moment = moment.replace(microsecond=int(((fraction or "0") + "000000")[:6]))
        if zone is None or zone in "Zz":
            return moment.replace(tzinfo=timezone.utc)
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
        return moment.replace(tzinfo=timezone(-offset if zone[0] == "-" else offset))
    except ValueError:
        return None
