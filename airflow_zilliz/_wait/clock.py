"""Since when a wait has been in trouble, derived from the times of its polls. No I/O, and no clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

#: A poll that is this much overdue means that the machine slept, or that its clock was set.
LATE = 60.0
#: The connection is looked up again after this long of trouble, then each time that the trouble has lasted twice as
#: long, but at least every LOOK_UP_EVERY seconds: the host may have moved.
LOOK_UP_AFTER, LOOK_UP_EVERY = 2.0, 120.0


@dataclass(slots=True)
class WaitClock:
    """The times that a wait keeps. They are epoch seconds.

    :param now: when this process began to poll
    :param polled_at: when the last poll was made, None if not known
    :param due: when the poll after it is due, None if not known
    :param last_response: when the last usable response came; before there was one, from when trouble counts
    """

    now: float
    polled_at: float | None
    due: float | None
    last_response: float
    #: when the poll before the last one was made
    polled_before: float | None = field(default=None, init=False)
    _is_late: bool = field(default=False, init=False)
    _trouble_began: float = field(default=0.0, init=False)
    _look_up_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if self.polled_at is None:
            self.due = self.now
        self.on_trouble(self.now)

    def on_poll(self, now: float) -> float:
        """Count a poll, and return by how many seconds all earlier times move.

        Time without polls, and time by which a clock was set back, does not count as trouble. A poll that is late twice
        in a row is late for another reason, and that time counts.
        """
        began = self.now if self.polled_at is None else self.polled_at
        self._is_late = self.due is not None and now > self.due + LATE
        gone_by = now - began if now < began or self._is_late else 0.0
        self.last_response += gone_by
        self._trouble_began += gone_by
        self._look_up_at += gone_by
        self.polled_before, self.polled_at = self.polled_at, now
        return gone_by

    def plan(self, delay: float) -> None:
        """Note when the next poll is due, in seconds from the last one."""
        self.due = None if self._is_late or self.polled_at is None else self.polled_at + delay

    def on_trouble(self, now: float) -> None:
        """Begin to count trouble."""
        self._trouble_began, self._look_up_at = now, now + LOOK_UP_AFTER

    def may_have_moved(self, now: float) -> bool:
        """Whether it is time to look the connection up again; if so, plan the next time."""
        if now < self._look_up_at:
            return False
        self._look_up_at = now + min(now - self._trouble_began, LOOK_UP_EVERY)
        return True

    def had_a_poll_since(self, time: float | None) -> bool:
        """Whether a poll before the last one was made after a time; False if that is None."""
        return time is not None and self.polled_before is not None and self.polled_before >= time
