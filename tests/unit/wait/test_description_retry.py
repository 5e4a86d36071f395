from __future__ import annotations

import pytest

from airflow_zilliz._wait.description_retry import (
    DESCRIPTION_PATIENCE,
    FIRST_WINDOW,
    LAST_WINDOW,
    THROTTLED_PATIENCE,
    DescriptionRetry,
)
from airflow_zilliz._wait.outcome import Ending
from airflow_zilliz.exceptions import ZillizUnavailable

BEGAN = 1000.0
DOWN = ZillizUnavailable("down")
SLOW_DOWN = ZillizUnavailable("HTTP 429", http_status=429)


def retry(number: int = 0) -> DescriptionRetry:
    return DescriptionRetry(f"job-{number}", BEGAN)


@pytest.mark.parametrize("ending", [Ending.REACHED, Ending.JOB_FAILED])
def test_a_server_that_does_not_respond_is_retried_until_patience_is_over(ending: Ending) -> None:
    one = retry()
    assert one.pause(ending, DOWN, BEGAN + DESCRIPTION_PATIENCE[ending] - 0.1) is not None
    assert one.pause(ending, DOWN, BEGAN + DESCRIPTION_PATIENCE[ending]) is None


def test_pauses_grow_and_are_no_longer_than_half_of_the_patience_or_so() -> None:
    pauses = [retry().pause(Ending.REACHED, DOWN, BEGAN + seconds) for seconds in (0, 8, 29)]
    assert pauses == pytest.approx([2, 8, 15], rel=0.25)
    asked = ZillizUnavailable("503", retry_after=3600.0)
    assert retry().pause(Ending.REACHED, asked, BEGAN) == pytest.approx(15, rel=0.25)


def test_tasks_that_fail_together_do_not_come_back_together() -> None:
    pauses = {retry(number).pause(Ending.REACHED, DOWN, BEGAN) for number in range(10)}
    assert len(pauses) == 10


def test_after_a_429_pauses_are_drawn_from_windows_that_double() -> None:
    windows = []
    for turn in range(7):
        drawn = []
        for number in range(200):
            one = retry(number)
            for _ in range(turn):
                one.pause(Ending.REACHED, SLOW_DOWN, BEGAN)
            drawn.append(one.pause(Ending.REACHED, SLOW_DOWN, BEGAN) or 0.0)
        assert min(drawn) < max(drawn) * 0.1
        windows.append(max(drawn))
    wanted = [min(FIRST_WINDOW * 2**turn, LAST_WINDOW) for turn in range(7)]
    assert windows == pytest.approx(wanted, rel=0.05)


def test_a_pause_after_a_429_is_never_shorter_than_asked_for_and_holds_no_worker_for_an_hour() -> None:
    asked = [ZillizUnavailable("429", http_status=429, retry_after=seconds) for seconds in (7.0, 3600.0)]
    pauses = [retry().pause(Ending.REACHED, error, BEGAN) or 0.0 for error in asked]
    assert 7 <= pauses[0] <= 7 + FIRST_WINDOW
    assert 60 <= pauses[1] <= 60 + FIRST_WINDOW


def test_being_throttled_costs_no_patience_for_half_an_hour() -> None:
    one, now = retry(), BEGAN
    while now - BEGAN < THROTTLED_PATIENCE:
        pause = one.pause(Ending.REACHED, SLOW_DOWN, now)
        assert pause is not None
        now += max(pause, 0.1)
    assert one.pause(Ending.REACHED, SLOW_DOWN, now) is None


def test_patience_goes_on_where_it_was_before_the_429s() -> None:
    one = retry()
    one.pause(Ending.REACHED, DOWN, BEGAN + 10)
    one.pause(Ending.REACHED, SLOW_DOWN, BEGAN + 20)
    assert one.pause(Ending.REACHED, DOWN, BEGAN + 100) is not None, "80 of 100 seconds were throttled"
    assert one.pause(Ending.REACHED, DOWN, BEGAN + 80 + DESCRIPTION_PATIENCE[Ending.REACHED]) is None
