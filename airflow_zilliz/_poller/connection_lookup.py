"""One look-up of a connection for all triggers of a process that start together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from weakref import WeakKeyDictionary

from airflow_zilliz._poller.subscriber import Subscriber
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz.hooks import ZillizHook

#: For how many seconds triggers that start together share one look-up of their connection.
LOOKUP_SECONDS = 5.0
#: After so many subscriptions, other triggers get their turn on the loop.
_SLICE = 100

HandOver = Callable[[Subscriber, Endpoint], None]


async def endpoint_of_connection(conn_id: str) -> Endpoint:
    """Look a connection up, together with other triggers; raises as `ZillizHook.endpoint` does."""
    return await asyncio.shield(lookup_of(conn_id, 0.0).task)


def lookup_of(conn_id: str, not_before: float) -> Lookup:
    """Return a look-up of a connection, which may be in flight.

    :param not_before: the loop's time at which it must have begun at the earliest
    """
    loop = asyncio.get_running_loop()
    known = _lookups.setdefault(loop, {})
    lookup = known.get(conn_id)
    if lookup is None or lookup.began < max(not_before, loop.time() - LOOKUP_SECONDS) or lookup.failed:
        lookup = known[conn_id] = Lookup(conn_id, loop)
    return lookup


class Lookup:
    """One look-up of a connection, for which many subscribers wait; any of them may leave."""

    def __init__(self, conn_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self.began = loop.time()
        self.task = loop.create_task(ZillizHook(conn_id).aendpoint())
        self.task.add_done_callback(self._on_done)
        self._waiting: dict[Subscriber, HandOver] = {}
        self._forwarding: asyncio.Task[None] | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended without an endpoint."""
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)

    def add(self, subscriber: Subscriber, hand_over: HandOver) -> None:
        """Let a subscriber wait for the endpoint, or pass it on if it is known."""
        if self.task.done():
            hand_over(subscriber, self.task.result())
        else:
            subscriber.holder = self
            self._waiting[subscriber] = hand_over

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber."""
        self._waiting.pop(subscriber, None)

    def _on_done(self, task: asyncio.Task[Endpoint]) -> None:
        if not task.cancelled():
            self._forwarding = task.get_loop().create_task(self._forward(task))
            return
        for subscriber in self._waiting:
            subscriber.fail(asyncio.CancelledError())

    async def _forward(self, task: asyncio.Task[Endpoint]) -> None:
        error = task.exception()
        while self._waiting:
            for subscriber in list(islice(self._waiting, _SLICE)):
                hand_over = self._waiting.pop(subscriber)
                if error is None:
                    hand_over(subscriber, task.result())
                else:
                    subscriber.fail(error)
            await asyncio.sleep(0)


_lookups: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Lookup]] = WeakKeyDictionary()
