"""The progress of an import as a person sees it: a value, replaced at each poll. No I/O, and no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState
from airflow_zilliz._wait.checkpoint import UNKNOWN_PACE, Checkpoint, pace_of

_PENDING = ImportState.PENDING.value


@dataclass(frozen=True, slots=True)
class Part:
    """A job, a file of a job, or a job of a list, as last seen.

    :param name: a file's name, or a job's id
    :param state: the server's word; None before the first poll
    :param percent: 0 to 100; None if the server does not send it
    :param size: bytes
    :param seen_at: epoch seconds; None for that of the whole
    """

    name: str
    state: str | None = None
    percent: int | None = None
    rows: int | None = None
    total_rows: int | None = None
    size: int | None = None
    rows_per_second: float | None = None
    seconds_left: float | None = None
    reason: str | None = None
    seen_at: float | None = None

    @property
    def facts(self) -> tuple[object, ...]:
        """The fields whose change makes it worth writing again."""
        return (self.state, self.percent, self.rows, self.total_rows, self.reason)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An import, or a list of them, at one moment. Times are epoch seconds.

    :param whole: the job, or the sum of a list's jobs
    :param started_at: when the wait began
    :param moved_at: when state, percentage or rows last changed
    :param trouble_since: since when polls have shown nothing of the job; None while they do
    :param parts: its files, or the list's jobs; empty while unknown
    :param parts_are: ``"files"`` or ``"jobs"``
    :param counts: how many of all parts are in each state, if ``parts`` has only some of them
    """

    whole: Part
    started_at: float
    collection_name: str | None = None
    moved_at: float | None = None
    trouble_since: float | None = None
    parts: tuple[Part, ...] = field(default=(), repr=False)
    parts_are: str = "files"
    counts: tuple[tuple[str, int], ...] = ()

    @classmethod
    def begin(cls, job_id: str, started_at: float, seen: Checkpoint) -> Snapshot:
        """Return the snapshot before the first poll, from what an earlier process of the wait has seen."""
        whole = Part(
            job_id, seen.state, seen.percent, seen.rows, total_rows=seen.total_rows, size=seen.size, seen_at=seen.at
        )
        return cls(whole, started_at, seen.collection_name, seen.moved_at, _trouble(seen))

    @property
    def facts(self) -> tuple[object, ...]:
        """The fields whose change makes it worth writing again: all except times and values derived from them."""
        parts = tuple(part.facts for part in self.parts)
        return (*self.whole.facts, self.trouble_since is None, self.counts, parts)

    @property
    def states(self) -> tuple[object, ...]:
        """The part that must be written eventually, however often writing fails."""
        return (self.whole.state, self.whole.reason, self.trouble_since is None, [part.state for part in self.parts])

    def after(self, job: ImportProgress | None, seen: Checkpoint) -> Snapshot:
        """Return the snapshot after a poll.

        :param job: as the poll showed it, described or listed; None if it failed
        :param seen: the wait's checkpoint after that poll
        """
        if job is None:
            return replace(self, trouble_since=_trouble(seen))
        before = self.whole
        pace = UNKNOWN_PACE
        if self.moved_at is not None and seen.at is not None:
            pace = pace_of(job, seen.at, before.state, before.percent, before.rows, self.moved_at)
        moved = seen.moved_at != self.moved_at
        whole = replace(
            before,
            state=_state_after(before.state, job),
            percent=_first(percent_of(job), before.percent),
            rows=_first(job.imported_rows, before.rows),
            total_rows=_first(job.total_rows, before.total_rows),
            size=_first(job.file_size, before.size),
            rows_per_second=pace.rows_per_second if moved else before.rows_per_second,
            seconds_left=pace.seconds_left if moved else before.seconds_left,
            reason=job.reason,
            seen_at=seen.at,
        )
        parts = tuple(map(_file, job.details)) or self.parts
        name = job.collection_name or self.collection_name
        return replace(
            self, whole=whole, collection_name=name, moved_at=seen.moved_at, trouble_since=_trouble(seen), parts=parts
        )

    def ended(self, job: ImportProgress, now: float, earlier: Iterable[Part] = ()) -> Snapshot:
        """Return the snapshot of a job that is done.

        :param earlier: its files as an earlier process showed them, since an event names only the failed ones
        """
        whole = replace(
            self.whole,
            state=job.state_word,
            percent=_first(percent_of(job), self.whole.percent),
            rows=_first(job.imported_rows, self.whole.rows),
            total_rows=_first(job.total_rows, self.whole.total_rows),
            size=_first(job.file_size, self.whole.size),
            rows_per_second=None,
            seconds_left=None,
            reason=job.reason,
            seen_at=now,
        )
        described = {part.name: part for part in map(_file, job.details)}
        known = {part.name: _at_the_end(part, job.state) for part in earlier or self.parts}
        parts = tuple((known | described).values())
        moved_at = self.moved_at if self.whole.state == whole.state else now
        name = job.collection_name or self.collection_name
        return replace(self, whole=whole, collection_name=name, moved_at=moved_at, trouble_since=None, parts=parts)

    def failed(self, now: float, earlier: Iterable[Part] = ()) -> Snapshot:
        """Return the snapshot of a Failed job whose reason must not be shown."""
        job = ImportProgress(self.whole.name, ImportState.FAILED)
        return self.ended(job, now, earlier).without_reasons()

    def without_reasons(self) -> Snapshot:
        """Return the snapshot without the server's texts, which may contain an object storage's keys."""
        parts = tuple(replace(part, reason=None) for part in self.parts)
        return replace(self, whole=replace(self.whole, reason=None), parts=parts)


def percent_of(job: ImportProgress) -> int | None:
    """Return a job's percentage, None if the server does not send it: in a bare list, and for Failed jobs of Milvus."""
    if job.progress or job.state is ImportState.COMPLETED:
        return job.progress
    has_percentage = job.raw.get("progress") is not None or job.raw.get("readyPercentage") is not None
    return 0 if has_percentage and job.state is not ImportState.FAILED else None


def _state_after(before: str | None, job: ImportProgress) -> str:
    if job.state is ImportState.IMPORTING and percent_of(job) is None and before not in (None, _PENDING):
        return before or job.state_word  # a bare list has one word for all running states
    return job.state_word


def _file(part: FileProgress) -> Part:
    percent = None if part.state is ImportState.FAILED and not part.progress else part.progress
    return Part(
        part.file_name or "(unnamed file)",
        part.state.value,
        percent,
        part.imported_rows,
        part.total_rows,
        part.file_size,
        reason=part.reason,
    )


def _at_the_end(part: Part, state: ImportState) -> Part:
    if state is not ImportState.COMPLETED:
        return part
    # all of them: a Completed job has loaded each row of each file
    return replace(part, state=state.value, percent=100, rows=_first(part.total_rows, part.rows), reason=None)


def _trouble(seen: Checkpoint) -> float | None:
    return seen.trouble_since if seen.trouble_since is not None else seen.unknown_since


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
