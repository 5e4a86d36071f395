from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from airflow_zilliz._poller.due_queue import REFRESHES_AT_ONCE, UNHEARD, UNHEARD_AT_ONCE
from airflow_zilliz._poller.list_filter import WHOLE_LIST
from airflow_zilliz._poller.list_health import LIST_RETRY, MAX_WALK_FAILURES
from airflow_zilliz._poller.scheduler import OVERDUE, Schedule
from airflow_zilliz._poller.sliced_work import DECISIONS_AT_ONCE
from airflow_zilliz._poller.subscription import Subscription
from airflow_zilliz._poller.walk_planner import FEW
from airflow_zilliz._protocol.constants import MAX_LIST_PAGES
from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._wait.outcome import Ending
from airflow_zilliz._wait.state_machine import ImportWait
from airflow_zilliz.exceptions import ZillizApiError, ZillizAuthError, ZillizJobNotFound, ZillizUnavailable
from tests.helpers.opcodes import count_opcodes
from tests.helpers.subscriptions import NOW, wait

T = TypeVar("T")
DOWN = ZillizUnavailable("HTTP 503", http_status=503)
KEY_REFUSED = ZillizAuthError("401", http_status=401)
SLOW_DOWN = ZillizUnavailable("HTTP 429", http_status=429, retry_after=7)


def add(schedule: Schedule, wait: ImportWait, now: float, first_delay: float) -> Subscription:
    watch = Subscription(wait, now + first_delay)
    schedule.add(watch, now)
    return watch


def schedule_of(waits: int, first_delay: float = 0.0, **fields: Any) -> tuple[Schedule, list[Subscription]]:
    schedule = Schedule()
    watches = [add(schedule, wait(f"j-{number}", **fields), NOW, first_delay) for number in range(waits)]
    settle(schedule, NOW)
    return schedule, watches


def job(number: int, state: ImportState = ImportState.IMPORTING) -> ImportProgress:
    return ImportProgress(f"j-{number}", state, raw={"state": state.value})


def descriptions(schedule: Schedule, now: float) -> list[str]:
    found = []
    while (description := schedule.next_description(now)) is not None:
        found.append(description.job_id)
    return found


def settle(schedule: Schedule, now: float) -> None:
    while schedule.settle(now):
        pass


def described(schedule: Schedule, now: float) -> str | None:
    """Return the job that is to be described next."""
    description = schedule.next_description(now)
    return None if description is None else description.job_id


def walk(schedule: Schedule, now: float, *pages: list[ImportProgress], whole: bool = True) -> None:
    settle(schedule, now)
    assert schedule.begin_walk(now) is not None
    for page in pages:
        schedule.on_page(now, 0, 0)
        for listed in page:
            schedule.on_listed(listed.job_id, listed, now)
    schedule.end_walk(now, whole=whole)


# -- the cheaper way ----------------------------------------------------------------------------------------------


def test_few_waits_are_described() -> None:
    schedule, _ = schedule_of(FEW)
    assert schedule.begin_walk(NOW) is None
    assert len(descriptions(schedule, NOW)) == FEW


def test_many_waits_are_listed() -> None:
    schedule, _ = schedule_of(FEW + 1)
    assert descriptions(schedule, NOW) == []
    assert schedule.begin_walk(NOW) is not None


def test_a_list_longer_than_the_waits_are_many_is_given_up() -> None:
    schedule, _ = schedule_of(10)
    assert schedule.begin_walk(NOW) is not None
    for _ in range(10):
        assert schedule.walks.is_worth_a_page
        schedule.on_page(NOW, 0, 0)
    assert not schedule.walks.is_worth_a_page
    schedule.end_walk(NOW, whole=False)
    settle(schedule, NOW)
    assert schedule.begin_walk(NOW) is None
    assert len(descriptions(schedule, NOW)) == 10


def test_a_walk_ends_once_it_has_shown_every_wait() -> None:
    schedule, _ = schedule_of(10)
    schedule.begin_walk(NOW)
    for number in range(10):
        assert schedule.walks.is_worth_a_page
        schedule.on_listed(f"j-{number}", job(number), NOW)
    assert not schedule.walks.is_worth_a_page


def test_a_walk_goes_on_while_it_shows_waits_that_came_after_it_began() -> None:
    schedule, _ = schedule_of(10)
    schedule.begin_walk(NOW)
    late = add(schedule, wait("j-10"), NOW, 2.0)
    schedule.on_page(NOW + 3, 0, 0)
    for number in range(11):
        schedule.on_listed(f"j-{number}", job(number), NOW + 3)
    assert schedule.walks.is_worth_a_page, "the next page may show more of them"
    schedule.on_page(NOW + 4, 0, 0)
    assert not schedule.walks.is_worth_a_page
    assert late.due > NOW + 3


def test_one_young_wait_among_many_old_ones_is_described_and_starts_no_walk() -> None:
    schedule, _ = schedule_of(300)
    walk(schedule, NOW, *[[job(number) for number in range(100 * page, 100 * page + 100)] for page in range(3)])
    add(schedule, wait("young", started_at=NOW), NOW, 2.0)
    settle(schedule, NOW + 2)
    assert schedule.begin_walk(NOW + 2) is None
    assert descriptions(schedule, NOW + 2) == ["young"]


def test_two_waits_for_one_job_cost_one_description() -> None:
    schedule, _ = schedule_of(0)
    pair = [add(schedule, wait("j-0"), NOW, 0.0) for _ in range(2)]
    settle(schedule, NOW)
    assert descriptions(schedule, NOW) == ["j-0"]
    schedule.on_described("j-0", job(0, ImportState.COMPLETED), NOW, NOW + 1)
    assert [watch.steps[-1].end is not None for watch in pair] == [True, True]
    assert len(schedule) == 0


# -- what a list shows --------------------------------------------------------------------------------------------


def test_a_listed_end_ends_the_wait_at_once() -> None:
    schedule, watches = schedule_of(10)
    walk(schedule, NOW, [job(number, ImportState.COMPLETED if number == 3 else job(0).state) for number in range(10)])
    end = watches[3].steps[-1].end
    assert end is not None
    assert (end.ending, end.progress) == (Ending.REACHED, None)
    assert len(schedule) == 9


def test_a_job_missing_from_a_whole_walk_is_described_until_a_list_shows_it() -> None:
    schedule, _ = schedule_of(10)
    others = [job(number) for number in range(9)]
    walk(schedule, NOW, others)
    settle(schedule, NOW)
    assert descriptions(schedule, NOW) == ["j-9"]
    schedule.on_described("j-9", job(9), NOW, NOW)
    walk(schedule, NOW + 30, [*others, job(9)])
    settle(schedule, NOW + 60)
    assert descriptions(schedule, NOW + 60) == []


