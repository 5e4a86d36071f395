"""A client-side limit on the requests that one process sends to one endpoint path."""

from __future__ import annotations

import math
import threading

from airflow_zilliz.connection import Endpoint

#: The most that being asked to slow down stretches the pauses between requests.
MAX_STRETCH = 16.0
#: After so many seconds without being asked again a stretch is half of what it was.
HALF_LIFE = 10.0


class Pacer:
    """Hands out times to send at, evenly spaced, and further apart for a while after the server asked for that.

    Times are seconds of any clock that does not jump.
    """

    def __init__(self) -> None:
        self._next = 0.0
        self._stretch = 1.0
        self._slowed_at = -1.0
        self._lock = threading.Lock()

    def reserve(self, now: float, per_second: float, together: float = 1) -> float:
        """Take the next free time and return the seconds until it.

        :param per_second: the most requests per second
        :param together: how many requests go out at that time; the next ones are that much later
        """
        with self._lock:
            at = max(now, self._next)
            self._next = at + together * self._stretch_at(at) / per_second
        return at - now

    def slow_down(self, now: float) -> None:
        """Halve the rate; once a second at the most, since requests on their way are refused together."""
        with self._lock:
            if now - self._slowed_at >= 1:
                self._stretch = min(MAX_STRETCH, self._stretch_at(now) * 2)
                self._slowed_at = now

    def _stretch_at(self, now: float) -> float:
        return max(1.0, self._stretch * math.pow(0.5, (now - self._slowed_at) / HALF_LIFE))


_pacers: dict[tuple[str, str], Pacer] = {}


def pacer_of(endpoint: Endpoint, path: str) -> Pacer:
    """Return the pacer that all callers of this process share for an endpoint's path."""
    return _pacers.setdefault((endpoint.base_url, path), Pacer())
