"""One poll for all waits on one target in one triggerer process: it carries out what a `Schedule` decides."""

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
from airflow_zilliz._transport.driver import acarry, describe, is_refused, run_async
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._transport.rate_limiter import Account, account_of, limiter_of
from airflow_zilliz._transport.request_queue import EAGER_SHARE, Need, RequestQueue, queue_of
from airflow_zilliz._wait.state_machine import ImportWait
from airflow_zilliz.exceptions import ZillizError, ZillizUnavailable

__all__ = ["endpoint_of_connection", "hand_over", "join", "leave", "lookup_of", "news_of"]

#: Descriptions on their way at a time, the ones that wait for their turn included.
MAX_IN_FLIGHT = 32
#: The most pages of a list that are asked for at once: neither the way to the server bounds the rate of a walk then,
#: nor does the loop wake up for each.
MAX_PAGES_AT_ONCE = 5
#: A refused request is sent again in its turn as long as the server answered others within so many seconds, and asked
#: for a pause that is no longer than this. Beyond, the waits are told.
REFUSED_SECONDS = 30.0
LONGEST_QUIET_PAUSE = 10.0
#: How much longer a round takes for each wait, and how long at the most.
SECONDS_PER_WAIT = 0.0001
LONGEST_ROUND = 0.5
#: After so many jobs of a list other triggers get their turn on the loop.
_SLICE = 100


def join(conn_id: str, wait: ImportWait, first_look: float, looked_up_after: float) -> Subscription:
    """Let a job be looked at together with other waits' jobs, once its connection is known.

    The caller awaits `news_of` the watch, takes its steps, and lets it `leave` after the last one: the wait's end, or a
    call for a new look-up. No coroutine does it for all callers, and the look-up has no future for each: thousands of
    triggers start together, and each object of theirs brings the next collection of Airflow's whole heap nearer.

    :param first_look: the loop's time before which no look counts
    :param looked_up_after: the loop's time that the look-up of the connection must not be older than
    """
    watch = Subscription(wait, first_look)
    lookup_of(conn_id, looked_up_after).take_in(watch, hand_over)
    return watch


def news_of(watch: Subscription) -> asyncio.Future[None]:
    """Return what is done once the watch has steps to take, or once it may have some.

    :raises ZillizError: when the connection cannot be had or used
    """
    if watch.error is not None:
        raise watch.error.with_traceback(None)  # it may be raised in thousands of triggers
    watch.waker = asyncio.get_running_loop().create_future()
    if watch.steps:
        watch.wake()
    return watch.waker


def leave(watch: Subscription) -> None:
    """Let a watch go, at whatever point it is."""
    if watch.keeper is not None:
        watch.keeper.leave(watch)


def hand_over(watch: Subscription, endpoint: Endpoint) -> None:
    """Give a watch to the poller of its target, merged with what the connection says."""
    try:
        _poller_of(endpoint, watch.wait.target.merged(endpoint.target)).join(watch)
    except Exception as err:  # noqa: BLE001 - raised to its owner, and to nobody else's
        watch.fail(err)


