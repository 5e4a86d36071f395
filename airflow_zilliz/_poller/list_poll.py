"""Does what a `ListWait` decides, and shares its polls with all other waits of the process.

A trigger runs it on the triggerer's loop, and a worker on its own loop, so that many jobs are polled in the same way in
every mode: in one walk through the list if that is cheaper. Each ended job is described, all within the rate limit.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from itertools import count

from airflow_zilliz._poller.poller import hand_over, leave, lookup_of
from airflow_zilliz._poller.subscriber import Subscriber
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._wait.list_notes import Note
from airflow_zilliz._wait.list_outcome import ListOutcome
from airflow_zilliz._wait.list_wait import Again, ListWait
from airflow_zilliz._wait.snapshot import Snapshot
from airflow_zilliz._wait.state_machine import ImportWait
from airflow_zilliz.exceptions import ZillizError

#: After so many jobs, other triggers get their turn on the loop.
_SLICE = 100
#: A description of a job that a list showed ended comes after this, in seconds: it is no more urgent than other polls.
DESCRIPTION_DELAY = 1.0
#: Jobs whose key was refused within so many seconds share a look-up of the connection.
SHARED_LOOK_UP = 5.0
#: How often it is checked whether there is something to log, and whether all jobs were polled, in seconds.
TICK, SHORT_TICK = 5.0, 0.1

Log = Callable[[tuple[Note, ...]], Awaitable[None]]


class _Member(Subscriber):
    """One job's place in the polls; it wakes the owner of all of them."""

    __slots__ = ("_news",)

    def __init__(self, wait: ImportWait, not_before: float, news: _News) -> None:
        super().__init__(wait, not_before)
        self._news = news

    def wake(self) -> None:
        """Wake the owner."""
        self._news.add(self)


class _News:
    """The members that have decisions to take."""

    def __init__(self) -> None:
        self._members: dict[_Member, None] = {}
        self._event = asyncio.Event()

    def add(self, member: _Member) -> None:
        self._members[member] = None
        self._event.set()

    def pop(self) -> _Member | None:
        if not self._members:
            self._event.clear()
            return None
        member = next(iter(self._members))
        del self._members[member]
        return member

    async def wait(self, seconds: float) -> None:
        if self._event.is_set():
            await asyncio.sleep(0)
            return
        try:
            await asyncio.wait_for(self._event.wait(), max(0.0, seconds))
        except asyncio.TimeoutError:
            return


class LookUp(Exception):
    """Raised on a worker, which then looks the connection up again outside of its loop."""


class ListPoll:
    """Polls the open jobs of one `ListWait` until it ends or pauses.

    :param log: writes lines into the task's log
    :param on_progress: gets what a person is shown of the jobs, at most once a minute
    :param endpoint: the one that a worker has looked up; None to share the look-up of all triggers
    """

    def __init__(
        self,
        wait: ListWait,
        log: Log,
        on_progress: Callable[[Snapshot], None] | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        self._wait = wait
        self._log = log
        self._on_progress = on_progress
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._news = _News()
        self._members: dict[str, _Member] = {}
        self._later: list[tuple[float, int, Again]] = []
        self._numbers = count()
        self._looked_up_after = 0.0

    async def run(self, first_delay: float = 0.0) -> ListOutcome:
        """Poll until the wait ends or pauses.

        :param first_delay: seconds before the first poll, at least
        :raises LookUp: the connection that was given is to be looked up again
        """
        outcome = await self._poll(first_delay, math.inf)
        if outcome is None:
            raise RuntimeError("A poll without an end has stopped")  # our own bug
        return outcome

    async def run_once(self, within: float) -> ListOutcome | None:
        """Poll until each job was polled once and what had ended was described, but no longer than so many seconds.

        :returns: None if the wait continues
        :raises LookUp: as `run`
        """
        return await self._poll(0.0, self._loop.time() + within)

    async def _poll(self, first_delay: float, until: float) -> ListOutcome | None:
        is_once = until < math.inf
        first_poll = self._loop.time() + first_delay
        try:
            for number, wait in enumerate(self._wait.begin(), 1):
                at = first_poll if is_once else max(first_poll, self._loop.time() + wait.delay(wait.now))
                self._subscribe(wait, at)
                if number % _SLICE == 0:
                    await asyncio.sleep(0)
            while True:
                outcome = self._take_news()
                if self._wait.is_to_be_measured:
                    await asyncio.to_thread(self._wait.measure)
                    outcome = outcome or self._wait.outcome(time.time())
                if (notes := self._wait.take_notes(time.time())) or self._wait.progress_is_due(time.time()):
                    await self._report(notes)
                if outcome is not None:
                    await asyncio.sleep(first_poll - self._loop.time())  # an end must not come before
                    return outcome
                if is_once and (self._loop.time() >= until or self._wait.are_polled):
                    return None
                await self._news.wait(self._pause(until))
        finally:
            await self._leave_all()

    def _take_news(self) -> ListOutcome | None:
        """Handle the results of some polls, and the passing of time."""
        now, wait = time.time(), self._wait
        outcome = wait.outcome(now)
        for _ in range(_SLICE):
            if outcome is not None or wait.is_to_be_measured or (member := self._news.pop()) is None:
                break
            job_id = member.wait.job_id
            if self._members.get(job_id) is not member:
                continue
            self._on_error(member, now)
            for step in member.take():
                self._again(wait.on_decision(job_id, step, now))
            outcome = wait.outcome(now)
        self._subscribe_again()
        return outcome

    def _subscribe_again(self) -> None:
        now = self._loop.time()
        for _ in range(_SLICE):
            if not self._later or self._later[0][0] > now:
                break
            wait = heappop(self._later)[2].wait
            self._subscribe(wait, now + (DESCRIPTION_DELAY if wait.undescribed else 0.0))

    def _on_error(self, member: _Member, now: float) -> None:
        error, member.error = member.error, None
        if isinstance(error, ZillizError):
            self._again(self._wait.on_error(member.wait.job_id, error, now))
        elif error is not None:
            raise error.with_traceback(None)

    def _again(self, again: Again | None) -> None:
        if again is None:
            return
        now = self._loop.time()
        if again.look_up:
            if self._endpoint is not None:
                raise LookUp
            if now - self._looked_up_after > SHARED_LOOK_UP:
                self._looked_up_after = now
        heappush(self._later, (now + again.delay, next(self._numbers), again))

    def _subscribe(self, wait: ImportWait, at: float) -> None:
        if (former := self._members.get(wait.job_id)) is not None:
            leave(former)
        member = self._members[wait.job_id] = _Member(wait, at, self._news)
        if self._endpoint is not None:
            hand_over(member, self._endpoint)
        else:
            lookup_of(wait.conn_id, self._looked_up_after).add(member, hand_over)

    async def _report(self, notes: tuple[Note, ...]) -> None:
        now = time.time()
        if self._wait.progress_is_due(now):
            # it reads thousands of waits
            progress = await asyncio.to_thread(self._wait.progress, now)
            self._wait.on_progress(progress, now)
            if self._on_progress is not None:
                self._on_progress(self._wait.snapshot(progress, now))
            notes += self._wait.take_notes(now)
        if notes:
            await self._log(notes)

    def _pause(self, until: float) -> float:
        now = self._loop.time()
        times = [TICK if until == math.inf else min(SHORT_TICK, until - now)]
        times.extend(at - now for at, _, _ in self._later[:1])
        if (checkpoint := self._wait.checkpoint_in(time.time())) is not None:
            times.append(checkpoint)
        return min(times)

    async def _leave_all(self) -> None:
        for number, member in enumerate(self._members.values(), 1):
            leave(member)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
