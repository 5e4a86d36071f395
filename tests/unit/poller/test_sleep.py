"""A machine that sleeps while it waits, and one whose clock is set: the loop's time continues where it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_zilliz._transport import rate_limiter
from airflow_zilliz._wait.outcome import Ending
from airflow_zilliz.hooks import ZillizHook
from tests.helpers import virtual
from tests.helpers.virtual import Server, Trouble
from tests.unit.poller.test_poller_property import Plan, Story, endpoint, live

Play = Callable[[Server, list[Plan], dict[float, float]], list[Story]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Live through some waits; at some times, by the loop, the machine's clock jumps by some seconds."""
    monkeypatch.setattr(ZillizHook, "aendpoint", endpoint)
    rate_limiter.forget_limits()

    def run(server: Server, plans: list[Plan], jumps: dict[float, float]) -> list[Story]:
        async def scenario() -> list[Story]:
            def jump(seconds: float) -> None:
                server.asleep += seconds

            for after, seconds in jumps.items():
                server.loop.call_later(after, jump, seconds)
            return await live(server, plans)

        return virtual.run(scenario(), server, monkeypatch)

    return run


@pytest.mark.parametrize("waits", [1, 30])
def test_a_job_that_is_done_when_a_machine_wakes_up_after_the_deadline_is_done(play: Play, waits: int) -> None:
    plans = [Plan(arrival=0.0, runs_for=29.0, timeout=600.0, outcome="Completed")] * waits
    for story in play(Server(), plans, {30.0: 36_000.0}):
        assert story.end is not None
        assert story.end.ending is Ending.REACHED


def test_a_job_that_still_runs_then_times_out_by_its_state(play: Play) -> None:
    (story,) = play(Server(), [Plan(arrival=0.0, runs_for=10_000.0, timeout=600.0)], {30.0: 36_000.0})
    assert story.end is not None
    assert story.end.ending is Ending.TIMED_OUT
    assert "Importing 40 %" in story.end.message
    assert story.ended < 1000 + 40


def test_a_machine_that_sleeps_in_a_trouble_waits_on_when_it_wakes_up(play: Play) -> None:
    server = Server(troubles=[Trouble(1020, 120, "lost")])
    for story in play(server, [Plan(arrival=0.0, runs_for=200.0)] * 3, {60.0: 36_000.0}):
        assert story.end is not None
        assert story.end.ending is Ending.REACHED


def test_a_clock_that_is_set_back_stretches_no_trouble(play: Play) -> None:
    server = Server(troubles=[Trouble(1020, 100_000, "lost")])
    (story,) = play(server, [Plan(arrival=0.0, runs_for=10_000.0)], {60.0: -3600.0, 120.0: -3600.0})
    assert story.end is not None
    assert story.end.ending is Ending.UNAVAILABLE
    assert story.ended - 1020 == pytest.approx(600, abs=65)
