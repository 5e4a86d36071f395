"""A walk through the pages of a job list, and the subscriptions that walks are to show. No I/O, no clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from airflow_zilliz._poller.list_filter import WHOLE_LIST, Lists
from airflow_zilliz._poller.subscription import Subscription
from airflow_zilliz._transport.request_queue import Need
from airflow_zilliz.exceptions import ZillizUnavailable


class Candidates:
    """The subscriptions that a list can serve, in two sets, so that no walk has to begin with a pass over all of them.

    ``missing`` are those that the current walk has yet to show. The others are for the next walk: this one has shown
    them, or they came after it began.
    """

    def __init__(self) -> None:
        self.missing: dict[Subscription, None] = {}
        self._others: dict[Subscription, None] = {}
        self._missing_on: Counter[int] = Counter()
        self._others_on: Counter[int] = Counter()
        self._deepest = 0

    def begin_walk(self) -> None:
        """Mark all of them as missing."""
        if len(self.missing) < len(self._others):
            self.missing, self._others = self._others, self.missing
        self.missing.update(self._others)
        self._missing_on += self._others_on
        self._others, self._others_on = {}, Counter()
        self._deepest = max(self._missing_on, default=0)

    def add(self, subscription: Subscription) -> None:
        """Add a subscription, for the next walk if it is new."""
        if subscription not in self.missing and subscription not in self._others:
            self._others.setdefault(subscription)
            self._others_on[subscription.page] += 1

    def discard(self, subscription: Subscription) -> None:
        """Remove a subscription, which may be gone already."""
        if subscription in self.missing:
            del self.missing[subscription]
            self._missing_on[subscription.page] -= 1
        elif subscription in self._others:
            del self._others[subscription]
            self._others_on[subscription.page] -= 1

    def show(self, subscription: Subscription, page: int) -> None:
        """Note that a page of the current walk has shown a subscription."""
        self.discard(subscription)
        subscription.page = page
        self.add(subscription)

    def deepest_missing(self) -> int | None:
        """Return the last page that showed a missing one before; None if one was never shown."""
        while self._deepest and not self._missing_on[self._deepest]:
            self._deepest -= 1
        return None if self._missing_on[0] else self._deepest


@dataclass
class Walk:
    """One walk through the list's pages.

    :param need: how urgent its next page is
    :param lists: the lists that it requests
    :param expected: the estimated number of pages
    :param candidates: the subscriptions that it is to show
    :param shows_late_ones: whether its newest page was the first to show waits that came after it began
    """

    began: float
    need: Need
    lists: Lists
    expected: int
    candidates: Candidates = field(repr=False)
    pages: int = 0
    records: int = 0
    shows_late_ones: bool = False

    @property
    def missing(self) -> dict[Subscription, None]:
        """The subscriptions that it is to show and has not shown yet."""
        return self.candidates.missing

    @property
    def pages_left(self) -> int:
        """How many more pages it may take to show what is missing: to where lists showed it before, or to the end."""
        deepest = self.candidates.deepest_missing()
        if deepest is not None and self.pages < deepest:
            return deepest - self.pages
        # beyond the expected end there may be as many pages again
        return self.expected - self.pages if self.pages < self.expected else self.pages

    @property
    def is_worth_a_page(self) -> bool:
        """Whether there are waits that it has not shown yet, and another page costs less than describing them."""
        if not self.pages:
            return bool(self.missing)
        # if many waits come during a walk, it would always end before their pages
        return len(self.missing) > self.pages_left or self.shows_late_ones

    def fails_by_filter(self, error: Exception) -> bool:
        """Whether an error may concern only the requested collection."""
        return self.lists != WHOLE_LIST and not isinstance(error, ZillizUnavailable)

    def on_page(self, records: int, expected: int) -> None:
        """Handle a page's records, before its waits are shown.

        :param expected: how many pages the list has, if the server says so
        """
        self.pages += 1
        self.records += records
        self.expected = max(self.expected, expected)
        self.shows_late_ones = False
