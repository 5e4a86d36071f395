from __future__ import annotations

import pytest

from airflow_zilliz._poller.list_filter import WHOLE_LIST
from airflow_zilliz._poller.list_health import LIST_RETRY
from airflow_zilliz._poller.subscription import Subscription, Subscriptions
from airflow_zilliz._poller.walk_planner import WalkPlanner
from airflow_zilliz._protocol.constants import MAX_LIST_PAGES
from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._transport.request_queue import Need
from airflow_zilliz.exceptions import ZillizApiError, ZillizUnavailable
from tests.helpers.subscriptions import NOW, subscription

NEED = Need(NOW, 30.0)


def planner_of(number: int, pace: float = 30.0) -> tuple[WalkPlanner, list[Subscription]]:
    """A planner whose subscriptions were all polled at NOW, and can be served by walks."""
    subscriptions = Subscriptions()
    planner = WalkPlanner(subscriptions)
    many = [subscription(f"j-{index}", pace) for index in range(number)]
    for one in many:
        one.polled_at = NOW
        subscriptions.add(one)
        planner.elapsed.add(one)
        assert planner.serves(one, NOW)
    return planner, many


def remove(planner: WalkPlanner, one: Subscription) -> None:
    planner.elapsed.remove(one)
    planner._subscriptions.remove(one)
    planner.remove(one)


def walk(planner: WalkPlanner, pages: int, shown: list[Subscription]) -> None:
    planner.begin(NOW, NEED)
    for _ in range(pages):
        planner.on_page(100, 0)
    for one in shown:
        planner.on_listed(one)
    planner.end(NOW, whole=True)


def test_four_waits_are_described_and_five_are_listed() -> None:
    few, _ = planner_of(4)
    assert not few.pays(NOW + 30, 4)
    more, _ = planner_of(5)
    assert more.pays(NOW + 30, 5)


def test_a_walk_pays_by_what_is_due_and_by_what_it_saves() -> None:
    planner, many = planner_of(40, pace=32.0)
    walk(planner, 10, many)
    assert planner.list.pages == 10
    assert not planner.pays(NOW, 10)
    assert planner.pays(NOW, 11)
    assert not planner.pays(NOW + 16, 5), "half of their pauses has gone by"
    assert planner.pays(NOW + 16, 6)
    assert not planner.pays(NOW + 96, 0), "nothing is due"
    assert planner.pays(NOW + 96, 1)


def test_a_walk_pays_where_there_are_more_waits_than_pages() -> None:
    planner, many = planner_of(40)
    walk(planner, 39, many)
    assert planner.pays(NOW, 40)
    planner.set_aside(many[0], NOW + 600)
    assert not planner.pays(NOW, 40), "those that it can serve"


def test_those_that_left_are_not_aside_any_more() -> None:
    planner, many = planner_of(10)
    for one in many[:5]:
        planner.set_aside(one, NOW + 600)
        remove(planner, one)
    assert planner.pays(NOW, 5)


def test_those_that_are_aside_are_served_again_when_their_time_has_come() -> None:
    planner, many = planner_of(5)
    planner.set_aside(many[0], NOW + 600)
    assert not planner.serves(many[0], NOW + 599)
    assert not planner.pays(NOW, 5)
    assert planner.serves(many[0], NOW + 600)
    assert planner.pays(NOW, 5)
    assert many[0] in planner.begin(NOW + 600, NEED).missing


def test_those_that_a_list_shows_are_served_again_at_once() -> None:
    planner, many = planner_of(5)
    planner.set_aside(many[0], NOW + 600)
    planner.begin(NOW, NEED)
    planner.on_listed(many[0])
    assert planner.pays(NOW, 5)
    assert planner.serves(many[0], NOW + 1)


def test_those_that_no_list_can_serve_stay_aside() -> None:
    planner, _ = planner_of(5)
    unlisted = subscription("unlisted", target_state=ImportState.UNCOMMITTED)
    planner.set_aside(unlisted, NOW)
    assert not planner.serves(unlisted, NOW + 10_000)


def test_those_that_are_set_aside_are_not_missing_in_the_walk_under_way() -> None:
    planner, many = planner_of(5)
    begun = planner.begin(NOW, NEED)
    planner.set_aside(many[0], NOW + 600)
    assert list(begun.missing) == many[1:]


@pytest.mark.parametrize(("whole", "shown", "pages"), [(True, 9, 3), (False, 9, 4), (False, 10, 3), (True, 10, 3)])
def test_how_long_the_list_is_taken_to_be_after_a_walk(whole: bool, shown: int, pages: int) -> None:
    planner, many = planner_of(10)
    planner.begin(NOW, NEED)
    for _ in range(3):
        planner.on_page(100, 0)
    for one in many[:shown]:
        planner.on_listed(one)
    planner.end(NOW, whole=whole)
    assert planner.list.pages == pages


def test_a_walk_without_a_page_had_one() -> None:
    planner, many = planner_of(5)
    walk(planner, 0, many)
    assert planner.list.pages == 1


