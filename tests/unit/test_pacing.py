from __future__ import annotations

import pytest

from airflow_zilliz.connection import Endpoint
from airflow_zilliz.pacing import HALF_LIFE, MAX_STRETCH, Pacer, pacer_of


def test_sending_times_are_spaced() -> None:
    pacer = Pacer()
    assert [pacer.reserve(100.0, 10) for _ in range(3)] == pytest.approx([0, 0.1, 0.2])


def test_callers_with_other_limits_share_the_line() -> None:
    pacer = Pacer()
    assert [pacer.reserve(100.0, rate) for rate in (10, 2, 10)] == pytest.approx([0, 0.1, 0.6])


def test_a_pause_is_not_saved_up() -> None:
    pacer = Pacer()
    pacer.reserve(100.0, 10)
    assert [pacer.reserve(200.0, 10) for _ in range(2)] == pytest.approx([0, 0.1])


def test_slowing_down_halves_the_rate_once_a_second() -> None:
    pacer = Pacer()
    for now in (100.0, 100.1, 100.9):
        pacer.slow_down(now)
    pacer.reserve(100.9, 10)
    assert pacer.reserve(100.9, 10) == pytest.approx(0.2, rel=0.1)


def test_the_rate_never_falls_to_nothing_and_comes_back() -> None:
    pacer = Pacer()
    for second in range(100):
        pacer.slow_down(100.0 + second)
    pacer.reserve(199.0, 10)
    assert pacer.reserve(199.0, 10) == pytest.approx(MAX_STRETCH / 10)
    pacer.reserve(199.0 + 5 * HALF_LIFE, 10)
    assert pacer.reserve(199.0 + 5 * HALF_LIFE, 10) == pytest.approx(0.1)


def test_a_path_has_one_pacer_in_a_process() -> None:
    endpoint = Endpoint("c", "http://pacing.test")
    assert pacer_of(endpoint, "/list") is pacer_of(Endpoint("other", "http://pacing.test"), "/list")
    assert pacer_of(endpoint, "/list") is not pacer_of(endpoint, "/describe")
