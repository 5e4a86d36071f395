from __future__ import annotations

from airflow_zilliz._poller.sliced_work import CHECK_COST, DECISIONS_AT_ONCE, SLICE, SlicedWork
from airflow_zilliz._poller.subscription import Subscription
from tests.helpers.subscriptions import NOW, subscription


def test_work_is_done_in_slices_and_in_its_order() -> None:
    work, done = SlicedWork(), list[tuple[Subscription, float]]()
    many = [subscription() for _ in range(DECISIONS_AT_ONCE + 1)]
    last = subscription()
    work.add(many, lambda one, now: done.append((one, now)))
    work.add([last], lambda one, now: done.append((one, now)))
    assert work
    work.run(NOW)
    assert done == [(one, NOW) for one in many[:-1]]
    assert work
    work.run(NOW + 1)
    assert done[DECISIONS_AT_ONCE:] == [(many[-1], NOW + 1), (last, NOW + 1)]
    assert not work
    work.run(NOW + 2)
    assert len(done) == DECISIONS_AT_ONCE + 2


def test_a_slice_has_more_of_what_costs_less() -> None:
    work, checked, decided = SlicedWork(), list[Subscription](), list[Subscription]()
    work.add([subscription()] * (SLICE // 2), lambda one, _: checked.append(one), CHECK_COST)
    work.add([subscription()] * DECISIONS_AT_ONCE, lambda one, _: decided.append(one))
    work.run(NOW)
    assert (len(checked), len(decided)) == (SLICE // 2, DECISIONS_AT_ONCE // 2)


def test_nothing_to_do_is_no_work() -> None:
    work = SlicedWork()
    work.add([], lambda *_: None)
    work.run(NOW)
    assert not work