def test_what_a_walk_missed_comes_in_the_order_in_which_it_is_due() -> None:
    planner, many = planner_of(5)
    planner.begin(NOW, NEED)
    planner.on_page(100, 0)
    planner.on_listed(many[0])
    many[1].due, many[3].due = NOW + 50, NOW + 10
    assert planner.end(NOW, whole=True) == ([many[3], many[2], many[4], many[1]], True)
    assert planner.walk is None


def test_a_walk_that_was_given_up_says_nothing_of_the_next_one_unless_it_went_as_far_as_pages_go() -> None:
    planner, many = planner_of(5)
    planner.begin(NOW, NEED)
    planner.on_page(100, 0)
    assert planner.end(NOW, whole=False) == (many, False)
    planner.begin(NOW, NEED)
    for _ in range(MAX_LIST_PAGES):
        planner.on_page(100, 0)
    assert planner.end(NOW, whole=False) == (many, True)


def test_no_walk_has_no_end() -> None:
    planner, _ = planner_of(5)
    assert planner.end(NOW, whole=True) == ([], False)
    assert planner.list.pages == 1
    assert not planner.is_worth_a_page
    planner.on_page(100, 0)
    planner.on_filter_ignored(NOW)
    assert planner.walk is None


def test_a_list_is_known_to_page_once_a_walk_had_a_second_page_to_ask_for() -> None:
    planner, many = planner_of(5)
    assert not planner.is_known_to_page
    planner.begin(NOW, NEED)
    assert not planner.is_known_to_page
    planner.on_page(100, 0)
    assert planner.is_known_to_page
    planner.end(NOW, whole=True)
    assert not planner.is_known_to_page
    walk(planner, 2, many)
    assert planner.is_known_to_page


def filtering() -> WalkPlanner:
    """A planner that asks for one collection alone."""
    planner, many = planner_of(5)
    for one in many:
        planner._subscriptions.note_collection(
            one, ImportProgress(one.wait.job_id, ImportState.IMPORTING, collection_name="books")
        )
    walk(planner, 10, many)
    assert planner.begin(NOW, NEED).lists == ("books",)
    return planner


def test_the_list_of_one_collection_says_nothing_of_the_whole_one() -> None:
    planner = filtering()
    assert planner.walk is not None
    assert planner.walk.expected == 1
    planner.on_page(100, 0)
    missed, for_good = planner.end(NOW, whole=True)
    assert (len(missed), for_good) == (5, False)
    assert planner.list.pages == 10
    assert planner.begin(NOW, NEED).lists == WHOLE_LIST


def test_a_walk_through_one_collection_s_list_that_was_given_up_says_nothing_of_the_filter() -> None:
    planner = filtering()
    planner.on_page(100, 0)
    planner.end(NOW, whole=False)
    assert planner.begin(NOW, NEED).lists == ("books",)


def test_how_long_the_list_was_is_forgotten_after_a_while() -> None:
    planner, many = planner_of(10)
    walk(planner, 20, many)
    assert not planner.pays(NOW + LIST_RETRY - 1, 10)
    assert planner.pays(NOW + LIST_RETRY, 10)


def test_a_collection_s_list_that_fails_is_not_asked_for_again() -> None:
    planner = filtering()
    assert not planner.fail(ZillizApiError("collection not found"), NOW)
    assert not planner.list.is_in_doubt
    assert planner.begin(NOW, NEED).lists == WHOLE_LIST
    assert planner.fail(ZillizApiError("no such route"), NOW)
    assert planner.walk is None


def test_a_collection_s_list_without_a_response_is_requested_again() -> None:
    planner = filtering()
    assert not planner.fail(ZillizUnavailable("HTTP 503"), NOW)
    assert planner.list.is_in_doubt
    assert planner.begin(NOW, NEED).lists == ("books",)


def test_how_many_pages_are_expected() -> None:
    planner, many = planner_of(150)
    assert planner.pages_expected == 2
    walk(planner, 7, many)
    assert planner.pages_expected == 7
    begun = planner.begin(NOW, NEED)
    assert begun.expected == 7
    planner.on_page(100, 200_000)
    assert planner.pages_expected == MAX_LIST_PAGES
    planner.on_filter_ignored(NOW)
    assert planner.pages_expected == 7


def test_the_pages_that_waits_need_each_second() -> None:
    planner, _ = planner_of(201)
    assert planner.pages_a_second == pytest.approx(1.5 * 3 / 30)
    planner._subscriptions.add(subscription("short", poke_interval=1.5))
    assert planner.pages_a_second == pytest.approx(1.5 * 3 / 1.5)
    planner._subscriptions.add(subscription("shortest", poke_interval=0.1))
    assert planner.pages_a_second == pytest.approx(1.5 * 3)


def test_late_waits_are_those_that_a_page_shows_for_the_first_time() -> None:
    planner, many = planner_of(5)
    begun = planner.begin(NOW, NEED)
    planner.on_page(100, 0)
    planner.on_listed(many[0])
    assert not begun.shows_late_ones
    late, later = subscription("late"), subscription("later")
    for one, polled_at in ((late, NOW + 2), (later, NOW + 1)):
        one.not_before, one.polled_at = NOW + 2, polled_at
    planner.on_listed(late)
    assert not begun.shows_late_ones, "it was polled before"
    planner.on_listed(later)
    assert begun.shows_late_ones
    planner.on_listed(many[1])
    assert begun.shows_late_ones
