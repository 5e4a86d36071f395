"""One poll for all waits on one target in one triggerer process: it does what a `Schedule` decides."""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections.abc import Coroutine, Iterable, Iterator
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from airflow_zilliz._poller.connection_lookup import endpoint_of_connection, lookup_of
from airflow_zilliz._poller.due_queue import Description
from airflow_zilliz._poller.page_walker import PageWalker
from airflow_zilliz._poller.scheduler import Schedule
from airflow_zilliz._poller.sender import Sender
from airflow_zilliz._poller.subscriber import Subscriber
from airflow_zilliz._poller.subscription import Subscription
from airflow_zilliz._poller.walk import Walk
from airflow_zilliz._protocol.constants import LIST
from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport.driver import describe, run_async
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._transport.rate_limiter import Account, account_of, limiter_of
from airflow_zilliz._wait.state_machine import ImportWait
from airflow_zilliz.exceptions import ZillizError, ZillizUnavailable

__all__ = ["endpoint_of_connection", "hand_over", "join", "leave", "lookup_of"]

#: Descriptions in flight at a time, including those that wait for their turn.
MAX_IN_FLIGHT = 32
#: How much longer a round takes for each wait, and its maximum, in seconds.
SECONDS_PER_WAIT = 0.0001
LONGEST_ROUND = 0.5


def join(conn_id: str, wait: ImportWait, first_poll: float, looked_up_after: float) -> Subscriber:
    """Subscribe a wait to the polls of its target, once its connection is known.

    The caller awaits the subscription's `changes`, takes its decisions, and calls `leave` after the last one: the end
    of the wait, or a request for a new look-up. There is no coroutine that does this for each caller, and no future of
    the look-up for each: thousands of triggers start together, and each of their objects brings the next garbage
    collection of Airflow's whole heap nearer.

    :param first_poll: the loop's time before which no poll counts
    :param looked_up_after: the loop's time after which the connection must have been looked up
    """
    subscriber = Subscriber(wait, first_poll)
    lookup_of(conn_id, looked_up_after).add(subscriber, hand_over)
    return subscriber


def leave(subscriber: Subscriber) -> None:
    """Remove a subscription, in whichever state it is."""
    if subscriber.holder is not None:
        subscriber.holder.leave(subscriber)


def hand_over(subscriber: Subscriber, endpoint: Endpoint) -> None:
    """Pass a subscription to the poller of its target, merged with that of the connection."""
    try:
        _poller_of(endpoint, subscriber.wait.target.merged(endpoint.target)).join(subscriber)
    except Exception as err:  # noqa: BLE001 - raised only in its owner
        subscriber.fail(err)


class _Poller:
    """Polls while it has waits. It runs in its own context, so that it writes nothing into a task's log."""

    def __init__(self, key: _Key, endpoint: Endpoint, target: Target) -> None:
        self._key = key
        self._endpoint = endpoint
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._schedule = Schedule()
        self._sender = Sender(endpoint, lambda: self._schedule.paused_for(self._loop.time()))
        ceiling = endpoint.max_requests_per_second
        self._walker = PageWalker(
            self._schedule, self._sender, limiter_of(endpoint, LIST), ceiling, target, self._wake_owners
        )
        self._changed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def join(self, subscriber: Subscriber) -> None:
        """Add a subscription; the first one starts the polls."""
        subscriber.holder = self
        self._schedule.add(subscriber, self._loop.time())
        if not self._running:
            self._start(self._poll())
        self._changed.set()

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscription; the last one ends the polls."""
        self._schedule.remove(subscriber)
        if not self._schedule:
            for task in self._running:
                task.cancel()
            self._retire()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = contextvars.Context().run(self._loop.create_task, work)
        self._running.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # our own bug: all waits fail loudly instead of hanging
            self._retire()
            for subscriber in _subscribers(self._schedule.subscriptions):
                subscriber.fail(error)

    def _retire(self) -> None:
        pollers = _pollers.get(self._loop, {})
        if pollers.get(self._key) is self:
            del pollers[self._key]

    def _wake_owners(self) -> None:
        for subscriber in _subscribers(self._schedule.take_changed()):
            subscriber.wake()

    async def _poll(self) -> None:
        schedule, loop = self._schedule, self._loop
        while True:
            self._changed.clear()
            now = loop.time()
            schedule.offset = time.time() - now
            has_more = schedule.settle(now)
            self._wake_owners()
            if has_more:
                await asyncio.sleep(0)
                continue
            if (walk := schedule.begin_walk(now)) is not None:
                self._start(self._walk(walk))
            while len(self._running) < MAX_IN_FLIGHT and (found := schedule.next_description(now)) is not None:
                self._start(self._describe(found))
            # thousands of waits are due at thousands of moments: not each of them is worth its own round
            at = max(schedule.next_at(now), now + min(LONGEST_ROUND, len(schedule) * SECONDS_PER_WAIT))
            alarm = loop.call_at(at, self._changed.set) if at < math.inf else None
            try:
                await self._changed.wait()
            finally:
                if alarm is not None:
                    alarm.cancel()

    async def _describe(self, asked: Description) -> None:
        began = self._loop.time()
        outcome: ImportProgress | ZillizError
        try:
            exchange = partial(self._sender.exchange, asked.need)
            outcome = await run_async(describe(self._endpoint, asked.job_id, self._target), exchange)
        except ZillizError as err:
            outcome = err
            self._schedule.others_responded_at = self._sender.responded_at()
        except Exception as err:  # noqa: BLE001 - a bug of ours in reading one response must not end other waits
            outcome = ZillizUnavailable(f"Polling import job {asked.job_id} failed unexpectedly: {err!r}")
        now = self._loop.time()
        self._schedule.on_described(asked.job_id, outcome, began, now, is_refresh=asked.need.is_refresh)
        self._wake_owners()

    async def _walk(self, walk: Walk) -> None:
        began = self._loop.time()
        try:
            whole = await self._walker.walk(walk)
        except Exception as err:  # noqa: BLE001 - whatever is wrong with lists, waits go on by descriptions
            self._schedule.others_responded_at = self._sender.responded_at()
            self._schedule.fail_walk(err, began, self._loop.time())
        else:
            self._schedule.end_walk(self._loop.time(), whole=whole)
        self._wake_owners()


def _subscribers(found: Iterable[Subscription]) -> Iterator[Subscriber]:
    """Return the subscriptions of a schedule with their actual type: a poller adds nothing else."""
    return (one for one in found if isinstance(one, Subscriber))


#: Waits with an equal key share a poll: it holds where requests go, and with what.
_Key = tuple[Account, "bool | str", float, float, Target]

_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, _Poller]] = WeakKeyDictionary()


def _poller_of(endpoint: Endpoint, target: Target) -> _Poller:
    # two connections to the same place with the same key share a poll
    key = (
        account_of(endpoint),
        endpoint.verify,
        endpoint.request_timeout,
        endpoint.max_requests_per_second,
        target,
    )
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    if key not in pollers:
        pollers[key] = _Poller(key, endpoint, target)
    return pollers[key]
