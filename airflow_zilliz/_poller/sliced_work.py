"""Work on many subscriptions, a slice at a time, since other triggers need their turn. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from airflow_zilliz._poller.subscription import Subscription

#: What one slice may cost, and what one subscription costs: to check it, or to let its wait decide.
SLICE = 1000
CHECK_COST = 1
DECISION_COST = 10
DECISIONS_AT_ONCE = SLICE // DECISION_COST

Handle = Callable[[Subscription, float], None]


class SlicedWork:
    """Work, in the order in which it was added."""

    def __init__(self) -> None:
        self._left: deque[tuple[Iterator[Subscription], Handle, int]] = deque()

    def __bool__(self) -> bool:
        return bool(self._left)

    def add(self, subscriptions: Iterable[Subscription], handle: Handle, cost: int = DECISION_COST) -> None:
        """Add work.

        :param handle: called with each subscription and the time; the subscription may be gone by then
        """
        self._left.append((iter(subscriptions), handle, cost))

    def run(self, now: float) -> None:
        """Do one slice."""
        left = SLICE
        while self._left and left > 0:
            subscriptions, handle, cost = self._left[0]
            for subscription in subscriptions:
                handle(subscription, now)
                left -= cost
                if left <= 0:
                    return
            self._left.popleft()