def test_no_poll_counts_before_the_first_delay() -> None:
    schedule, watches = schedule_of(10)
    late = add(schedule, wait("j-10"), NOW, 2.0)
    walk(schedule, NOW + 1, [job(number, ImportState.COMPLETED) for number in range(11)])
    assert tuple(late.steps) == ()
    assert len(watches[0].steps) == 1


def test_waits_that_lists_look_at_are_described_now_and_then() -> None:
    schedule, _ = schedule_of(10)
    page = [job(number) for number in range(10)]
    for turn in range(25):
        walk(schedule, NOW + 30 * turn, page)
    assert descriptions(schedule, NOW + 721) == [f"j-{number}" for number in range(REFRESHES_AT_ONCE)]


def test_a_refused_list_is_not_requested_for_a_while_and_each_wait_is_notified() -> None:
    schedule, watches = schedule_of(10)
    schedule.begin_walk(NOW)
    schedule.fail_walk(ZillizApiError("no such route"), NOW, NOW)
    settle(schedule, NOW)
    assert all("cannot be used" in watch.steps[-1].notes[-1][1] for watch in watches)
    assert descriptions(schedule, NOW), "they go on by descriptions"
    schedule.on_described(watches[0].wait.job_id, job(0), NOW, NOW + 1)
    settle(schedule, NOW + 40)
    assert schedule.begin_walk(NOW + 40) is None
    for job_id in descriptions(schedule, NOW + 40):
        schedule.on_described(job_id, job(int(job_id[2:])), NOW + 40, NOW + LIST_RETRY)
    settle(schedule, NOW + LIST_RETRY + 40)
    assert schedule.begin_walk(NOW + LIST_RETRY + 40) is not None


def test_a_list_that_alone_fails_again_and_again_is_useless() -> None:
    schedule, watches = schedule_of(100)
    now = NOW
    for _ in range(MAX_WALK_FAILURES):
        assert schedule.begin_walk(now) is not None
        schedule.fail_walk(DOWN, now, now)
        settle(schedule, now)
        now += 1
        for job_id in descriptions(schedule, now):
            schedule.on_described(job_id, job(0), now, now)
        now += 1
        settle(schedule, now)
    assert "cannot be used" in watches[-1].steps[-1].notes[-1][1]
    assert schedule.begin_walk(now) is None


def test_where_descriptions_alone_fail_even_one_wait_is_looked_up_in_the_list() -> None:
    schedule, watches = schedule_of(1)
    schedule.on_described(descriptions(schedule, NOW)[0], DOWN, NOW, NOW)
    walk(schedule, NOW + 60, [job(0, ImportState.COMPLETED)])
    assert watches[0].steps[-1].end is not None


def test_where_both_fail_they_are_tried_in_turn() -> None:
    schedule, _ = schedule_of(1)
    now, tried = NOW, []
    for _ in range(4):
        settle(schedule, now)
        if schedule.begin_walk(now) is not None:
            tried.append("list")
            schedule.fail_walk(DOWN, now, now)
        else:
            tried.append("describe")
            schedule.on_described(descriptions(schedule, now)[0], DOWN, now, now)
        now += 60
    assert tried == ["describe", "list"] * 2


def test_throttled_descriptions_are_no_reason_for_a_list() -> None:
    schedule, _ = schedule_of(1)
    schedule.on_described(descriptions(schedule, NOW)[0], SLOW_DOWN, NOW, NOW)
    settle(schedule, NOW + 60)
    assert schedule.begin_walk(NOW + 60) is None


# -- trouble ------------------------------------------------------------------------------------------------------


def test_being_asked_to_slow_down_pauses_the_whole_target() -> None:
    schedule, _ = schedule_of(3)
    schedule.on_described(descriptions(schedule, NOW)[0], SLOW_DOWN, NOW, NOW)
    assert schedule.paused_for(NOW + 3) == pytest.approx(4)
    assert schedule.next_description(NOW + 6.9) is None


def test_a_wait_that_a_pause_delays_is_notified_once() -> None:
    schedule, watches = schedule_of(3)
    add(schedule, wait("j-3"), NOW, 1.0)
    first = schedule.next_description(NOW)
    assert first is not None
    assert first.job_id == "j-0"
    schedule.on_described("j-0", SLOW_DOWN, NOW, NOW)
    for later in (0.5, 2.0, 6.0):
        settle(schedule, NOW + later)
    assert [len(watch.steps) for watch in watches] == [1, 1, 1]


def test_a_server_that_is_down_is_asked_one_thing_at_a_time() -> None:
    schedule, _ = schedule_of(3)
    for job_id in descriptions(schedule, NOW):
        schedule.on_described(job_id, DOWN, NOW, NOW)
    settle(schedule, NOW + 40)
    assert schedule.begin_walk(NOW + 40) is not None
    assert descriptions(schedule, NOW + 40) == []
    schedule.fail_walk(DOWN, NOW + 40, NOW + 41)
    settle(schedule, NOW + 100)
    assert len(descriptions(schedule, NOW + 100)) == 1


def test_a_refused_key_reaches_every_wait() -> None:
    schedule, watches = schedule_of(3)
    first = schedule.next_description(NOW)
    assert first is not None
    schedule.on_described(first.job_id, KEY_REFUSED, NOW, NOW)
    settle(schedule, NOW)
    assert all(watch.steps[-1].look_up_connection for watch in watches)
    assert len(schedule) == 0, "each joins again with its connection's new key"


def test_a_key_that_a_walk_was_refused_is_not_taken_for_a_useless_list() -> None:
    schedule, watches = schedule_of(10)
    schedule.begin_walk(NOW)
    schedule.fail_walk(KEY_REFUSED, NOW, NOW)
    settle(schedule, NOW)
    asked = descriptions(schedule, NOW)
    assert len(asked) == FEW
    schedule.on_described(asked[0], KEY_REFUSED, NOW, NOW)
    settle(schedule, NOW)
    assert [len(watch.steps) for watch in watches] == [1] * 10
    assert all(watch.steps[0].look_up_connection for watch in watches)


def test_a_right_that_one_collection_lacks_concerns_its_wait_alone() -> None:
    schedule, _ = schedule_of(3)
    first = schedule.next_description(NOW)
    assert first is not None
    schedule.on_described(first.job_id, ZillizAuthError("PermissionDenied", http_status=403), NOW, NOW)
    assert len(schedule) == 2


def test_an_unknown_job_is_its_own_wait_s_affair() -> None:
    schedule, watches = schedule_of(3)
    first = schedule.next_description(NOW)
    assert first is not None
    assert first.job_id == "j-0"
    schedule.on_described("j-0", ZillizJobNotFound("no such job"), NOW, NOW)
    assert watches[0].steps[-1].end is not None
    assert [watch.steps for watch in watches[1:]] == [(), ()]


