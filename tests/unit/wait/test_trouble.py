"""What becomes of a wait while its polls fail: what counts, what is logged, when the connection is looked up again."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from inspect import signature
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._wait.checkpoint import Checkpoint
from airflow_zilliz._wait.clock import LATE, LOOK_UP_AFTER, LOOK_UP_EVERY
from airflow_zilliz._wait.outcome import Ending
from airflow_zilliz._wait.state_machine import LAST_POLL_DELAY, STEADY, UNKNOWN_JOB_GRACE, ImportWait
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizConfigError,
    ZillizError,
    ZillizUnavailable,
)
from tests.unit.wait.test_state_machine import DOWN, SILENT, START, UNKNOWN, end_of, fail, job, listed, texts, wait

ODD = ZillizUnavailable("code 65535 (HTTP 200): find no available mixcoord", code=65535, http_status=200)
WRONG = ZillizApiError("code 100 (HTTP 200): collection not found", code=100, http_status=200)
SLOW_DOWN = ZillizUnavailable("HTTP 429", http_status=429)


def crossed(waiting: ImportWait, now: float, **fields: float | None) -> ImportWait:
    """Return the wait as another process has it, by what is kept of it as JSON."""
    return wait(Checkpoint.from_json(json.loads(json.dumps(waiting.seen.as_json()))), now=now, **fields)


def warnings(waiting: ImportWait, error: ZillizError, now: float) -> list[str]:
    return [text for level, text in waiting.on_error(error, now).notes if level == logging.WARNING]


# -- what can never succeed, and what only seems so ---------------------------------------------------------------


@pytest.mark.parametrize("error", [ODD, WRONG, ZillizApiError("no import API", http_status=404)])
def test_an_odd_response_after_the_job_was_seen_counts_against_the_tolerance(error: ZillizError) -> None:
    waiting = wait()
    waiting.on_progress(job(progress=63), START + 10)
    assert fail(waiting, error, START + 40, START + 600)[0].end is None
    end = end_of(fail(waiting, error, START + 601, START + 700)[0])
    assert end.ending is Ending.UNAVAILABLE
    assert "Importing 63 %" in end.message


def test_a_job_that_a_list_alone_has_shown_was_seen() -> None:
    waiting = wait()
    assert not waiting.has_seen_the_job
    waiting.on_unchanged(START + 10)
    assert waiting.on_error(WRONG, START + 40).end is None


def test_what_is_wrong_from_the_start_ends_at_once() -> None:
    assert end_of(wait().on_error(WRONG, START + 1)).ending is Ending.API_ERROR


def test_a_refused_key_ends_a_wait_that_has_seen_its_job_too() -> None:
    waiting = wait()
    waiting.on_progress(job(), START + 10)
    refused = ZillizAuthError("code 1800 (HTTP 401)", code=1800, http_status=401)
    assert waiting.on_error(refused, START + 40).look_up_connection
    assert end_of(waiting.on_error(refused, START + 41)).ending is Ending.KEY_REFUSED


# -- an unknown job -----------------------------------------------------------------------------------------------


def test_one_unknown_job_in_mid_wait_ends_nothing() -> None:
    waiting = wait()
    waiting.on_progress(job(), START + 300)
    step = waiting.on_error(UNKNOWN, START + 303)
    assert step.end is None
    assert step.look_up_connection, "the host may have moved"
    assert "any longer, although this wait has seen it" in texts(step)[0]
    assert not waiting.on_error(UNKNOWN, START + 313).look_up_connection, "once"
    assert waiting.on_progress(job(progress=50), START + 330).end is None
    again = waiting.on_error(UNKNOWN, START + 900)
    assert again.end is None, "counted again from here"
    assert len(again.notes) == 1
    assert waiting.on_error(UNKNOWN, START + 959).end is None
    assert end_of(waiting.on_error(UNKNOWN, START + 960)).ending is Ending.UNKNOWN_JOB


def test_a_seen_job_that_stays_unknown_is_asked_for_again_within_the_minute() -> None:
    waiting = wait(poke_interval=3600, deadline=None)
    waiting.on_progress(job(), START + 20_000)
    step, now = fail(waiting, UNKNOWN, START + 23_600, START + 90_000)
    assert (end_of(step).ending, now) == (Ending.UNKNOWN_JOB, START + 23_600 + UNKNOWN_JOB_GRACE)


def test_a_list_that_shows_an_unknown_job_ends_the_doubt() -> None:
    for shows in (lambda w, now: w.on_unchanged(now), lambda w, now: w.on_listed(listed(ImportState.IMPORTING), now)):
        waiting = wait()
        waiting.on_progress(job(), START + 10)
        waiting.on_error(UNKNOWN, START + 40)
        assert waiting.is_in_doubt
        shows(waiting, START + 70)
        assert not waiting.is_in_doubt
        assert waiting.on_error(UNKNOWN, START + 130).end is None


def test_the_minute_of_an_unknown_job_crosses_processes() -> None:
    waiting = wait()
    waiting.on_progress(job(), START + 300)
    waiting.on_error(UNKNOWN, START + 330)
    assert crossed(waiting, START + 350).on_error(UNKNOWN, START + 389).end is None
    assert crossed(waiting, START + 350).on_error(UNKNOWN, START + 390).end is not None


def test_silent_fail_waits_for_an_unknown_job_at_its_own_pace() -> None:
    waiting = wait(ignore_errors=True)
    waiting.on_progress(job(), START + 1000)
    assert waiting.on_error(UNKNOWN, START + 1030).delay == 30
    assert waiting.on_error(UNKNOWN, START + 1089).delay == 30
    assert waiting.on_error(UNKNOWN, START + 1500).end is None


# -- one line for each trouble ------------------------------------------------------------------------------------


def test_alternating_responses_are_one_trouble() -> None:
    waiting, lines = wait(deadline=None), []
    for turn in range(200):
        step = waiting.on_error(DOWN, START + 60 * turn) if turn % 2 else waiting.on_progress(job(), START + 60 * turn)
        lines += [text for text in texts(step) if "Importing" not in text]
    assert [line.partition(":")[0] for line in lines] == [
        "Could not poll import job j-1",
        "The server responds again after 2 min",
        "Polls of import job j-1 fail again, with good responses in between",
    ]
    assert lines[0].endswith("Retrying for up to 10 min")


def test_descriptions_that_fail_while_the_list_responds_are_one_trouble() -> None:
    waiting, lines = wait(deadline=None), []
    for turn in range(200):
        step = waiting.on_error(DOWN, START + 60 * turn) if turn % 2 else waiting.on_unchanged(START + 60 * turn)
        lines += texts(step)
    assert len(lines) == 3
    assert "The job list responds again" in lines[1]


def test_a_trouble_after_a_steady_time_is_another_one() -> None:
    waiting = wait(deadline=None)
    for turn in range(3):
        began = START + turn * (STEADY + 60)
        assert "Could not poll" in warnings(waiting, DOWN, began)[0]
        assert warnings(waiting, DOWN, began + 10) == []
        assert texts(waiting.on_progress(job(), began + 20))[0].startswith("The server responds again")
        assert "fail again" in warnings(waiting, DOWN, began + 30)[0]
        assert "answers" not in "".join(texts(waiting.on_progress(job(), began + 40)))
        assert warnings(waiting, DOWN, began + 50) == []
        for age in range(60, int(STEADY), 30):
            waiting.on_progress(job(), began + age)


def test_what_was_logged_of_a_trouble_crosses_processes() -> None:
    waiting = wait()
    waiting.on_error(DOWN, START + 10)
    assert crossed(waiting, START + 12).on_error(DOWN, START + 14).notes == ()


# -- clocks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asleep", [LATE + 1, 590.0, 86_400.0])
@pytest.mark.parametrize("crosses", [False, True])
def test_a_failed_poll_before_and_after_a_sleep_do_not_add_up(asleep: float, crosses: bool) -> None:
    waiting = wait(deadline=None)
    waiting.on_progress(job(), START + 1000)
    step = waiting.on_error(SILENT, START + 1030)
    now = START + 1030 + step.delay + asleep
    waiting = crossed(waiting, now, deadline=None) if crosses else waiting
    end, at = fail(waiting, SILENT, now, now + 10_000)
    assert end_of(end).ending is Ending.UNAVAILABLE
    assert at - now == pytest.approx(570), "of the tolerance the time before the sleep is gone, and no more"


def test_a_first_poll_after_a_sleep_loses_no_tolerance() -> None:
    waiting = wait(now=START + 990, deadline=None)
    waiting.on_progress(job(), START + 1000)
    assert fail(waiting, SILENT, START + 1500, START + 2069)[0].end is None
    assert end_of(fail(waiting, SILENT, START + 2099, START + 2130)[0]).ending is Ending.UNAVAILABLE


def test_polls_that_are_late_time_and_again_count() -> None:
    waiting, now = wait(deadline=None), START + 1000
    waiting.on_progress(job(), now)
    polls = 0
    while waiting.on_error(SILENT, now).end is None:
        now += 200
        polls += 1
        assert polls < 10


@pytest.mark.parametrize("crosses", [False, True])
def test_a_clock_that_is_set_back_stretches_no_tolerance(crosses: bool) -> None:
    waiting = wait(deadline=None)
    waiting.on_progress(job(), START + 1000)
    step, now = fail(waiting, SILENT, START + 1030, START + 1300)
    now += step.delay - 7200
    waiting = crossed(waiting, now, deadline=None) if crosses else waiting
    end, at = fail(waiting, SILENT, now, now + 3600)
    assert end_of(end).ending is Ending.UNAVAILABLE
    assert at - now == pytest.approx(300, abs=31)


def test_a_sleep_and_a_clock_set_back_move_the_minute_of_an_unknown_job_too() -> None:
    for jump in (3600, -3600):
        waiting = wait(deadline=None)
        waiting.on_progress(job(), START + 1000)
        step = waiting.on_error(UNKNOWN, START + 1030)
        now = START + 1030 + step.delay + jump
        end, at = fail(waiting, UNKNOWN, now, now + 600)
        assert end_of(end).ending is Ending.UNKNOWN_JOB
        assert at - now == pytest.approx(UNKNOWN_JOB_GRACE, abs=1)


def test_a_clock_that_was_set_back_before_the_first_poll_stretches_no_minute() -> None:
    step, now = fail(wait(deadline=None), UNKNOWN, START - 3600, START)
    assert end_of(step).ending is Ending.UNKNOWN_JOB
    assert now == pytest.approx(START - 3600 + UNKNOWN_JOB_GRACE, abs=1)


@given(
    tolerance=st.sampled_from([0.0, 1.0, 30.0, 600.0]),
    gaps=st.lists(st.tuples(st.sampled_from(["on time", "late", "back"]), st.floats(0, 20_000)), max_size=30),
)
def test_trouble_ends_a_wait_by_the_time_that_was_polled_and_no_other(
    tolerance: float, gaps: list[tuple[str, float]]
) -> None:
    waiting = wait(now=START + 990, deadline=None, poll_failure_tolerance=tolerance)
    waiting.on_progress(job(), START + 1000)
    now, polled, was_late = START + 1030, 30.0, False
    if polled >= tolerance > 0:
        polled = 0.0
    for kind, seconds in [*gaps, *[("on time", 0.0)] * 400]:
        step = waiting.on_error(SILENT, now)
        if step.end is not None:
            assert polled >= tolerance - 0.001  # epoch seconds are no finer
            return
        assert polled < tolerance + 0.001
        late = kind == "late" and seconds > LATE
        gap = -seconds if kind == "back" else step.delay + (seconds if late else 0.0)
        if gap >= 0 and not (late and not was_late):
            polled += gap
        was_late = late and not was_late
        now += gap
    raise AssertionError("400 polls on time are more than any tolerance")


# -- deadlines ----------------------------------------------------------------------------------------------------


def test_a_poll_in_vain_after_the_deadline_is_made_once_more() -> None:
    late = wait(now=START + 3661)
    step = late.on_error(SILENT, START + 3662)
    assert (step.end, step.delay) == (None, LAST_POLL_DELAY)
    assert end_of(late.on_progress(job(ImportState.COMPLETED), START + 3664)).ending is Ending.REACHED
    never = wait(now=START + 3661)
    never.on_error(SILENT, START + 3662)
    assert end_of(never.on_error(SILENT, START + 3664)).ending is Ending.TIMED_OUT


def test_a_poll_in_vain_just_before_the_deadline_is_made_again_at_it() -> None:
    step = wait(deadline=START + 60).on_error(DOWN, START + 59.5)
    assert (step.end, step.delay) == (None, 0.5)


def test_the_second_poll_after_a_deadline_is_not_made_again_by_another_process() -> None:
    waiting = wait(now=START + 3661)
    waiting.on_error(SILENT, START + 3662)
    assert end_of(crossed(waiting, START + 3690).on_error(SILENT, START + 3690)).ending is Ending.TIMED_OUT


def test_a_wait_that_cannot_be_polled_times_out() -> None:
    assert end_of(wait().on_overdue(START + 3660)).ending is Ending.TIMED_OUT
    assert wait().on_overdue(START + 3000).delay == 30
    overdue = wait(execution_deadline=START + 60).on_overdue(START + 120)
    assert end_of(overdue).ending is Ending.EXECUTION_TIMED_OUT
    assert "Timed out (execution_timeout) after" in end_of(overdue).message


# -- a connection that changed ------------------------------------------------------------------------------------


def looked_up_at(waiting: ImportWait, error: ZillizError, until: float, began: float = START + 1000) -> list[float]:
    now, found = began, []
    while now < until:
        step = waiting.on_error(error, now)
        assert step.end is None
        if step.look_up_connection:
            found.append(now - began)
        now += step.delay
    return found


@pytest.mark.parametrize("error", [SILENT, WRONG, ZillizConfigError("Connection 'my_conn' does not exist")])
def test_the_connection_is_looked_up_again_once_in_a_while_during_trouble(error: ZillizError) -> None:
    waiting = wait(deadline=None, poll_failure_tolerance=1200)
    waiting.on_progress(job(), START + 970)
    ages = looked_up_at(waiting, error, START + 2100)
    assert ages[0] <= LOOK_UP_AFTER + 30
    assert 5 <= len(ages) <= 14
    assert all(later - earlier <= LOOK_UP_EVERY + 31 for earlier, later in pairwise(ages))


def test_each_trouble_looks_it_up_again_and_a_server_that_is_only_busy_never() -> None:
    waiting = wait(deadline=None, poll_failure_tolerance=10_000)
    first = looked_up_at(waiting, SILENT, START + 1100)
    waiting.on_progress(job(), START + 1130)
    assert looked_up_at(waiting, SILENT, START + 5100, began=START + 5000) == first
    assert looked_up_at(wait(deadline=None), SLOW_DOWN, START + 1500) == []


def test_a_time_out_in_trouble_looks_nothing_up() -> None:
    waiting = wait(deadline=START + 50)
    for age in (1, 50):
        assert waiting.on_error(SLOW_DOWN, START + age).end is None
    step = waiting.on_error(DOWN, START + 52)
    assert step.end is not None
    assert not step.look_up_connection


def test_the_end_of_a_wait_looks_nothing_up() -> None:
    waiting = wait()
    step, _ = fail(waiting, replace_retry(SILENT), START, START + 3600)
    assert end_of(step).ending is Ending.UNAVAILABLE
    assert not step.look_up_connection


def replace_retry(error: ZillizUnavailable) -> ZillizUnavailable:
    return error.with_retry_after(100)


def test_the_memory_of_a_trouble_crosses_processes_whole() -> None:
    seen = Checkpoint(failed_at=1.5, trouble_since=1, unknown_since=2.5, polled_at=3, due=4)
    assert Checkpoint.from_json(json.dumps(seen.as_json())) == seen
    assert seen.moved_by(10) == replace(seen, trouble_since=11, unknown_since=12.5)
    assert Checkpoint().moved_by(10) == Checkpoint()


# -- what is left behind, and other small things ------------------------------------------------------------------


@pytest.mark.parametrize(("error", "failed_at"), [(SILENT, START + 40), (UNKNOWN, None)])
def test_a_trouble_and_a_doubt_that_are_over_leave_only_when_a_poll_last_failed(
    error: ZillizError, failed_at: float | None
) -> None:
    waiting = wait()
    waiting.on_progress(job(), START + 10)
    before = waiting.seen
    waiting.on_error(error, START + 40)
    assert waiting.seen.due is not None
    waiting.on_progress(job(), START + 50)
    assert waiting.seen == replace(before, at=START + 50, failed_at=failed_at)


def test_what_an_earlier_version_warned_of_is_not_warned_of_again() -> None:
    seen = Checkpoint(told=("list", "uncommitted", "unknown job", "failing again", "stall"), failed_at=START)
    useless = ZillizApiError("no such route")
    assert wait(seen).on_list_useless(useless, START).notes == ()
    assert len(wait(seen).on_progress(job(ImportState.UNCOMMITTED, 99), START + 1).notes) == 1
    assert wait(seen).on_error(UNKNOWN, START + 1).notes == ()
    assert wait(seen).on_error(SILENT, START + 1).notes == ()
    stalled = replace(seen, summary="Importing 40 %", state="Importing", percent=40, moved_at=START)
    assert wait(stalled, deadline=None).on_progress(job(), START + 3000).notes == ()


def test_a_wait_shows_nothing_of_its_inside() -> None:
    for name in ("_clock", "_notes", "_listed_at", "_key_refused", "_description_retry"):
        assert name not in repr(wait())
        assert name not in signature(ImportWait).parameters


def test_the_last_state_is_reported_with_the_time_of_the_last_list() -> None:
    waiting = wait()
    waiting.on_progress(job(), START + 10)
    assert "14:13:30 UTC" in end_of(waiting.on_overdue(START + 4000)).message
    waiting.on_unchanged(START + 70)
    assert "14:14:30 UTC" in end_of(waiting.on_overdue(START + 4000)).message


def test_polls_that_fail_within_half_an_hour_are_one_trouble() -> None:
    for pause, words in ((1799, "fail again"), (1800, "Could not poll")):
        waiting = wait(deadline=None)
        waiting.on_error(SILENT, START + 10)
        waiting.on_progress(job(), START + 20)
        assert words in warnings(waiting, SILENT, START + 10 + pause)[0]


def test_a_step_is_the_last_one_at_an_end_and_before_a_look_up() -> None:
    assert not wait().on_progress(job(), START + 1).is_last
    assert wait().on_progress(job(ImportState.COMPLETED), START + 1).is_last
    assert wait().on_error(ZillizAuthError("401", code=1800, http_status=401), START + 1).is_last


def test_a_short_interval_is_kept() -> None:
    assert wait(poke_interval=0.5).on_progress(job(), START + 1).delay == 0.5


def test_an_execution_deadline_alone_ends_a_wait() -> None:
    waiting = wait(deadline=None, execution_deadline=START + 60)
    assert end_of(waiting.on_progress(job(), START + 60)).ending is Ending.EXECUTION_TIMED_OUT


@pytest.mark.parametrize(
    ("error", "age", "pause"),
    [
        (SILENT, 1, 2.0),
        (SILENT, 10, 10.0),
        (SILENT, 100, 60.0),
        (SILENT.with_retry_after(3600), 1, 60.0),
        (SILENT.with_retry_after(7), 50, 7.0),
    ],
)
def test_the_description_of_a_listed_failure_is_asked_for_in_growing_pauses(
    error: ZillizError, age: float, pause: float
) -> None:
    undescribed = end_of(wait().on_listed(listed(ImportState.FAILED), START))
    step = wait(undescribed=undescribed).on_error(error, START + age)
    assert step.end is None
    assert step.delay == pytest.approx(pause, rel=0.26)


@pytest.mark.parametrize("shows", ["unchanged", "listed"])
def test_a_list_that_shows_the_job_is_a_poll_like_any_other(shows: str) -> None:
    waiting = wait(now=START + 990, deadline=None)
    waiting.on_progress(job(), START + 1000)
    for age in range(1030, 1301, 30):
        if shows == "unchanged":
            waiting.on_unchanged(START + age)
        else:
            waiting.on_listed(listed(ImportState.IMPORTING), START + age)
    step, now = fail(waiting, SILENT, START + 1330, START + 5000)
    assert (end_of(step).ending, now) == (Ending.UNAVAILABLE, START + 1900)


@pytest.mark.parametrize("state", [ImportState.PENDING, ImportState.IMPORTING, ImportState.UNKNOWN])
def test_whoever_waits_for_uncommitted_waits_through_the_states_before(state: ImportState) -> None:
    assert wait(target_state=ImportState.UNCOMMITTED).on_progress(job(state), START + 1).end is None


def test_a_list_shows_of_a_described_job_what_is_more_than_running() -> None:
    waiting = wait()
    waiting.on_progress(job(progress=40), START)
    odd = replace(listed(ImportState.UNKNOWN), raw={"state": "Frobnicating"})
    assert texts(waiting.on_listed(odd, START + 30))[0] == "Import job j-1: Frobnicating"


def test_a_job_that_was_never_known_looks_no_connection_up() -> None:
    assert not wait().on_error(UNKNOWN, START + 1).look_up_connection


def test_a_list_that_shows_the_job_says_that_it_is_the_list() -> None:
    waiting = wait()
    waiting.on_error(SILENT, START + 1)
    assert texts(waiting.on_listed(listed(ImportState.IMPORTING), START + 31))[0].startswith("The job list responds")
