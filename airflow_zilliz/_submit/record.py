"""What one try of an import task knows of earlier ones: the stored record, and what Airflow knows. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

#: How far apart two synchronised clocks may be, in seconds.
CLOCK_SKEW = 60.0
#: Milvus forgets ended jobs after three hours (wire 3.5), and checks for them every two minutes.
RETENTION = 3 * 3600.0 - 300.0
#: More ids than this are not stored in Airflow's database.
MAX_KNOWN_IDS = 2000


@dataclass(frozen=True)
class Patience:
    """How long to wait for what a server has yet to show, all in seconds.

    :param pauses: between two readings of a list, and between two descriptions of a job that hides its files
    :param settle: how long a request that was sent may take to show its effect
    """

    pauses: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0)
    settle: float = 90.0


PATIENCE = Patience()


@dataclass(frozen=True)
class Record:
    """The stored record of an import, for the task's next try and for the time after it was cleared.

    It is written before a request is sent and when its outcome is known, and only ever replaced: a task may fail, be
    retried or be cleared after its job ended.

    :param key: the first of the import's idempotency keys
    :param digest: of what is imported; None in the records of version 0.1
    :param turn: which key of the chain is in use; each one before it stands for a Failed job
    :param sending: a request may have been sent whose outcome is not known
    :param sent_at: when the latest such request was sent, epoch seconds of a worker's clock
    :param first_sent_at: when the first of them was sent
    :param known: the ids that the job list had before the first of them, None for unknown
    :param job_id: the job that was started
    :param result: what the wait returned for a job that was seen Completed
    :param given_up: how often the task had been cleared when its job was found to be forgotten by the server
    :param cleared: how often it had been cleared when it last worked on this import; None in older records
    """

    key: str
    digest: str | None = None
    turn: int = 1
    sending: bool = False
    sent_at: float | None = None
    first_sent_at: float | None = None
    known: frozenset[str] | None = None
    job_id: str | None = None
    result: Mapping[str, Any] | None = None
    given_up: int | None = None
    cleared: int | None = None

    def before_sending(self, now: float, turn: int, listed: frozenset[str] | None, clears: int) -> Record:
        """Return the record to store before a request is sent.

        :param listed: the ids in the job list; those before the first of several requests count
        :param clears: how often the task has been cleared
        """
        if self.sending:
            return replace(self, turn=turn, sent_at=now, first_sent_at=self.first_sent_at or now, cleared=clears)
        return Record(
            self.key, self.digest, turn, sending=True, sent_at=now, first_sent_at=now, known=listed, cleared=clears
        )

    def started(self, job_id: str, turn: int, clears: int) -> Record:
        """Return the record to store when the job is known."""
        return Record(self.key, self.digest, turn, job_id=job_id, cleared=clears)

    def failed(self) -> Record:
        """Return the record to store when the job is Failed: the next submit starts another, with the next key."""
        return Record(self.key, self.digest, self.turn + 1)

    def as_json(self) -> dict[str, Any]:
        """Return the record in JSON types, without unset fields."""
        known = sorted(self.known) if self.known is not None and len(self.known) <= MAX_KNOWN_IDS else None
        fields = {**vars(self), "known": known}
        return {name: value for name, value in fields.items() if value is not None and value is not False}

    @classmethod
    def from_json(cls, value: object) -> Record | None:
        """Return a stored record, also one of version 0.1; None if it cannot be read."""
        if not isinstance(value, Mapping) or not isinstance(value.get("key"), str):
            return None
        known, result = value.get("known"), value.get("result")
        return cls(
            key=value["key"],
            digest=_text(value.get("digest")),
            turn=max(1, _whole(value.get("turn")) or 1),
            sending=value.get("sending") is True,
            sent_at=_number(value.get("sent_at")),
            first_sent_at=_number(value.get("first_sent_at")),
            known=frozenset(map(str, known)) if isinstance(known, list) else None,
            job_id=_text(value.get("job_id")),
            result=dict(result) if isinstance(result, Mapping) else None,
            given_up=_whole(value.get("given_up")),
            cleared=_whole(value.get("cleared")),
        )


@dataclass(frozen=True)
class TaskTry:
    """One try of an import task, with what Airflow knows of it.

    :param now: epoch seconds at the try's start
    :param record: the record of earlier tries
    :param remembers: whether records are stored and can be read, as on Airflow 3.3: a missing one then proves that no
        earlier try sent anything
    :param number: counted from 1
    :param clears: grows with each time that a user clears the task
    :param knows_clears: whether Airflow says that
    :param was_cleared: whether a user has cleared it
    :param run_due: epoch seconds before which no try can have begun; None for unknown
    :param least_pause: the shortest pause between the previous try and this one, in seconds
    """

    now: float
    record: Record | None = None
    remembers: bool = False
    number: int = 1
    clears: int = 0
    knows_clears: bool = True
    was_cleared: bool = False
    run_due: float | None = None
    least_pause: float = 0.0


@dataclass(frozen=True)
class Earlier:
    """What is known of requests that an earlier try may have sent.

    :param known: the ids that the list had before the first of them, None if not recorded
    :param since: epoch seconds before which none of them can have been sent, None for unknown
    :param quiet: how many seconds ago the last one was sent, at least
    :param is_stale: whether a job of one may have ended so long ago that the server has forgotten it
    """

    known: frozenset[str] | None = None
    since: float | None = None
    quiet: float = 0.0
    is_stale: bool = False

    def settling(self, settle: float) -> float:
        """Return for how many seconds a job may yet appear in the list; a clock that is ahead must not shorten them.

        :param settle: see `Patience`
        """
        return max(0.0, min(settle, settle + CLOCK_SKEW - self.quiet))


def earlier_of(record: Record | None, this: TaskTry) -> Earlier | None:
    """Return what is known of earlier tries' requests, None if none can have been sent.

    :param record: the record of this import
    """
    if not this.remembers:
        if this.number <= 1:
            return None
        if not this.was_cleared:  # a retry follows its try
            return Earlier(None, this.run_due, this.least_pause, this.least_pause > RETENTION)
        run_age = 0.0 if this.run_due is None else this.now - this.run_due
        return Earlier(None, this.run_due, 0.0, run_age > RETENTION)  # a user may clear a task days later
    if record is None or not record.sending:
        return None
    if record.sent_at is None:  # version 0.1 stored no times
        return Earlier(record.known, this.run_due)
    quiet = this.now - record.sent_at
    return Earlier(record.known, record.first_sent_at or record.sent_at, max(0.0, quiet), quiet > RETENTION)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
