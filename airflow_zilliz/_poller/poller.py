"""One poll for all waits on one target in one triggerer process: it does what a `Schedule` decides."""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from airflow_zilliz._poller.connection_lookup import endpoint_of_connection, lookup_of
from airflow_zilliz._poller.scheduler import Description, Schedule, Walk
from airflow_zilliz._poller.subscription import Subscription
from airflow_zilliz._protocol import calls
from airflow_zilliz._protocol.calls import Page
from airflow_zilliz._protocol.constants import DESCRIBE, LIST, MAX_LIST_PAGES
from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.responses import Response
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport.driver import asend_noted, describe, is_refused, run_async
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._transport.rate_limiter import Account, account_of, limiter_of
from airflow_zilliz._transport.request_queue import EAGER_SHARE, Need, RequestQueue, queue_of
from airflow_zilliz._wait.state_machine import ImportWait
from airflow_zilliz.exceptions import ZillizError, ZillizUnavailable

__all__ = ["changes_of", "endpoint_of_connection", "join", "leave"]

#: Descriptions in flight at a time, including those that wait for their turn.
MAX_IN_FLIGHT = 32
#: The most pages of a list that are requested at once, so that neither latency bounds the rate of a walk nor the loop
#: wakes up for each page.
MAX_PAGES_AT_ONCE = 5
#: A refused request is sent again in its turn as long as the server responded to others within REFUSED_SECONDS, and
#: asked for a pause of at most LONGEST_QUIET_PAUSE. Beyond that, the waits handle the error.
REFUSED_SECONDS = 30.0
LONGEST_QUIET_PAUSE = 10.0
#: How much longer a round takes for each wait, and its maximum, in seconds.
SECONDS_PER_WAIT = 0.0001
LONGEST_ROUND = 0.5
#: After so many jobs of a list, other triggers get their turn on the loop.
_SLICE = 100


def join(conn_id: str, wait: ImportWait, first_poll: float, looked_up_after: float) -> Subscription:
    """Subscribe a wait to the polls of its target, once its connection is known.

    The caller awaits `changes_of` the subscription, takes its steps, and calls `leave` after the last one: the wait's
    end, or a request for a new look-up. There is no coroutine that does this for each caller, and no future of the
    look-up for each: thousands of triggers start together, and each of their objects brings the next garbage collection
    of Airflow's whole heap nearer.

    :param first_poll: the loop's time before which no poll counts
    :param looked_up_after: the loop's time after which the connection must have been looked up
    """
    subscription = Subscription(wait, first_poll)
    lookup_of(conn_id, looked_up_after).add(subscription, _hand_over)
    return subscription


def changes_of(subscription: Subscription) -> asyncio.Future[None]:
    """Return a future that is done once the subscription has steps to take, or may have some.

    :raises ZillizError: the connection cannot be looked up or used
    """
    if subscription.error is not None:
        raise subscription.error.with_traceback(None)  # it may be raised in thousands of triggers
    subscription.waker = asyncio.get_running_loop().create_future()
    if subscription.steps:
        subscription.wake()
    return subscription.waker


def leave(subscription: Subscription) -> None:
    """Remove a subscription, in whichever state it is."""
    if subscription.holder is not None:
        subscription.holder.leave(subscription)


def _hand_over(subscription: Subscription, endpoint: Endpoint) -> None:
    """Pass a subscription to the poller of its target, merged with that of the connection."""
    try:
        _poller_of(endpoint, subscription.wait.target.merged(endpoint.target)).join(subscription)
    except Exception as err:  # noqa: BLE001 - raised only in its owner
        subscription.fail(err)


