"""Which jobs of a collection have completed since the last look, decided without I/O and without a clock."""

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
    """The completed jobs that were told, each with the epoch second at which a list last had it.

    :param told: None before the first look, whose completed jobs are older than the watch and told to nobody
    """

    told: dict[str, float] | None = None

    @classmethod
    def from_json(cls, value: object) -> Completions:
        """Read what `as_json` returned; anything else is a watch that begins."""
        if not isinstance(value, Mapping):
            return cls()
        return cls({str(job_id): float(seen) for job_id, seen in value.items() if isinstance(seen, (int, float))})

    def as_json(self) -> dict[str, float]:
        """Return it for a store."""
        return dict(self.told or {})

    def new(self, jobs: Iterable[ImportProgress], now: float) -> list[ImportProgress]:
        """Take in a whole list, and return the jobs that completed since the last one, in the order of their ends."""
        completed = {job.job_id: job for job in jobs if job.state is ImportState.COMPLETED}
        if self.told is None:
            self.told = dict.fromkeys(completed, now)
        for job_id in self.told.keys() & completed.keys():
            self.told[job_id] = now
        fresh = [job for job_id, job in completed.items() if job_id not in self.told]
        return sorted(fresh, key=lambda job: job.complete_time or _NEVER)

    def tell(self, job_id: str, now: float) -> None:
        """Note that a job was told, and forget those that the server has forgotten."""
        kept = {other: seen for other, seen in (self.told or {}).items() if seen > now - KEPT_SECONDS}
        self.told = {**kept, job_id: now}
