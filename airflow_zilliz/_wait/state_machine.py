"""One wait as a state machine without I/O and clock: it decides what to do, given the result of a poll and ``now``.

Poke, reschedule and deferrable mode use the same machine, so that they cannot differ. Times are wall-clock
seconds since the epoch, never monotonic ones: a deadline crosses processes and machines.

The module is longer than others, so that one class has every transition of a wait.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._wait import texts
from airflow_zilliz._wait.checkpoint import EMPTY_CHECKPOINT, Checkpoint, duration
from airflow_zilliz._wait.clock import WaitClock
from airflow_zilliz._wait.outcome import Ending, Outcome
from airflow_zilliz._wait.policy import WaitPolicy
from airflow_zilliz._wait.texts import plain
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizConfigError,
    ZillizError,
    ZillizJobNotFound,
    ZillizUnavailable,
)

if TYPE_CHECKING:
    from airflow_zilliz._wait.description_retry import DescriptionRetry

#: An unknown job is tolerated for this long: from the start of the wait, since it may just have been submitted; if the
#: wait has seen the job, from the first such response, since a fail-over may hide it.
UNKNOWN_JOB_GRACE = 60.0
#: Rate limiting is tolerated for at least this long, whatever the tolerance is.
THROTTLE_GRACE = 60.0
#: A poll that got no usable response is retried after this long at the latest, even if poke_interval is longer.
TROUBLE_DELAY = 30.0
#: Polls that fail again within this time of the last failure are the same trouble, which is logged once.
STEADY = 1800.0
#: A poll after a deadline that got no usable response is retried once, after this long.
LAST_POLL_DELAY = 2.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do after a poll.

    :param delay: seconds until the next one; meaningless once ``end`` is set
    :param notes: lines for the task's log, each with its level of `logging`
    :param end: how the wait ended, None while it continues
    :param look_up_connection: look the connection up again before the next poll, since key or host may have changed
    :param job: the job as the poll showed it, described or listed; None if it did not, or showed it unchanged
    """

    delay: float = 0.0
    notes: tuple[tuple[int, str], ...] = ()
    end: Outcome | None = None
    look_up_connection: bool = False
    job: ImportProgress | None = None

    @property
    def is_last(self) -> bool:
        """Whether polling ends, or goes on only once the connection was looked up again."""
        return self.end is not None or self.look_up_connection


#: Before the first poll.
NOT_POLLED = Decision()