def test_a_wait_that_cannot_be_polled_still_times_out() -> None:
    schedule, watches = schedule_of(1, deadline=NOW + 50)
    assert schedule.next_description(NOW) is not None, "and no response ever comes"
    settle(schedule, NOW + 50)
    settle(schedule, NOW + 50 + OVERDUE - 1)
    assert tuple(watches[0].steps) == ()
    settle(schedule, NOW + 50 + OVERDUE + 1)
    end = watches[0].steps[-1].end
    assert end is not None
    assert end.ending is Ending.TIMED_OUT


@pytest.mark.parametrize("slept", [False, True])
def test_a_wait_whose_deadline_passed_long_ago_is_polled_before_it_ends(slept: bool) -> None:
    """A triggerer that comes back late, and a machine that slept."""
    now = NOW + 100_000
    schedule = Schedule()
    late = add(schedule, wait("j-0", deadline=NOW + 50), NOW if slept else now, 2.0 if slept else 7.0)
    settle(schedule, now)
    assert tuple(late.steps) == ()
    now += 0 if slept else 7
    settle(schedule, now)
    assert described(schedule, now) == "j-0"
    schedule.on_described("j-0", job(0, ImportState.COMPLETED), now, now + 1)
    end = late.steps[-1].end
    assert end is not None
    assert end.ending is Ending.REACHED


def test_a_wait_that_comes_late_and_cannot_be_polled_has_its_minute_from_its_first_poll_on() -> None:
    schedule = Schedule()
    late = add(schedule, wait("j-0", deadline=NOW - 1000), NOW, 7.0)
    settle(schedule, NOW)
    settle(schedule, NOW + 7)
    assert described(schedule, NOW + 7) == "j-0", "and no response ever comes"
    settle(schedule, NOW + 7 + OVERDUE - 1)
    assert tuple(late.steps) == ()
    settle(schedule, NOW + 7 + OVERDUE + 1)
    assert late.steps[-1].end is not None


def test_a_second_wait_for_a_job_does_not_end_before_it_may() -> None:
    schedule, (first,) = schedule_of(1)
    assert described(schedule, NOW) == "j-0"
    second = add(schedule, wait("j-0"), NOW, 7.0)
    schedule.on_described("j-0", job(0, ImportState.COMPLETED), NOW, NOW + 0.5)
    assert first.steps[-1].end is not None
    assert tuple(second.steps) == ()
    settle(schedule, NOW + 7)
    assert described(schedule, NOW + 7) == "j-0"
    schedule.on_described("j-0", job(0, ImportState.COMPLETED), NOW + 7, NOW + 7.5)
    assert second.steps[-1].end is not None


# -- leaving ------------------------------------------------------------------------------------------------------


def test_a_wait_that_leaves_disturbs_no_other() -> None:
    schedule, watches = schedule_of(10)
    schedule.begin_walk(NOW)
    schedule.remove(watches[3])
    schedule.remove(watches[3])
    for number in range(10):
        schedule.on_listed(f"j-{number}", job(number), NOW)
    assert not schedule.walks.is_worth_a_page
    schedule.end_walk(NOW, whole=True)
    assert len(schedule) == 9
    assert tuple(watches[3].steps) == ()


def test_ended_waits_leave_no_trace() -> None:
    schedule = Schedule()
    for number in range(2000):
        schedule.remove(add(schedule, wait(f"j-{number}", deadline=NOW + 10**6), NOW, 2.0))
    assert len(schedule._polls) + len(schedule._deadlines) < 300
    assert not schedule.subscriptions._jobs
    assert not schedule.subscriptions.listed
    assert not schedule.subscriptions.collections
    assert schedule.walks.elapsed.part(NOW + 1000, 1) == 0


# -- long lists and many waits ------------------------------------------------------------------------------------


def test_waits_that_a_walk_was_given_up_before_are_described() -> None:
    schedule, _ = schedule_of(200)
    shown = [job(number) for number in range(195)]
    walk(schedule, NOW, shown[:100], shown[100:], *([[]] * 4), whole=False)
    settle(schedule, NOW)
    assert sorted(descriptions(schedule, NOW)) == [f"j-{number}" for number in range(195, 200)]


def test_a_wait_beyond_the_last_page_is_set_aside() -> None:
    schedule, _ = schedule_of(2000)
    schedule.begin_walk(NOW)
    for _ in range(MAX_LIST_PAGES):
        schedule.on_page(NOW, 100, 0)
    schedule.end_walk(NOW, whole=False)
    settle(schedule, NOW)
    assert schedule.begin_walk(NOW) is None
    assert len(descriptions(schedule, NOW)) == 2000
    for number in range(2000):
        schedule.on_described(f"j-{number}", job(number), NOW, NOW)
    settle(schedule, NOW + 31)
    assert schedule.begin_walk(NOW + 31) is None, "for a while"


def test_a_wait_of_which_nothing_is_heard_is_described_whatever_becomes_of_walks() -> None:
    schedule, watches = schedule_of(100)
    assert schedule.begin_walk(NOW) is not None, "and it never ends"
    settle(schedule, NOW + UNHEARD)
    assert descriptions(schedule, NOW + UNHEARD) == []
    now, found = NOW + UNHEARD + 1, list[str]()
    for number in (UNHEARD_AT_ONCE, UNHEARD_AT_ONCE, UNHEARD_AT_ONCE, 4):
        settle(schedule, now)
        asked = descriptions(schedule, now)
        assert len(asked) == number
        for job_id in asked:
            schedule.on_described(job_id, job(int(job_id[2:])), now, now)
        found += asked
    assert found == [watch.wait.job_id for watch in watches]


def test_a_list_that_is_refused_again_and_again_is_left_alone_for_a_while_without_a_word() -> None:
    schedule, watches = schedule_of(10)
    now = NOW
    for _ in range(MAX_WALK_FAILURES):
        settle(schedule, now)
        assert descriptions(schedule, now) == []
        assert schedule.begin_walk(now) is not None
        schedule.fail_walk(SLOW_DOWN, now, now)
        now += 40
    settle(schedule, now)
    assert schedule.begin_walk(now) is None
    assert len(descriptions(schedule, now)) == 10
    assert not any("cannot be used" in text for watch in watches for step in watch.steps for _, text in step.notes)


def test_being_asked_to_slow_down_says_nothing_of_the_list() -> None:
    schedule, watches = schedule_of(10)
    for turn in range(2 * MAX_WALK_FAILURES):
        now = NOW + 8 * turn
        assert schedule.begin_walk(now) is not None
        schedule.fail_walk(SLOW_DOWN, now, now)
    settle(schedule, NOW + 100)
    assert not any("cannot be used" in text for watch in watches for step in watch.steps for _, text in step.notes)
    assert not descriptions(schedule, NOW)


