from __future__ import annotations

from airflow_zilliz._poller.list_filter import WHOLE_LIST
from airflow_zilliz._poller.subscription import Subscription
from airflow_zilliz._poller.walk import Candidates, Walk
from airflow_zilliz._transport.request_queue import Need
from airflow_zilliz.exceptions import ZillizApiError, ZillizUnavailable
from tests.helpers.subscriptions import NOW, subscription


def candidates_of(number: int) -> tuple[Candidates, list[Subscription]]:
    candidates, many = Candidates(), [subscription(f"j-{index}") for index in range(number)]
    for one in many:
        candidates.add(one)
    return candidates, many


def walk_of(candidates: Candidates, expected: int = 1, lists: tuple[str | None, ...] = WHOLE_LIST) -> Walk:
    candidates.begin_walk()
    return Walk(NOW, Need(NOW, 30.0), lists, expected, candidates)


def test_a_walk_is_to_show_those_that_came_before_it() -> None:
    candidates, (one, other) = candidates_of(2)
    assert not candidates.missing
    walk = walk_of(candidates)
    late = subscription("late")
    candidates.add(late)
    candidates.add(one)
    assert set(walk.missing) == {one, other}
    candidates.show(one, 1)
    assert set(walk.missing) == {other}
    assert set(walk_of(candidates).missing) == {one, other, late}


def test_those_that_a_walk_missed_are_missing_in_the_next_one() -> None:
    candidates, many = candidates_of(5)
    walk_of(candidates)
    for one in many[:4]:
        candidates.show(one, 3)
    assert set(walk_of(candidates).missing) == set(many)
    assert candidates.deepest_missing() is None, "one was never shown"
    candidates.discard(many[4])
    assert candidates.deepest_missing() == 3


def test_those_that_leave_are_not_missing() -> None:
    candidates, (one, other, third) = candidates_of(3)
    candidates.discard(third)
    candidates.discard(third)
    walk = walk_of(candidates)
    candidates.discard(one)
    candidates.discard(one)
    assert list(walk.missing) == [other]
    assert list(walk_of(candidates).missing) == [other]


def test_the_last_page_that_showed_a_missing_one() -> None:
    candidates, (one, other, third) = candidates_of(3)
    walk_of(candidates)
    assert candidates.deepest_missing() is None
    for page, shown in ((2, one), (5, other), (7, third)):
        candidates.show(shown, page)
    assert candidates.deepest_missing() == 0, "none is missing"
    walk_of(candidates)
    assert candidates.deepest_missing() == 7
    candidates.show(third, 7)
    assert candidates.deepest_missing() == 5
    candidates.show(other, 1)
    assert candidates.deepest_missing() == 2


def test_a_subscription_that_moves_to_another_page_is_counted_there() -> None:
    candidates, (one,) = candidates_of(1)
    for page in (4, 2):
        walk_of(candidates)
        candidates.show(one, page)
    walk_of(candidates)
    assert candidates.deepest_missing() == 2


def test_how_many_pages_are_left() -> None:
    candidates, (one, other) = candidates_of(2)
    walk = walk_of(candidates, expected=4)
    assert walk.pages_left == 4
    for left in (3, 2, 1, 4, 5):
        walk.on_page(100, 0)
        assert walk.pages_left == left
    candidates.show(one, 2)
    candidates.show(other, 6)
    walk = walk_of(candidates, expected=9)
    assert walk.pages_left == 6, "where it was last shown"
    walk.on_page(100, 0)
    walk.on_page(100, 0)
    assert walk.pages_left == 4
    candidates.show(other, 2)
    assert walk.pages_left == 7, "the other one has moved"


def test_a_list_grows_by_what_the_server_counts() -> None:
    walk = walk_of(candidates_of(1)[0])
    walk.on_page(100, 7)
    walk.on_page(90, 3)
    assert (walk.pages, walk.records, walk.expected) == (2, 190, 7)


def test_another_page_has_to_show_more_than_it_costs() -> None:
    candidates, many = candidates_of(3)
    walk = walk_of(candidates, expected=4)
    assert walk.is_worth_a_page, "the first one is always"
    walk.on_page(100, 0)
    assert not walk.is_worth_a_page, "three waits, three pages"
    walk.on_page(100, 0)
    assert walk.is_worth_a_page
    for one in many:
        candidates.show(one, 2)
    assert not walk.is_worth_a_page
    walk.shows_late_ones = True
    assert walk.is_worth_a_page
    walk.on_page(100, 0)
    assert not walk.is_worth_a_page
    assert not walk_of(Candidates()).is_worth_a_page, "nobody waits"


def test_an_error_may_be_about_the_collection_that_is_asked_for() -> None:
    wrong, down = ZillizApiError("collection not found"), ZillizUnavailable("HTTP 503")
    assert walk_of(Candidates(), lists=("books",)).fails_by_filter(wrong)
    assert not walk_of(Candidates(), lists=("books",)).fails_by_filter(down)
    assert not walk_of(Candidates()).fails_by_filter(wrong)
