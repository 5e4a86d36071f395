"""Sends one target's requests in their turn, and again if the server refused them while it responded to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from airflow_zilliz._protocol.constants import DESCRIBE, LIST
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.responses import Response
from airflow_zilliz._transport.driver import asend_noted, is_refused
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._transport.rate_limiter import limiter_of
from airflow_zilliz._transport.request_queue import Need, queue_of
from airflow_zilliz.exceptions import ZillizUnavailable

#: A refused request is sent again in its turn as long as the server responded to others within REFUSED_SECONDS, and
#: asked for a pause of at most LONGEST_QUIET_PAUSE. Beyond that, the waits handle the error.
REFUSED_SECONDS = 30.0
LONGEST_QUIET_PAUSE = 10.0


class Sender:
    """Sends the requests of one target.

    :param pause: returns for how many seconds requests to the target pause
    """

    def __init__(self, endpoint: Endpoint, pause: Callable[[], float]) -> None:
        self._endpoint = endpoint
        self._pause = pause
        self._now = asyncio.get_running_loop().time

    def responded_at(self) -> float:
        """Return when the server last responded to anything in this process that uses the key."""
        return max(limiter_of(self._endpoint, path).responded_at for path in (DESCRIBE, LIST))

    async def exchange(self, need: Need, request: Request, *, has_turn: bool = False) -> Response:
        """Send a request in its turn, and again if it was refused and others were not.

        :param has_turn: whether it has waited for its turn already
        :raises ZillizUnavailable: the server is unreachable, or asked for a long pause
        """
        queue = queue_of(self._endpoint, request.path)
        while True:
            if not has_turn:
                await self.turn(request.path, need)
            has_turn = False
            response = await asend_noted(self._endpoint, request)
            if not is_refused(response):
                return response
            if (response.retry_after or 0.0) > LONGEST_QUIET_PAUSE:
                queue.fail(_paused(response.url, queue.limiter.paused_for(self._now())))
                return response
            if queue.limiter.refused_for(self._now()) > REFUSED_SECONDS:
                return response

    async def turn(self, path: str, need: Need, together: int = 1) -> None:
        """Wait for the turn of one or more requests, and for the end of any pause of the target."""
        queue = queue_of(self._endpoint, path)
        pause = 1.0
        while pause > 0:
            if (left := queue.limiter.paused_for(self._now())) > LONGEST_QUIET_PAUSE:
                raise _paused(self._endpoint.base_url, left)
            await queue.turn(need, self._endpoint.max_requests_per_second, together)
            if (pause := self._pause()) > 0:
                await asyncio.sleep(pause)


def _paused(url: str, seconds: float) -> ZillizUnavailable:
    text = f"{url} returned HTTP 429: it asks for a pause of {seconds:.0f} s"
    return ZillizUnavailable(text, retry_after=seconds, http_status=429)
