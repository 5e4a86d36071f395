"""A wait's place in a schedule, and the times at which waits are due."""

from __future__ import annotations

import heapq
import math
from asyncio import Future
from typing import Protocol

from airflow_zilliz._wait.state_machine import Decision, ImportWait


class Subscription:
    """One wait, in a schedule or on its way there.

    ``steps`` are the decisions that its owner has yet to take, and ``waker`` is what the owner awaits until then.

    :param not_before: when a poll may count at the earliest, by the clock of the schedule
    """

    __slots__ = (
        "answered",
        "collection",
        "described",
        "due",
        "error",
        "holder",
        "is_overdue",
        "looked",
        "not_before",
        "page",
        "steps",
        "twin",
        "unlisted_until",
        "wait",
        "waker",
        "weight",
    )

    def __init__(self, wait: ImportWait, not_before: float) -> None:
        self.wait = wait
        self.not_before = not_before
        self.due = not_before
        self.looked = not_before
        self.described = not_before
        #: when a poll last showed something of it
        self.answered = not_before
        #: the collection of its job, if known
        self.collection = wait.seen.collection_name
        #: the page of the list that last showed it, 0 for none
        self.page = 0
        self.unlisted_until = -math.inf
        #: a deadline has passed, and the last poll is due
        self.is_overdue = False
        #: polls per second that it needs; 0 for a subscription that is not in a schedule
        self.weight = 0.0
        self.steps: tuple[Decision, ...] = ()
        self.waker: Future[None] | None = None
        #: the poller or look-up that it has to leave
        self.holder: Holder | None = None
        self.error: BaseException | None = None
        #: another wait for the same job
        self.twin: Subscription | None = None

    @property
    def pace(self) -> float:
        """Seconds from its last poll to the next one."""
        return 1 / self.weight if self.weight else math.inf

    def take(self) -> tuple[Decision, ...]:
        """Return and forget the steps that the owner has not taken."""
        steps, self.steps = self.steps, ()
        return steps

    def fail(self, error: BaseException) -> None:
        """Raise an error in the owner."""
        self.error = error
        self.wake()

    def wake(self) -> None:
        """Wake the owner."""
        if self.waker is not None and not self.waker.done():
            self.waker.set_result(None)


class Holder(Protocol):
    """What holds subscriptions until they leave."""

    def leave(self, subscription: Subscription) -> None:
        """Remove a subscription."""


class TimerQueue:
    """Waits by the time at which something is due, in slots of a 32nd of a second; some may be outdated."""

    def __init__(self) -> None:
        self._slots: dict[int, list[Subscription]] = {}
        self._order: list[int] = []
        self._size = 0

    @staticmethod
    def slot_of(time: float) -> int:
        """Return the slot of a time."""
        return math.ceil(time * 32)

    def set(self, time: float, subscription: Subscription) -> None:
        """Add a time at which something is due for a wait."""
        slot = self.slot_of(time)
        if slot not in self._slots:
            self._slots[slot] = []
            heapq.heappush(self._order, slot)
        self._slots[slot].append(subscription)
        self._size += 1

    def first(self) -> float:
        """Return when the next slot is due, infinity for never."""
        return self._order[0] / 32 if self._order else math.inf

    def pop(self) -> tuple[int, list[Subscription]]:
        """Remove and return the next slot, with its waits."""
        slot = heapq.heappop(self._order)
        subscriptions = self._slots.pop(slot)
        self._size -= len(subscriptions)
        return slot, subscriptions

    def tidy(self, alive: int) -> None:
        """Forget the waits that have ended, once they outnumber those that have not."""
        if self._size > 4 * alive + 100:
            kept = {slot: [one for one in held if one.weight] for slot, held in self._slots.items()}
            self._slots = {slot: held for slot, held in kept.items() if held}
            self._order = sorted(self._slots)
            self._size = sum(map(len, self._slots.values()))
