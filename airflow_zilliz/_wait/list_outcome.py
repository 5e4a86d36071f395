"""How the wait for many jobs ended, or paused: as a value, and as a trigger's event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._protocol.scrubbing import mask_patterns
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._wait.job_results import pack_jobs, unpack_jobs
from airflow_zilliz._wait.list_memory import NO_MEMORY, Memory
from airflow_zilliz._wait.outcome import Ending

EVENT_VERSION = 1
#: How many jobs a message names, and how long it may be in an event, where it is stored and logged.
MAX_NAMED = 20
MAX_TEXT = 6_000
#: An event's largest size, in bytes: MySQL keeps 64 KB of it.
MAX_EVENT = 58_000
_CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class ListOutcome:
    """How the wait for many jobs ended, or that it paused to record the ended jobs.

    :param ending: ``REACHED`` once all jobs have ended, including failed ones; ``JOB_FAILED`` if the first failure
        ends the wait; None for a checkpoint, after which the wait for the open jobs continues; else as for one job
    :param ended: the jobs that have ended since the last checkpoint
    :param message: what happened, for the person on call, unless the jobs ended
    :param facts: the error's code, http_status, request_id and retry_after, those that it has
    :param memory: what is remembered of the open jobs
    """

    ending: Ending | None
    ended: tuple[ImportProgress, ...] = ()
    message: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    memory: Memory = NO_MEMORY

    @property
    def jobs_have_ended(self) -> bool:
        """Whether all or some jobs ended, rather than the wait for them."""
        return self.ending in (None, Ending.REACHED, Ending.JOB_FAILED)

    def as_event(self) -> dict[str, Any]:
        """Return the payload of a trigger's event: JSON types, no secret, below 60 KB. It takes a few milliseconds."""
        jobs = pack_jobs(self.ended)
        return {
            "version": EVENT_VERSION,
            "ending": self.ending.value if self.ending is not None else _CHECKPOINT,
            "message": mask_patterns(self.message)[:MAX_TEXT],
            "facts": dict(self.facts),
            "ended": len(self.ended),
            "jobs": jobs,
            "memory": self.memory.packed(max(0, MAX_EVENT - MAX_TEXT - len(jobs))),
        }

    @classmethod
    def from_event(cls, event: object) -> ListOutcome | None:
        """Return the outcome in an event's payload, None for one that this version cannot read."""
        if not isinstance(event, Mapping):
            return None
        ending = event.get("ending")
        try:
            read = None if ending == _CHECKPOINT else Ending(ending)
        except ValueError:
            return None
        facts = event.get("facts")
        return cls(
            read,
            tuple(unpack_jobs(event.get("jobs"))),
            str(event.get("message") or ""),
            dict(facts) if isinstance(facts, Mapping) else {},
            Memory.unpacked(event.get("memory")),
        )


def named(job_ids: Sequence[str]) -> str:
    """Return the first of many ids, and the number of the others."""
    text = ", ".join(job_ids[:MAX_NAMED])
    return text if len(job_ids) <= MAX_NAMED else f"{text} and {len(job_ids) - MAX_NAMED:,} more"


def place_of(conn_id: str, target: Target) -> str:
    """Return the place of jobs, for a message."""
    place = str(target)
    return f"connection {conn_id!r}{place and ', '}{place}"


def failures(failed: Sequence[ImportProgress], jobs: int, where: str) -> str:
    """Return the text about failed jobs: how many, the first ones with their reasons, and how many more.

    :param jobs: how many jobs the wait had
    :param where: see `place_of`
    """
    reasons = "; ".join(_failure(job) for job in failed[:MAX_NAMED])
    more = f"; and {len(failed) - MAX_NAMED:,} more" if len(failed) > MAX_NAMED else ""
    return f"{len(failed):,} of {jobs:,} import jobs failed ({where}): {reasons}{more}"


def _failure(job: ImportProgress) -> str:
    collection = f" of collection {job.collection_name!r}" if job.collection_name else ""
    text = f"job {job.job_id!r}{collection}: {job.reason or 'the server gave no reason'}"
    if files := job.file_reasons:
        text += f" | files: {'; '.join(_file_texts(files, job.reason))}"
    return text


def _file_texts(files: Iterable[tuple[str, str]], reason: str | None) -> list[str]:
    return [name if why == reason else f"{name}: {why}" for name, why in files]
