"""Which request the waits of one target need next, decided without I/O and without a clock.

Times are seconds of a clock that does not jump; `Schedule.offset` added to one gives epoch seconds, which is what the
waits themselves count in. An answer or an error is handed to the waits that it concerns, and they alone decide what it
means.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from airflow_zilliz._poller.list_filter import WHOLE_LIST, ListFilter, Lists
from airflow_zilliz._poller.list_health import LIST_RETRY, JobList
from airflow_zilliz._poller.server_health import Health
from airflow_zilliz._poller.subscription import Subscription, TimerQueue
from airflow_zilliz._protocol.constants import LIST_PAGE_SIZE, MAX_LIST_PAGES
from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._transport.request_queue import Need
from airflow_zilliz._wait.state_machine import Decision
from airflow_zilliz.exceptions import ZillizAuthError, ZillizError, ZillizUnavailable

#: So many waits are described one by one even where one page of the list would do: a description tells more.
FEW = 4
#: A wait that is looked at in lists is also described once in so many intervals, for rows and percentage.
REFRESH_INTERVALS = 20
#: For how long after its deadline a wait is polled, counted from when it can be, before it ends without a poll; below
#: Airflow's own backstop.
OVERDUE = 60.0
#: A wait of which nothing was heard for so long is described, whatever becomes of walks.
UNHEARD = 300.0
#: How many waits are looked through in one go, and how many are handed something: other triggers want their turn.
SCANNED_AT_ONCE = 1000
HANDED_AT_ONCE = 100


@dataclass
class Walk:
    """One walk through the list's pages.

    :param need: how urgent its next page is
    :param missing: the waits that it is to show and has not shown yet
    :param lists: what it asks for
    :param expected: how many pages it is thought to have
    :param shows_late_ones: whether its newest page showed waits for the first time that came after it began
    """

    began: float
    need: Need
    missing: set[Subscription] = field(repr=False)
    lists: Lists
    expected: int
    pages: int = 0
    records: int = 0
    shows_late_ones: bool = False
    _on_page: Counter[int] = field(default_factory=Counter, init=False, repr=False)
    _deepest: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._on_page.update(watch.page for watch in self.missing)
        self._deepest = max(self._on_page, default=0)

    def is_rid_of(self, watch: Subscription) -> None:
        """Take in that a wait was shown, or is gone."""
        if watch in self.missing:
            self.missing.discard(watch)
            self._on_page[watch.page] -= 1

    @property
    def pages_left(self) -> int:
        """How many more pages it may take to show what is missing: to where lists showed it before, or to the end."""
        while self._deepest and not self._on_page[self._deepest]:
            self._deepest -= 1
        if not self._on_page[0] and self.pages < self._deepest:
            return self._deepest - self.pages
        # beyond the end that was expected there may be as many pages again
        return self.expected - self.pages if self.pages < self.expected else self.pages


class Description(NamedTuple):
    """A job to describe."""

    job_id: str
    need: Need


class Schedule:
    """The waits of one target. Whoever calls it wakes the owners of `take_changed` afterwards."""

    def __init__(self) -> None:
        self.offset = 0.0
        #: when the server last had a usable answer for whoever uses the key
        self.others_answered_at = -math.inf
        self.walk: Walk | None = None
        #: the jobs that are waited for, each with its last record of the list
        self.listed: dict[str, Mapping[str, Any] | None] = {}
        self._jobs: dict[str, Subscription] = {}
        self._size = 0
        self._shortest_interval = math.inf
        self._looks = TimerQueue()
        self._ends = TimerQueue()
        #: whose time has come, and what is yet to be handed to many, both in slices
        self._come: deque[tuple[int, Subscription]] = deque()
        self._unhanded: deque[Callable[[float], None]] = deque()
        self._changed: list[Subscription] = []
        #: due, and waiting for a walk; due, and to be described; to be described when there is time. In their order.
        self._ready: dict[Subscription, None] = {}
        self._to_describe: dict[Subscription, None] = {}
        self._to_refresh: dict[Subscription, None] = {}
        #: watches that no walk can serve
        self._aside: set[Subscription] = set()
        self._weights = 0.0
        self._weighted_looks = 0.0
        self._list = JobList()
        self._filter = ListFilter()
        self._collections: Counter[str | None] = Counter()
        self._health = Health()
        self._in_flight = 0
        self._is_refreshing = False

    def __len__(self) -> int:
        return self._size

    def watches(self) -> list[Subscription]:
        """Return what is waited for."""
        found = list(self._jobs.values())
        for watch in found:
            if watch.twin is not None:
                found.append(watch.twin)  # and so on to the last one
        return found

    def take_changed(self) -> list[Subscription]:
        """Return the watches whose owners have steps to take, and forget them."""
        changed, self._changed = self._changed, []
        return changed

    # -- waits come and go ----------------------------------------------------------------------------------------

    def add(self, watch: Subscription, now: float) -> None:
        """Take a wait in."""
        wait = watch.wait
        watch.looked = watch.described = watch.answered = now
        self.listed[wait.job_id] = None  # another wait for the same job has yet to read its record
        watch.twin = self._jobs.get(wait.job_id)
        self._jobs[wait.job_id] = watch
        self._size += 1
        self._collections[watch.collection] += 1
        self._shortest_interval = min(self._shortest_interval, wait.policy.poke_interval)
        if not wait.can_be_listed:
            self._aside.add(watch)
        ends_by = wait.ends_by
        if ends_by is not None:
            self._ends.set(ends_by, watch)
        self._plan(watch, now, watch.not_before - now)

    def remove(self, watch: Subscription) -> None:
        """Let a wait go; it may be gone already."""
        if not watch.weight:
            return
        self._weights -= watch.weight
        self._weighted_looks -= watch.weight * watch.looked
        watch.weight = 0.0
        self._size -= 1
        self._count_collection(watch, -1)
        self._keep_only(
            [other for other in self._watches_of(watch.wait.job_id) if other is not watch], watch.wait.job_id
        )
        self._aside.discard(watch)
        self._unqueue(watch)
        if self.walk is not None:
            self.walk.is_rid_of(watch)
        self._looks.tidy(self._size)
        self._ends.tidy(self._size)

    # -- what to do next ------------------------------------------------------------------------------------------

    def settle(self, now: float) -> bool:
        """Find the waits that are due. While the target is paused they are told why.

        :returns: whether there is more to be done at once
        """
        self._take_due(now)
        while self._ends.first() <= now + self.offset:
            for watch in [watch for watch in self._ends.pop()[1] if watch.weight]:
                self._on_deadline(watch, now)
        self._hand_out(now)
        if (error := self._health.paused_by(now)) is not None:
            for watch in list(islice(self._due(), HANDED_AT_ONCE)):
                self._unqueue(watch)
                self._hand_error(watch, error, now)
            return bool(self._come or self._unhanded or self._ready or self._to_describe)
        if self.walk is None and self._ready and self._list.is_in_doubt:
            # a few descriptions tell whether it is the list alone that fails; all of them would take long
            self._describe_first(0 if self._to_describe else FEW)
        elif self.walk is None and self._ready and (self._list.is_off(now) or not self._walk_pays(now)):
            self._describe_first(len(self._ready))
        return bool(self._come or self._unhanded)

    def paused_for(self, now: float) -> float:
        """Return for how many seconds nothing may be sent."""
        return self._health.paused_for(now)

    def next_at(self, now: float) -> float:
        """Return when `settle` may find something new, as far as time alone can bring it about."""
        pause = self._health.paused_for(now)
        pause_end = now + pause if pause else math.inf
        return min(self._looks.first(), self._ends.first() - self.offset, pause_end)

    def next_description(self, now: float) -> Description | None:
        """Return the job to describe now, None for none; the answer is due at `on_described`."""
        if self._health.paused_for(now) or (self._health.is_failing and (self._in_flight or self.walk)):
            return None
        if self._to_describe:
            watch = next(iter(self._to_describe))
            self._in_flight += 1
            need = Need(watch.due, watch.pace)
        elif self._to_refresh and not self._is_refreshing and not self._health.is_failing:
            # one at a time, which waits for its turn until nothing else does
            watch = next(iter(self._to_refresh))
            self._is_refreshing = True
            need = Need(watch.due, watch.pace, is_refresh=True)
        else:
            return None
        for other in self._watches_of(watch.wait.job_id):
            self._unqueue(other)
        return Description(watch.wait.job_id, need)

    def begin_walk(self, now: float) -> Walk | None:
        """Return a walk to be made now, None for none."""
        if self.walk or not self._ready or self._list.is_in_doubt or self._health.paused_for(now):
            return None
        if self._health.is_failing and self._in_flight:
            return None
        eligible = {watch for watch in self.watches() if watch not in self._aside and watch.not_before <= now}
        first = list(islice(self._ready, HANDED_AT_ONCE))
        need = Need(
            min(watch.due for watch in first),
            min(watch.pace for watch in first),
            min(watch.looked for watch in first) + self._shortest_interval,
        )
        lists = self._filter.lists(self._collections, now)
        self.walk = Walk(now, need, eligible, lists, self._pages_of(lists))
        return self.walk

    # -- what came of it ------------------------------------------------------------------------------------------

    def on_described(
        self,
        job_id: str,
        outcome: ImportProgress | ZillizError,
        sent_at: float,
        now: float,
        *,
        is_refresh: bool = False,
    ) -> None:
        """Hand a description, or its failure, to the waits that it concerns.

        :param sent_at: when it was sent
        :param is_refresh: whether it was one, see `Need`
        """
        if is_refresh:
            self._is_refreshing = False
        else:
            self._in_flight -= 1
        self._list.on_described(outcome, now)
        # of two waits for one job the younger one may not end before Airflow has heard of its deferral
        watches = [watch for watch in self._watches_of(job_id) if watch.not_before <= now]
        for watch in watches:
            watch.described = now  # in vain or not: where the list serves a wait, it is not tried again at once
        if isinstance(outcome, ImportProgress):
            self._health.on_answer(now)
            for watch in watches:
                watch.answered = now
                self._note_collection(watch, outcome)
                self._take(watch, watch.wait.on_progress(outcome, now + self.offset), now)
            return
        if isinstance(outcome, ZillizUnavailable):
            self._health.on_failure(outcome, sent_at, now)
        else:
            self._health.on_answer(now)
        if isinstance(outcome, ZillizAuthError) and outcome.concerns_every_job:
            watches = [watch for watch in self.watches() if watch.not_before <= now]
            self._unhanded.extend(partial(self._hand_error, watch, outcome) for watch in watches)
            return
        for watch in watches:
            self._hand_error(watch, outcome, now)

    def on_listed(self, job_id: str, job: ImportProgress | None, now: float) -> None:
        """Hand a list's word on a job to the waits for it.

        :param job: None where its record is the one in ``listed``
        """
        if job_id not in self._jobs:
            return
        if job is not None:
            self.listed[job_id] = job.raw
        for watch in self._watches_of(job_id):
            if now < watch.not_before or not watch.wait.can_be_listed:
                self.listed[job_id] = None  # not everyone has read it
                continue
            watch.unlisted_until = -math.inf
            watch.answered = now
            self._aside.discard(watch)
            if self.walk is not None:
                self.walk.is_rid_of(watch)
                watch.page = self.walk.pages
                self.walk.shows_late_ones |= watch.looked < watch.not_before > self.walk.began
            epoch = now + self.offset
            if job is not None:
                self._note_collection(watch, job)
            step = watch.wait.on_listed(job, epoch) if job is not None else watch.wait.on_unchanged(epoch)
            self._take(watch, step, now)
            if watch.weight and now - watch.described > REFRESH_INTERVALS / watch.weight:
                self._to_refresh[watch] = None

    def on_page(self, now: float, records: int = 0, count: int = 0) -> None:
        """Take in that a page has come.

        :param records: how many jobs it has, whoever waits for them
        :param count: how many the list has, as far as the server says so
        """
        self._health.on_answer(now)
        if self.walk is not None:
            self.walk.pages += 1
            self.walk.records += records
            if records == LIST_PAGE_SIZE:
                self.walk.expected = max(self.walk.expected, min(MAX_LIST_PAGES, math.ceil(count / LIST_PAGE_SIZE)))
            self.walk.shows_late_ones = False

    @property
    def pages_expected(self) -> int:
        """How many pages a walk has, going by the last one and by the waits, where the list comes in pages."""
        pages = self._list.pages if self.walk is None else self.walk.expected
        return max(pages, math.ceil(self._size / LIST_PAGE_SIZE))

    @property
    def pages_a_second(self) -> float:
        """How many pages of its waits alone a walk needs each second to be done in two thirds of poke_interval."""
        return 1.5 * math.ceil(self._size / LIST_PAGE_SIZE) / max(self._shortest_interval, 1.0)

    @property
    def is_known_to_page(self) -> bool:
        """Whether the last walk, or this one, had several pages; Milvus sends all jobs at once."""
        walk = self.walk
        return self._list.pages > 1 or (walk is not None and walk.lists == WHOLE_LIST and walk.pages > 0)

    @property
    def walk_is_worth_a_page(self) -> bool:
        """Whether there are waits that the walk has not shown yet, and another page costs less than describing them."""
        walk = self.walk
        if walk is None or not walk.pages:
            return walk is not None and bool(walk.missing)
        # where many waits come while a walk is under way, it would end before their pages, time and again
        return len(walk.missing) > walk.pages_left or walk.shows_late_ones

    def can_walk_at(self, per_second: float) -> bool:
        """Whether a walk at this rate keeps every wait's poke_interval."""
        return self.pages_expected <= per_second * self._shortest_interval

    def on_filter_ignored(self, now: float) -> None:
        """Take in that a page of one collection's list has other collections' jobs: it is one of the whole list."""
        self._filter.on_useless(now)
        if self.walk is not None:
            self.walk.lists = WHOLE_LIST
            self.walk.expected = self._list.pages

    def end_walk(self, now: float, *, whole: bool) -> None:
        """End a walk; waits that it did not show are described, since they may lie where no walk gets to.

        :param whole: whether it came to the end of what it asked for
        """
        walk, self.walk = self.walk, None
        if walk is None:
            return
        pages = max(walk.pages, 1)
        if not whole and walk.missing:
            pages += 1  # there are more of them than there are waits: not worth it until there are more waits
        pages = pages if walk.lists == WHOLE_LIST else self._list.pages
        self._list.on_walk(pages, now, serves_all=not walk.missing)
        self._filter.on_walk(walk.lists, walk.records, now)
        if walk.missing and whole and walk.lists != WHOLE_LIST:
            self._filter.on_useless(now)  # its jobs may have another collection's name
            whole = False
        for watch in sorted(walk.missing, key=lambda one: one.due):
            if whole or walk.pages >= MAX_LIST_PAGES:
                watch.unlisted_until = now + LIST_RETRY
                self._aside.add(watch)
            if watch in self._ready or watch.due <= now:
                self._ready.pop(watch, None)
                self._to_describe[watch] = None
        self._sum_up()

    def fail_walk(self, error: Exception, sent_at: float, now: float) -> None:
        """Take in that a walk broke off; its waits are described instead, also from now on where lists are useless."""
        walk, self.walk = self.walk, None
        if isinstance(error, ZillizUnavailable):
            self._health.on_failure(error, sent_at, now)
        elif walk is not None and walk.lists != WHOLE_LIST:
            self._filter.on_useless(now)  # a collection that was dropped has no list on Milvus
            return
        for watch in [watch for watch in self._ready if now - watch.answered > max(UNHEARD, 2 * watch.pace)]:
            del self._ready[watch]
            self._to_describe[watch] = None
        if self._list.on_failed_walk(error, now):
            self._unhanded.extend(partial(self._tell_useless, watch, error) for watch in self.watches())

    # -- inside ---------------------------------------------------------------------------------------------------

    def _watches_of(self, job_id: str) -> list[Subscription]:
        """Return the waits for one job: nearly always one alone, so they hang together without a list for each job."""
        found, watch = [], self._jobs.get(job_id)
        while watch is not None:
            found.append(watch)
            watch = watch.twin
        return found

    def _keep_only(self, watches: list[Subscription], job_id: str) -> None:
        twin = None
        for watch in watches:
            watch.twin, twin = twin, watch
        if twin is not None:
            self._jobs[job_id] = twin
        else:
            del self._jobs[job_id], self.listed[job_id]

    def _on_deadline(self, watch: Subscription, now: float) -> None:
        """End a wait that could not be polled for long enough; one that comes late, or slept, is polled first."""
        if watch.is_overdue:
            self._unhanded.append(partial(self._hand_overdue, watch))
            return
        watch.is_overdue = True
        self._ends.set(max(now, watch.not_before) + OVERDUE + self.offset, watch)

    def _due(self) -> Iterable[Subscription]:
        yield from self._ready
        yield from self._to_describe

    def _take_due(self, now: float) -> None:
        while self._looks.first() <= now and len(self._come) < SCANNED_AT_ONCE:
            slot, watches = self._looks.pop()
            self._come.extend((slot, watch) for watch in watches)
        for _ in range(min(SCANNED_AT_ONCE, len(self._come))):
            slot, watch = self._come.popleft()
            if watch.weight and self._looks.slot_of(watch.due) == slot:
                self._become_due(watch, now)

    def _hand_out(self, now: float) -> None:
        for _ in range(min(HANDED_AT_ONCE, len(self._unhanded))):
            self._unhanded.popleft()(now)

    def _hand_overdue(self, watch: Subscription, now: float) -> None:
        if watch.weight:
            self._take(watch, watch.wait.on_overdue(now + self.offset), now)

    def _tell_useless(self, watch: Subscription, error: Exception, now: float) -> None:
        if watch.weight:
            self._tell(watch, watch.wait.on_list_useless(error, now + self.offset))

    @property
    def _answered_at(self) -> float:
        return max(self._health.answered_at, self.others_answered_at)

    def _note_collection(self, watch: Subscription, job: ImportProgress) -> None:
        if job.collection_name is not None:
            self._count_collection(watch, -1)
            watch.collection = job.collection_name
            self._collections[watch.collection] += 1

    def _count_collection(self, watch: Subscription, number: int) -> None:
        self._collections[watch.collection] += number
        if not self._collections[watch.collection]:
            del self._collections[watch.collection]

    def _become_due(self, watch: Subscription, now: float) -> None:
        if watch in self._aside and watch.wait.can_be_listed and now >= watch.unlisted_until:
            self._aside.discard(watch)
        if watch in self._aside or self._list.is_off(now):
            self._to_describe[watch] = None
        else:
            self._ready[watch] = None
            if self.walk is not None:
                self.walk.need.pace = min(self.walk.need.pace, watch.pace)

    def _describe_first(self, number: int) -> None:
        """Describe the first of the waits that are due, and leave the others to a walk."""
        for watch in list(islice(self._ready, number)):
            del self._ready[watch]
            self._to_describe[watch] = None

    def _walk_pays(self, now: float) -> bool:
        """Whether one walk costs fewer requests than describing what is due.

        A walk also looks at waits that are not due yet, and so saves a part of the next one: the larger, the longer
        ago they were looked at.
        """
        self._list.forget_old_pages(now)
        if self._list.is_the_better_bet:
            return True
        candidates = self._size - len(self._aside)
        pages = self._pages_of(self._filter.lists(self._collections, now))
        if candidates <= max(FEW, pages):
            return False
        gone_by = (now * self._weights - self._weighted_looks) / self._size
        return len(self._ready) > pages * (1 - min(1.0, gone_by))

    def _pages_of(self, lists: Lists) -> int:
        if lists == WHOLE_LIST:
            return self._list.pages
        return max(len(lists), math.ceil(self._size / LIST_PAGE_SIZE))

    def _plan(self, watch: Subscription, now: float, delay: float) -> None:
        """Set when a wait is looked at next."""
        self._weights -= watch.weight
        self._weighted_looks -= watch.weight * watch.looked
        watch.looked = now
        watch.weight = 1 / max(delay, 0.1)
        self._weights += watch.weight
        self._weighted_looks += watch.weight * now
        watch.due = now + delay
        self._unqueue(watch)
        self._looks.set(watch.due, watch)

    def _sum_up(self) -> None:
        """Sum anew, since sums that are only added to and taken from drift."""
        self._weights = self._weighted_looks = 0.0
        for watch in self.watches():
            self._weights += watch.weight
            self._weighted_looks += watch.weight * watch.looked

    def _unqueue(self, watch: Subscription) -> None:
        self._ready.pop(watch, None)
        self._to_describe.pop(watch, None)
        self._to_refresh.pop(watch, None)

    def _hand_error(self, watch: Subscription, error: ZillizError, now: float) -> None:
        if watch.weight:
            epoch = now + self.offset
            self._take(watch, watch.wait.on_error(error, epoch, self._answered_at + self.offset), now)

    def _take(self, watch: Subscription, step: Decision, now: float) -> None:
        """Do as a wait said after a look."""
        if step.is_last:
            self.remove(watch)
        elif watch.weight:
            self._plan(watch, now, step.delay)
        self._tell(watch, step)

    def _tell(self, watch: Subscription, step: Decision) -> None:
        if step.notes or step.is_last:
            watch.steps += (step,)
            self._changed.append(watch)