class _Poller:
    """Polls while it has waits. It runs in its own context, so that nothing of it is in a task's log."""

    def __init__(self, key: _Key, endpoint: Endpoint, target: Target) -> None:
        self._key = key
        self._endpoint = endpoint
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._schedule = Schedule()
        self._changed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def join(self, subscription: Subscription) -> None:
        """Add a subscription; the first one starts the polls."""
        subscription.holder = self
        self._schedule.add(subscription, self._loop.time())
        if not self._running:
            self._start(self._poll())
        self._changed.set()

    def leave(self, subscription: Subscription) -> None:
        """Remove a subscription; the last one ends the polls."""
        self._schedule.remove(subscription)
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
            for subscription in self._schedule.watches():
                subscription.fail(error)

    def _retire(self) -> None:
        pollers = _pollers.get(self._loop, {})
        if pollers.get(self._key) is self:
            del pollers[self._key]

    def _wake_owners(self) -> None:
        for subscription in self._schedule.take_changed():
            subscription.wake()

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
            exchange = partial(self._exchange, asked.need)
            outcome = await run_async(describe(self._endpoint, asked.job_id, self._target), exchange)
        except ZillizError as err:
            outcome = err
            self._note_others()
        except Exception as err:  # noqa: BLE001 - a bug of ours in reading one response must not end other waits
            outcome = ZillizUnavailable(f"Polling import job {asked.job_id} failed unexpectedly: {err!r}")
        now = self._loop.time()
        self._schedule.on_described(asked.job_id, outcome, began, now, is_refresh=asked.need.is_refresh)
        self._wake_owners()

    async def _walk(self, walk: Walk) -> None:
        began = self._loop.time()
        ceiling = self._endpoint.max_requests_per_second
        limiter_of(self._endpoint, LIST).expect(min(ceiling, self._schedule.pages_a_second))
        if not self._schedule.can_walk_at(EAGER_SHARE * ceiling):
            walk.need.eager_until = -math.inf
        try:
            whole, lists = True, walk.lists
            for collection in lists:
                if walk.lists == lists:  # otherwise the server does not filter, and has shown all
                    whole = whole and await self._walk_list(walk, collection)
        except Exception as err:  # noqa: BLE001 - whatever is wrong with lists, descriptions continue
            self._note_others()
            self._schedule.fail_walk(err, began, self._loop.time())
        else:
            self._schedule.end_walk(self._loop.time(), whole=whole)
        self._wake_owners()

    def _note_others(self) -> None:
        """Note in the schedule when the server last responded to any user of the key."""
        answered = (limiter_of(self._endpoint, path).answered_at for path in (DESCRIBE, LIST))
        self._schedule.others_answered_at = max(answered)

    async def _walk_list(self, walk: Walk, collection: str | None) -> bool:
        """Walk through a list; return whether its end was reached."""
        schedule, seen = self._schedule, set[str]()
        first = 1
        while first <= MAX_LIST_PAGES and schedule.walk_is_worth_a_page:
            last = max(first, min(first + self._pages_at_once() - 1, schedule.pages_expected))
            for page in await self._pages(walk.need, range(first, last + 1), collection):
                if collection is not None and not page.is_of(collection):
                    schedule.on_filter_ignored(self._loop.time())  # so this is a page of the whole list
                    collection = None
                await self._read_page(page)
                if not page.full or page.records.keys() <= seen:
                    return True
                seen.update(page.records)
            first = last + 1
        return False

    def _pages_at_once(self) -> int:
        if not self._schedule.is_known_to_page:
            return 1
        # at most twice a second, so that the limit holds in every second
        ceiling = self._endpoint.max_requests_per_second
        rate = limiter_of(self._endpoint, LIST).rate(self._loop.time(), ceiling)
        return min(MAX_PAGES_AT_ONCE, int(rate / 2)) if rate >= MAX_PAGES_AT_ONCE else 1

    async def _read_page(self, page: Page) -> None:
        self._schedule.on_page(self._loop.time(), len(page.records), page.count)
        for number, (job_id, job) in enumerate(page.news(self._schedule.listed), 1):
            self._schedule.on_listed(job_id, job, self._loop.time())
            if number % _SLICE == 0:
                self._wake_owners()
                await asyncio.sleep(0)
        self._wake_owners()

    async def _pages(self, need: Need, numbers: range, collection: str | None) -> list[Page]:
        """Request pages together; refused ones are requested again one by one, in their turn."""
        await self._turn(queue_of(self._endpoint, LIST), need, len(numbers))
        exchange = partial(self._exchange, need, has_turn=True)
        flows = (
            run_async(calls.list_page(self._target, number, collection_name=collection), exchange) for number in numbers
        )
        pages = await asyncio.gather(*flows, return_exceptions=True)
        for page in pages:
            if isinstance(page, BaseException):
                raise page
        return [page for page in pages if isinstance(page, Page)]

    async def _exchange(self, need: Need, request: Request, *, has_turn: bool = False) -> Response:
        """Send a request in its turn, and again if it was refused and others were not."""
        queue = queue_of(self._endpoint, request.path)
        while True:
            if not has_turn:
                await self._turn(queue, need)
            has_turn = False
            response = await asend_noted(self._endpoint, request)
            if not is_refused(response):
                return response
            if (response.retry_after or 0.0) > LONGEST_QUIET_PAUSE:
                queue.fail(_paused(response.url, queue.limiter.paused_for(self._loop.time())))
                return response
            if queue.limiter.refused_for(self._loop.time()) > REFUSED_SECONDS:
                return response

    async def _turn(self, queue: RequestQueue, need: Need, together: int = 1) -> None:
        """Wait for the turn of one or more requests, and for the end of any pause of the target."""
        pause = 1.0
        while pause > 0:
            if (left := queue.limiter.paused_for(self._loop.time())) > LONGEST_QUIET_PAUSE:
                raise _paused(self._endpoint.base_url, left)
            await queue.turn(need, self._endpoint.max_requests_per_second, together)
            if (pause := self._schedule.paused_for(self._loop.time())) > 0:
                await asyncio.sleep(pause)


def _paused(url: str, seconds: float) -> ZillizUnavailable:
    text = f"{url} returned HTTP 429: it asks for a pause of {seconds:.0f} s"
    return ZillizUnavailable(text, retry_after=seconds, http_status=429)


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
