from __future__ import annotations

import math

from airflow_zilliz._poller.timers import TimerQueue
from tests.helpers.subscriptions import subscription


def test_what_is_due_first_comes_first() -> None:
    timers, late, early, also_early = TimerQueue(), subscription(), subscription(), subscription()
    timers.set(20.0, late)
    timers.set(10.0, early)
    timers.set(10.0, also_early)
    assert len(timers) == 3
    assert timers.first() == 10.0
    assert timers.pop() == (TimerQueue.slot_of(10.0), [early, also_early])
    assert len(timers) == 1
    assert timers.first() == 20.0
    timers.pop()
    assert len(timers) == 0
    assert timers.first() == math.inf


def test_nothing_is_due_too_early() -> None:
    timers = TimerQueue()
    timers.set(10.01, subscription())
    assert timers.first() == 10 + 1 / 32


def test_entries_of_ended_subscriptions_are_dropped_once_they_are_many() -> None:
    timers, alive = TimerQueue(), [subscription() for _ in range(2)]
    for number in range(106):
        timers.set(20.0 + number, subscription(pace=0.0))
    for one in alive:
        timers.set(50.0, one)
    timers.tidy(2)
    assert len(timers) == 108
    timers.set(5.0, subscription(pace=0.0))
    timers.tidy(2)
    assert len(timers) == 2
    assert timers.pop() == (TimerQueue.slot_of(50.0), alive)
    assert timers.first() == math.inf
