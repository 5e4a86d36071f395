"""One wait's place in a schedule, and all of them by job. No I/O, no clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._wait.state_machine import Decision, ImportWait


class Subscription:
    """One wait, in a schedule or on its way there. Times are those of the schedule's clock.

    ``steps`` are the decisions that its owner has yet to take.

    :param not_before: when a poll may count at the earliest
    """

    __slots__ = (
        "collection",
        "described_at",
        "due",
        "is_overdue",
        "next_of_job",
        "not_before",
        "pace",
        "page",
        "polled_at",
        "shown_at",
        "steps",
        "unlisted_until",
        "wait",
    )

    def __init__(self, wait: ImportWait, not_before: float) -> None:
        self.wait = wait
        self.not_before = not_before
        self.due = not_before
        self.polled_at = not_before
        self.described_at = not_before
        #: when a poll last showed its job
        self.shown_at = not_before
        #: the collection of its job, if known
        self.collection = wait.seen.collection_name
        #: the page of the list that last showed it, 0 for none
        self.page = 0
        self.unlisted_until = -math.inf
        #: a deadline has passed, and the last poll is due
        self.is_overdue = False
        #: seconds from its last poll to the next one; 0 for a subscription that is in no schedule
        self.pace = 0.0
        self.steps: tuple[Decision, ...] = ()
        #: another wait for the same job
        self.next_of_job: Subscription | None = None

    @property
    def is_active(self) -> bool:
        """Whether it is in a schedule."""
        return self.pace > 0

    def take(self) -> tuple[Decision, ...]:
        """Return and forget the decisions that the owner has not taken."""
        steps, self.steps = self.steps, ()
        return steps


class Subscriptions:
    """The subscriptions of one target, by job, and what they have in common."""

    def __init__(self) -> None:
        #: the jobs of the waits, each with its last record of the list
        self.listed: dict[str, Mapping[str, Any] | None] = {}
        #: how many waits each collection has, None being the unknown ones
        self.collections: Counter[str | None] = Counter()
        self.shortest_interval = math.inf
        self._jobs: dict[str, Subscription] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def __iter__(self) -> Iterator[Subscription]:
        """Iterate over all of them, in slices if necessary: they may come and go meanwhile."""
        for job_id in list(self._jobs):
            yield from self.of(job_id)

    def of(self, job_id: str) -> list[Subscription]:
        """Return the waits for one job: nearly always only one, so they are linked instead of listed for each job."""
        found, one = [], self._jobs.get(job_id)
        while one is not None:
            found.append(one)
            one = one.next_of_job
        return found

    def add(self, subscription: Subscription) -> None:
        """Add a subscription."""
        job_id = subscription.wait.job_id
        self.listed[job_id] = None  # another wait for the same job has yet to read its record
        subscription.next_of_job = self._jobs.get(job_id)
        self._jobs[job_id] = subscription
        self._size += 1
        self.collections[subscription.collection] += 1
        self.shortest_interval = min(self.shortest_interval, subscription.wait.policy.poke_interval)

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscription."""
        job_id = subscription.wait.job_id
        self._size -= 1
        self._count_collection(subscription, -1)
        others = [one for one in self.of(job_id) if one is not subscription]
        if not others:
            del self._jobs[job_id], self.listed[job_id]
            return
        self._jobs[job_id] = others[0]
        for one, next_of_job in zip(others, [*others[1:], None], strict=True):
            one.next_of_job = next_of_job

    def note_collection(self, subscription: Subscription, job: ImportProgress) -> None:
        """Note the collection of a job if a response has it."""
        if job.collection_name is not None:
            self._count_collection(subscription, -1)
            subscription.collection = job.collection_name
            self._count_collection(subscription, 1)

    def _count_collection(self, subscription: Subscription, number: int) -> None:
        self.collections[subscription.collection] += number
        if not self.collections[subscription.collection]:
            del self.collections[subscription.collection]
