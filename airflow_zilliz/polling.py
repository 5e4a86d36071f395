"""One poll for all waits on one target in one triggerer process: it carries out what a `Schedule` decides."""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections.abc import Coroutine
from functools import partial
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from airflow_zilliz import api
from airflow_zilliz.api import Answer, ImportProgress, Page, Request, Target
from airflow_zilliz.connection import Endpoint
from airflow_zilliz.exceptions import ZillizError, ZillizUnavailable
from airflow_zilliz.flows import acarry, aplay, describe, pause_before
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.schedule import Schedule
from airflow_zilliz.waiting import ImportWait
from airflow_zilliz.watches import Watch
from airflow_zilliz.wire import LIST, MAX_LIST_PAGES

#: Descriptions on their way at a time, the ones that wait for their turn included.
MAX_IN_FLIGHT = 32
#: The most pages of a list that are asked for at once: neither the way to the server bounds the rate of a walk then,
#: nor does the loop wake up for each.
MAX_PAGES_AT_ONCE = 5
#: The part of a path's requests that walks take to look at young waits sooner than poke_interval asks for: another
#: triggerer, and whatever else uses the key, has the same server's limit.
EAGER_SHARE = 0.5
#: The part of a path's requests that may go to waits which lists look at already.
REFRESH_SHARE = 0.05
#: For how many seconds triggers that start together share one look-up of their connection.
LOOKUP_SECONDS = 5.0
#: How much longer a round takes for each wait, and how long at the most.
SECONDS_PER_WAIT = 0.0001
LONGEST_ROUND = 0.5
#: After so many jobs of a list other triggers get their turn on the loop.
_SLICE = 100


def join(conn_id: str, wait: ImportWait, first_look: float, looked_up_after: float) -> Watch:
    """Let a job be looked at together with other waits' jobs, once its connection is known.

    The caller awaits `news_of` the watch, takes its steps, and lets it `leave` after the last one: the wait's end, or a
    call for a new look-up. No coroutine does it for all callers, and the look-up has no future for each: thousands of
    triggers start together, and each object of theirs brings the next collection of Airflow's whole heap nearer.

    :param first_look: the loop's time before which no look counts
    :param looked_up_after: the loop's time that the look-up of the connection must not be older than
    """
    watch = Watch(wait, first_look)
    _lookup_of(conn_id, looked_up_after).take_in(watch)
    return watch


def news_of(watch: Watch) -> asyncio.Future[None]:
    """Return what is done once the watch has steps to take, or once it may have some.

    :raises ZillizError: when the connection cannot be had or used
    """
    if watch.error is not None:
        raise watch.error.with_traceback(None)  # it may be raised in thousands of triggers
    watch.waker = asyncio.get_running_loop().create_future()
    if watch.steps:
        watch.wake()
    return watch.waker


def leave(watch: Watch) -> None:
    """Let a watch go, at whatever point it is."""
    if watch.keeper is not None:
        watch.keeper.leave(watch)


async def endpoint_of_connection(conn_id: str) -> Endpoint:
    """Look a connection up, together with other triggers; raises as `ZillizHook.endpoint` does."""
    return await asyncio.shield(_lookup_of(conn_id, 0.0).task)


def _lookup_of(conn_id: str, not_before: float) -> _Lookup:
    loop = asyncio.get_running_loop()
    known = _lookups.setdefault(loop, {})
    lookup = known.get(conn_id)
    if lookup is None or lookup.began < max(not_before, loop.time() - LOOKUP_SECONDS) or lookup.failed:
        lookup = known[conn_id] = _Lookup(conn_id, loop)
    return lookup


class _Lookup:
    """One look-up of a connection, which many watches wait for, and any of them may leave."""

    def __init__(self, conn_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self.began = loop.time()
        self.task = loop.create_task(ZillizHook(conn_id).aendpoint())
        self.task.add_done_callback(self._on_done)
        self._waiting: dict[Watch, None] = {}
        self._forwarding: asyncio.Task[None] | None = None

    @property
    def failed(self) -> bool:
        """Whether it is over without an endpoint."""
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)

    def take_in(self, watch: Watch) -> None:
        """Let a watch wait for the endpoint, or go on with it."""
        if self.task.done():
            _hand_over(watch, self.task.result())
        else:
            watch.keeper = self
            self._waiting[watch] = None

    def leave(self, watch: Watch) -> None:
        """Let a watch go."""
        self._waiting.pop(watch, None)

    def _on_done(self, task: asyncio.Task[Endpoint]) -> None:
        error: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._forwarding = task.get_loop().create_task(self._forward(task.result()))
            return
        for watch in self._waiting:
            watch.fail(error)

    async def _forward(self, endpoint: Endpoint) -> None:
        while self._waiting:
            for watch in list(islice(self._waiting, _SLICE)):
                del self._waiting[watch]
                _hand_over(watch, endpoint)
            await asyncio.sleep(0)