def test_a_pause_that_the_list_asks_for_does_not_delay_descriptions() -> None:
    schedule, watches = schedule_of(10)
    settle(schedule, NOW)
    schedule.begin_walk(NOW)
    schedule.fail_walk(ZillizUnavailable("HTTP 429", http_status=429, retry_after=60.0), NOW, NOW)
    assert schedule.paused_for(NOW) == 0
    settle(schedule, NOW)
    assert not any(watch.steps for watch in watches), "no wait has failed to poll"


def test_the_server_s_count_says_how_far_a_walk_has_to_go() -> None:
    schedule, _ = schedule_of(150)
    schedule.begin_walk(NOW)
    schedule.on_page(NOW, 100, 100)
    assert schedule.walks.pages_expected == 2, "a count of a page's records says nothing"
    schedule.on_page(NOW, 100, 1950)
    assert schedule.walks.pages_expected == 20
    for number in range(132):
        schedule.on_listed(f"j-{number}", job(number), NOW)
    assert not schedule.walks.is_worth_a_page, "18 waits, and 18 pages"
    schedule.on_page(NOW, 100, 1950)
    assert schedule.walks.is_worth_a_page


def test_a_walk_goes_no_farther_than_lists_showed_its_waits_before() -> None:
    schedule, _ = schedule_of(200)
    jobs = [job(number) for number in range(200)]
    walk(schedule, NOW, jobs[:100], jobs[100:], *([[]] * 8), whole=True)
    settle(schedule, NOW + 31)
    schedule.begin_walk(NOW + 31)
    schedule.on_page(NOW + 31, 0, 0)
    for number in range(195):
        schedule.on_listed(f"j-{number}", job(number), NOW + 31)
    assert schedule.walks.is_worth_a_page, "the next page showed the other five"
    schedule.on_page(NOW + 31, 0, 0)
    assert not schedule.walks.is_worth_a_page, "they have moved: five descriptions cost less than eight pages"


def test_ten_thousand_due_waits_are_taken_in_slices() -> None:
    schedule = Schedule()
    for number in range(10_000):
        add(schedule, wait(f"j-{number}"), NOW, 0.0)
    rounds = 1
    while schedule.settle(NOW):
        rounds += 1
    assert rounds == 11, "the last one finds that there is no more"
    assert schedule.begin_walk(NOW) is not None


def test_what_concerns_every_wait_is_handed_out_in_slices() -> None:
    schedule, watches = schedule_of(1000)
    schedule.begin_walk(NOW)
    schedule.fail_walk(ZillizApiError("no such route"), NOW, NOW)
    handed = []
    while schedule.settle(NOW):
        handed.append(len(schedule.take_changed()))
    handed.append(len(schedule.take_changed()))
    assert handed == [*[DECISIONS_AT_ONCE] * 10, 0]
    assert all("cannot be used" in watch.steps[-1].notes[-1][1] for watch in watches)


def test_whoever_has_news_is_named_once() -> None:
    schedule, watches = schedule_of(3)
    schedule.on_described("j-1", job(1), NOW, NOW)
    assert schedule.take_changed() == [watches[1]]
    assert schedule.take_changed() == []


def test_a_wait_that_was_polled_meanwhile_is_not_due_at_the_time_that_was_planned_before() -> None:
    schedule, _ = schedule_of(1)
    for seconds in (0, 20):
        schedule.next_description(NOW + seconds)
        schedule.on_described("j-0", job(0), NOW + seconds, NOW + seconds)
    settle(schedule, NOW + 31)
    assert descriptions(schedule, NOW + 31) == []
    settle(schedule, NOW + 51)
    assert descriptions(schedule, NOW + 51) == ["j-0"]


# -- how urgent a request is --------------------------------------------------------------------------------------


def test_a_description_is_as_urgent_as_its_wait_is_young() -> None:
    schedule, _ = schedule_of(0)
    add(schedule, wait("old"), NOW - 40, 0.0)
    add(schedule, wait("young", started_at=NOW), NOW, 2.0)
    settle(schedule, NOW + 2)
    needs = {}
    while (found := schedule.next_description(NOW + 2)) is not None:
        needs[found.job_id] = found.need
    assert (needs["young"].since, needs["young"].pace) == (NOW + 2, 2.0)
    assert not needs["old"].is_refresh


def test_a_walk_becomes_more_urgent_when_a_young_wait_is_due_meanwhile() -> None:
    schedule, _ = schedule_of(10)
    walk(schedule, NOW, [job(number) for number in range(10)])
    add(schedule, wait("young", started_at=NOW + 29), NOW + 29, 2.0)
    settle(schedule, NOW + 30)
    begun = schedule.begin_walk(NOW + 30)
    assert begun is not None
    assert (begun.need.since, begun.need.pace) == (NOW + 30, 30.0)
    assert begun.need.eager_until == NOW + 30, "whoever was polled 30 s ago is not polled sooner than asked for"
    settle(schedule, NOW + 31)
    assert begun.need.pace == 2.0


def test_a_refresh_waits_for_its_turn_without_being_in_anybody_s_way() -> None:
    schedule, _ = schedule_of(10)
    page = [job(number) for number in range(10)]
    for turn in range(25):
        walk(schedule, NOW + 30 * turn, page)
    now = NOW + 721
    refresh = schedule.next_description(now)
    assert refresh is not None
    assert refresh.need.is_refresh
    add(schedule, wait("young", started_at=now), now, 2.0)
    settle(schedule, now + 2)
    assert schedule.begin_walk(now + 2) is not None
    schedule.on_described(refresh.job_id, job(0), now, now + 3, is_refresh=True)
    assert descriptions(schedule, now + 3) == ["j-1", "j-2", "j-3", "j-4"], "the next ones"


# -- collections --------------------------------------------------------------------------------------------------


def of_collection(number: int, name: str = "books") -> ImportProgress:
    return ImportProgress(f"j-{number}", ImportState.IMPORTING, collection_name=name, raw={"state": "Importing"})


def with_others(waits: int = 20) -> Schedule:
    """A schedule whose last walk had 1,000 records, of which these waits were few."""
    schedule, _ = schedule_of(waits)
    schedule.begin_walk(NOW)
    for page in range(10):
        schedule.on_page(NOW, 100, 1000)
        for number in range(waits) if page == 0 else ():
            schedule.on_listed(f"j-{number}", of_collection(number), NOW)
    schedule.end_walk(NOW, whole=False)
    settle(schedule, NOW + 31)
    return schedule


def test_where_others_jobs_fill_the_list_it_is_asked_for_by_collection() -> None:
    schedule = with_others()
    begun = schedule.begin_walk(NOW + 31)
    assert begun is not None
    assert begun.lists == ("books",)
    schedule.on_page(NOW + 31, 20, 0)
    for number in range(20):
        schedule.on_listed(f"j-{number}", of_collection(number), NOW + 31)
    schedule.end_walk(NOW + 31, whole=True)
    settle(schedule, NOW + 62)
    again = schedule.begin_walk(NOW + 62)
    assert again is not None
    assert again.lists == ("books",)


