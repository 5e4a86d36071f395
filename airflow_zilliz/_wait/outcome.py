"""How a wait ended: as a value, and as a trigger's event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from airflow_zilliz._protocol.job_parsing import parse_job
from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._protocol.scrubbing import Scrubber, mask_patterns
from airflow_zilliz.exceptions import ZillizError

EVENT_VERSION = 1
# Airflow logs an event verbatim and stores it, so a job of 1,000 failed files must not fill it.
MAX_EVENT_TEXT = 8_000
MAX_EVENT_FILES = 20


class Ending(str, Enum):
    """How a wait ended."""

    REACHED = "reached"
    JOB_FAILED = "job_failed"
    TIMED_OUT = "timed_out"
    EXECUTION_TIMED_OUT = "execution_timed_out"
    KEY_REFUSED = "key_refused"
    UNKNOWN_JOB = "unknown_job"
    UNAVAILABLE = "unavailable"
    API_ERROR = "api_error"
    MISCONFIGURED = "misconfigured"

    @classmethod
    def of_deadline(cls, *, execution_timeout: bool) -> Ending:
        """Return the ending for a deadline that passed, the task's ``execution_timeout`` or its ``timeout``."""
        return cls.EXECUTION_TIMED_OUT if execution_timeout else cls.TIMED_OUT

    @property
    def is_timeout(self) -> bool:
        """Whether a deadline passed."""
        return self in (Ending.TIMED_OUT, Ending.EXECUTION_TIMED_OUT)

    @property
    def deadline_name(self) -> str:
        """The argument that a passed deadline comes from."""
        return "execution_timeout" if self is Ending.EXECUTION_TIMED_OUT else "timeout"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a wait.

    :param message: what happened, for the person on call
    :param progress: the job as last described; None if it was not
    :param listed: the ended job as a job list showed it, without rows and, on Zilliz Cloud, without reason
    :param facts: the error's code, http_status, request_id and retry_after, those that it has
    """

    ending: Ending
    message: str
    progress: ImportProgress | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    listed: ImportProgress | None = None

    @classmethod
    def of(
        cls,
        ending: Ending,
        message: str,
        error: ZillizError | None = None,
        progress: ImportProgress | None = None,
        listed: ImportProgress | None = None,
    ) -> Outcome:
        """Return an outcome, with the facts of the error that caused it."""
        names = ("code", "http_status", "request_id", "retry_after")
        facts = {name: getattr(error, name) for name in names if hasattr(error, name)} if error else {}
        return cls(ending, message, progress, facts, listed)

    @property
    def job_has_ended(self) -> bool:
        """Whether the job ended, rather than the wait for it."""
        return self.ending in (Ending.REACHED, Ending.JOB_FAILED)

    @property
    def job_id(self) -> str | None:
        """The job as far as it was described or listed, None where neither was."""
        job = self.progress or self.listed
        return job.job_id if job is not None else None

    @property
    def is_timeout(self) -> bool:
        """Whether a deadline passed."""
        return self.ending.is_timeout

    @property
    def needs_description(self) -> bool:
        """Whether the job ended and the server's own description of it is missing."""
        return self.job_has_ended and self.progress is None

    def scrubbed(self, scrub: Scrubber) -> Outcome:
        """Return the same outcome, with secrets masked in its texts."""
        progress = self.progress and self.progress.scrubbed(scrub)
        listed = self.listed and self.listed.scrubbed(scrub)
        return replace(self, message=scrub(self.message), progress=progress, listed=listed)

    def without_reasons(self, why: str = "") -> Outcome:
        """Return a Failed job's outcome without the server's reasons, so that the task that resumes requests them.

        :param why: text for the message instead
        """
        if self.ending is not Ending.JOB_FAILED:
            return self
        job = self.progress or self.listed
        text = f"Import job {job.job_id} is Failed" if job is not None else "The import job is Failed"
        where = f" (collection {job.collection_name!r})" if job is not None and job.collection_name else ""
        return Outcome(self.ending, f"{text}{where}{why}")

    def as_event(self) -> dict[str, Any]:
        """Return the payload of a trigger's event: JSON types, no secret, no whole response."""
        return {
            "version": EVENT_VERSION,
            "ending": self.ending.value,
            "message": _short(mask_patterns(self.message)),
            "progress": _wire_shape(self.progress) if self.progress else None,
            "listed": _wire_shape(self.listed) if self.listed else None,
            "facts": self.facts,
        }

    @classmethod
    def from_event(cls, event: object) -> Outcome | None:
        """Return the outcome in an event's payload, None for one that this version cannot read."""
        if not isinstance(event, Mapping):
            return None
        try:
            ending = Ending(event.get("ending"))
        except ValueError:
            return None
        facts = event.get("facts")
        return cls(
            ending,
            str(event.get("message") or ending.value),
            _job(event.get("progress")),
            dict(facts) if isinstance(facts, Mapping) else {},
            _job(event.get("listed")),
        )


def without_description(event: Any) -> Any:
    """Return a trigger's event without its description of the job, so that the task that resumes requests it.

    An event has no room for the names of all files.
    """
    if not isinstance(event, Mapping) or not event.get("progress"):
        return event
    return {**event, "progress": None, "listed": event["progress"]}


def _job(value: object) -> ImportProgress | None:
    return parse_job(value) if isinstance(value, Mapping) else None


def _wire_shape(job: ImportProgress) -> dict[str, Any]:
    """Return the job in the shape of the API, which `parse_job` reads."""
    failed = [part for part in job.details if part.reason or part.state is ImportState.FAILED]
    return {
        "jobId": job.job_id,
        "state": job.state_word,
        "progress": job.progress,
        "reason": _short(job.reason),
        "collectionName": job.collection_name,
        "importedRows": job.imported_rows,
        "totalRows": job.total_rows,
        "fileSize": job.file_size,
        "createTime": job.create_time.isoformat() if job.create_time else None,
        "completeTime": job.complete_time.isoformat() if job.complete_time else None,
        "details": [
            {
                "fileName": part.file_name and mask_patterns(part.file_name),
                "state": part.state.value,
                "reason": _short(part.reason, 1_000),
            }
            for part in failed[:MAX_EVENT_FILES]
        ],
    }


def _short(text: str | None, limit: int = MAX_EVENT_TEXT) -> str | None:
    return text if text is None or len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"