def _hand_over(watch: Watch, endpoint: Endpoint) -> None:
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
        self._schedule = Schedule(1 / (REFRESH_SHARE * self._endpoint.max_requests_per_second))
        # twice a second at the most, so that the limit holds in every second
        self._pages_at_once = max(1, min(MAX_PAGES_AT_ONCE, int(self._endpoint.max_requests_per_second / 2)))
        self._changed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def join(self, watch: Watch) -> None:
        """Take a watch in; the first one starts the poll."""
        watch.keeper = self
        self._schedule.add(watch, self._loop.time())
        if not self._running:
            self._start(self._poll())
        self._changed.set()

    def leave(self, watch: Watch) -> None:
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

    async def _poll(self) -> None:
        schedule, loop = self._schedule, self._loop
        while True:
            self._changed.clear()
            now = loop.time()
            schedule.offset = time.time() - now
            schedule.settle(now)
            if schedule.begin_walk(now) is not None:
                self._start(self._walk())
            while len(self._running) < MAX_IN_FLIGHT and (job_id := schedule.next_description(now)) is not None:
                self._start(self._describe(job_id))
            # thousands of waits are due at thousands of moments: not each of them is worth a round of its own
            at = max(schedule.next_at(now), now + min(LONGEST_ROUND, len(schedule) * SECONDS_PER_WAIT))
            alarm = loop.call_at(at, self._changed.set) if at < math.inf else None
            try:
                await self._changed.wait()
            finally:
                if alarm is not None:
                    alarm.cancel()

    async def _describe(self, job_id: str) -> None:
        began = self._loop.time()
        outcome: ImportProgress | ZillizError
        try:
            outcome = await aplay(describe(self._endpoint, job_id, self._target), self._exchange)
        except ZillizError as err:
            outcome = err
        except Exception as err:  # noqa: BLE001 - a mistake of ours in reading one answer must not end other waits
            outcome = ZillizUnavailable(f"Looking at import job {job_id} failed unexpectedly: {err!r}")
        self._schedule.on_described(job_id, outcome, began, self._loop.time())

    async def _walk(self) -> None:
        began = self._loop.time()
        try:
            whole = await self._turn_pages()
        except Exception as err:  # noqa: BLE001 - whatever is wrong with lists, waits go on by descriptions
            self._schedule.fail_walk(err, began, self._loop.time())
        else:
            self._schedule.end_walk(self._loop.time(), whole=whole)

    async def _turn_pages(self) -> bool:
        """Walk through the list, and return whether to its end."""
        schedule, seen = self._schedule, set[str]()
        first = 1
        while first <= MAX_LIST_PAGES and schedule.walk_is_worth_a_page:
            together = self._pages_at_once if schedule.is_known_to_page else 1
            last = max(first, min(first + together - 1, schedule.pages_expected))
            for page in await self._pages(first, last):
                schedule.on_page(self._loop.time())
                for number, (job_id, job) in enumerate(page.news(schedule.listed), 1):
                    schedule.on_listed(job_id, job, self._loop.time())
                    if number % _SLICE == 0:
                        await asyncio.sleep(0)
                if not page.full or page.records.keys() <= seen:
                    return True
                seen.update(page.records)
            first = last + 1
        return False

    async def _pages(self, first: int, last: int) -> list[Page]:
        numbers = range(first, last + 1)
        eager = self._schedule.can_walk_at(EAGER_SHARE * self._endpoint.max_requests_per_second)
        await self._turn(LIST, len(numbers) / EAGER_SHARE if eager else len(numbers))
        flows = (aplay(api.list_page(self._target, number), partial(acarry, self._endpoint)) for number in numbers)
        pages = await asyncio.gather(*flows, return_exceptions=True)
        for page in pages:
            if isinstance(page, BaseException):
                raise page
        return [page for page in pages if isinstance(page, Page)]

    async def _exchange(self, request: Request) -> Answer:
        await self._turn(request.path)
        return await acarry(self._endpoint, request)

    async def _turn(self, path: str, together: float = 1) -> None:
        """Wait for the turn of one or more requests, and for as long as the target asks to be left alone."""
        pause = 1.0
        while pause > 0:
            await asyncio.sleep(pause_before(self._endpoint, path, self._loop.time(), together))
            if (pause := self._schedule.paused_for(self._loop.time())) > 0:
                await asyncio.sleep(pause)


#: What makes two waits share a poll: where requests go, and with what.
_Key = tuple[str, str, "bool | str", float, float, Target]

_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, _Poller]] = WeakKeyDictionary()
_lookups: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Lookup]] = WeakKeyDictionary()


def _poller_of(endpoint: Endpoint, target: Target) -> _Poller:
    # two connections to the same place with the same key share a poll
    key = (
        endpoint.base_url,
        endpoint.token,
        endpoint.verify,
        endpoint.request_timeout,
        endpoint.max_requests_per_second,
        target,
    )
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    if key not in pollers:
        pollers[key] = _Poller(key, endpoint, target)
    return pollers[key]
