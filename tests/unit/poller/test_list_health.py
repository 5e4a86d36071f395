from __future__ import annotations

from airflow_zilliz._poller.list_health import LIST_PAUSE, LIST_RETRY, MAX_WALK_FAILURES, REFUSED_FOR, JobList
from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz.exceptions import ZillizApiError, ZillizAuthError, ZillizUnavailable

NOW = 1000.0
JOB = ImportProgress("j-1", ImportState.IMPORTING)
DOWN = ZillizUnavailable("down")
KEY_REFUSED = ZillizAuthError("HTTP 401", http_status=401)
SLOW_DOWN = ZillizUnavailable("HTTP 429", http_status=429)


def fails(jobs: JobList, times: int, *, described: bool, error: Exception = DOWN) -> bool:
    useless = False
    for turn in range(times):
        if described:
            jobs.on_described(JOB, NOW + turn + 0.5)
        useless = jobs.on_failed_walk(error, NOW + turn + 1)
    return useless


def test_a_list_that_is_refused_is_left_alone() -> None:
    jobs = JobList()
    assert jobs.on_failed_walk(ZillizApiError("no such path"), NOW)
    assert jobs.is_off(NOW + LIST_RETRY - 1)
    assert not jobs.is_off(NOW + LIST_RETRY)


def test_a_list_that_alone_fails_is_useless_after_a_few_times_and_tried_again_soon() -> None:
    jobs = JobList()
    assert not fails(jobs, MAX_WALK_FAILURES - 1, described=True)
    jobs = JobList()
    assert fails(jobs, MAX_WALK_FAILURES, described=True)
    assert jobs.is_off(NOW + LIST_PAUSE)
    assert not jobs.is_off(NOW + MAX_WALK_FAILURES + LIST_PAUSE)


def test_a_key_that_has_no_right_to_the_list_alone_makes_it_useless_after_a_few_times_and_for_long() -> None:
    assert not fails(JobList(), MAX_WALK_FAILURES - 1, described=True, error=KEY_REFUSED)
    jobs = JobList()
    assert fails(jobs, MAX_WALK_FAILURES, described=True, error=KEY_REFUSED)
    assert jobs.is_off(NOW + LIST_RETRY)


def test_a_list_of_a_server_that_does_not_respond_at_all_is_not_useless() -> None:
    assert not fails(JobList(), 3 * MAX_WALK_FAILURES, described=False)


def test_a_description_ends_the_doubt_and_being_slowed_down_does_not() -> None:
    jobs = JobList()
    jobs.on_failed_walk(DOWN, NOW)
    jobs.on_described(SLOW_DOWN, NOW + 1)
    assert jobs.is_in_doubt
    jobs.on_described(JOB, NOW + 2)
    assert not jobs.is_in_doubt


def test_a_list_is_the_better_bet_after_a_description_in_vain_until_the_next_walk() -> None:
    jobs = JobList()
    jobs.on_described(DOWN, NOW)
    assert jobs.is_the_better_bet
    jobs.on_walk(3, NOW + 1)
    assert not jobs.is_the_better_bet


def test_how_long_a_list_was_is_forgotten() -> None:
    jobs = JobList()
    jobs.on_walk(7, NOW)
    jobs.forget_old_pages(NOW + LIST_RETRY - 1)
    assert jobs.pages == 7
    jobs.forget_old_pages(NOW + LIST_RETRY)
    assert jobs.pages == 1


def test_descriptions_that_are_refused_for_long_make_the_list_the_better_bet() -> None:
    jobs = JobList()
    for seconds in (0, REFUSED_FOR - 1):
        jobs.on_described(SLOW_DOWN, NOW + seconds)
        assert not jobs.is_the_better_bet
    jobs.on_described(SLOW_DOWN, NOW + REFUSED_FOR)
    assert jobs.is_the_better_bet
    jobs.on_walk(1, NOW + 100, serves_all=True)
    assert jobs.is_the_better_bet
    jobs.on_failed_walk(SLOW_DOWN, NOW + 101)
    assert not jobs.is_the_better_bet, "both are tried in turn"
    jobs.on_described(JOB, NOW + 102)
    jobs.on_described(SLOW_DOWN, NOW + 103)
    assert not jobs.is_the_better_bet


def test_a_list_that_is_refused_is_left_alone_after_a_few_times_and_is_not_useless() -> None:
    jobs = JobList()
    assert not fails(jobs, MAX_WALK_FAILURES - 1, described=True, error=SLOW_DOWN)
    assert not jobs.is_off(NOW + MAX_WALK_FAILURES)
    assert not jobs.on_failed_walk(SLOW_DOWN, NOW + 10)
    assert not jobs.is_in_doubt
    assert jobs.is_off(NOW + 10 + LIST_PAUSE - 1)
    assert not jobs.is_off(NOW + 10 + LIST_PAUSE)
    jobs.on_failed_walk(SLOW_DOWN, NOW + 100)
    assert jobs.is_off(NOW + 101), "it still is"
    jobs.on_walk(1, NOW + 200)
    assert not fails(jobs, MAX_WALK_FAILURES - 1, described=True, error=SLOW_DOWN)
    assert not jobs.is_off(NOW + 300)
