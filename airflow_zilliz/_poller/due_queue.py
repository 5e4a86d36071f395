"""The subscriptions that are due, by the kind of poll that they need. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from airflow_zilliz._poller.sliced_work import DECISIONS_AT_ONCE
from airflow_zilliz._poller.subscription import Subscription
from airflow_zilliz._transport.request_queue import Need

#: A wait that no response has shown for so long is described, even if walks fail; so many at a time, since after an
#: outage the list serves most of them.
UNHEARD = 300.0
UNHEARD_AT_ONCE = 32
#: How many refreshes are in flight at a time, including those that wait for their turn.
REFRESHES_AT_ONCE = 4
#: A wait that was not described for so long may take a larger part of the rate, however many waits there are.
UNDESCRIBED = 3600.0


class Description(NamedTuple):
    """A job to describe."""

    job_id: str
    need: Need


class DueQueue:
    """Three queues; each subscription is in at most one of the first two."""

    def __init__(self) -> None:
        #: due, and served by the next walk
        self.for_walk: dict[Subscription, None] = {}
        #: due, and to be described
        self.for_description: dict[Subscription, None] = {}
        #: served by lists, and to be described when there is time, in the order in which that was due
        self.for_refresh: dict[Subscription, None] = {}
        #: how many descriptions are in flight, without refreshes
        self.in_flight = 0
        self._refreshes = 0

    def __bool__(self) -> bool:
        """Whether anything is due."""
        return bool(self.for_walk or self.for_description)

    def __iter__(self) -> Iterator[Subscription]:
        """Iterate over what is due."""
        return chain(self.for_walk, self.for_description)

    def await_walk(self, subscription: Subscription) -> None:
        """Queue a subscription that is due for a walk."""
        self.for_walk.setdefault(subscription)

    def refresh(self, subscription: Subscription) -> None:
        """Queue a subscription that lists serve for a description in its turn."""
        self.for_refresh.setdefault(subscription)

    def describe(self, subscription: Subscription) -> None:
        """Queue a subscription for a description only."""
        self.for_walk.pop(subscription, None)
        self.for_description.setdefault(subscription)

    def describe_first(self, number: int) -> None:
        """Describe the first of those that wait for a walk."""
        if number >= len(self.for_walk):
            self.for_description.update(self.for_walk)
            self.for_walk.clear()
        for subscription in list(islice(self.for_walk, number)):
            self.describe(subscription)

    def describe_unheard(self, now: float) -> None:
        """Describe those of the first that wait for a walk and that no response has shown for long."""
        for subscription in list(islice(self.for_walk, UNHEARD_AT_ONCE)):
            if now - subscription.shown_at > max(UNHEARD, 2 * subscription.pace):
                self.describe(subscription)

    def unqueue(self, subscription: Subscription) -> None:
        """Remove a subscription that is due; a refresh keeps its place."""
        self.for_walk.pop(subscription, None)
        self.for_description.pop(subscription, None)

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscription, which may be gone already."""
        self.unqueue(subscription)
        self.for_refresh.pop(subscription, None)

    def walk_need(self, interval: float) -> Need:
        """Return how urgent a walk for the waiting subscriptions is.

        :param interval: the shortest poll interval of all waits, in seconds
        """
        first = list(islice(self.for_walk, DECISIONS_AT_ONCE))
        return Need(
            min(one.due for one in first),
            min(one.pace for one in first),
            min(one.polled_at for one in first) + interval,
        )

    def next_description(self, now: float, *, may_refresh: bool) -> Description | None:
        """Return the job to describe next, None for none."""
        if self.for_description:
            one = next(iter(self.for_description))
            self.in_flight += 1
            return Description(one.wait.job_id, Need(one.due, one.pace))
        if self.for_refresh and may_refresh and self._refreshes < REFRESHES_AT_ONCE:
            one = next(iter(self.for_refresh))
            self._refreshes += 1
            is_late = now - one.described_at > UNDESCRIBED
            return Description(one.wait.job_id, Need(one.due, one.pace, is_refresh=True, is_late=is_late))
        return None

    def on_described(self, *, is_refresh: bool) -> None:
        """Count a description that has arrived or failed."""
        if is_refresh:
            self._refreshes -= 1
        else:
            self.in_flight -= 1
