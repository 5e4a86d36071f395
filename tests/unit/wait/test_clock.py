from __future__ import annotations

from inspect import signature

from airflow_zilliz._wait.clock import WaitClock

NOW = 1_790_000_000.0


def clock(polled_at: float | None = None, due: float | None = None, last_response: float = NOW) -> WaitClock:
    return WaitClock(NOW, polled_at, due, last_response)


def test_the_connection_is_looked_up_each_time_that_a_trouble_has_lasted_twice_as_long_and_every_two_minutes() -> None:
    one = clock()
    one.on_trouble(NOW)
    assert [age for age in range(500) if one.may_have_moved(NOW + age)] == [2, 4, 8, 16, 32, 64, 128, 248, 368, 488]


def test_a_poll_is_late_a_minute_after_it_was_due() -> None:
    on_time, late = clock(NOW - 30, NOW), clock(NOW - 30, NOW)
    assert on_time.on_poll(NOW + 60) == 0
    assert on_time.last_response == NOW
    assert late.on_poll(NOW + 60.5) == 90.5
    assert late.last_response == NOW + 90.5


def test_only_the_first_of_two_late_polls_is_left_out() -> None:
    one = clock()
    assert one.on_poll(NOW + 100) == 100
    one.plan(10)
    assert one.due is None
    assert one.on_poll(NOW + 400) == 0
    one.plan(10)
    assert one.on_poll(NOW + 800) == 400


def test_the_first_poll_is_due_at_once() -> None:
    assert clock().due == NOW
    assert clock(NOW - 30, None).due is None


def test_a_clock_that_was_set_back_moves_all_that_was_counted() -> None:
    one = clock(NOW - 30, NOW, last_response=NOW - 300)
    one.on_trouble(NOW - 100)
    assert one.on_poll(NOW - 3630) == -3600
    assert one.last_response == NOW - 3900
    assert not one.may_have_moved(NOW - 3698.5)
    assert one.may_have_moved(NOW - 3630)


def test_a_deadline_has_had_its_poll_once_another_one_is_made() -> None:
    one = clock()
    assert not one.had_a_poll_since(None)
    one.on_poll(NOW + 1)
    assert not one.had_a_poll_since(NOW)
    one.on_poll(NOW + 2)
    assert one.had_a_poll_since(NOW + 1)
    assert not one.had_a_poll_since(NOW + 1.5)
    assert not one.had_a_poll_since(None)


def test_it_is_built_from_its_arguments_alone() -> None:
    assert list(signature(WaitClock).parameters) == ["now", "polled_at", "due", "last_response"]