def test_a_server_that_does_not_filter_is_asked_for_all() -> None:
    schedule = with_others()
    begun = schedule.begin_walk(NOW + 31)
    assert begun is not None
    schedule.walks.on_filter_ignored(NOW + 31)
    assert begun.lists == WHOLE_LIST
    schedule.end_walk(NOW + 31, whole=False)
    assert schedule.walks._lists(NOW + 32) == WHOLE_LIST


def test_a_filter_that_hides_a_wait_sets_none_aside() -> None:
    schedule = with_others()
    schedule.begin_walk(NOW + 31)
    schedule.on_page(NOW + 31, 19, 0)
    for number in range(19):
        schedule.on_listed(f"j-{number}", of_collection(number), NOW + 31)
    schedule.end_walk(NOW + 31, whole=True)
    settle(schedule, NOW + 31)
    assert descriptions(schedule, NOW + 31) == ["j-19"]
    schedule.on_described("j-19", of_collection(19), NOW + 31, NOW + 31)
    settle(schedule, NOW + 62)
    begun = schedule.begin_walk(NOW + 62)
    assert begun is not None
    assert begun.lists == WHOLE_LIST
    assert len(begun.missing) == 20


def test_a_collection_s_list_that_is_refused_is_no_reason_against_the_whole_one() -> None:
    schedule = with_others()
    schedule.begin_walk(NOW + 31)
    schedule.fail_walk(ZillizApiError("collection not found"), NOW + 31, NOW + 31)
    settle(schedule, NOW + 31)
    begun = schedule.begin_walk(NOW + 31)
    assert begun is not None
    assert begun.lists == WHOLE_LIST


def test_a_collection_that_nobody_waits_for_any_more_is_not_asked_for() -> None:
    schedule = with_others()
    late = add(schedule, wait("j-20"), NOW + 31, 0.0)
    schedule.begin_walk(NOW + 31)
    schedule.on_page(NOW + 31, 21, 0)
    schedule.on_listed("j-20", of_collection(20, "articles"), NOW + 31)
    schedule.end_walk(NOW + 31, whole=False)
    schedule.walks._filter.on_walk(WHOLE_LIST, 1000, NOW + 31)
    assert schedule.walks._lists(NOW + 32) == ("articles", "books")
    schedule.remove(late)
    assert schedule.walks._lists(NOW + 32) == ("books",)


# -- edges --------------------------------------------------------------------------------------------------------


def test_waits_that_no_list_can_serve_are_described() -> None:
    schedule, _ = schedule_of(10, target_state=ImportState.UNCOMMITTED)
    assert schedule.begin_walk(NOW) is None
    assert len(descriptions(schedule, NOW)) == 10


def test_a_wait_is_refreshed_after_twenty_intervals_and_not_before() -> None:
    schedule, _ = schedule_of(10)
    page = [job(number) for number in range(10)]
    for turn in range(21):
        walk(schedule, NOW + 30 * turn, page)
    assert descriptions(schedule, NOW + 600) == []
    walk(schedule, NOW + 630, page)
    assert descriptions(schedule, NOW + 630) == [f"j-{number}" for number in range(REFRESHES_AT_ONCE)]


def test_a_wait_that_a_list_ended_is_not_refreshed() -> None:
    schedule, _ = schedule_of(10)
    page = [job(number) for number in range(10)]
    for turn in range(22):
        walk(schedule, NOW + 30 * turn, page if turn < 21 else [job(0, ImportState.COMPLETED), *page[1:]])
    assert len(schedule) == 9
    assert descriptions(schedule, NOW + 631)[0] == "j-1"


def test_each_wait_has_its_turn_at_being_refreshed_also_where_that_fails() -> None:
    schedule, _ = schedule_of(30)
    page = [job(number) for number in range(30)]
    tried: Counter[str] = Counter()
    for turn in range(240):
        now = NOW + 30 * turn
        walk(schedule, now, page)
        asked = descriptions(schedule, now)
        tried.update(asked)
        for job_id in asked:
            schedule.on_described(job_id, DOWN, now, now, is_refresh=True)
    assert len(tried) == 30
    assert min(tried.values()) >= 10, "in two hours"
    assert max(tried.values()) <= 12, "once in 20 intervals"


def test_where_a_description_waits_anyway_no_other_one_shows_whether_the_list_alone_fails() -> None:
    schedule, _ = schedule_of(10)
    assert schedule.begin_walk(NOW) is not None
    add(schedule, wait("unlisted", target_state=ImportState.UNCOMMITTED), NOW, 0.0)
    settle(schedule, NOW)
    schedule.fail_walk(DOWN, NOW, NOW)
    settle(schedule, NOW)
    assert list(schedule._queue.for_description) == schedule.subscriptions.of("unlisted")
    assert len(schedule._queue.for_walk) == 10


def test_whether_a_walk_keeps_every_interval() -> None:
    schedule, _ = schedule_of(200)
    assert schedule.walks.can_walk_at(2 / 30)
    assert not schedule.walks.can_walk_at(1.9 / 30)
    assert schedule.walks.pages_a_second == pytest.approx(0.1)


def test_a_list_that_was_given_up_is_tried_again_once_waits_outnumber_its_pages() -> None:
    schedule, _ = schedule_of(12)
    schedule.begin_walk(NOW)
    while schedule.walks.is_worth_a_page:
        schedule.on_page(NOW, 0, 0)
    schedule.end_walk(NOW, whole=False)
    settle(schedule, NOW)
    assert len(descriptions(schedule, NOW)) == 12
    for number in range(12):
        schedule.on_described(f"j-{number}", job(number), NOW, NOW)
    add(schedule, wait("j-12"), NOW, 30.0)
    settle(schedule, NOW + 31)
    assert schedule.begin_walk(NOW + 31) is None, "13 waits, and more than 12 pages"
    for number in range(13):
        schedule.next_description(NOW + 31)
        schedule.on_described(f"j-{number}", job(number), NOW + 31, NOW + 31)
    add(schedule, wait("j-13"), NOW + 31, 30.0)
    settle(schedule, NOW + 62)
    assert schedule.begin_walk(NOW + 62) is not None


def test_a_server_that_fails_is_not_asked_for_a_description_while_a_walk_is_on_its_way() -> None:
    schedule, _ = schedule_of(3)
    for job_id in descriptions(schedule, NOW):
        schedule.on_described(job_id, DOWN, NOW, NOW)
    settle(schedule, NOW + 40)
    assert schedule.begin_walk(NOW + 40) is not None
    add(schedule, wait("unlisted", target_state=ImportState.UNCOMMITTED), NOW + 40, 0.0)
    settle(schedule, NOW + 40)
    assert descriptions(schedule, NOW + 40) == []
    schedule.on_page(NOW + 41, 0, 0)
    assert descriptions(schedule, NOW + 41) == ["unlisted"], "it responds"


