"""Whether to walk through one target's job list, and the results of a walk. No I/O, no clock."""

from __future__ import annotations

import math
from operator import attrgetter

from airflow_zilliz._poller.elapsed import Elapsed
from airflow_zilliz._poller.list_filter import WHOLE_LIST, ListFilter, Lists
from airflow_zilliz._poller.list_health import JobList
from airflow_zilliz._poller.subscription import Subscription, Subscriptions
from airflow_zilliz._poller.walk import Candidates, Walk
from airflow_zilliz._protocol.constants import LIST_PAGE_SIZE, MAX_LIST_PAGES
from airflow_zilliz._transport.request_queue import Need

#: So many waits are described one by one even where one page of the list would do: a description has more.
FEW = 4


class WalkPlanner:
    """What is known of walks through one target's job list, and the current walk."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self.walk: Walk | None = None
        self.list = JobList()
        self.elapsed = Elapsed()
        self._subscriptions = subscriptions
        self._filter = ListFilter()
        self._candidates = Candidates()
        #: the subscriptions that no walk can serve
        self._aside: set[Subscription] = set()

    # -- subscriptions ---------------------------------------------------------------------------------------------

    def serves(self, subscription: Subscription, now: float) -> bool:
        """Whether walks can serve a subscription that is due."""
        if subscription in self._aside:
            if now < subscription.unlisted_until or not subscription.wait.can_be_listed:
                return False
            self._aside.discard(subscription)
        self._candidates.add(subscription)
        return True

    def set_aside(self, subscription: Subscription, until: float) -> None:
        """Leave a subscription to descriptions until a time, or forever if no list can show its end."""
        subscription.unlisted_until = until
        self._aside.add(subscription)
        self._candidates.discard(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        self._aside.discard(subscription)
        self._candidates.discard(subscription)

    def on_listed(self, subscription: Subscription) -> None:
        """Note that a page of the current walk has shown a subscription."""
        self._aside.discard(subscription)
        if self.walk is not None:
            self._candidates.show(subscription, self.walk.pages)
            self.walk.shows_late_ones |= subscription.polled_at < subscription.not_before > self.walk.began

    # -- before a walk ---------------------------------------------------------------------------------------------

    def pays(self, now: float, due: int) -> bool:
        """Whether one walk costs fewer requests than describing what is due.

        A walk also polls waits that are not due yet, and so saves a part of the next one: the larger, the longer
        ago they were polled.

        :param due: how many waits are due
        """
        self.list.forget_old_pages(now)
        if self.list.is_the_better_bet:
            return True
        size = len(self._subscriptions)
        pages = self._pages_of(self._lists(now))
        if size - len(self._aside) <= max(FEW, pages):
            return False
        return due > pages * (1 - min(1.0, self.elapsed.part(now, size)))

    def begin(self, now: float, need: Need) -> Walk:
        """Begin a walk."""
        self._candidates.begin_walk()
        lists = self._lists(now)
        self.walk = Walk(now, need, lists, self._pages_of(lists), self._candidates)
        return self.walk

    def can_walk_at(self, per_second: float) -> bool:
        """Whether a walk at this rate keeps every wait's poke_interval."""
        return self.pages_expected <= per_second * self._subscriptions.shortest_interval

    @property
    def pages_a_second(self) -> float:
        """How many pages of its waits alone a walk needs each second to be done in two thirds of poke_interval."""
        return 1.5 * self._pages_of_waits / max(self._subscriptions.shortest_interval, 1.0)

    # -- during a walk ---------------------------------------------------------------------------------------------

    @property
    def pages_expected(self) -> int:
        """How many pages a walk has, estimated from the last one and the waits, if the list comes in pages."""
        return max(self.list.pages if self.walk is None else self.walk.expected, self._pages_of_waits)

    @property
    def is_known_to_page(self) -> bool:
        """Whether the last walk, or this one, had several pages; Milvus sends all jobs at once."""
        walk = self.walk
        return self.list.pages > 1 or (walk is not None and walk.lists == WHOLE_LIST and walk.pages > 0)

    @property
    def is_worth_a_page(self) -> bool:
        """Whether the current walk should continue."""
        return self.walk is not None and self.walk.is_worth_a_page

    def on_page(self, records: int, count: int) -> None:
        """Handle a page.

        :param records: how many jobs it has, with or without waits for them
        :param count: how many the list has, if the server says so
        """
        if self.walk is not None:
            # a count of a page's records says nothing
            full = records == LIST_PAGE_SIZE
            self.walk.on_page(records, min(MAX_LIST_PAGES, math.ceil(count / LIST_PAGE_SIZE)) if full else 0)

    def on_filter_ignored(self, now: float) -> None:
        """Handle a page of one collection's list with jobs of others, which is a page of the whole list."""
        self._filter.on_useless(now)
        if self.walk is not None:
            self.walk.lists = WHOLE_LIST
            self.walk.expected = self.list.pages

    # -- after a walk ----------------------------------------------------------------------------------------------

    def end(self, now: float, *, whole: bool) -> tuple[list[Subscription], bool]:
        """End a walk.

        :param whole: whether it reached the end of its lists
        :returns: what it did not show, and whether later walks will not show it either
        """
        walk, self.walk = self.walk, None
        if walk is None:
            return [], False
        pages = max(walk.pages, 1)
        if not whole and walk.missing:
            pages += 1  # there are more of them than there are waits: not worth it until there are more waits
        pages = pages if walk.lists == WHOLE_LIST else self.list.pages
        self.list.on_walk(pages, now, serves_all=not walk.missing)
        self._filter.on_walk(walk.lists, walk.records, now)
        if walk.missing and whole and walk.lists != WHOLE_LIST:
            self._filter.on_useless(now)  # its jobs may have another collection's name
            whole = False
        return sorted(walk.missing, key=attrgetter("due")), whole or walk.pages >= MAX_LIST_PAGES

    def fail(self, error: Exception, now: float) -> bool:
        """Handle a failed walk; return whether the list counts as useless, which it then does for a while."""
        walk, self.walk = self.walk, None
        if walk is not None and walk.fails_by_filter(error):
            self._filter.on_useless(now)  # a collection that was dropped has no list on Milvus
            return False
        return self.list.on_failed_walk(error, now)

    def _lists(self, now: float) -> Lists:
        return self._filter.lists(self._subscriptions.collections, now)

    def _pages_of(self, lists: Lists) -> int:
        return self.list.pages if lists == WHOLE_LIST else max(len(lists), self._pages_of_waits)

    @property
    def _pages_of_waits(self) -> int:
        return math.ceil(len(self._subscriptions) / LIST_PAGE_SIZE)
