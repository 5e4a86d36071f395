"""Which jobs of a collection have completed since the last poll, decided without I/O and without a clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_zilliz._protocol.models import ImportProgress, ImportState

#: A job that the list has lacked for so many seconds is forgotten: a page that changes under a walk may hide one.
KEPT_SECONDS = 86_400.0

_NEVER = datetime.min.replace(tzinfo=timezone.utc)


@dataclass
class Completions:
    """The completed jobs that were reported, each with the epoch second at which a list last had it.

    :param reported: None before the first poll, whose completed jobs are older than the watcher and emit no event
    """

    reported: dict[str, float] | None = None

    @classmethod
    def from_json(cls, value: object) -> Completions:
        """Read what `as_json` returned; anything else starts from the beginning."""
        if not isinstance(value, Mapping):
            return cls()
        return cls({str(job_id): float(seen) for job_id, seen in value.items() if isinstance(seen, (int, float))})

    def as_json(self) -> dict[str, float]:
        """Return it for a store."""
        return dict(self.reported or {})

    def new(self, jobs: Iterable[ImportProgress], now: float) -> list[ImportProgress]:
        """Handle a whole list, and return the jobs that completed since the last one, ordered by completion time."""
        completed = {job.job_id: job for job in jobs if job.state is ImportState.COMPLETED}
        if self.reported is None:
            self.reported = dict.fromkeys(completed, now)
        for job_id in self.reported.keys() & completed.keys():
            self.reported[job_id] = now
        fresh = [job for job_id, job in completed.items() if job_id not in self.reported]
        return sorted(fresh, key=lambda job: job.complete_time or _NEVER)

    def note(self, job_id: str, now: float) -> None:
        """Note that a job was reported, and forget those that the server has forgotten."""
        kept = {other: seen for other, seen in (self.reported or {}).items() if seen > now - KEPT_SECONDS}
        self.reported = {**kept, job_id: now}
