"""One wait as a state machine without I/O and without a clock: fed a look's outcome and ``now``, it says what to do.

Poke, reschedule and deferrable mode all feed the same machine, so that they cannot differ. Times are wall-clock
seconds since the epoch, never monotonic ones: a deadline crosses processes and machines.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import Any

from airflow_zilliz.api import ImportProgress, ImportState, Target
from airflow_zilliz.ending import Ending, WaitEnd
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizConfigError,
    ZillizError,
    ZillizJobNotFound,
    ZillizUnavailable,
)

#: An unknown job is waited out for this long from the start of the wait: it may just have been submitted.
UNKNOWN_JOB_GRACE = 60.0
#: A young wait looks again after this many seconds, and after a tenth of its age later, up to poke_interval.
SHORTEST_YOUNG_DELAY = 2.0
#: Keeps poke_interval=0 from being a busy loop.
SHORTEST_DELAY = 0.1


@dataclass(frozen=True)
class WaitPolicy:
    """What the user asked of a wait. All but the state and the flags are seconds.

    :param started_at: when the wait began, epoch seconds
    :param deadline: when it times out, epoch seconds; None for never
    :param execution_deadline: when the task's ``execution_timeout`` passes, epoch seconds; None for never
    :param poke_interval: the longest pause between two looks, unless backing off
    :param poll_failure_tolerance: how long looks may go without a usable answer
    :param eager: look more often while the wait is young
    :param exponential_backoff: double the pause from poke_interval up to ``max_wait``
    :param ignore_errors: Airflow's ``silent_fail``: no error of polling ends the wait before its deadline
    """

    started_at: float
    target_state: ImportState = ImportState.COMPLETED
    deadline: float | None = None
    execution_deadline: float | None = None
    poke_interval: float = 30.0
    poll_failure_tolerance: float = 600.0
    eager: bool = True
    exponential_backoff: bool = False
    max_wait: float | None = None
    ignore_errors: bool = False

    def delay(self, now: float, retry_after: float | None = None, at_most: float = math.inf) -> float:
        """Return the seconds until the next look: never beyond a deadline, never before ``retry_after``.

        :param at_most: seconds after which trouble has lasted too long, so that it is looked at then
        """
        age = max(0.0, now - self.started_at)
        if self.exponential_backoff:
            base = max(self.poke_interval, 1.0)
            delay = base * 2.0 ** min(64, math.floor(math.log2(age / base + 1)))
            delay = min(delay, self.max_wait) if self.max_wait is not None else delay
        elif self.eager:
            delay = min(self.poke_interval, max(SHORTEST_YOUNG_DELAY, age / 10))
        else:
            delay = self.poke_interval
        delay = min(delay, max(at_most, SHORTEST_YOUNG_DELAY))
        delay = max(delay, SHORTEST_DELAY, retry_after or 0.0)
        ends = [end - now for end in (self.deadline, self.execution_deadline) if end is not None]
        return max(0.0, min([delay, *ends]))


@dataclass(frozen=True)
class Seen:
    """What a wait remembers between looks: JSON types only, for it crosses processes.

    :param at: when the job was last described, epoch seconds
    :param trouble_since: since when there is no usable answer, epoch seconds
    :param told: warnings that were given already
    """

    summary: str | None = None
    collection_name: str | None = None
    at: float | None = None
    trouble_since: float | None = None
    told: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the memory as JSON types."""
        return asdict(self) | {"told": list(self.told)}

    @classmethod
    def from_json(cls, value: object) -> Seen:
        """Return the memory behind ``value``, JSON types or text; what cannot be read is forgotten."""
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                return cls()
        if not isinstance(value, Mapping):
            return cls()
        known = {f.name: value[f.name] for f in fields(cls) if f.name in value}
        for name in ("at", "trouble_since"):
            if not isinstance(known.get(name), (int, float)):
                known[name] = None
        told = known.get("told")
        known["told"] = tuple(map(str, told)) if isinstance(told, (list, tuple)) else ()
        return cls(**known)


NOTHING_SEEN = Seen()


@dataclass(frozen=True)
class Step:
    """What to do after a look.

    :param delay: seconds until the next look; meaningless once ``end`` is set
    :param notes: lines for the task's log, each with its level of `logging`
    :param end: how the wait ended, None while it goes on
    :param look_up_connection: read the connection anew before the next look, for a key rotated meanwhile
    """

    delay: float = 0.0
    notes: tuple[tuple[int, str], ...] = ()
    end: WaitEnd | None = None
    look_up_connection: bool = False


