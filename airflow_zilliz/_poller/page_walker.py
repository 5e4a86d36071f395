"""Walks through the pages of one target's job list, as long as that costs less than describing jobs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial

from airflow_zilliz._poller.scheduler import Schedule
from airflow_zilliz._poller.sender import Sender
from airflow_zilliz._poller.walk import Walk
from airflow_zilliz._protocol import calls
from airflow_zilliz._protocol.calls import Page
from airflow_zilliz._protocol.constants import LIST, MAX_LIST_PAGES
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport.driver import run_async
from airflow_zilliz._transport.rate_limiter import RateLimiter
from airflow_zilliz._transport.request_queue import EAGER_SHARE, Need

#: The most pages of a list that are requested at once, so that neither latency bounds the rate of a walk nor the loop
#: wakes up for each page.
MAX_PAGES_AT_ONCE = 5
#: After so many jobs of a list, other triggers get their turn on the loop.
_SLICE = 100


class PageWalker:
    """Does the walks of one target.

    :param ceiling: the most requests per second
    :param on_news: called when waits may have decisions to take
    """

    def __init__(
        self,
        schedule: Schedule,
        sender: Sender,
        limiter: RateLimiter,
        ceiling: float,
        target: Target,
        on_news: Callable[[], None],
    ) -> None:
        self._schedule = schedule
        self._sender = sender
        self._limiter = limiter
        self._ceiling = ceiling
        self._target = target
        self._on_news = on_news
        self._now = asyncio.get_running_loop().time

    async def walk(self, walk: Walk) -> bool:
        """Walk; return whether the end of its lists was reached.

        :raises Exception: whatever is wrong with the list
        """
        self._limiter.expect(min(self._ceiling, self._schedule.walks.pages_a_second))
        if not self._schedule.walks.can_walk_at(EAGER_SHARE * self._ceiling):
            walk.need.eager_until = -math.inf
        whole, lists = True, walk.lists
        for collection in lists:
            if walk.lists == lists:  # otherwise the server does not filter, and has shown all
                whole = whole and await self._turn_pages(walk, collection)
        return whole

    async def _turn_pages(self, walk: Walk, collection: str | None) -> bool:
        """Walk through one list; return whether its end was reached."""
        walks, seen = self._schedule.walks, set[str]()
        first = 1
        while first <= MAX_LIST_PAGES and walks.is_worth_a_page:
            last = max(first, min(first + self._pages_at_once() - 1, walks.pages_expected))
            for page in await self._pages(walk.need, range(first, last + 1), collection):
                if collection is not None and not page.is_of(collection):
                    walks.on_filter_ignored(self._now())  # so this is a page of the whole list
                    collection = None
                await self._read(page)
                if not page.full or page.records.keys() <= seen:
                    return True
                seen.update(page.records)
            first = last + 1
        return False

    def _pages_at_once(self) -> int:
        if not self._schedule.walks.is_known_to_page:
            return 1
        # at most twice a second, so that the limit holds in every second
        rate = self._limiter.rate(self._now(), self._ceiling)
        return min(MAX_PAGES_AT_ONCE, int(rate / 2)) if rate >= MAX_PAGES_AT_ONCE else 1

    async def _read(self, page: Page) -> None:
        self._schedule.on_page(self._now(), len(page.records), page.count)
        for number, (job_id, job) in enumerate(page.news(self._schedule.subscriptions.listed), 1):
            self._schedule.on_listed(job_id, job, self._now())
            if number % _SLICE == 0:
                self._on_news()
                await asyncio.sleep(0)
        self._on_news()

    async def _pages(self, need: Need, numbers: range, collection: str | None) -> list[Page]:
        """Request pages together; refused ones are requested again one by one, in their turn."""
        await self._sender.turn(LIST, need, len(numbers))
        exchange = partial(self._sender.exchange, need, has_turn=True)
        flows = (
            run_async(calls.list_page(self._target, number, collection_name=collection), exchange) for number in numbers
        )
        pages = await asyncio.gather(*flows, return_exceptions=True)
        for page in pages:
            if isinstance(page, BaseException):
                raise page
        return [page for page in pages if isinstance(page, Page)]
