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

from airflow_zilliz import api
from airflow_zilliz.api import Answer, ImportProgress, Page, Request, Target
from airflow_zilliz.connection import Endpoint
from airflow_zilliz.exceptions import ZillizError, ZillizUnavailable
from airflow_zilliz.flows import acarry, aplay, describe, pause_before
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.schedule import Schedule, Watch
from airflow_zilliz.telling import Teller, tell
from airflow_zilliz.waiting import ImportWait, Step
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
LONGEST_ROUND = 0.25
#: After so many jobs of a list other triggers get their turn on the loop.
_SLICE = 100


async def follow(endpoint: Endpoint, target: Target, wait: ImportWait, first_delay: float, teller: Teller) -> Step:
    """Look at a job together with other waits, and return the last step: the wait's end, or a call for a new look-up.

    :param target: where the job lives, merged with what the connection says
    :param first_delay: seconds in which no look counts
    :param teller: told each step that has something to tell
    """
    poller = _poller_of(endpoint, target)
    watched = poller.join(wait, first_delay)
    try:
        while True:
            while not watched.steps:
                await poller.news_of(watched)
            steps, watched.steps = watched.steps, ()
            for step in steps:
                if step.notes:
                    await tell(teller, step)
                if step.is_last:
                    return step
    finally:
        poller.leave(watched)


def endpoint_of_connection(conn_id: str, not_before: float) -> asyncio.Future[Endpoint]:
    """Look a connection up, together with other triggers, and return the endpoint as a future.

    Awaiting it raises as `ZillizHook.endpoint` does. Thousands of triggers start together, so it costs each one object.

    :param not_before: the loop's time that the look-up must not be older than
    """
    loop = asyncio.get_running_loop()
    known = _lookups.setdefault(loop, {})
    lookup = known.get(conn_id)
    if lookup is None or lookup.began < max(not_before, loop.time() - LOOKUP_SECONDS) or lookup.failed:
        lookup = known[conn_id] = _Lookup(conn_id, loop)
    return lookup.promise()


class _Lookup:
    """One look-up of a connection, which many wait for, and any of them may give up."""

    def __init__(self, conn_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self.began = loop.time()
        self._loop = loop
        self._promises: list[asyncio.Future[Endpoint]] = []
        self._task = loop.create_task(ZillizHook(conn_id).aendpoint())
        self._task.add_done_callback(self._keep_promises)

    @property
    def failed(self) -> bool:
        """Whether it is over without an endpoint."""
        return self._task.done() and (self._task.cancelled() or self._task.exception() is not None)

    def promise(self) -> asyncio.Future[Endpoint]:
        """Return a future of the caller's own: to cancel it cancels nobody else's."""
        if self._task.done():
            return self._task
        self._promises.append(self._loop.create_future())
        return self._promises[-1]

    def _keep_promises(self, task: asyncio.Task[Endpoint]) -> None:
        for promise in self._promises:
            if promise.done():
                continue
            if task.cancelled():
                promise.cancel()
            elif (error := task.exception()) is not None:
                promise.set_exception(error)
            else:
                promise.set_result(task.result())
        self._promises.clear()


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
        self._broken: BaseException | None = None

    def join(self, wait: ImportWait, first_delay: float) -> Watch:
        """Take a wait in; the first one starts the poll."""
        watched = self._schedule.add(wait, self._loop.time(), first_delay)
        if not self._running:
            self._start(self._poll())
        self._changed.set()
        return watched

    def leave(self, watched: Watch) -> None:
        """Let a wait go; the last one ends the poll."""
        self._schedule.remove(watched)
        if not self._schedule:
            for task in self._running:
                task.cancel()
            self._retire()

    def news_of(self, watched: Watch) -> asyncio.Future[None]:
        """Return what is done once there may be steps to tell."""
        if self._broken is not None:
            raise self._broken
        watched.waker = self._loop.create_future()
        return watched.waker

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = contextvars.Context().run(self._loop.create_task, work)
        self._running.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # a mistake of ours: better that all waits fail loudly than that they hang
            self._broken = error
            self._retire()
            for watched in self._schedule.watches():
                watched.wake()

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
