"""A client-side limit on the requests that one process sends to one path of an endpoint with one key.

The server's limit belongs to the key, and other processes use the same key. A process does not know how many they are,
so its rate follows from refusals: it grows slowly, and each 429 reduces it, by a larger part the higher it is. So
processes that share a key approach equal rates: the one that sends more is refused more often and gives back more.
"""

from __future__ import annotations

import hashlib
import math
import random
import threading
from collections.abc import Callable, Iterable

from airflow_zilliz._transport.endpoint import Endpoint

#: The part of the ceiling to begin with, unless more is needed: nothing is known of the other processes yet.
FIRST_SHARE = 0.45
#: How long the rate takes to double, in seconds, until the first refusal.
DOUBLING_SECONDS = 12.0
#: A refusal within the first FIRST_RESPONSES responses means that many processes began together: it takes FIRST_CUT
#: of the rate.
FIRST_RESPONSES = 60
FIRST_CUT = 0.65
#: A later refusal takes the fraction CUT_PER_RATE times the rate, and never more than MAX_CUT.
CUT_PER_RATE = 0.1
MAX_CUT = 0.5
#: Requests in flight together are refused together: within so many seconds only the first refusal counts.
CUT_SECONDS = 1.0
#: After a cut the rate grows each second by its square times GROWTH, and by SLOW_GROWTH times the cube of the minutes
#: since then; below about 3/s by LEAST_GROWTH. With the square alone, processes that share a key took minutes to
#: approach equal rates; with more, more than 2 % of their requests are refused.
GROWTH = 0.00125
LEAST_GROWTH = 0.006
SLOW_GROWTH = 0.1
#: If every request between two refusals was refused, the rate is halved, and then takes so many seconds to double.
RECOVERY_SECONDS = 5.0
#: The fewest requests per second, whatever is refused.
FLOOR = 0.25
#: Below the ceiling, pauses vary by this part, so that processes do not send in step.
JITTER = 0.05


