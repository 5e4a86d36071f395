from __future__ import annotations

import pytest

from airflow_zilliz._poller.elapsed import Elapsed
from tests.helpers.subscriptions import NOW, subscription


def test_the_mean_part_of_pauses_that_has_gone_by() -> None:
    elapsed, short, long = Elapsed(), subscription(pace=10.0), subscription(pace=30.0)
    elapsed.add(short)
    assert elapsed.part(NOW, 1) == 0
    assert elapsed.part(NOW + 5, 1) == pytest.approx(0.5)
    elapsed.add(long)
    assert elapsed.part(NOW + 6, 2) == pytest.approx((0.6 + 0.2) / 2)
    assert elapsed.part(NOW + 60, 2) == pytest.approx((6 + 2) / 2)


def test_the_sums_do_not_drift() -> None:
    elapsed = Elapsed()
    pauses = [subscription(pace=0.1 + number / 7) for number in range(1000)]
    for number, one in enumerate(pauses):
        one.polled_at = 1e7 + number / 3
        elapsed.add(one)
    for one in reversed(pauses):
        elapsed.remove(one)
    assert elapsed.part(2e7, 1) == 0
