"""What is known of each job of a dataset's import, and what comes next. No I/O, no clock.

`airflow_zilliz._submit.dataset` says what plan and ledger guarantee together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from airflow_zilliz._protocol.object_path import identity_of
from airflow_zilliz._submit.dataset import FileGroup, PlannedJob, split
from airflow_zilliz._submit.record import Record
from airflow_zilliz.exceptions import ZillizConfigError


class Stage(Enum):
    """How far a job is, as this task knows it."""

    OPEN = "open"  # to be submitted: not sent, or not known to be running
    RUNNING = "running"
    LOADED = "loaded"  # Uncommitted
    COMMITTED = "committed"  # its commit was requested; not yet Completed
    COMPLETED = "completed"
    FAILED = "failed"  # the next try starts another
    IN_DOUBT = "in doubt"  # it is not known whether it was started, or how it ended


class Phase(Enum):
    """How far an all-or-nothing import is; other imports stay in the first phase."""

    LOADING = "loading"
    COMMITTING = "committing"
    ABORTING = "aborting"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one job.

    :param record: the record of the safe submit
    :param try_number: the try that found it running, Failed or in doubt; another try finds out for itself
    :param reason: why it failed or is in doubt
    :param result: the result of its wait, once it is Completed or Failed
    :param is_new: whether this try started it, and none before
    """

    stage: Stage = Stage.OPEN
    record: Record | None = None
    try_number: int = 0
    reason: str | None = None
    result: Mapping[str, Any] | None = None
    is_new: bool = False

    @property
    def job_id(self) -> str | None:
        """Its job's id, None if unknown."""
        return self.record.job_id if self.record is not None else None

    def as_json(self) -> dict[str, Any]:
        """Return the entry in JSON types, without unset fields."""
        fields = {
            "stage": self.stage.value,
            "record": self.record.as_json() if self.record is not None else None,
            "try": self.try_number or None,
            "reason": self.reason,
            "result": dict(self.result) if self.result is not None else None,
            "new": self.is_new or None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def from_json(cls, value: object) -> Entry:
        """Return what `as_json` returned.

        :raises ValueError: it is something else
        """
        if not isinstance(value, Mapping):
            raise ValueError("no entry")
        record = Record.from_json(value.get("record"))
        if record is None and value.get("record") is not None:
            raise ValueError("a record that cannot be read")
        number, reason, result = value.get("try", 0), value.get("reason"), value.get("result")
        if type(number) is not int or not isinstance(reason, str | None) or not isinstance(result, Mapping | None):
            raise ValueError("an entry of another kind")
        entry = cls(Stage(value.get("stage")), record, number, reason, result, value.get("new") is True)
        if entry.stage in (Stage.RUNNING, Stage.LOADED, Stage.COMMITTED) and entry.job_id is None:
            raise ValueError("a running job without its id")
        return entry


#: The stages that a new try need not check again, in each phase.
_KEPT = {
    Phase.LOADING: (Stage.COMPLETED,),
    Phase.COMMITTING: (Stage.COMPLETED, Stage.LOADED, Stage.COMMITTED),
    Phase.ABORTING: (Stage.COMPLETED, Stage.RUNNING, Stage.LOADED),
}


# -- what comes next ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Submit this job, or find the job that an earlier try started."""

    index: int


@dataclass(frozen=True)
class Wait:
    """Wait for these jobs, until all have ended.

    :param wake_after: resume once so many have ended, since there is more to send; None to wait for all
    """

    indices: tuple[int, ...]
    wake_after: int | None = None


@dataclass(frozen=True)
class Enter:
    """Store that an all-or-nothing import is in this phase now."""

    phase: Phase


@dataclass(frozen=True)
class Commit:
    """Commit these jobs, and then wait for them."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Abort:
    """Abort these jobs."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Pause:
    """The server has no room, and no job of this task is running that could be waited for."""


@dataclass(frozen=True)
class Finish:
    """Nothing is left to do in this try."""


Next = Send | Wait | Enter | Commit | Abort | Pause | Finish


@dataclass(frozen=True)
class Ledger:
    """A plan, and what is known of each of its jobs.

    :param is_atomic: load all jobs before the first is committed, and commit none if one fails
    """

    jobs: tuple[PlannedJob, ...]
    entries: tuple[Entry, ...]
    is_atomic: bool = False
    phase: Phase = Phase.LOADING

    @classmethod
    def of(cls, jobs: Iterable[PlannedJob], *, is_atomic: bool = False) -> Ledger:
        """Return the ledger of a plan before anything was sent."""
        planned = tuple(jobs)
        return cls(planned, (Entry(),) * len(planned), is_atomic)

    def with_entry(self, index: int, entry: Entry) -> Ledger:
        """Return the ledger with another entry for a job."""
        return replace(self, entries=(*self.entries[:index], entry, *self.entries[index + 1 :]))

    def at(self, *stages: Stage) -> tuple[int, ...]:
        """Return the jobs that are at one of these stages."""
        return tuple(index for index, entry in enumerate(self.entries) if entry.stage in stages)

    def paths(self, *stages: Stage) -> list[str]:
        """Return the files of the jobs that are at one of these stages."""
        return [path for index in self.at(*stages) for path in self.jobs[index].paths]

    def index_of(self, job_id: str, other_than: int) -> int | None:
        """Return the job that has an id already, None if no other one has it."""
        indices = (index for index, entry in enumerate(self.entries) if entry.job_id == job_id and index != other_than)
        return next(indices, None)

    @property
    def may_have_loaded(self) -> bool:
        """Whether rows of some job are in its collection, or may still get there."""
        return any(map(_may_be_loaded, self.entries))

    @property
    def starts_jobs(self) -> bool:
        """Whether this try has started a job that no try before it had."""
        return any(entry.is_new for entry in self.entries)

    def for_try(self, try_number: int) -> Ledger:
        """Return the ledger for a new try: whatever is not Completed has to be checked or tried again.

        Commits and aborts that an earlier try began are finished first.
        """
        entries = tuple(
            entry
            if entry.try_number == try_number or entry.stage in _KEPT[self.phase]
            else replace(entry, stage=Stage.OPEN, try_number=0, reason=None, result=None, is_new=False)
            for entry in self.entries
        )
        is_over = self.phase is Phase.ABORTING and not any(
            entry.stage in (Stage.RUNNING, Stage.LOADED, Stage.FAILED) for entry in entries
        )
        return replace(self, entries=entries, phase=Phase.LOADING if is_over else self.phase)

    def amended(self, groups: Iterable[FileGroup], max_files: int, max_bytes: int | None = None) -> Ledger:
        """Return the ledger for corrected files: what may be loaded stays in its job, and only the rest is split again.

        Jobs that were never sent or are Failed stay as they are if all of their files are still wanted.

        :raises ZillizConfigError: a group of files has some that may be loaded, and others that were not sent
        """
        wanted = {group.paths: group for group in groups}
        kept = [
            index
            for index, entry in enumerate(self.entries)
            if _may_be_loaded(entry) or all(group.paths in wanted for group in self.jobs[index].groups)
        ]
        taken = {identity_of(path) for index in kept for path in self.jobs[index].paths}
        rest = [group for group in wanted.values() if not _is_taken(group, taken)]
        if len(kept) == len(self.jobs) and not rest:
            return self
        added = split(rest, max_files, max_bytes)
        jobs = (*(self.jobs[index] for index in kept), *added)
        entries = (*(self.entries[index] for index in kept), *(Entry() for _ in added))
        return replace(self, jobs=jobs, entries=entries)

    def next(self, most: int, *, has_room: bool = True) -> Next:
        """Return the next step.

        :param most: jobs that may run at once, at least 1
        :param has_room: False if the server is known to run as many jobs as it may
        """
        if self.phase is Phase.ABORTING:
            left = self.at(Stage.RUNNING, Stage.LOADED)
            return Abort(left) if left else Finish()
        running, todo = self.at(Stage.RUNNING), self.at(Stage.OPEN)
        has_failed = bool(self.at(Stage.FAILED, Stage.IN_DOUBT))
        if self.is_atomic and self.phase is Phase.LOADING and has_failed:
            return Enter(Phase.ABORTING)
        if todo and has_room and len(running) < most:
            return Send(self._first(todo))
        if running:
            return Wait(running, wave(most, len(running)) if todo else None)
        if todo:
            return Pause()
        if loaded := self.at(Stage.LOADED):
            return Commit(loaded) if self.phase is Phase.COMMITTING else Enter(Phase.COMMITTING)
        committed = self.at(Stage.COMMITTED)
        return Wait(committed) if committed else Finish()

    def _first(self, todo: Sequence[int]) -> int:
        """Return the job to submit first: one that may have been started goes before a new one."""
        return min(todo, key=lambda index: (self.entries[index].record is None, index))


def wave(most: int, running: int) -> int:
    """Return how many jobs have to end before a worker sends more: a quarter of those that may run at once."""
    return max(1, min(running, math.ceil(most / 4)))


def _is_taken(group: FileGroup, taken: Set[str]) -> bool:
    """Whether the files of a group are in jobs that stay as they are.

    :raises ZillizConfigError: only some of them are
    """
    new = [path for path in group.paths if identity_of(path) not in taken]
    if 0 < len(new) < len(group.paths):
        raise ZillizConfigError(
            f"file {new[0]!r} is in a group with files that this task has sent without it, so it cannot be imported "
            "without loading the others again. Nothing was sent now. Import the group in another run of the DAG"
        )
    return not new


def _may_be_loaded(entry: Entry) -> bool:
    """Whether rows of a job are in its collection, or may still get there."""
    record = entry.record
    if entry.stage is Stage.FAILED:
        return False
    return entry.stage is not Stage.OPEN or (record is not None and (record.sending or record.job_id is not None))
