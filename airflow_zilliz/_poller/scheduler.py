"""Which request the waits of one target need next, decided without I/O and without a clock.

Times are seconds of a clock that does not jump; `Schedule.offset` added to one gives epoch seconds, which is what the
waits themselves count in. A response or an error is passed to the waits that it concerns, and they alone decide what it
means. No call handles more than a slice of the waits: there may be 10,000 of them, and other triggers need their turn.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import islice

from airflow_zilliz._poller.due_queue import Description, DueQueue
from airflow_zilliz._poller.list_health import LIST_RETRY
from airflow_zilliz._poller.server_health import Health
from airflow_zilliz._poller.sliced_work import CHECK_COST, DECISIONS_AT_ONCE, SlicedWork
from airflow_zilliz._poller.subscription import Subscription, Subscriptions
from airflow_zilliz._poller.timers import TimerQueue
from airflow_zilliz._poller.walk import Walk
from airflow_zilliz._poller.walk_planner import FEW, WalkPlanner
from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._wait.state_machine import Decision
from airflow_zilliz.exceptions import ZillizAuthError, ZillizError, ZillizUnavailable

#: A wait that lists serve is also described once in so many intervals, for rows and percentage.
REFRESH_INTERVALS = 20
#: For how many seconds after its deadline a wait may still be polled, before it ends without a poll: fewer than until
#: Airflow ends the deferral itself.
OVERDUE = 60.0


class Schedule:
    """The waits of one target. After each call, the caller wakes the owners of the subscriptions in `take_changed`."""

    def __init__(self) -> None:
        self.offset = 0.0
        #: when the server last sent a usable response to any user of the key
        self.others_responded_at = -math.inf
        self.subscriptions = Subscriptions()
        self.walks = WalkPlanner(self.subscriptions)
        self._polls = TimerQueue()
        self._deadlines = TimerQueue()
        self._queue = DueQueue()
        self._work = SlicedWork()
        self._changed: list[Subscription] = []
        self._health = Health()
        #: on a failing server, walks and descriptions are requested in turn
        self._walked_last = False

    def __len__(self) -> int:
        return len(self.subscriptions)

    def take_changed(self) -> list[Subscription]:
        """Return and forget the subscriptions whose owners have decisions to take."""
        changed, self._changed = self._changed, []
        return changed

    # -- waits come and go ----------------------------------------------------------------------------------------

    def add(self, subscription: Subscription, now: float) -> None:
        """Add a wait."""
        wait = subscription.wait
        subscription.described_at = subscription.shown_at = now
        self.subscriptions.add(subscription)
        if not wait.can_be_listed:
            self.walks.set_aside(subscription, now)
        if (ends_by := wait.ends_by) is not None:
            self._deadlines.set(ends_by, subscription)
        self._plan(subscription, now, subscription.not_before - now)

    def remove(self, subscription: Subscription) -> None:
        """Remove a wait; it may be gone already."""
        if not subscription.is_active:
            return
        self.walks.elapsed.remove(subscription)
        subscription.pace = 0.0
        self.subscriptions.remove(subscription)
        self.walks.remove(subscription)
        self._queue.remove(subscription)
        self._polls.tidy(len(self))
        self._deadlines.tidy(len(self))

    # -- what to do next ------------------------------------------------------------------------------------------

    def settle(self, now: float) -> bool:
        """Do a slice of the work without requests: find what is due, pass on what concerns many waits.

        :returns: whether there is more to do at once
        """
        while self._polls.first() <= now:
            slot, subscriptions = self._polls.pop()
            self._work.add(subscriptions, partial(self._on_timer, slot), CHECK_COST)
        while self._deadlines.first() <= now + self.offset:
            self._work.add(self._deadlines.pop()[1], self._on_deadline)
        self._work.run(now)
        if (error := self._health.paused_by(now)) is not None:
            for subscription in list(islice(self._queue, DECISIONS_AT_ONCE)):
                self._queue.unqueue(subscription)
                self._hand_error(subscription, now, error=error)
            return bool(self._work or self._queue)
        if not self._work:
            self._choose(now)
        return bool(self._work)

    def paused_for(self, now: float) -> float:
        """Return for how many seconds nothing may be sent."""
        return self._health.paused_for(now)

    def next_at(self, now: float) -> float:
        """Return when the passing of time alone may give `settle` something to do."""
        pause_end = now + (self._health.paused_for(now) or math.inf)
        return min(self._polls.first(), self._deadlines.first() - self.offset, pause_end)

    def next_description(self, now: float) -> Description | None:
        """Return the job to describe now, None for none; pass its result to `on_described`."""
        is_failing = self._health.is_failing
        if self._health.paused_for(now) or (is_failing and (self._queue.in_flight or self.walks.walk)):
            return None
        found = self._queue.next_description(now, may_refresh=not is_failing)
        if found is not None:
            self._walked_last = False
            for subscription in self.subscriptions.of(found.job_id):
                self._queue.remove(subscription)
        return found

    def begin_walk(self, now: float) -> Walk | None:
        """Return a walk to make now, None for none."""
        if self.walks.walk or not self._queue.for_walk or self.walks.list.is_in_doubt or self._health.paused_for(now):
            return None
        if self._health.is_failing and (self._queue.in_flight or (self._walked_last and self._queue.for_description)):
            return None
        self._walked_last = True
        return self.walks.begin(now, self._queue.walk_need(self.subscriptions.shortest_interval))

    # -- results --------------------------------------------------------------------------------------------------

    def on_described(
        self,
        job_id: str,
        outcome: ImportProgress | ZillizError,
        sent_at: float,
        now: float,
        *,
        is_refresh: bool = False,
    ) -> None:
        """Pass a description, or its failure, to the waits that it concerns.

        :param sent_at: when it was sent
        :param is_refresh: whether it was a refresh, see `Need`
        """
        self._queue.on_described(is_refresh=is_refresh)
        self.walks.list.on_described(outcome, now)
        if isinstance(outcome, ZillizUnavailable):
            self._health.on_failure(outcome, sent_at, now)
        else:
            self._health.on_response(now)
        concerns_all = isinstance(outcome, ZillizAuthError) and outcome.concerns_every_job
        for subscription in self.subscriptions.of(job_id):
            if now < subscription.not_before:
                # another wait for this job: it must not end before Airflow knows of its deferral
                continue
            # successful or not: if the list serves a wait, the description is not retried at once
            subscription.described_at = now
            if isinstance(outcome, ImportProgress):
                subscription.shown_at = now
                self.subscriptions.note_collection(subscription, outcome)
                self._take(subscription, subscription.wait.on_progress(outcome, now + self.offset), now)
            elif not concerns_all:
                self._hand_error(subscription, now, error=outcome)
        if concerns_all and isinstance(outcome, ZillizError):
            self._work.add(self.subscriptions, partial(self._hand_error, error=outcome))

    def on_listed(self, job_id: str, job: ImportProgress | None, now: float) -> None:
        """Pass a job's state in the list to the waits for it.

        :param job: None where its record is the one in ``subscriptions.listed``
        """
        if job_id not in self.subscriptions:
            return
        listed = self.subscriptions.listed
        if job is not None:
            listed[job_id] = job.raw
        for subscription in self.subscriptions.of(job_id):
            if now < subscription.not_before or not subscription.wait.can_be_listed:
                listed[job_id] = None  # not every wait has read it
                continue
            subscription.shown_at = now
            self.walks.on_listed(subscription)
            epoch = now + self.offset
            if job is None:
                decision = subscription.wait.on_unchanged(epoch)
            else:
                self.subscriptions.note_collection(subscription, job)
                decision = subscription.wait.on_listed(job, epoch)
            self._take(subscription, decision, now)
            if subscription.is_active and now - subscription.described_at > REFRESH_INTERVALS * subscription.pace:
                self._queue.refresh(subscription)

    def on_page(self, now: float, records: int, count: int) -> None:
        """See `WalkPlanner.on_page`."""
        self._health.on_response(now)
        self.walks.on_page(records, count)

    def end_walk(self, now: float, *, whole: bool) -> None:
        """End a walk; waits that it did not show are described, since no walk may reach them.

        :param whole: whether it reached the end of its lists
        """
        missed, for_good = self.walks.end(now, whole=whole)
        self._work.add(missed, partial(self._on_missed, for_good=for_good))

    def fail_walk(self, error: Exception, sent_at: float, now: float) -> None:
        """Handle a failed walk; its waits are described instead, and continue to be if lists are useless.

        Rate limits belong to the path, and so does a pause for one: descriptions go on.
        """
        if isinstance(error, ZillizUnavailable) and not error.is_throttling:
            self._health.on_failure(error, sent_at, now)
        if self.walks.fail(error, now):
            self._work.add(self.subscriptions, partial(self._report_useless, error=error))

    # -- internals ------------------------------------------------------------------------------------------------

    def _choose(self, now: float) -> None:
        """Choose between a walk and descriptions for what is due."""
        queue = self._queue
        if not queue.for_description:
            queue.describe_unheard(now)
        number = len(queue.for_walk)
        if not number or self.walks.walk is not None:
            return
        if self.walks.list.is_in_doubt:
            # a few descriptions show whether only the list fails; all of them would take long
            queue.describe_first(0 if queue.for_description else FEW)
        elif self.walks.list.is_off(now) or not self.walks.pays(now, number):
            queue.describe_first(number)

    def _on_timer(self, slot: int, subscription: Subscription, now: float) -> None:
        """Queue a subscription that is due, unless it was polled since the timer was set."""
        if not subscription.is_active or TimerQueue.slot_of(subscription.due) != slot:
            return
        if not self.walks.serves(subscription, now):
            self._queue.describe(subscription)
            return
        self._queue.await_walk(subscription)
        if self.walks.walk is not None:
            self.walks.walk.need.pace = min(self.walks.walk.need.pace, subscription.pace)

    def _on_deadline(self, subscription: Subscription, now: float) -> None:
        """End a wait that was not polled long after its deadline; one that comes late, or slept, is polled first."""
        if not subscription.is_active:
            return
        if subscription.is_overdue:
            self._take(subscription, subscription.wait.on_overdue(now + self.offset), now)
            return
        subscription.is_overdue = True
        self._deadlines.set(max(now, subscription.not_before) + OVERDUE + self.offset, subscription)

    def _on_missed(self, subscription: Subscription, now: float, *, for_good: bool) -> None:
        if not subscription.is_active:
            return
        if for_good:
            self.walks.set_aside(subscription, now + LIST_RETRY)
        if subscription in self._queue.for_walk or subscription.due <= now:
            self._queue.describe(subscription)

    def _report_useless(self, subscription: Subscription, now: float, *, error: Exception) -> None:
        if subscription.is_active:
            self._report(subscription, subscription.wait.on_list_useless(error, now + self.offset))

    def _hand_error(self, subscription: Subscription, now: float, *, error: ZillizError) -> None:
        if subscription.is_active and now >= subscription.not_before:
            responded_at = max(self._health.responded_at, self.others_responded_at) + self.offset
            self._take(subscription, subscription.wait.on_error(error, now + self.offset, responded_at), now)

    def _plan(self, subscription: Subscription, now: float, delay: float) -> None:
        """Set when a wait is polled next."""
        if subscription.is_active:
            self.walks.elapsed.remove(subscription)
        subscription.polled_at = now
        subscription.pace = max(delay, 0.1)
        subscription.due = now + delay
        self.walks.elapsed.add(subscription)
        self._queue.unqueue(subscription)
        self._polls.set(subscription.due, subscription)

    def _take(self, subscription: Subscription, decision: Decision, now: float) -> None:
        """Act on a wait's decision after a poll."""
        if decision.is_last:
            self.remove(subscription)
        elif subscription.is_active:
            self._plan(subscription, now, decision.delay)
        self._report(subscription, decision)

    def _report(self, subscription: Subscription, decision: Decision) -> None:
        if decision.notes or decision.is_last:
            subscription.steps += (decision,)
            self._changed.append(subscription)
