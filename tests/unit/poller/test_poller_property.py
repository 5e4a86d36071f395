"""Whatever happens, no wait is lost, ended wrongly, or left alone for longer than it has to be."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_zilliz._poller import poller
from airflow_zilliz._poller.task_log import log_notes
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport import rate_limiter
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._wait.outcome import Ending, Outcome
from airflow_zilliz._wait.policy import WaitPolicy, spread_of
from airflow_zilliz._wait.state_machine import NOT_POLLED, Decision, ImportWait
from airflow_zilliz.hooks import ZillizHook
from tests.helpers import virtual
from tests.helpers.virtual import EPOCH, Job, Server, Trouble

RATE = 10.0
ENDPOINT = Endpoint("conn", "http://simulated.test", max_requests_per_second=RATE)
ENDINGS = {"Completed": Ending.REACHED, "Failed": Ending.JOB_FAILED}
START = 1000.0


@dataclass
class Plan:
    """One wait: when it comes, for how long its job still runs then, and when it is cancelled."""

    arrival: float
    runs_for: float
    outcome: str = "Completed"
    poke_interval: float = 30.0
    cancelled_after: float | None = None
    timeout: float | None = None
    listed: bool = True
    known: bool = True
    backs_off: bool = False


@dataclass
class Story:
    """What became of a wait. Times are the loop's."""

    job: Job
    plan: Plan
    joined: float
    end: Outcome | None = None
    ended: float = 0.0

    def log_notes(self, step: Decision) -> None:
        assert self.end is None, "nothing is logged after the end"


async def live(server: Server, plans: list[Plan]) -> list[Story]:
    stories = await asyncio.gather(*(_wait(server, number, plan) for number, plan in enumerate(plans)))
    await asyncio.sleep(0)
    assert not poller._pollers.get(server.loop), "a poll ends with its last wait"
    left = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.sleep(0)
    assert not {task for task in left if not task.done()}
    return stories


async def _wait(server: Server, number: int, plan: Plan) -> Story:
    loop = server.loop
    await asyncio.sleep(plan.arrival)
    job = Job(f"job-{number}", loop.now + plan.runs_for, plan.outcome, plan.listed, plan.known)
    server.jobs[job.id] = job
    started = EPOCH + loop.now
    deadline = None if plan.timeout is None else started + plan.timeout
    policy = WaitPolicy(
        poke_interval=plan.poke_interval,
        exponential_backoff=plan.backs_off,
        max_wait=120.0 if plan.backs_off else None,
    )
    spread = spread_of(job.id, started)
    wait = ImportWait(job.id, "conn", Target(), policy, started, started, deadline=deadline, spread=spread)
    story = Story(job, plan, loop.now)
    try:
        await asyncio.wait_for(_watch(server, wait, story), plan.cancelled_after)
    except asyncio.TimeoutError:
        story.ended = loop.now
    return story


async def endpoint(hook: ZillizHook) -> Endpoint:
    return ENDPOINT


async def _watch(server: Server, wait: ImportWait, story: Story) -> None:
    """Play the trigger's part."""
    step, looked_up_after, first_poll = NOT_POLLED, 0.0, server.loop.now + 2.0
    while step.end is None:
        watch, step = poller.join("conn", wait, first_poll, looked_up_after), NOT_POLLED
        try:
            while not step.is_last:
                await watch.changes()
                for step in watch.take():
                    if step.notes:
                        await log_notes(story, step)
        finally:
            poller.leave(watch)
        looked_up_after = server.loop.now
        if step.end is None:
            await asyncio.sleep(step.delay)
    story.end = step.end
    story.ended = server.loop.now


plans = st.builds(
    Plan,
    arrival=st.floats(0, 600),
    runs_for=st.one_of(st.floats(0, 60), st.floats(0, 3000)),
    outcome=st.sampled_from(["Completed", "Completed", "Failed"]),
    poke_interval=st.sampled_from([5.0, 30.0, 30.0, 120.0]),
    cancelled_after=st.one_of(st.none(), st.none(), st.floats(0.01, 900)),
    timeout=st.one_of(st.none(), st.none(), st.floats(1, 3000)),
    listed=st.sampled_from([True] * 9 + [False]),
    known=st.sampled_from([True] * 19 + [False]),
    backs_off=st.sampled_from([False] * 9 + [True]),
)
fleets = st.builds(
    lambda plan, size: [plan] * size,
    st.builds(Plan, arrival=st.floats(0, 60), runs_for=st.floats(0, 900)),
    st.integers(1, 400),
)
troubles = st.builds(
    Trouble,
    start=st.floats(START, START + 2500),
    seconds=st.floats(0.1, 90),
    kind=st.sampled_from(["lost", "429", "429 with Retry-After", "503"]),
    path=st.sampled_from(["", "list", "describe"]),
)
servers = st.builds(
    Server,
    others=st.sampled_from([0, 0, 95, 100, 730]),
    order=st.sampled_from(["stable", "random", "newest first"]),
    pages=st.booleans(),
    percents=st.booleans(),
    list_response=st.sampled_from(
        [None] * 8 + [b"<html>", b'{"code": 0, "data": {"records": []}}', b'{"code": 80020, "message": "no right"}']
    ),
    troubles=st.lists(troubles, max_size=4),
    seed=st.integers(0, 2**16),
)


@given(server=servers, single=st.lists(plans, max_size=40), fleet=st.one_of(st.just([]), fleets))
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_no_wait_is_lost_wrong_or_left_alone(server: Server, single: list[Plan], fleet: list[Plan]) -> None:
    server = Server(**{name: getattr(server, name) for name in _INPUTS})
    rate_limiter.forget_limits()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(ZillizHook, "aendpoint", endpoint)
        stories = virtual.run(live(server, single + fleet), server, monkeypatch)
    for times in server.sent.values():
        for index, time in enumerate(times):
            assert bisect_left(times, time + 1 - 1e-6) - index <= RATE + 1, "the limit holds at every moment"
    for story in stories:
        _check(story, server, len(stories))


_INPUTS = ("others", "order", "pages", "percents", "list_response", "troubles", "seed")


def _check(story: Story, server: Server, waits: int) -> None:
    plan, job = story.plan, story.job
    # what the rate limit and the server's troubles force: everyone's turn twice over, each trouble with its pause
    pages = 1 + (waits + server.others) / 100
    forced = 3.0 + 2.5 * (waits + pages) / RATE
    forced += sum(trouble.seconds + 65 + 2.5 * (waits + pages) / RATE * 3 for trouble in server.troubles)
    interval = 120.0 if plan.backs_off else plan.poke_interval
    polls = [story.joined, *(time for time in server.polls[job.id] if story.joined < time <= story.ended), story.ended]
    gap = max(later - earlier for earlier, later in pairwise(polls))
    assert gap <= interval + forced, "a wait is not left alone"
    if story.end is None:
        assert plan.cancelled_after is not None, "no wait is lost"
        return
    if story.end.job_has_ended:
        assert story.end.ending is ENDINGS[plan.outcome]
        assert story.ended >= job.end - 0.001, "no wait ends before its job"
        assert plan.known
    elif story.end.ending is Ending.UNKNOWN_JOB:
        assert not plan.known
    else:
        assert story.end.ending is Ending.TIMED_OUT
        assert plan.timeout is not None
        assert story.ended >= story.joined + plan.timeout - 0.001  # epoch seconds are no finer
    due = job.end if plan.known else story.joined + 60
    if plan.timeout is not None:
        due = min(due, story.joined + plan.timeout)
    assert story.ended <= max(due, story.joined) + interval + forced, "an end is seen in time"
