from __future__ import annotations

import pytest

from airflow_zilliz._poller.server_health import LONGEST_PAUSE, Health
from airflow_zilliz.exceptions import ZillizUnavailable

NOW = 1000.0
DOWN = ZillizUnavailable("down")
SLOW_DOWN = ZillizUnavailable("HTTP 429", http_status=429, retry_after=7)


def fails(health: Health, times: int, now: float = NOW) -> None:
    for turn in range(times):
        health.on_failure(DOWN, now + turn, now + turn)


def test_one_failure_pauses_nothing() -> None:
    health = Health()
    fails(health, 1)
    assert health.is_failing
    assert health.paused_by(NOW) is None


@pytest.mark.parametrize(("times", "pause"), [(2, 1), (3, 2), (4, 4), (20, LONGEST_PAUSE)])
def test_pauses_grow_from_failure_to_failure(times: int, pause: float) -> None:
    health = Health()
    fails(health, times)
    assert health.paused_for(NOW + times - 1) == pytest.approx(pause)


def test_requests_that_fail_together_count_once() -> None:
    health = Health()
    for _ in range(5):
        health.on_failure(DOWN, NOW - 1, NOW)
    assert health.paused_for(NOW) == 0


def test_a_pause_is_as_long_as_the_server_asks_for() -> None:
    health = Health()
    health.on_failure(SLOW_DOWN, NOW, NOW)
    error = health.paused_by(NOW + 3)
    assert error is not None
    assert error.retry_after == pytest.approx(4)
    assert health.paused_by(NOW + 7) is None


def test_a_response_ends_the_pause_of_a_server_that_was_unreachable() -> None:
    health = Health()
    fails(health, 5)
    health.on_response(NOW + 6)
    assert not health.is_failing
    assert health.paused_for(NOW + 6) == 0
    assert health.responded_at == NOW + 6


def test_a_response_does_not_end_a_pause_that_the_server_asked_for() -> None:
    health = Health()
    health.on_failure(SLOW_DOWN, NOW, NOW)
    health.on_response(NOW + 1)
    assert health.paused_for(NOW + 1) == pytest.approx(6)


def test_a_shorter_pause_does_not_replace_a_longer_one() -> None:
    health = Health()
    health.on_failure(SLOW_DOWN, NOW, NOW)
    fails(health, 2, NOW + 1)
    assert health.paused_for(NOW + 2) == pytest.approx(5)
