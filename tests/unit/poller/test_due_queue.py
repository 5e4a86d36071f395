from __future__ import annotations

import pytest

from airflow_zilliz._poller.due_queue import REFRESHES_AT_ONCE, UNHEARD, UNHEARD_AT_ONCE, DueQueue
from airflow_zilliz._poller.sliced_work import DECISIONS_AT_ONCE
from airflow_zilliz._poller.subscription import Subscription
from tests.helpers.subscriptions import NOW, subscription


def queue_of(number: int) -> tuple[DueQueue, list[Subscription]]:
    """A queue whose subscriptions wait for a walk."""
    queue, many = DueQueue(), [subscription(f"j-{index}") for index in range(number)]
    queue.for_walk = dict.fromkeys(many)
    return queue, many


def test_what_is_due_waits_for_a_walk_or_for_a_description() -> None:
    queue, (one, other) = queue_of(2)
    queue.describe(other)
    assert list(queue) == [one, other]
    queue.remove(one)
    assert queue
    queue.remove(other)
    assert not queue
    queue.for_refresh[one] = None
    assert not queue, "a refresh is not due"
    queue.remove(one)
    assert not queue.for_refresh


def test_the_first_ones_are_described_first() -> None:
    queue, many = queue_of(5)
    queue.describe_first(0)
    assert list(queue.for_walk) == many
    queue.describe_first(2)
    assert (list(queue.for_walk), list(queue.for_description)) == (many[2:], many[:2])
    queue.describe_first(3)
    assert (list(queue.for_walk), list(queue.for_description)) == ([], many)


def test_a_walk_is_as_urgent_as_the_first_waits_that_it_serves() -> None:
    queue, many = queue_of(DECISIONS_AT_ONCE + 1)
    for one in many[:-1]:
        one.due, one.pace, one.polled_at = NOW + 50, 20.0, NOW + 30
    many[3].due, many[4].pace, many[5].polled_at = NOW + 40, 2.0, NOW + 20
    need = queue.walk_need(5.0)
    assert (need.since, need.pace, need.eager_until) == (NOW + 40, 2.0, NOW + 25)


def test_descriptions_go_before_refreshes() -> None:
    queue, (one, other) = queue_of(2)
    queue.describe(one)
    queue.for_refresh[other] = None
    found = queue.next_description(NOW, may_refresh=True)
    assert found is not None
    assert (found.job_id, found.need.since, found.need.pace, found.need.is_refresh) == ("j-0", NOW + 30, 30.0, False)
    assert queue.in_flight == 1
    queue.remove(one)
    assert queue.next_description(NOW, may_refresh=False) is None
    found = queue.next_description(NOW, may_refresh=True)
    assert found is not None
    assert (found.job_id, found.need.since, found.need.pace, found.need.is_refresh) == ("j-1", NOW + 30, 30.0, True)
    assert queue.in_flight == 1
    queue.on_described(is_refresh=False)
    queue.on_described(is_refresh=True)
    assert queue.in_flight == 0


def test_a_few_refreshes_are_on_their_way_at_a_time() -> None:
    queue, many = queue_of(REFRESHES_AT_ONCE + 1)
    queue.for_refresh = dict.fromkeys(many)
    for one in many[:-1]:
        found = queue.next_description(NOW, may_refresh=True)
        assert found is not None
        assert found.job_id == one.wait.job_id
        queue.remove(one)
    assert queue.next_description(NOW, may_refresh=True) is None
    queue.on_described(is_refresh=True)
    assert queue.next_description(NOW, may_refresh=True) is not None


@pytest.mark.parametrize("is_late", [False, True])
def test_a_wait_that_was_not_described_for_very_long_is_late(is_late: bool) -> None:
    queue, (one,) = queue_of(1)
    one.described_at = NOW - 3600 - is_late
    queue.for_refresh[one] = None
    found = queue.next_description(NOW, may_refresh=True)
    assert found is not None
    assert found.need.is_late == is_late


def test_a_refresh_keeps_its_place_when_a_list_polls_its_wait() -> None:
    queue, (one, other) = queue_of(2)
    queue.for_refresh = {one: None, other: None}
    queue.unqueue(one)
    assert list(queue.for_walk) == [other]
    assert list(queue.for_refresh) == [one, other]


def test_those_of_which_nothing_was_heard_for_long_are_described_a_few_at_a_time() -> None:
    queue, many = queue_of(UNHEARD_AT_ONCE + 1)
    for one in many:
        one.shown_at = NOW - UNHEARD
    many[1].shown_at, many[2].pace = NOW - 1, 200.0
    queue.describe_unheard(NOW)
    assert not queue.for_description
    queue.describe_unheard(NOW + 1)
    assert list(queue.for_walk) == [many[1], many[2], many[-1]]
    many[2].shown_at = NOW - 400
    queue.describe_unheard(NOW + 1)
    assert list(queue.for_walk) == [many[1]], "twice its pace"