@dataclass(slots=True)
class ImportWait:
    """The wait for one job.

    :param conn_id: named in messages
    :param target: where the job lives, named in messages
    :param started_at: when the wait began, epoch seconds
    :param now: when this process began to poll, epoch seconds; trouble counts from here at the earliest
    :param seen: the checkpoint of an earlier process of the same wait
    :param undescribed: how the job ended according to a job list; its description is still to be requested
    :param deadline: when the wait times out, epoch seconds; None for never
    :param execution_deadline: when the task's ``execution_timeout`` passes, epoch seconds; None for never
    :param spread: the fraction of each pause to use while the wait is young, see `spread_of`
    :param is_one_of_many: do not log the job's progress, since that of many jobs is logged together
    """

    job_id: str
    conn_id: str
    target: Target
    policy: WaitPolicy
    started_at: float
    now: float
    seen: Checkpoint = EMPTY_CHECKPOINT
    undescribed: Outcome | None = None
    deadline: float | None = None
    execution_deadline: float | None = None
    spread: float = 1.0
    is_one_of_many: bool = False
    #: whether this process has polled the job, successfully or not
    is_polled: bool = field(default=False, init=False)
    _notes: tuple[tuple[int, str], ...] = field(default=(), init=False, repr=False)
    _listed_at: float | None = field(default=None, init=False, repr=False)
    _key_refused: bool = field(default=False, init=False, repr=False)
    _clock: WaitClock = field(init=False, repr=False)
    _description_retry: DescriptionRetry | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.undescribed is not None:
            from airflow_zilliz._wait.description_retry import DescriptionRetry  # here, since parsing a DAG needs none

            self._description_retry = DescriptionRetry(f"{self.job_id} {self.now}", self.now)
        seen = self.seen
        last_response = seen.trouble_since if seen.trouble_since is not None else self.now
        self._clock = WaitClock(self.now, seen.polled_at, seen.due, last_response)

    @property
    def in_trouble(self) -> bool:
        """Whether the last poll got no usable response."""
        return self.seen.trouble_since is not None

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last poll did not show the job; for how long must be remembered."""
        return self.in_trouble or self.seen.unknown_since is not None

    @property
    def has_seen_the_job(self) -> bool:
        """Whether a poll of this wait has shown the job."""
        return self.seen.at is not None or self._listed_at is not None

    @property
    def state_word(self) -> str | None:
        """The job's state when last seen; None if no poll has shown it."""
        return self.seen.summary.partition(" ")[0].rstrip(",") if self.seen.summary else None

    @property
    def can_be_listed(self) -> bool:
        """Whether a job list can end this wait; not every list is known to show Uncommitted (wire 5)."""
        return self.policy.target_state is ImportState.COMPLETED and not self.seen.distrusts_list

    @property
    def ends_by(self) -> float | None:
        """The earlier of the two deadlines, None for never."""
        if self.deadline is None or self.execution_deadline is None:
            return self.deadline if self.execution_deadline is None else self.execution_deadline
        return min(self.deadline, self.execution_deadline)

    def delay(self, now: float, retry_after: float | None = None, at_most: float = math.inf) -> float:
        """Return the seconds until the next poll: as `WaitPolicy.delay` says, but never beyond a deadline."""
        delay = self.policy.delay(now - self.started_at, self.spread, retry_after, at_most)
        ends_by = self.ends_by
        return delay if ends_by is None else max(0.0, min(delay, ends_by - now))

    def on_progress(self, progress: ImportProgress, now: float) -> Decision:
        """Handle the job as the server just described it."""
        self._on_poll(now)
        self._on_response(now)
        self._job_is_known()
        self._key_refused = False
        summary = progress.summary()
        if summary != self.seen.summary and not self.is_one_of_many:
            self._note(logging.INFO, f"Import job {self.job_id}: {summary}{self.seen.pace(progress, now)}")
        self.seen = replace(self.seen.read(progress, now), summary=summary)
        if progress.state is ImportState.FAILED:
            return self._end(Ending.JOB_FAILED, texts.failed(self.subject, progress), progress=progress)
        if self._is_reached(progress.state):
            return self._end(Ending.REACHED, f"{self.subject} is {summary}", progress=progress)
        if self.undescribed is not None:
            self.undescribed = None
            self.seen = replace(self.seen, distrusts_list=True)
            self._note(
                logging.WARNING,
                f"The job list says that import job {self.job_id} has ended, but its own description says {summary}: "
                "relying on the description alone",
            )
        return self._on_running(progress, now)

    def on_listed(self, listed: ImportProgress, now: float) -> Decision:
        """Handle the job as a job list shows it: its state, on Milvus with percentage and reason, no rows."""
        self._on_poll(now)
        self._on_response(now, "job list")
        self._job_is_known()
        if listed.state.is_final:
            return self._end_by_list(listed)
        self._read_list(listed, now)
        self._listed_at = now
        return self._on_running(listed, now)

    def on_unchanged(self, now: float) -> Decision:
        """Handle a job list that shows the running job as this wait last read it there."""
        self._on_poll(now)
        self._on_response(now, "job list")
        self._job_is_known()
        self._listed_at = now
        return self._continue(now)

    def on_list_useless(self, error: Exception, now: float) -> Decision:
        """Handle a job list that cannot be used: each job is described instead, which costs more."""
        self._warn_once("list", f"Describing each job by itself, since the server's job list cannot be used: {error}")
        return Decision(delay=self.delay(now), notes=self._take_notes())

    def on_overdue(self, now: float) -> Decision:
        """Handle a deadline that passed long ago without a poll since."""
        delay = self.delay(now)
        return Decision(delay, self._take_notes()) if delay > 0 else self._time_out(now)

    def on_error(self, error: ZillizError, now: float, server_responded_at: float = -math.inf) -> Decision:
        """Handle a failed poll.

        :param server_responded_at: when the server last sent a usable response to anyone, epoch seconds: rate limiting
            costs a wait none of its tolerance as long as other requests succeed
        """
        self._on_poll(now)
        may_be_rotated = isinstance(error, ZillizAuthError) and not self._key_refused and not self.policy.ignore_errors
        if self.undescribed is not None and not may_be_rotated:
            return self._retry_description_or_end(self.undescribed, error, now)
        if isinstance(error, ZillizUnavailable) and error.is_throttling:
            self._clock.last_response = max(self._clock.last_response, server_responded_at)
        if isinstance(error, ZillizUnavailable) or self._was_good_before(error):
            return self._on_unavailable(error, now)
        if isinstance(error, ZillizJobNotFound):
            return self._on_unknown_job(error, now)
        if self.policy.ignore_errors:
            key = f"{type(error).__name__} {getattr(error, 'code', None)}"
            self._warn_once(key, f"{plain(error)}. silent_fail=True, so the wait continues")
            return self._wait_on(now)
        if isinstance(error, ZillizAuthError):
            if not self._key_refused:
                self._key_refused = True
                self._note(
                    logging.WARNING, f"The key was refused ({error}); looking connection {self.conn_id!r} up again"
                )
                return Decision(notes=self._take_notes(), look_up_connection=True)
            return self._end(
                Ending.KEY_REFUSED,
                f"Cannot poll {self.subject}: the key was refused, also after the connection was looked up again. "
                f"{plain(error)}. {texts.key_advice(self.conn_id)}. {self._untouched()}",
                error,
            )
        ending = Ending.API_ERROR if isinstance(error, ZillizApiError) else Ending.MISCONFIGURED
        return self._end(ending, f"Cannot poll {self.subject}: {plain(error)}. {self._untouched()}", error)

    def on_backstop(self, *, execution_timeout: bool = False) -> Outcome:
        """Handle a deferral that Airflow ended itself, since no trigger has reported before the deadline.

        :param execution_timeout: whether that was the earlier deadline, instead of the wait's own timeout
        """
        ending = Ending.of_deadline(execution_timeout=execution_timeout)
        return Outcome(
            ending,
            f"Timed out ({ending.deadline_name}) waiting for {self.subject}: no triggerer reported before the "
            f"deadline, so none may be running. {self._untouched()}",
        )

    @property
    def subject(self) -> str:
        """The job, its collection if known, and where it lives."""
        return texts.subject(self.job_id, self.conn_id, self.target, self.seen)

    def _is_reached(self, state: ImportState) -> bool:
        if state is ImportState.COMPLETED or state is self.policy.target_state:
            return True
        # a wait for Uncommitted that finds the commit begun has missed nothing
        return self.policy.target_state is ImportState.UNCOMMITTED and state is ImportState.COMMITTING

    def _on_poll(self, now: float) -> None:
        self.is_polled = True
        if moved := self._clock.on_poll(now):
            self.seen = self.seen.moved_by(moved)

    def _was_good_before(self, error: ZillizError) -> bool:
        """Whether the error blames a request or a connection with which this wait has seen the job.

        Servers also send such errors while they start, and Airflow raises them while its database is unreachable.
        """
        passes = isinstance(error, (ZillizApiError, ZillizConfigError))
        return passes and not isinstance(error, (ZillizAuthError, ZillizJobNotFound)) and self.has_seen_the_job

    def _on_unavailable(self, error: ZillizError, now: float) -> Decision:
        tolerance = self.policy.poll_failure_tolerance
        if not self.in_trouble and now - self._clock.last_response >= tolerance > 0:
            self._clock.last_response = now  # a pause longer than the tolerance says nothing about the server
        since = self._clock.last_response
        is_throttling = isinstance(error, ZillizUnavailable) and error.is_throttling
        if is_throttling:
            tolerance = max(tolerance, THROTTLE_GRACE)
        if not self.in_trouble:
            self._clock.on_trouble(now)
            limit = "the wait's timeout" if self.policy.ignore_errors else f"up to {duration(tolerance)}"
            self._note_trouble(f"{plain(error)}. Retrying for {limit}", now)
        self.seen = replace(self.seen, trouble_since=since, failed_at=now)
        if now - since >= tolerance and not self.policy.ignore_errors:
            return self._end(
                Ending.UNAVAILABLE,
                f"Could not poll {self.subject} for {duration(now - since)}. Last error: {plain(error)}. "
                f"{self._untouched()}",
                error,
            )
        at_most = TROUBLE_DELAY if self.policy.ignore_errors else min(TROUBLE_DELAY, since + tolerance - now)
        step = self._wait_on(now, getattr(error, "retry_after", None), at_most)
        look_up = step.end is None and not is_throttling and self._clock.may_have_moved(now)
        return replace(step, look_up_connection=True) if look_up else step

    def _note_trouble(self, text: str, now: float) -> None:
        """Log trouble once, also when good and bad responses alternate."""
        failed_at = self.seen.failed_at
        if failed_at is None or now - failed_at >= STEADY:
            self.seen = self.seen.without("failing again")
            self._note(logging.WARNING, f"Could not poll import job {self.job_id}: {text}")
        else:
            self._warn_once(
                "failing again",
                f"Polls of import job {self.job_id} fail again, with good responses in between: {text}. This is "
                f"not logged again until polls have succeeded for {duration(STEADY)}",
            )

    def _on_unknown_job(self, error: ZillizJobNotFound, now: float) -> Decision:
        """Wait for a job that may not exist yet, may be hidden by a fail-over, or may be elsewhere by now."""
        self._on_response(now)
        was_seen, look_up = self.has_seen_the_job, False
        if (since := self.seen.unknown_since) is None:
            since, look_up = (now, True) if was_seen else (min(self.started_at, now), False)
            self.seen = replace(self.seen, unknown_since=since)
        left = since + UNKNOWN_JOB_GRACE - now
        if left <= 0 and not self.policy.ignore_errors:
            return self._end(Ending.UNKNOWN_JOB, texts.forgotten(self.subject, error, self._last_seen()), error)
        known = "any longer, although this wait has seen it" if was_seen else "yet"
        self._warn_once("unknown job", f"Import job {self.job_id} is not known to the server {known}: {error}")
        step = self._wait_on(now, at_most=math.inf if self.policy.ignore_errors else left)
        return replace(step, look_up_connection=look_up and step.end is None)

    def _job_is_known(self) -> None:
        if self.seen.unknown_since is not None:
            self.seen = replace(self.seen.without("unknown job"), unknown_since=None, polled_at=None, due=None)

    def _retry_description_or_end(self, undescribed: Outcome, error: ZillizError, now: float) -> Decision:
        """Retry the description, or end as the list said."""
        pause = None
        if isinstance(error, ZillizUnavailable) and self._description_retry is not None:
            pause = self._description_retry.pause(undescribed.ending, error, now)
        if pause is not None:
            return Decision(delay=pause, notes=self._take_notes())
        lost = "rows are unknown" if undescribed.ending is Ending.REACHED else "its reason is the list's, if any"
        self._note(
            logging.WARNING,
            f"{undescribed.message}; this comes from the job list, and {lost}, since its description is not available: "
            f"{plain(error)}",
        )
        return Decision(notes=self._take_notes(), end=undescribed)

    def _end_by_list(self, listed: ImportProgress) -> Decision:
        if listed.state is ImportState.FAILED:
            return self._end(Ending.JOB_FAILED, texts.failed(self.subject, listed), listed=listed)
        return self._end(Ending.REACHED, f"{self.subject} is {listed.state_word}", listed=listed)

    def _read_list(self, listed: ImportProgress, now: float) -> None:
        seen, pace = self.seen, ""
        if listed.raw.get("progress") is not None:
            self.seen, summary, pace = seen.read(listed, now), listed.summary(), str(seen.pace(listed, now))
            moved = self.seen.moved_at != seen.moved_at
        else:
            moved, summary = self._reads_new_word(listed), listed.state_word
        if moved:
            self.seen = replace(self.seen, at=now, summary=summary, listed=listed.state_word)
            if not self.is_one_of_many:
                self._note(logging.INFO, f"Import job {self.job_id}: {summary}{pace}")

    def _reads_new_word(self, listed: ImportProgress) -> bool:
        """Whether a list's bare state is new; its one word for running also stands for the later states."""
        if listed.state is ImportState.IMPORTING and self.seen.state not in (None, ImportState.PENDING.value):
            return False
        return listed.state_word != (self.seen.listed or self.seen.state)

    def _on_running(self, job: ImportProgress, now: float) -> Decision:
        """Continue to wait for a running job, and log what a person should know about it."""
        if job.state is ImportState.UNCOMMITTED:
            self._warn_once(
                "uncommitted",
                f"Import job {self.job_id} is Uncommitted: it needs a commit (or an abort) from elsewhere before it "
                "can complete. To continue at this state, set target_state='Uncommitted'",
            )
        elif job.state is ImportState.UNKNOWN:
            self._warn_once(
                f"word {job.state_word}",
                f"Import job {self.job_id} is in state {job.state_word!r}, which this provider does not know: "
                "treating it as running",
            )
        return self._continue(now, job)

    def _continue(self, now: float, job: ImportProgress | None = None) -> Decision:
        limit, moved_at = self.policy.stall_warning, self.seen.moved_at
        if limit is not None and moved_at is not None and now - moved_at >= limit and self.seen.summary:
            self._warn_once(
                "stall",
                f"Import job {self.job_id} has not changed for {duration(now - moved_at)}: {self.seen.summary}. "
                "That alone is not an error: Milvus, for example, stays at 80 % while it builds the index",
            )
        return self._wait_on(now, job=job)

    def _on_response(self, now: float, what: str = "server") -> None:
        if self.in_trouble:
            if "failing again" not in self.seen.told:
                self._note(logging.INFO, f"The {what} responds again after {duration(now - self._clock.last_response)}")
            self.seen = replace(self.seen, trouble_since=None, polled_at=None, due=None)
        self._clock.last_response = now

    def _wait_on(
        self,
        now: float,
        retry_after: float | None = None,
        at_most: float = math.inf,
        job: ImportProgress | None = None,
    ) -> Decision:
        delay = self.delay(now, retry_after, at_most)
        if delay <= 0 and self.in_trouble and not self._clock.had_a_poll_since(self.ends_by):
            delay = LAST_POLL_DELAY  # one failed poll after a deadline does not show whether the job is done
        if delay <= 0:
            return self._time_out(now)
        self._clock.plan(delay)
        if self.is_in_doubt:
            self.seen = replace(self.seen, polled_at=now, due=self._clock.due)
        return Decision(delay, self._take_notes(), job=job)

    def _time_out(self, now: float) -> Decision:
        in_time = self.deadline is None or now < self.deadline
        ending = Ending.of_deadline(execution_timeout=in_time)
        waited = duration(now - self.started_at)
        return self._end(
            ending,
            f"Timed out ({ending.deadline_name}) after {waited} of waiting for {self.subject}. {self._untouched()}",
        )

    def _end(
        self,
        ending: Ending,
        message: str,
        error: ZillizError | None = None,
        progress: ImportProgress | None = None,
        listed: ImportProgress | None = None,
    ) -> Decision:
        return Decision(notes=self._take_notes(), end=Outcome.of(ending, message, error, progress, listed))

    def _untouched(self) -> str:
        return f"{self._last_seen()}; the job itself was not touched"

    def _last_seen(self) -> str:
        return texts.last_seen(self.seen, self._listed_at)

    def _note(self, level: int, text: str) -> None:
        self._notes += ((level, text),)

    def _warn_once(self, key: str, text: str) -> None:
        if key not in self.seen.told:
            self.seen = replace(self.seen, told=(*self.seen.told, key))
            self._note(logging.WARNING, text)

    def _take_notes(self) -> tuple[tuple[int, str], ...]:
        notes, self._notes = self._notes, ()
        return notes
