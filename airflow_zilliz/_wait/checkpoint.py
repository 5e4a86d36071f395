"""What a wait remembers between polls, and a job's pace from two readings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from airflow_zilliz._protocol.models import ImportProgress, ImportState

_KINDS: dict[object, tuple[type, ...]] = {
    **dict.fromkeys(("at", "percent", "rows", "total_rows", "size", "moved_at"), (int, float)),
    **dict.fromkeys(("trouble_since", "failed_at", "unknown_since", "polled_at", "due"), (int, float)),
    **dict.fromkeys(("summary", "collection_name", "state", "listed"), (str,)),
    "told": (list, tuple),
    "distrusts_list": (bool,),
}


@dataclass(frozen=True, slots=True)
class Pace:
    """A job's speed and an estimate of the seconds left, from two readings."""

    rows_per_second: float | None = None
    seconds_left: float | None = None

    def __str__(self) -> str:
        text, speed = "", self.rows_per_second
        if speed is not None:
            text = f", {speed:,.0f} rows/s" if speed >= 1 else f", {speed * 60:,.1f} rows/min"
        return text if self.seconds_left is None else f"{text}, about {duration(self.seconds_left)} left"


UNKNOWN_PACE = Pace()


def pace_of(
    job: ImportProgress, now: float, state: str | None, percent: int | None, rows: int | None, moved_at: float
) -> Pace:
    """Return the pace of a job since a reading of its state, percentage and rows.

    :param moved_at: when these three last changed, epoch seconds
    """
    seconds = now - moved_at
    if seconds < 1 or job.state is not ImportState.IMPORTING:
        return UNKNOWN_PACE
    if rows is not None and job.imported_rows is not None:
        if (gained := job.imported_rows - rows) <= 0:
            return UNKNOWN_PACE
        speed = gained / seconds
        rest = (job.total_rows or 0) - job.imported_rows
        return Pace(speed, rest / speed if rest > 0 else None)
    if percent is not None and state == job.state_word and job.progress > percent:
        return Pace(seconds_left=(100 - job.progress) * seconds / (job.progress - percent))
    return UNKNOWN_PACE


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a wait remembers between polls: JSON types only, since it crosses processes. Times are epoch seconds.

    Its fields are the keys of the stored JSON: renaming one would lose what an older version has stored.

    :param summary: the job as last logged
    :param at: when the job was last seen
    :param trouble_since: since when there has been no usable response
    :param failed_at: when a poll last got no usable response, even if later ones did
    :param unknown_since: since when the server says that it does not know the job
    :param polled_at: when the last poll was made, while there is trouble or the job is unknown
    :param due: when the poll after it is due; None if not known
    :param told: keys of the warnings that were logged already
    :param state: the job's state at the last reading, with ``percent`` and ``rows``
    :param total_rows: as last described, with ``size`` in bytes
    :param moved_at: when state, percentage or rows last changed
    :param listed: the state that a job list without percentages last showed
    :param distrusts_list: whether a list has contradicted this job's description
    """

    summary: str | None = None
    collection_name: str | None = None
    at: float | None = None
    trouble_since: float | None = None
    failed_at: float | None = None
    unknown_since: float | None = None
    polled_at: float | None = None
    due: float | None = None
    told: tuple[str, ...] = ()
    state: str | None = None
    percent: int | None = None
    rows: int | None = None
    total_rows: int | None = None
    size: int | None = None
    moved_at: float | None = None
    listed: str | None = None
    distrusts_list: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the checkpoint as JSON types without unset fields, for Airflow's database."""
        known = {part.name: held for part in fields(self) if (held := getattr(self, part.name)) != part.default}
        return known | {"told": list(self.told)} if self.told else known

    @classmethod
    def from_json(cls, value: object) -> Checkpoint:
        """Return the checkpoint in ``value``, JSON types or text; what cannot be read is dropped."""
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                return cls()
        if not isinstance(value, Mapping):
            return cls()
        # thousands of triggers start together, and each reads one
        known = {name: held for name, held in value.items() if type(held) in _KINDS.get(name, ())}
        if "told" in known:
            known["told"] = tuple(map(str, known["told"]))
        return cls(**known)

    def read(self, job: ImportProgress, now: float) -> Checkpoint:
        """Return the checkpoint after a reading of the job."""
        rows = job.imported_rows if job.imported_rows is not None else self.rows
        seen = replace(
            self,
            collection_name=job.collection_name or self.collection_name,
            at=now,
            total_rows=job.total_rows if job.total_rows is not None else self.total_rows,
            size=job.file_size if job.file_size is not None else self.size,
        )
        reading = (job.state_word, job.progress, rows)
        if reading == (self.state, self.percent, self.rows):
            return seen
        state, percent, rows = reading
        return replace(seen.without("stall"), state=state, percent=percent, rows=rows, moved_at=now)

    def moved_by(self, seconds: float) -> Checkpoint:
        """Return the checkpoint with trouble that began so much later, for time that passed without a poll."""
        trouble, unknown = self.trouble_since, self.unknown_since
        return replace(
            self,
            trouble_since=None if trouble is None else trouble + seconds,
            unknown_since=None if unknown is None else unknown + seconds,
        )

    def without(self, *keys: str) -> Checkpoint:
        """Return the checkpoint without some of the logged warnings."""
        return replace(self, told=tuple(key for key in self.told if key not in keys))

    def pace(self, job: ImportProgress, now: float) -> Pace:
        """Return the job's pace since the last reading."""
        if self.moved_at is None:
            return UNKNOWN_PACE
        return pace_of(job, now, self.state, self.percent, self.rows, self.moved_at)


EMPTY_CHECKPOINT = Checkpoint()


def duration(seconds: float) -> str:
    """Return a readable duration: 45 s, 14 min, 3 h 20 min."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    if minutes < 2:
        return f"{minutes * 60 + rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