class _Poller:
    """Polls for as long as it has waits. It runs in a context of its own, so that nothing of it is in a task's log."""

    def __init__(self, key: _Key, endpoint: Endpoint, target: Target) -> None:
        self._key = key
        self._endpoint = endpoint
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._schedule = Schedule()
        self._changed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def join(self, watch: Subscription) -> None:
        """Take a watch in; the first one starts the poll."""
        watch.keeper = self
        self._schedule.add(watch, self._loop.time())
        if not self._running:
            self._start(self._poll())
        self._changed.set()

    def leave(self, watch: Subscription) -> None:
        """Let a watch go; the last one ends the poll."""
        self._schedule.remove(watch)
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
            # a mistake of ours: better that all waits fail loudly than that they hang
            self._retire()
            for watch in self._schedule.watches():
                watch.fail(error)

    def _retire(self) -> None:
        pollers = _pollers.get(self._loop, {})
        if pollers.get(self._key) is self:
            del pollers[self._key]

    def _wake_owners(self) -> None:
        for watch in self._schedule.take_changed():
            watch.wake()

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
            # thousands of waits are due at thousands of moments: not each of them is worth a round of its own
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
        except Exception as err:  # noqa: BLE001 - a mistake of ours in reading one answer must not end other waits
            outcome = ZillizUnavailable(f"Looking at import job {asked.job_id} failed unexpectedly: {err!r}")
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
                if walk.lists == lists:  # else the server does not filter, and has shown all
                    whole = whole and await self._turn_pages(walk, collection)
        except Exception as err:  # noqa: BLE001 - whatever is wrong with lists, waits go on by descriptions
            self._note_others()
            self._schedule.fail_walk(err, began, self._loop.time())
        else:
            self._schedule.end_walk(self._loop.time(), whole=whole)
        self._wake_owners()

    def _note_others(self) -> None:
        """Let the schedule know when anybody who uses the key was last answered."""
        answered = (limiter_of(self._endpoint, path).answered_at for path in (DESCRIBE, LIST))
        self._schedule.others_answered_at = max(answered)

    async def _turn_pages(self, walk: Walk, collection: str | None) -> bool:
        """Walk through a list, and return whether to its end."""
        schedule, seen = self._schedule, set[str]()
        first = 1
        while first <= MAX_LIST_PAGES and schedule.walk_is_worth_a_page:
            last = max(first, min(first + self._pages_at_once() - 1, schedule.pages_expected))
            for page in await self._pages(walk.need, range(first, last + 1), collection):
                if collection is not None and not page.is_of(collection):
                    schedule.on_filter_ignored(self._loop.time())  # and so this is a page of the whole list
                    collection = None
                await self._take_in(page)
                if not page.full or page.records.keys() <= seen:
                    return True
                seen.update(page.records)
            first = last + 1
        return False

    def _pages_at_once(self) -> int:
        if not self._schedule.is_known_to_page:
            return 1
        # twice a second at the most, so that the limit holds in every second
        ceiling = self._endpoint.max_requests_per_second
        rate = limiter_of(self._endpoint, LIST).rate(self._loop.time(), ceiling)
        return min(MAX_PAGES_AT_ONCE, int(rate / 2)) if rate >= MAX_PAGES_AT_ONCE else 1

    async def _take_in(self, page: Page) -> None:
        self._schedule.on_page(self._loop.time(), len(page.records), page.count)
        for number, (job_id, job) in enumerate(page.news(self._schedule.listed), 1):
            self._schedule.on_listed(job_id, job, self._loop.time())
            if number % _SLICE == 0:
                self._wake_owners()
                await asyncio.sleep(0)
        self._wake_owners()

    async def _pages(self, need: Need, numbers: range, collection: str | None) -> list[Page]:
        """Ask for pages together; those that are refused are asked for again one by one, in their turn."""
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
        """Send a request in its turn, and again where it was refused and others were not."""
        queue = queue_of(self._endpoint, request.path)
        while True:
            if not has_turn:
                await self._turn(queue, need)
            has_turn = False
            answer = await acarry(self._endpoint, request)
            if not is_refused(answer):
                return answer
            if (answer.retry_after or 0.0) > LONGEST_QUIET_PAUSE:
                queue.fail(_paused(answer.url, queue.limiter.paused_for(self._loop.time())))
                return answer
            if queue.limiter.refused_for(self._loop.time()) > REFUSED_SECONDS:
                return answer

    async def _turn(self, queue: RequestQueue, need: Need, together: int = 1) -> None:
        """Wait for the turn of one or more requests, and for as long as the target asks to be left alone."""
        pause = 1.0
        while pause > 0:
            if (left := queue.limiter.paused_for(self._loop.time())) > LONGEST_QUIET_PAUSE:
                raise _paused(self._endpoint.base_url, left)
            await queue.turn(need, self._endpoint.max_requests_per_second, together)
            if (pause := self._schedule.paused_for(self._loop.time())) > 0:
                await asyncio.sleep(pause)


def _paused(url: str, seconds: float) -> ZillizUnavailable:
    text = f"{url} answered HTTP 429: it asks to be left alone for {seconds:.0f} s"
    return ZillizUnavailable(text, retry_after=seconds, http_status=429)


#: What makes two waits share a poll: where requests go, and with what.
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
