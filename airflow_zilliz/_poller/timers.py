"""The times at which something is due for subscriptions. No I/O, no clock."""

from __future__ import annotations

import heapq
import math

from airflow_zilliz._poller.subscription import Subscription

#: How many slots a second has: thousands of subscriptions are due at thousands of moments.
SLOTS = 32


class TimerQueue:
    """Subscriptions by the time at which something is due, in slots; some may be outdated."""

    def __init__(self) -> None:
        self._slots: dict[int, list[Subscription]] = {}
        self._order: list[int] = []
        self._size = 0

    def __len__(self) -> int:
        """Return how many entries there are, including outdated ones."""
        return self._size

    @staticmethod
    def slot_of(time: float) -> int:
        """Return the slot of a time."""
        return math.ceil(time * SLOTS)

    def set(self, time: float, subscription: Subscription) -> None:
        """Add a time at which something is due for a subscription."""
        slot = self.slot_of(time)
        if slot not in self._slots:
            self._slots[slot] = []
            heapq.heappush(self._order, slot)
        self._slots[slot].append(subscription)
        self._size += 1

    def first(self) -> float:
        """Return when the next slot is due, infinity for never."""
        return self._order[0] / SLOTS if self._order else math.inf

    def pop(self) -> tuple[int, list[Subscription]]:
        """Remove and return the next slot, with its subscriptions."""
        slot = heapq.heappop(self._order)
        subscriptions = self._slots.pop(slot)
        self._size -= len(subscriptions)
        return slot, subscriptions

    def tidy(self, alive: int) -> None:
        """Forget the subscriptions that have ended, once they outnumber the others."""
        if self._size > 4 * alive + 100:
            kept = {slot: [one for one in held if one.is_active] for slot, held in self._slots.items()}
            self._slots = {slot: held for slot, held in kept.items() if held}
            self._order = sorted(self._slots)
            self._size = sum(map(len, self._slots.values()))