@dataclass
class ImportWait:
    """The wait for one job.

    :param conn_id: named in messages
    :param target: where the job lives, named in messages
    :param now: when this machine began to look, epoch seconds; trouble is counted from here at the earliest
    :param seen: what an earlier machine of the same wait remembered
    """

    job_id: str
    conn_id: str
    target: Target
    policy: WaitPolicy
    now: float
    seen: Seen = NOTHING_SEEN
    _notes: list[tuple[int, str]] = field(default_factory=list, init=False, repr=False)
    _last_answer: float = field(init=False, repr=False)
    _key_refused: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self._last_answer = self.seen.trouble_since if self.seen.trouble_since is not None else self.now

    @property
    def in_trouble(self) -> bool:
        """Whether the last look got no usable answer."""
        return self.seen.trouble_since is not None

    def on_progress(self, progress: ImportProgress, now: float) -> Step:
        """Take in the job as the server just described it."""
        self._answered(now)
        self._key_refused = False
        summary = progress.summary()
        changed = summary != self.seen.summary
        self.seen = replace(
            self.seen,
            summary=summary,
            collection_name=progress.collection_name or self.seen.collection_name,
            at=now,
        )
        if changed:
            self._note(logging.INFO, f"Import job {self.job_id}: {summary}")
        if progress.state is ImportState.FAILED:
            return self._end(Ending.JOB_FAILED, self._failed_message(progress), progress=progress)
        if self._is_reached(progress.state):
            return self._end(Ending.REACHED, f"{self.subject} is {summary}", progress=progress)
        if progress.state is ImportState.UNCOMMITTED:
            self._warn_once(
                "uncommitted",
                f"Import job {self.job_id} is Uncommitted: it needs a commit (or an abort) from elsewhere before it "
                "can complete. To go on at this state, set target_state='Uncommitted'",
            )
        elif progress.state is ImportState.UNKNOWN:
            self._warn_once(
                f"word {progress.state_word}",
                f"Import job {self.job_id} is in state {progress.state_word!r}, which this provider does not know: "
                "it is taken for running",
            )
        return self._wait_on(now)

    def on_error(self, error: ZillizError, now: float) -> Step:
        """Take in that a look failed."""
        lost_connection = isinstance(error, ZillizConfigError) and self.seen.at is not None
        if isinstance(error, ZillizUnavailable) or lost_connection:
            # a connection that was good before: Airflow says "not found" too when its database is away for a moment
            return self._on_unavailable(error, now)
        if isinstance(error, ZillizJobNotFound):
            self._answered(now)
            if now - self.policy.started_at < UNKNOWN_JOB_GRACE or self.policy.ignore_errors:
                self._warn_once("unknown job", f"Import job {self.job_id} is not known to the server yet: {error}")
                return self._wait_on(now)
            return self._end(Ending.UNKNOWN_JOB, self._unknown_message(error), error)
        if self.policy.ignore_errors:
            key = f"{type(error).__name__} {getattr(error, 'code', None)}"
            self._warn_once(key, f"{_plain(error)}. silent_fail=True, so the wait goes on")
            return self._wait_on(now)
        if isinstance(error, ZillizAuthError):
            if not self._key_refused:
                self._key_refused = True
                self._note(
                    logging.WARNING, f"The key was refused ({error}); looking connection {self.conn_id!r} up again"
                )
                return Step(notes=self._take_notes(), look_up_connection=True)
            return self._end(
                Ending.KEY_REFUSED,
                f"Cannot watch {self.subject}: the key was refused, also after the connection was looked up again. "
                f"{_plain(error)}. Correct the key of connection {self.conn_id!r}, or its rights on the cluster, and "
                f"clear this task. {self._untouched()}",
                error,
            )
        ending = Ending.API_ERROR if isinstance(error, ZillizApiError) else Ending.MISCONFIGURED
        return self._end(ending, f"Cannot watch {self.subject}: {_plain(error)}. {self._untouched()}", error)

    def on_backstop(self, *, execution_timeout: bool = False) -> WaitEnd:
        """Take in that Airflow ended the deferral itself, so that no trigger can have been alive.

        :param execution_timeout: whether that, and not the wait's own timeout, was the earlier deadline
        """
        ending, name = Ending.TIMED_OUT, "timeout"
        if execution_timeout:
            ending, name = Ending.EXECUTION_TIMED_OUT, "execution_timeout"
        return WaitEnd(
            ending,
            f"Timed out ({name}) waiting for {self.subject}: no triggerer reported before the deadline, so "
            f"none may be running. {self._untouched()}",
        )

    @property
    def subject(self) -> str:
        """The job, its collection where known, and where it lives."""
        collection = f" of collection {self.seen.collection_name!r}" if self.seen.collection_name else ""
        place = f", {self.target}" if str(self.target) else ""
        return f"import job {self.job_id!r}{collection} (connection {self.conn_id!r}{place})"

    def _is_reached(self, state: ImportState) -> bool:
        if state is ImportState.COMPLETED or state is self.policy.target_state:
            return True
        # whoever waits for Uncommitted and finds the commit begun has missed nothing
        return self.policy.target_state is ImportState.UNCOMMITTED and state is ImportState.COMMITTING

    def _on_unavailable(self, error: ZillizError, now: float) -> Step:
        tolerance = self.policy.poll_failure_tolerance
        if not self.in_trouble and now - self._last_answer >= tolerance > 0:
            self._last_answer = now  # the pause alone was longer than the tolerance, which says nothing of the server
        since = self._last_answer
        if not self.in_trouble:
            limit = "the wait's timeout" if self.policy.ignore_errors else f"up to {_duration(tolerance)}"
            self._note(
                logging.WARNING, f"Could not poll import job {self.job_id}: {_plain(error)}. Asking again, for {limit}"
            )
        self.seen = replace(self.seen, trouble_since=since)
        if now - since >= tolerance and not self.policy.ignore_errors:
            return self._end(
                Ending.UNAVAILABLE,
                f"Could not poll {self.subject} for {_duration(now - since)}. Last error: {_plain(error)}. "
                f"{self._untouched()}",
                error,
            )
        at_most = math.inf if self.policy.ignore_errors else since + tolerance - now
        return self._wait_on(now, getattr(error, "retry_after", None), at_most)

    def _answered(self, now: float) -> None:
        if self.in_trouble:
            self._note(logging.INFO, f"The server answers again, after {_duration(now - self._last_answer)}")
            self.seen = replace(self.seen, trouble_since=None)
        self._last_answer = now

    def _wait_on(self, now: float, retry_after: float | None = None, at_most: float = math.inf) -> Step:
        for ending, deadline, name in (
            (Ending.TIMED_OUT, self.policy.deadline, "timeout"),
            (Ending.EXECUTION_TIMED_OUT, self.policy.execution_deadline, "execution_timeout"),
        ):
            if deadline is not None and now >= deadline:
                waited = _duration(now - self.policy.started_at)
                return self._end(
                    ending, f"Timed out ({name}) after {waited} of waiting for {self.subject}. {self._untouched()}"
                )
        return Step(delay=self.policy.delay(now, retry_after, at_most), notes=self._take_notes())

    def _end(
        self, ending: Ending, message: str, error: ZillizError | None = None, progress: ImportProgress | None = None
    ) -> Step:
        return Step(notes=self._take_notes(), end=WaitEnd.of(ending, message, error, progress))

    def _failed_message(self, progress: ImportProgress) -> str:
        subject = self.subject[0].upper() + self.subject[1:]
        text = f"{subject} failed: {progress.reason or 'the server gave no reason'}"
        if files := progress.file_reasons:
            told = (name if reason == progress.reason else f"{name}: {reason}" for name, reason in files)
            text += f" | files: {'; '.join(told)}"
        return text

    def _unknown_message(self, error: ZillizError) -> str:
        return (
            f"The server does not know {self.subject}: {_plain(error)}. Most likely the job ended long ago and was "
            "forgotten (Milvus keeps ended jobs 3 hours before 2.6.24 and 3.0.2, 48 hours since), else the job id or "
            f"the cluster is another's. {self._last_seen()}"
        )

    def _untouched(self) -> str:
        return f"{self._last_seen()}; the job itself was not touched"

    def _last_seen(self) -> str:
        if self.seen.summary is None or self.seen.at is None:
            return "The job's state has not been seen in this wait"
        moment = datetime.fromtimestamp(self.seen.at, timezone.utc)
        return f"The job was {self.seen.summary} when last seen, {moment:%Y-%m-%d %H:%M:%S} UTC"

    def _note(self, level: int, text: str) -> None:
        self._notes.append((level, text))

    def _warn_once(self, key: str, text: str) -> None:
        if key not in self.seen.told:
            self.seen = replace(self.seen, told=(*self.seen.told, key))
            self._note(logging.WARNING, text)

    def _take_notes(self) -> tuple[tuple[int, str], ...]:
        notes = tuple(self._notes)
        self._notes.clear()
        return notes


def _plain(error: ZillizError) -> str:
    return str(error).rstrip(". ")


def _duration(seconds: float) -> str:
    """Return a duration as a person says it: 45 s, 14 min, 3 h 20 min."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    if minutes < 2:
        return f"{minutes * 60 + rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
