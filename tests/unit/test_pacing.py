from __future__ import annotations

import pytest

from airflow_zilliz.connection import Endpoint
from airflow_zilliz.pacing import Pacer, pacer_of


def test_sending_times_are_spaced() -> None:
    pacer = Pacer(per_second=10)
    assert [pacer.reserve(100.0) for _ in range(3)] == pytest.approx([0, 0.1, 0.2])


def test_a_pause_is_not_saved_up() -> None:
    pacer = Pacer(per_second=10)
    pacer.reserve(100.0)
    assert [pacer.reserve(200.0) for _ in range(2)] == pytest.approx([0, 0.1])


def test_a_path_has_one_pacer_in_a_process() -> None:
    endpoint = Endpoint("c", "http://pacing.test")
    assert pacer_of(endpoint, "/list") is pacer_of(Endpoint("other", "http://pacing.test"), "/list")
    assert pacer_of(endpoint, "/list") is not pacer_of(endpoint, "/describe")
