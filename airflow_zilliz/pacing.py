"""A client-side limit on the requests that one process sends to one endpoint path."""

from __future__ import annotations

import threading

from airflow_zilliz.connection import Endpoint


class Pacer:
    """Hands out times to send at, spaced evenly.

    :param per_second: the most requests per second
    """

    def __init__(self, per_second: float) -> None:
        self._spacing = 1 / per_second
        self._next = 0.0
        self._lock = threading.Lock()

    def reserve(self, now: float) -> float:
        """Take the next free time and return the seconds until it.

        :param now: seconds of any clock that does not jump
        """
        with self._lock:
            at = max(now, self._next)
            self._next = at + self._spacing
        return at - now


_pacers: dict[tuple[str, str, float], Pacer] = {}


def pacer_of(endpoint: Endpoint, path: str) -> Pacer:
    """Return the pacer that all callers of this process share for an endpoint's path."""
    key = (endpoint.base_url, path, endpoint.max_requests_per_second)
    pacer = _pacers.get(key)
    if pacer is None:
        pacer = _pacers.setdefault(key, Pacer(endpoint.max_requests_per_second))
    return pacer