def test_a_pause_reaches_all_that_it_delays_in_slices() -> None:
    schedule, watches = schedule_of(250)
    schedule.begin_walk(NOW)
    schedule.fail_walk(ZillizApiError("no such route"), NOW, NOW)
    settle(schedule, NOW)
    first = schedule.next_description(NOW)
    assert first is not None
    schedule.on_described(first.job_id, job(0), NOW, NOW)
    settle(schedule, NOW)
    first = schedule.next_description(NOW)
    assert first is not None
    schedule.on_described(first.job_id, SLOW_DOWN, NOW, NOW)
    schedule.take_changed()
    settle(schedule, NOW + 1)
    notified = [
        watch for watch in watches if any("Could not poll" in text for step in watch.steps for _, text in step.notes)
    ]
    assert len(notified) == 249, "all except the one that got a response"


# -- who is served by what ----------------------------------------------------------------------------------------


def test_a_walk_is_not_to_show_what_no_list_can_serve_or_what_may_not_be_polled_yet() -> None:
    schedule, watches = schedule_of(10)
    unlisted = add(schedule, wait("unlisted", target_state=ImportState.UNCOMMITTED), NOW, 0.0)
    early = add(schedule, wait("early"), NOW, 2.0)
    settle(schedule, NOW)
    begun = schedule.begin_walk(NOW)
    assert begun is not None
    assert set(begun.missing) == set(watches)
    schedule.on_page(NOW, 0, 0)
    for number in range(10):
        schedule.on_listed(f"j-{number}", job(number), NOW)
    schedule.end_walk(NOW, whole=True)
    settle(schedule, NOW)
    assert descriptions(schedule, NOW) == ["unlisted"]
    settle(schedule, NOW + 2)
    begun = schedule.begin_walk(NOW + 2)
    assert begun is not None
    assert set(begun.missing) == {*watches, early}
    assert (unlisted.steps, early.steps) == ((), ())


def test_a_list_decides_nothing_that_it_does_not_show() -> None:
    schedule, _ = schedule_of(10)
    unlisted = add(schedule, wait("unlisted", target_state=ImportState.UNCOMMITTED), NOW, 0.0)
    schedule.begin_walk(NOW)
    schedule.on_listed("unlisted", ImportProgress("unlisted", ImportState.COMPLETED, raw={"state": "Completed"}), NOW)
    assert unlisted.steps == ()
    assert schedule.subscriptions.listed["unlisted"] is None, "it has not read it"


def test_a_wait_that_a_list_lacked_is_looked_for_again_after_a_while() -> None:
    schedule, _ = schedule_of(10)
    walk(schedule, NOW, [job(number) for number in range(9)])
    settle(schedule, NOW)
    for seconds in (0, 31, LIST_RETRY - 1):
        settle(schedule, NOW + seconds)
        assert "j-9" in descriptions(schedule, NOW + seconds)
        schedule.on_described("j-9", job(9), NOW + seconds, NOW + seconds)
    settle(schedule, NOW + LIST_RETRY + 30)
    begun = schedule.begin_walk(NOW + LIST_RETRY + 30)
    assert begun is not None
    assert "j-9" in {one.wait.job_id for one in begun.missing}


def test_a_wait_that_is_due_during_a_walk_waits_for_it() -> None:
    schedule, _ = schedule_of(10)
    schedule.begin_walk(NOW)
    late = add(schedule, wait("late"), NOW, 2.0)
    schedule.on_page(NOW + 1, 0, 0)
    for number in range(10):
        schedule.on_listed(f"j-{number}", job(number), NOW + 1)
    settle(schedule, NOW + 2)
    assert descriptions(schedule, NOW + 2) == []
    schedule.end_walk(NOW + 3, whole=True)
    settle(schedule, NOW + 3)
    begun = schedule.begin_walk(NOW + 3)
    assert begun is not None
    assert late in begun.missing


def test_what_a_list_says_of_a_job_that_nobody_waits_for_is_not_kept() -> None:
    schedule, _ = schedule_of(5)
    schedule.on_listed("j-7", job(7), NOW)
    assert "j-7" not in schedule.subscriptions.listed


def test_a_record_that_has_not_changed_counts_as_a_poll() -> None:
    schedule, (one, *_) = schedule_of(5)
    walk(schedule, NOW, [job(number) for number in range(5)])
    assert schedule.subscriptions.listed["j-0"] == {"state": "Importing"}
    settle(schedule, NOW + 31)
    schedule.begin_walk(NOW + 31)
    schedule.on_listed("j-0", None, NOW + 31)
    assert (one.polled_at, one.shown_at, one.due) == (NOW + 31, NOW + 31, NOW + 61)
    assert one.page == 0, "the page itself comes first"
    schedule.on_page(NOW + 31, 0, 0)
    schedule.on_listed("j-0", None, NOW + 31)
    assert one.page == 1


def test_two_waits_for_one_job_read_its_record_each() -> None:
    schedule, _ = schedule_of(9)
    early = add(schedule, wait("j-9"), NOW, 0.0)
    late = add(schedule, wait("j-9"), NOW, 60.0)
    walk(schedule, NOW, [job(number) for number in range(10)])
    assert schedule.subscriptions.listed["j-9"] is None, "one has yet to read it"
    assert early.steps
    assert late.steps == ()


# -- time ---------------------------------------------------------------------------------------------------------


def test_when_something_new_may_be_found() -> None:
    schedule = Schedule()
    assert schedule.next_at(NOW) == math.inf
    schedule.offset = 500.0
    add(schedule, wait("j-0", deadline=NOW + 500 + 20), NOW, 2.0)
    assert schedule.next_at(NOW) == NOW + 2
    settle(schedule, NOW + 2)
    assert schedule.next_at(NOW + 2) == NOW + 20, "its deadline, in epoch seconds"
    assert described(schedule, NOW + 2) == "j-0"
    schedule.on_described("j-0", SLOW_DOWN, NOW + 2, NOW + 3)
    assert schedule.next_at(NOW + 3) == NOW + 10, "the pause of 7 s ends"


def test_waits_count_in_epoch_seconds() -> None:
    schedule = Schedule()
    schedule.offset = 500.0
    one, other = (add(schedule, wait(f"j-{number}", deadline=NOW + 540), NOW, 0.0) for number in range(2))
    settle(schedule, NOW)
    assert len(descriptions(schedule, NOW)) == 2
    schedule.on_described("j-0", job(0), NOW, NOW + 20)
    assert one.due == NOW + 40, "its deadline"
    schedule.on_described("j-1", job(1), NOW, NOW + 41)
    assert other.steps[-1].end is not None
    assert other.steps[-1].end.ending is Ending.TIMED_OUT