class RateLimiter:
    """Assigns times to send at, further apart for a while after a server refused a request.

    Times are seconds of any clock that does not jump.

    :param draw: returns a number from 0 to 1 at random
    :param siblings: the limiters of the key's other paths, where the same processes send
    """

    def __init__(self, draw: Callable[[], float] = random.random, siblings: Iterable[RateLimiter] = ()) -> None:
        #: when the server last responded to this process with something other than a refusal
        self.responded_at = -math.inf
        self._draw = draw
        self._siblings = siblings
        self._lock = threading.Lock()
        self._next = 0.0
        self._paused_until = -math.inf
        self._refused_since: float | None = None
        self._needed = 0.0
        self._began: float | None = None
        self._cut_at: float | None = None
        #: the rate right after the last cut, and the rate that it soon returns to
        self._cut_to = self._target = 0.0
        self._responses = 0
        self._at_most = math.inf

    def expect(self, per_second: float) -> None:
        """Begin with at least this rate, if nothing is known of the server yet."""
        self._needed = per_second

    def rate(self, now: float, ceiling: float) -> float:
        """Return how many requests per second may be sent.

        :param ceiling: the most
        """
        if self._cut_at is None:
            began = now if self._began is None else self._began
            doublings = min(64.0, (now - began) / DOUBLING_SECONDS)
            return min(ceiling, max(FIRST_SHARE * ceiling, self._needed) * math.pow(2, doublings))
        seconds = max(0.0, now - self._cut_at)
        if self._cut_to < self._target:
            recovery = RECOVERY_SECONDS * math.log2(self._target / self._cut_to)
            if seconds < recovery:
                return min(ceiling, self._cut_to * math.pow(2, seconds / RECOVERY_SECONDS))
            seconds -= recovery
        grown = max(LEAST_GROWTH, GROWTH * self._target**2) * seconds + SLOW_GROWTH * (seconds / 60) ** 3
        return min(ceiling, self._target + grown)

    def reserve(self, now: float, ceiling: float, together: float = 1) -> float:
        """Take the next free time and return the seconds until it.

        :param ceiling: the most requests per second
        :param together: how many requests go out at that time; the next ones are that much later
        """
        with self._lock:
            at = max(now, self._next)
            self._take(at, ceiling, together)
        return at - now

    def free_in(self, now: float) -> float:
        """Return the seconds until something may be sent, including a pause that the server asked for."""
        return max(0.0, self._next - now, self._paused_until - now)

    def take(self, now: float, ceiling: float, together: float = 1, at_most: float = math.inf) -> None:
        """Count requests that are sent now, see `reserve`.

        :param at_most: the most requests of this kind per second; the next refusal cuts this rate if it is lower
        """
        with self._lock:
            self._at_most = at_most
            self._take(max(now, self._next), ceiling, together)

    def paused_for(self, now: float) -> float:
        """Return the seconds that are left of a pause that the server asked for."""
        return max(0.0, self._paused_until - now)

    def refused_for(self, now: float) -> float:
        """Return for how many seconds the server has sent nothing but refusals."""
        return 0.0 if self._refused_since is None else now - self._refused_since

    def on_response(self, now: float) -> None:
        """Note that a request was not refused."""
        self._responses += 1
        self._refused_since = None
        self.responded_at = now

    def on_refusal(self, now: float, sent_at: float, ceiling: float, retry_after: float | None = None) -> None:
        """Slow down.

        :param sent_at: when the refused request was sent
        :param ceiling: the most requests per second
        :param retry_after: the pause that the server asked for, in seconds
        """
        with self._lock:
            self._paused_until = max(self._paused_until, now + (retry_after or 0.0))
            if self._refused_since is None:
                self._refused_since = now
            if self._cut_at is not None and (sent_at < self._cut_at or now - self._cut_at < CUT_SECONDS):
                return
            rate = min(self.rate(now, ceiling), self._at_most)
            if self._cut_at is None and self._responses < FIRST_RESPONSES:
                self._cut_to = self._target = max(FLOOR, rate * (1 - FIRST_CUT))
            elif not self._responses:
                self._cut_to = max(FLOOR, rate / 2)
            else:
                self._cut_to = self._target = max(FLOOR, rate * (1 - min(MAX_CUT, CUT_PER_RATE * rate)))
            self._cut_at = now
            self._responses = 0
            self._next = max(self._next, now + self._pause(1 / self._cut_to))

    def _take(self, at: float, ceiling: float, together: float) -> None:
        if self._began is None:
            self._begin(at, ceiling)
        rate = self.rate(at, ceiling)
        pause = together / rate
        self._next = at + max(together / ceiling, self._pause(pause) if rate < ceiling else 0.0)

    def _begin(self, at: float, ceiling: float) -> None:
        """Begin with the rate of another path, if one is known."""
        self._began = at
        known = [other.rate(at, ceiling) for other in self._siblings if other._cut_at is not None]
        if known and self._cut_at is None:
            self._cut_to = self._target = min(known)
            self._cut_at = at

    def _pause(self, seconds: float) -> float:
        return seconds * (1 + JITTER * (2 * self._draw() - 1))


#: What a server's limit belongs to: the endpoint and a digest of its key.
Account = tuple[str, str]

_limiters: dict[tuple[Account, str], RateLimiter] = {}
_siblings: dict[Account, list[RateLimiter]] = {}


def account_of(endpoint: Endpoint) -> Account:
    """Return what all connections to the same place with the same key have in common."""
    return endpoint.base_url, hashlib.sha256(endpoint.token.encode()).hexdigest()


def limiter_of(endpoint: Endpoint, path: str) -> RateLimiter:
    """Return the limiter that all callers of this process share for a path of an endpoint and its key."""
    account = account_of(endpoint)
    limiter = _limiters.get((account, path))
    if limiter is None:
        siblings = _siblings.setdefault(account, [])
        limiter = _limiters.setdefault((account, path), RateLimiter(siblings=siblings))
        siblings.append(limiter)
    return limiter


def forget_limits() -> None:
    """Forget the rates of all servers: for tests, and for simulations of several processes in one."""
    _limiters.clear()
    _siblings.clear()
