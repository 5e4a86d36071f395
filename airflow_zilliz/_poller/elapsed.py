"""How much of the pauses between polls has passed, over all subscriptions. No I/O, no clock."""

from __future__ import annotations

from airflow_zilliz._poller.subscription import Subscription

#: Sums of fractions drift, those of whole numbers do not.
_WEIGHT_UNIT = 2**24
_TIME_UNIT = 2**10


class Elapsed:
    """The subscriptions' pauses, in sums: each begins with the last poll and lasts for the subscription's pace."""

    def __init__(self) -> None:
        self._weights = 0
        self._weighted_times = 0

    def add(self, subscription: Subscription) -> None:
        """Add a subscription's pause."""
        self._count(subscription, 1)

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscription's pause, which is as it was when it was added."""
        self._count(subscription, -1)

    def part(self, now: float, number: int) -> float:
        """Return the mean fraction of so many pauses that has passed; above 1 if polls are late."""
        gone_by = round(now * _TIME_UNIT) * self._weights - self._weighted_times
        return gone_by / (_WEIGHT_UNIT * _TIME_UNIT * number)

    def _count(self, subscription: Subscription, sign: int) -> None:
        weight = sign * round(_WEIGHT_UNIT / subscription.pace)
        self._weights += weight
        self._weighted_times += weight * round(subscription.polled_at * _TIME_UNIT)