@pytest.mark.parametrize("others_get_responses", [False, True])
def test_a_wait_that_is_throttled_loses_nothing_while_others_who_use_the_key_get_responses(
    others_get_responses: bool,
) -> None:
    schedule, (one,) = schedule_of(1)
    schedule.offset = 500.0
    now, ended_after = NOW, 0.0
    while now < NOW + 2000 and not ended_after:
        settle(schedule, now)
        if described(schedule, now) is not None:
            schedule.others_responded_at = now if others_get_responses else -math.inf
            schedule.on_described("j-0", ZillizUnavailable("HTTP 429", http_status=429), now, now)
        elif schedule.begin_walk(now) is not None:
            schedule.fail_walk(ZillizUnavailable("HTTP 429", http_status=429), now, now)
        if any(step.end is not None for step in one.take()):
            ended_after = now - NOW
        now += 5
    assert ended_after == (0 if others_get_responses else pytest.approx(600, abs=60))


def test_a_pause_hands_its_error_only_to_what_it_delays() -> None:
    schedule, watches = schedule_of(2)
    add(schedule, wait("later"), NOW, 20.0)
    assert described(schedule, NOW) == "j-0"
    schedule.on_described("j-0", SLOW_DOWN, NOW, NOW)
    assert not schedule.settle(NOW + 1), "all that is due has heard of it"
    assert [watch.wait.job_id for watch in schedule.take_changed()] == ["j-0", "j-1"]
    assert watches[1].due == NOW + 31


def test_a_deadline_that_is_not_there_yet_changes_nothing() -> None:
    schedule, (one,) = schedule_of(1, deadline=NOW + 50)
    settle(schedule, NOW + 49)
    assert not one.is_overdue
    settle(schedule, NOW + 50)
    assert one.is_overdue


def test_a_wait_that_left_is_neither_due_nor_overdue() -> None:
    schedule, (one, other) = schedule_of(2, deadline=NOW + 50)
    add(schedule, wait("j-2"), NOW, 10.0)
    schedule.remove(one)
    schedule.remove(other)
    settle(schedule, NOW + 200)
    assert descriptions(schedule, NOW + 200) == ["j-2"]
    assert (one.is_overdue, one.steps) == (False, ())


def test_an_error_that_concerns_every_job_waits_until_a_wait_may_end() -> None:
    schedule, _ = schedule_of(3)
    early = add(schedule, wait("early"), NOW, 2.0)
    assert described(schedule, NOW) == "j-0"
    schedule.on_described("j-0", KEY_REFUSED, NOW, NOW)
    settle(schedule, NOW)
    assert early.steps == ()
    assert len(schedule) == 1


# -- no call blocks the loop ---------------------------------------------------------------------------------------


def costs(number: int) -> dict[str, int]:
    """Return how much Python the costliest call of each kind runs, with so many waits."""
    found: dict[str, int] = {}

    def run(name: str, call: Callable[[], T]) -> T:
        value, counted = count_opcodes(call)
        found[name] = max(found.get(name, 0), counted)
        return value

    def settle_all(now: float) -> None:
        while run("settle", lambda: schedule.settle(now)):
            pass

    schedule = Schedule()
    for index in range(number):
        add(schedule, wait(f"j-{index}", deadline=NOW + 40), NOW, 0.0)
    settle_all(NOW)
    for _ in range(3):
        assert run("begin_walk", lambda: schedule.begin_walk(NOW)) is not None
        run("fail_walk", lambda: schedule.fail_walk(SLOW_DOWN, NOW, NOW - 10))
    schedule.begin_walk(NOW)
    run("on_page", lambda: schedule.on_page(NOW, 100, number))
    run("is_worth_a_page", lambda: schedule.walks.is_worth_a_page)
    run("end_walk", lambda: schedule.end_walk(NOW, whole=True))
    settle_all(NOW)
    run("next_description", lambda: schedule.next_description(NOW))
    run("on_described", lambda: schedule.on_described("j-0", KEY_REFUSED, NOW, NOW))
    settle_all(NOW)
    for index in range(number):
        add(schedule, wait(f"k-{index}", deadline=NOW + 40), NOW, 100.0)
    settle_all(NOW + 41)
    settle_all(NOW + 100 + OVERDUE + 1)
    return found


def test_no_call_does_more_the_more_waits_there_are() -> None:
    few, many = costs(1200), costs(3600)
    assert {name: many[name] <= 1.1 * few[name] for name in few} == dict.fromkeys(few, True), (few, many)


def test_a_deadline_is_in_epoch_seconds() -> None:
    schedule = Schedule()
    schedule.offset = 500.0
    one = add(schedule, wait("j-0", deadline=NOW + 540), NOW, 0.0)
    settle(schedule, NOW + 39)
    assert not one.is_overdue
    settle(schedule, NOW + 40)
    assert one.is_overdue
    settle(schedule, NOW + 40 + OVERDUE - 1)
    assert tuple(one.steps) == ()
    settle(schedule, NOW + 40 + OVERDUE)
    assert one.steps[-1].end is not None


def test_a_wait_that_left_hears_of_nothing_any_more() -> None:
    schedule, watches = schedule_of(10)
    begun = schedule.begin_walk(NOW)
    assert begun is not None
    schedule.end_walk(NOW, whole=True)
    schedule.remove(watches[0])
    settle(schedule, NOW)
    assert "j-0" not in descriptions(schedule, NOW)
    schedule.on_described("j-1", KEY_REFUSED, NOW, NOW)
    schedule.remove(watches[2])
    settle(schedule, NOW)
    assert (watches[0].steps, watches[2].steps) == ((), ())
    assert not watches[2].is_active


def test_a_page_without_records_is_one() -> None:
    schedule, _ = schedule_of(10)
    begun = schedule.begin_walk(NOW)
    assert begun is not None
    schedule.on_page(NOW, 0, 0)
    assert (begun.pages, begun.records) == (1, 0)


def test_a_wait_is_polled_for_a_minute_after_its_deadline() -> None:
    schedule, (one,) = schedule_of(1, deadline=NOW + 50)
    settle(schedule, NOW + 50)
    settle(schedule, NOW + 109.9)
    assert tuple(one.steps) == ()
    settle(schedule, NOW + 110)
    assert one.steps[-1].end is not None


def test_a_short_interval_is_as_urgent_as_it_is() -> None:
    schedule, (one,) = schedule_of(1, poke_interval=0.5)
    assert one.pace == 0.1, "it is due at once"
    assert described(schedule, NOW) == "j-0"
    schedule.on_described("j-0", job(0), NOW, NOW)
    assert one.pace == 0.5


