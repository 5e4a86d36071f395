"""The order in which one process sends its requests to one path with one key, for all targets."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._transport.rate_limiter import Account, RateLimiter, account_of, limiter_of

#: The part of the ceiling for requests that poll young waits sooner than poke_interval: another triggerer, and anything
#: else that uses the key, shares the server's limit.
EAGER_SHARE = 0.5
#: The part of the ceiling for waits that lists show already, as long as none is late.
REFRESH_SHARE = 0.05
#: The resolution of timers, in seconds.
_TICK = 1e-6


@dataclass(eq=False)
class Need:
    """How urgent a request is. Times are the loop's.

    :param since: when it was due
    :param pace: seconds from one poll to the next of the wait that needs it most
    :param eager_until: before this time, it comes sooner than poke_interval requires
    :param is_refresh: whether it is for a wait that a list shows already
    :param is_late: whether it is a refresh that is long overdue
    """

    since: float
    pace: float
    eager_until: float = -math.inf
    is_refresh: bool = False
    is_late: bool = False

    def urgency(self, now: float) -> float:
        """Return how late it is relative to its pace: if not all can be in time, all are late by the same fraction."""
        return (now - self.since) / max(self.pace, 0.1)


@dataclass(eq=False)
class Turn:
    """A request, or several that go out together, in a queue."""

    need: Need
    ceiling: float
    together: int
    granted: asyncio.Future[None]


class Turns:
    """Decides which request is sent next, without I/O and without a clock."""

    def __init__(self) -> None:
        self._turns: dict[Turn, None] = {}
        self._eager_at = -math.inf
        self._refresh_at = -math.inf

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, turn: Turn) -> None:
        """Let a request wait for its turn."""
        self._turns[turn] = None

    def remove(self, turn: Turn) -> None:
        """Remove a request, which may be gone already."""
        self._turns.pop(turn, None)

    def all(self) -> list[Turn]:
        """Return all waiting requests."""
        return list(self._turns)

    def next_at(self, now: float) -> float:
        """Return when a request of an allowed kind can be sent, infinity for never."""
        first = math.inf
        for turn in self._turns:
            first = min(first, self.allowed_at(turn, now))
            if first <= now:
                break
        return first

    def pop(self, now: float) -> Turn | None:
        """Remove and return the most urgent request of an allowed kind; refreshes come last."""
        found, most = None, -math.inf
        for turn in self._turns:  # thousands, if a key has many targets
            urgency = turn.need.urgency(now) if not turn.need.is_refresh else -math.inf
            if (found is None or urgency > most) and self.allowed_at(turn, now) <= now + _TICK:
                found, most = turn, urgency
        if found is None:
            return None
        if found.need.is_refresh:
            share = EAGER_SHARE if found.need.is_late else REFRESH_SHARE
            self._refresh_at = now + found.together / (share * found.ceiling)
        elif now < found.need.eager_until:
            self._eager_at = now + found.together / (EAGER_SHARE * found.ceiling)
        del self._turns[found]
        return found

    def allowed_at(self, turn: Turn, now: float) -> float:
        """Return when a request of its kind is allowed."""
        need = turn.need
        if need.is_refresh:
            return self._refresh_at
        return min(self._eager_at, need.eager_until) if now < need.eager_until else now


class RequestQueue:
    """Lets requests be sent when the rate limit allows it, the most urgent first."""

    def __init__(self, limiter: RateLimiter) -> None:
        self.limiter = limiter
        self._loop = asyncio.get_running_loop()
        self._turns = Turns()
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, need: Need, ceiling: float, together: int = 1) -> None:
        """Wait for the turn of one or more requests.

        :param ceiling: the most requests per second
        """
        turn = Turn(need, ceiling, together, self._loop.create_future())
        self._turns.add(turn)
        now = self._loop.time()
        at = max(now + self.limiter.free_in(now), self._turns.allowed_at(turn, now))
        if self._timer is None or at < self._timer.when():
            self._wake_at(at)
        try:
            await turn.granted
        finally:
            self._turns.remove(turn)

    def fail(self, error: Exception) -> None:
        """Fail every request that waits for its turn."""
        for turn in self._turns.all():
            self._turns.remove(turn)
            if not turn.granted.done():
                turn.granted.set_exception(error)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._grant) if at < math.inf else None

    def _grant(self) -> None:
        now = self._loop.time()
        if self.limiter.free_in(now) <= _TICK and (turn := self._turns.pop(now)) is not None:
            is_eager = now < turn.need.eager_until and not turn.need.is_refresh
            at_most = EAGER_SHARE * turn.ceiling if is_eager else math.inf
            self.limiter.take(now, turn.ceiling, turn.together, at_most)
            if not turn.granted.done():
                turn.granted.set_result(None)
        self._wake_at(max(now + self.limiter.free_in(now), self._turns.next_at(now)))


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[Account, str], RequestQueue]] = WeakKeyDictionary()


def queue_of(endpoint: Endpoint, path: str) -> RequestQueue:
    """Return the queue that all targets of this loop share for a path of an endpoint and its key."""
    queues = _queues.setdefault(asyncio.get_running_loop(), {})
    key = account_of(endpoint), path
    if key not in queues:
        queues[key] = RequestQueue(limiter_of(endpoint, path))
    return queues[key]