def test_a_wait_that_is_due_during_a_long_walk_is_not_described() -> None:
    schedule, _ = schedule_of(20)
    walk(schedule, NOW, [job(number) for number in range(20)], *([[]] * 9))
    settle(schedule, NOW + 31)
    assert schedule.begin_walk(NOW + 31) is not None
    for _ in range(10):
        schedule.on_page(NOW + 31, 0, 0)
    for number in range(20):
        schedule.on_listed(f"j-{number}", job(number), NOW + 31)
    add(schedule, wait("late"), NOW + 31, 2.0)
    settle(schedule, NOW + 33)
    assert descriptions(schedule, NOW + 33) == []
    schedule.end_walk(NOW + 34, whole=True)
    settle(schedule, NOW + 34)
    assert descriptions(schedule, NOW + 34) == ["late"], "one description is cheaper than ten pages"


def test_of_a_server_that_fails_a_walk_waits_for_the_description_that_is_on_its_way() -> None:
    schedule, _ = schedule_of(4)
    assert len(descriptions(schedule, NOW)) == 4
    for number in range(5, 10):
        add(schedule, wait(f"j-{number}"), NOW, 0.0)
    settle(schedule, NOW)
    schedule.on_described("j-0", DOWN, NOW - 1, NOW)
    assert schedule.begin_walk(NOW) is None
    for number in (1, 2, 3):
        schedule.on_described(f"j-{number}", DOWN, NOW - 1, NOW)
    assert schedule.begin_walk(NOW) is not None


def test_of_a_server_that_fails_walks_and_descriptions_have_their_turns() -> None:
    schedule, _ = schedule_of(10)
    for number in range(3):
        add(schedule, wait(f"unlisted-{number}", target_state=ImportState.UNCOMMITTED), NOW, 0.0)
    now, tried = NOW, ""
    for _ in range(6):
        settle(schedule, now)
        if schedule.begin_walk(now) is not None:
            tried += "w"
            schedule.fail_walk(DOWN, now, now)
        elif (job_id := described(schedule, now)) is not None:
            tried += "d"
            schedule.on_described(job_id, DOWN, now, now)
        now += 100
    assert tried == "wdwdwd"


def test_a_pause_holds_although_the_server_responds_to_others() -> None:
    schedule, _ = schedule_of(4)
    assert descriptions(schedule, NOW)[:2] == ["j-0", "j-1"]
    schedule.on_described("j-0", SLOW_DOWN, NOW, NOW)
    schedule.on_described("j-1", job(1), NOW, NOW + 1)
    for number in range(5, 12):
        add(schedule, wait(f"j-{number}"), NOW + 1, 0.0)
    unlisted = add(schedule, wait("unlisted", target_state=ImportState.UNCOMMITTED), NOW + 1, 0.0)
    schedule._queue.await_walk(add(schedule, wait("one more"), NOW + 1, 0.0))
    schedule._queue.describe(unlisted)
    assert schedule.next_description(NOW + 6.9) is None
    assert schedule.begin_walk(NOW + 6.9) is None
    assert schedule.next_description(NOW + 7) is not None
    assert schedule.begin_walk(NOW + 7) is not None


def test_all_that_a_whole_walk_missed_is_described() -> None:
    schedule, _ = schedule_of(300)
    assert schedule.begin_walk(NOW) is not None
    schedule.on_page(NOW, 0, 0)
    for number in range(100):
        schedule.on_listed(f"j-{number}", job(number), NOW)
    later = add(schedule, wait("later"), NOW, 0.0)
    settle(schedule, NOW)
    schedule.end_walk(NOW, whole=True)
    settle(schedule, NOW)
    assert schedule.begin_walk(NOW) is None
    assert len(descriptions(schedule, NOW)) == 201, "and the one that came meanwhile"
    assert later.unlisted_until < NOW


def test_what_a_walk_missed_and_what_was_polled_meanwhile_is_not_described() -> None:
    schedule, (one, *_) = schedule_of(10)
    assert schedule.begin_walk(NOW) is not None
    schedule.on_described("j-0", job(0), NOW, NOW + 1)
    schedule.on_page(NOW + 2, 0, 0)
    for number in range(1, 10):
        schedule.on_listed(f"j-{number}", job(number), NOW + 2)
    schedule.end_walk(NOW + 2, whole=True)
    settle(schedule, NOW + 2)
    assert descriptions(schedule, NOW + 2) == []
    assert one.unlisted_until == NOW + 2 + LIST_RETRY


def test_what_a_walk_missed_and_is_due_by_now_is_described() -> None:
    schedule, (one, *_) = schedule_of(10)
    assert schedule.begin_walk(NOW) is not None
    schedule.on_page(NOW, 0, 0)
    schedule.on_described("j-0", job(0), NOW, NOW)
    for number in range(1, 10):
        schedule.on_listed(f"j-{number}", job(number), NOW + 5)
    schedule.end_walk(NOW + 30, whole=True)
    schedule._work.run(NOW + 30)
    assert list(schedule._queue.for_description) == [one], "before its timer is checked"


def test_an_error_and_a_list_are_handed_on_in_epoch_seconds() -> None:
    schedule = Schedule()
    schedule.offset = 500.0
    failing, *others = (add(schedule, wait(f"j-{number}", deadline=NOW + 540), NOW, 0.0) for number in range(3))
    settle(schedule, NOW)
    assert len(descriptions(schedule, NOW)) == 3
    schedule.on_described("j-0", DOWN, NOW, NOW + 41)
    assert failing.due == NOW + 43, "one more poll after its deadline"
    schedule.on_listed("j-1", job(1), NOW + 20)
    schedule.on_listed("j-2", job(2), NOW + 20)
    assert [one.due for one in others] == [NOW + 40, NOW + 40]
    schedule.on_listed("j-2", None, NOW + 41)
    assert others[1].steps[-1].end is not None


def test_in_a_pause_there_is_more_to_do_until_all_have_heard_of_a_refused_key() -> None:
    schedule, _ = schedule_of(2)
    for number in range(250):
        add(schedule, wait(f"later-{number}"), NOW, 100.0)
    assert len(descriptions(schedule, NOW)) == 2
    schedule.on_described("j-0", SLOW_DOWN, NOW, NOW)
    schedule.on_described("j-1", KEY_REFUSED, NOW, NOW)
    assert schedule.settle(NOW)
    assert schedule.settle(NOW)
    assert not schedule.settle(NOW)


def test_there_is_one_walk_at_a_time() -> None:
    schedule, _ = schedule_of(10)
    begun = schedule.begin_walk(NOW)
    assert begun is not None
    assert schedule.begin_walk(NOW) is None
    assert schedule.walks.walk is begun


def test_a_wait_that_leaves_before_it_is_due_is_not_polled() -> None:
    schedule = Schedule()
    gone = add(schedule, wait("gone"), NOW, 2.0)
    add(schedule, wait("here"), NOW, 2.0)
    schedule.remove(gone)
    settle(schedule, NOW + 2)
    assert descriptions(schedule, NOW + 2) == ["here"]
    assert not schedule._queue
