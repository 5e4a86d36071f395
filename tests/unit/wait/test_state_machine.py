from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._wait.checkpoint import Checkpoint
from airflow_zilliz._wait.description_retry import DESCRIPTION_PATIENCE
from airflow_zilliz._wait.outcome import Ending, Outcome
from airflow_zilliz._wait.policy import WaitPolicy, spread_of
from airflow_zilliz._wait.state_machine import THROTTLE_GRACE, TROUBLE_DELAY, Decision, ImportWait
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizConfigError,
    ZillizError,
    ZillizJobNotFound,
    ZillizUnavailable,
)

START = 1_790_000_000.0
POLICY = WaitPolicy(poll_failure_tolerance=600, poke_interval=30)


def wait(
    seen: Checkpoint = Checkpoint(),  # noqa: B008 - frozen
    now: float = START,
    deadline: float | None = START + 3600,
    execution_deadline: float | None = None,
    undescribed: Outcome | None = None,
    **policy: Any,
) -> ImportWait:
    policies, target = replace(POLICY, **policy), Target("in01-x")
    return ImportWait("j-1", "my_conn", target, policies, START, now, seen, undescribed, deadline, execution_deadline)


def job(state: ImportState = ImportState.IMPORTING, progress: int = 40, **fields: Any) -> ImportProgress:
    return ImportProgress("j-1", state, progress, collection_name="books", **fields)


def end_of(step: Decision) -> Outcome:
    assert step.end is not None
    return step.end


def fail(waiting: ImportWait, error: ZillizError, now: float, until: float) -> tuple[Decision, float]:
    """Poll in vain, each time when the wait says so; return what it says at the end, or from ``until`` on."""
    while (step := waiting.on_error(error, now)).end is None and now < until:
        now = min(now + step.delay, max(until, now))
    return step, now


def texts(step: Decision) -> list[str]:
    return [text for _, text in step.notes]


# -- the job's states ---------------------------------------------------------------------------------------------


def test_completed_reaches_the_end() -> None:
    done = job(ImportState.COMPLETED, 100, imported_rows=5)
    end = end_of(wait().on_progress(done, START + 1))
    assert (end.ending, end.progress) == (Ending.REACHED, done)


def test_a_short_poke_interval_is_the_first_pause() -> None:
    assert wait(poke_interval=0.5).delay(START) == 0.5


@pytest.mark.parametrize("state", [ImportState.PENDING, ImportState.IMPORTING, ImportState.COMMITTING])
def test_running_states_wait(state: ImportState) -> None:
    step = wait().on_progress(job(state), START + 1)
    assert step.end is None
    assert step.delay == 2.0


def test_a_failure_names_job_collection_connection_reason_and_files() -> None:
    failed = job(
        ImportState.FAILED,
        0,
        reason="2 files failed.",
        details=(FileProgress("a.json", ImportState.FAILED, 0, "row 8: wrong dimension"),),
    )
    end = end_of(wait().on_progress(failed, START + 1))
    assert end.ending is Ending.JOB_FAILED
    assert end.message == (
        "Import job 'j-1' of collection 'books' (connection 'my_conn', cluster in01-x) failed: 2 files failed. "
        "| files: a.json: row 8: wrong dimension"
    )


def test_failed_without_reason_says_so() -> None:
    assert "gave no reason" in end_of(wait().on_progress(job(ImportState.FAILED, 0), START)).message


def test_progress_is_logged_on_change_only() -> None:
    waiting = wait()
    assert texts(waiting.on_progress(job(), START + 1)) == ["Import job j-1: Importing 40 %"]
    assert texts(waiting.on_progress(job(), START + 2)) == []
    assert texts(waiting.on_progress(job(progress=63), START + 24)) == [
        "Import job j-1: Importing 63 %, about 37 s left"
    ]


@pytest.mark.parametrize(
    "later", [job(progress=63), job(total_rows=900, file_size=70), job(progress=63, total_rows=900)]
)
def test_the_last_known_size_of_a_job_is_remembered(later: ImportProgress) -> None:
    waiting = wait()
    waiting.on_progress(job(imported_rows=1, total_rows=500, file_size=64), START + 1)
    assert (waiting.seen.total_rows, waiting.seen.size) == (500, 64)
    waiting.on_progress(later, START + 2)
    assert waiting.seen.total_rows == (later.total_rows or 500)
    assert waiting.seen.size == (later.file_size or 64)


def test_uncommitted_waits_with_one_warning() -> None:
    waiting = wait()
    first = waiting.on_progress(job(ImportState.UNCOMMITTED, 99), START + 1)
    assert first.end is None
    assert [level for level, _ in first.notes] == [logging.INFO, logging.WARNING]
    assert "needs a commit" in texts(first)[1]
    assert waiting.on_progress(job(ImportState.UNCOMMITTED, 99), START + 2).notes == ()


@pytest.mark.parametrize("state", [ImportState.UNCOMMITTED, ImportState.COMMITTING, ImportState.COMPLETED])
def test_uncommitted_as_target_is_reached_there_and_beyond(state: ImportState) -> None:
    step = wait(target_state=ImportState.UNCOMMITTED).on_progress(job(state, 99), START)
    assert end_of(step).ending is Ending.REACHED


def test_an_unknown_state_waits_and_is_logged_once() -> None:
    waiting = wait()
    odd = job(ImportState.UNKNOWN, raw={"state": "Frobnicating"})
    assert any("'Frobnicating'" in text for text in texts(waiting.on_progress(odd, START + 1)))
    assert waiting.on_progress(odd, START + 2).notes == ()


# -- no usable response ---------------------------------------------------------------------------------------------

DOWN = ZillizUnavailable("https://z returned HTTP 503: upstream down", http_status=503, retry_after=7)
SILENT = ZillizUnavailable("https://z: connection refused")


def test_trouble_is_waited_out_for_the_tolerance() -> None:
    waiting = wait()
    waiting.on_progress(job(progress=63), START + 10)
    assert fail(waiting, DOWN, START + 40, START + 609)[0].end is None
    assert waiting.in_trouble
    step, now = fail(waiting, DOWN, START + 609, START + 700)
    end = end_of(step)
    assert end.ending is Ending.UNAVAILABLE
    assert now == pytest.approx(START + 616, abs=7)
    for fact in (
        "Could not poll import job 'j-1' of collection 'books' (connection 'my_conn', cluster in01-x) for 10 min",
        "Last error: https://z returned HTTP 503: upstream down",
        "was Importing 63 % when last seen",
        "the job itself was not touched",
    ):
        assert fact in end.message
    assert end.facts == {"code": None, "http_status": 503, "retry_after": 7}


def test_trouble_from_the_start_says_that_the_job_was_never_seen() -> None:
    waiting = wait(poll_failure_tolerance=0)
    assert "has not been seen in this wait" in end_of(waiting.on_error(DOWN, START)).message


def test_a_good_response_ends_the_trouble() -> None:
    waiting = wait()
    fail(waiting, DOWN, START + 2, START + 500)
    step = waiting.on_progress(job(), START + 510)
    assert texts(step)[0] == "The server responds again after 8 min"
    assert fail(waiting, DOWN, START + 540, START + 1109)[0].end is None


def test_trouble_is_logged_once() -> None:
    waiting = wait()
    assert len(waiting.on_error(DOWN, START + 1).notes) == 1
    assert waiting.on_error(DOWN, START + 2).notes == ()


def test_retry_after_is_honoured() -> None:
    assert wait().on_error(ZillizUnavailable("429", retry_after=300), START).delay == 300
    assert wait().on_error(ZillizUnavailable("429", retry_after=0.1), START).delay == 2.0


def test_a_pause_longer_than_the_tolerance_is_no_trouble() -> None:
    waiting = wait(poke_interval=1800, deadline=None)
    waiting.on_progress(job(), START + 20_000)
    step = waiting.on_error(DOWN, START + 21_800)
    assert (step.end, step.delay) == (None, TROUBLE_DELAY)
    last, now = fail(waiting, DOWN, START + 21_830, START + 30_000)
    assert (end_of(last).ending, now) == (Ending.UNAVAILABLE, START + 22_400)


def test_the_last_poll_of_trouble_is_when_it_has_lasted_too_long() -> None:
    waiting = wait(deadline=None)
    waiting.on_progress(job(), START + 10_000)
    fail(waiting, SILENT, START + 10_030, START + 10_589)
    assert waiting.on_error(SILENT, START + 10_590).delay == 10


def test_trouble_that_an_earlier_process_had_counts_on() -> None:
    before = wait()
    fail(before, DOWN, START + 10, START + 570)
    after = wait(Checkpoint.from_json(json.loads(json.dumps(before.seen.as_json()))), now=START + 580)
    assert end_of(after.on_error(DOWN, START + 600)).ending is Ending.UNAVAILABLE


# -- the key, the job id, other errors ----------------------------------------------------------------------------

REFUSED = ZillizAuthError("code 21119 (HTTP 200): The apikey is illegal.", code=21119, http_status=200)


def test_a_refused_key_is_looked_up_again_and_then_fails_at_once() -> None:
    waiting = wait()
    first = waiting.on_error(REFUSED, START + 1)
    assert (first.end, first.look_up_connection, first.delay) == (None, True, 0.0)
    assert [level for level, text in first.notes if "looking connection 'my_conn' up again" in text] == [
        logging.WARNING
    ]
    end = end_of(waiting.on_error(REFUSED, START + 2))
    assert end.ending is Ending.KEY_REFUSED
    assert "The apikey is illegal. Correct the key of connection 'my_conn'" in end.message


def test_a_rotated_key_goes_on_and_may_rotate_again() -> None:
    waiting = wait()
    waiting.on_error(REFUSED, START + 1)
    assert waiting.on_progress(job(), START + 2).end is None
    assert waiting.on_error(REFUSED, START + 100).look_up_connection


UNKNOWN = ZillizJobNotFound("code 96026 (HTTP 200): Job not found", code=96026, http_status=200)


def test_an_unknown_job_is_waited_out_for_a_minute() -> None:
    waiting = wait()
    assert waiting.on_error(UNKNOWN, START + 59).end is None
    end = end_of(waiting.on_error(UNKNOWN, START + 60))
    assert end.ending is Ending.UNKNOWN_JOB
    assert "ended long ago and was forgotten" in end.message
    assert "Job not found" in end.message


def test_an_unknown_job_is_a_response_so_no_trouble() -> None:
    waiting = wait()
    waiting.on_error(DOWN, START + 30)
    assert waiting.on_error(UNKNOWN, START + 40).end is None
    assert not waiting.in_trouble


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (ZillizApiError("code 96018: Cluster not found", code=96018), Ending.API_ERROR),
        (ZillizConfigError("Connection 'my_conn' does not exist"), Ending.MISCONFIGURED),
    ],
)
def test_other_errors_end_at_once(error: ZillizError, ending: Ending) -> None:
    end = end_of(wait().on_error(error, START))
    assert end.ending is ending
    assert str(error) in end.message


def test_a_connection_that_was_good_before_is_waited_for() -> None:
    waiting = wait()
    waiting.on_progress(job(), START + 10)
    gone = ZillizConfigError("Connection 'my_conn' does not exist")
    assert waiting.on_error(gone, START + 40).end is None
    end = end_of(fail(waiting, gone, START + 70, START + 700)[0])
    assert end.ending is Ending.UNAVAILABLE
    assert "does not exist" in end.message


@pytest.mark.parametrize("error", [DOWN, REFUSED, UNKNOWN, ZillizApiError("odd", code=1), ZillizConfigError("bad")])
def test_silent_fail_lets_no_error_end_the_wait_before_its_deadline(error: ZillizError) -> None:
    waiting = wait(ignore_errors=True, poll_failure_tolerance=0)
    step = waiting.on_error(error, START + 100)
    assert step.end is None
    assert len(step.notes) == 1
    assert waiting.on_error(error, START + 130).notes == ()
    assert waiting.on_error(error, START + 1000).delay == 30
    assert end_of(fail(waiting, error, START + 1030, START + 4000)[0]).ending is Ending.TIMED_OUT


# -- time ---------------------------------------------------------------------------------------------------------


def test_a_timeout_reports_the_last_state() -> None:
    waiting = wait()
    waiting.on_progress(job(progress=80), START + 10)
    end = end_of(waiting.on_progress(job(progress=80), START + 3600))
    assert end.ending is Ending.TIMED_OUT
    assert "Timed out (timeout) after 1 h 0 min" in end.message
    assert "was Importing 80 % when last seen" in end.message


def test_a_job_that_is_done_at_the_deadline_succeeds() -> None:
    assert end_of(wait().on_progress(job(ImportState.COMPLETED), START + 9999)).ending is Ending.REACHED


def test_the_last_poll_is_at_the_deadline() -> None:
    assert wait().on_progress(job(), START + 3590).delay == 10


def test_execution_timeout_ends_the_wait_by_its_own_name() -> None:
    end = end_of(wait(execution_deadline=START + 60).on_progress(job(), START + 60))
    assert end.ending is Ending.EXECUTION_TIMED_OUT
    assert "execution_timeout" in end.message


def test_no_deadline_waits_for_ever() -> None:
    assert wait(deadline=None).on_progress(job(), START + 10**9).end is None


def test_the_backstop_times_out_and_says_that_no_triggerer_may_run() -> None:
    end = wait().on_backstop()
    assert end.ending is Ending.TIMED_OUT
    assert "no triggerer" in end.message
    assert wait().on_backstop(execution_timeout=True).ending is Ending.EXECUTION_TIMED_OUT


@pytest.mark.parametrize(("age", "delay"), [(0, 2.0), (10, 2.0), (50, 5.0), (299, 29.9), (300, 30.0), (3000, 30.0)])
def test_a_young_wait_polls_more_often(age: float, delay: float) -> None:
    assert POLICY.delay(age) == pytest.approx(delay)


def test_a_wait_that_is_not_eager_keeps_to_its_interval() -> None:
    assert replace(POLICY, eager=False).delay(0) == 30


def test_a_short_interval_is_kept_and_zero_is_no_busy_loop() -> None:
    assert replace(POLICY, poke_interval=0.5).delay(0) == 0.5
    assert replace(POLICY, poke_interval=0).delay(0) == 0.1


@pytest.mark.parametrize(("age", "delay"), [(0, 30), (29, 30), (30, 60), (89, 60), (90, 120), (210, 200), (2000, 200)])
def test_exponential_backoff_doubles_up_to_max_wait(age: float, delay: float) -> None:
    assert replace(POLICY, exponential_backoff=True, max_wait=200).delay(age) == delay


def test_a_clock_that_was_set_back_does_no_harm() -> None:
    assert POLICY.delay(-500) == 2.0


def test_polls_of_a_long_wait_stay_few() -> None:
    age, polls = 0.0, 0
    while age < 3600:
        age += POLICY.delay(age)
        polls += 1
    assert polls <= 3600 / 30 + 40


# -- memory -------------------------------------------------------------------------------------------------------


def test_memory_survives_json() -> None:
    waiting = wait()
    waiting.on_progress(job(ImportState.UNCOMMITTED, 99), START + 1)
    assert Checkpoint.from_json(json.loads(json.dumps(waiting.seen.as_json()))) == waiting.seen


def test_what_was_logged_before_is_not_logged_again() -> None:
    before = wait()
    before.on_progress(job(ImportState.UNCOMMITTED, 99), START + 1)
    assert wait(before.seen).on_progress(job(ImportState.UNCOMMITTED, 99), START + 2).notes == ()


@pytest.mark.parametrize("value", [None, [], "x", "[", {"at": "yesterday", "told": 3, "of_another_version": 1}])
def test_memory_that_cannot_be_read_is_forgotten(value: object) -> None:
    assert Checkpoint.from_json(value) == Checkpoint()


# -- how often ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poke_interval", [5, 30, 60, 300, 3600])
@pytest.mark.parametrize("spread", [0.9, 1.0])
def test_a_long_wait_costs_at_most_40_polls_more(poke_interval: float, spread: float) -> None:
    policy = replace(POLICY, poke_interval=poke_interval)
    age, polls = 0.0, 0
    while age < 100 * poke_interval:
        age += policy.delay(age, spread)
        polls += 1
    assert polls <= 100 + 40


@pytest.mark.parametrize("poke_interval", [2, 30, 3600])
def test_a_job_of_ten_seconds_is_seen_within_two(poke_interval: float) -> None:
    policy, age = replace(POLICY, poke_interval=poke_interval), 0.0
    while age < 10:
        age += policy.delay(age)
    assert age <= 12


def test_spread_is_a_wait_s_own_and_stays() -> None:
    spreads = [spread_of(f"job-{number}", START) for number in range(1000)]
    assert 0.9 <= min(spreads) < 0.91
    assert 0.99 < max(spreads) <= 1
    assert spread_of("job-7", START) == spreads[7]


def test_a_pause_that_was_asked_for_is_never_cut_by_the_spread() -> None:
    assert POLICY.delay(0, 0.9, retry_after=100) == pytest.approx(110)


# -- being asked to slow down -------------------------------------------------------------------------------------

SLOW_DOWN = ZillizUnavailable("HTTP 429", http_status=429)


def test_a_throttled_wait_loses_no_tolerance_while_others_get_responses() -> None:
    waiting = wait(deadline=None)
    for age in range(0, 5000, 30):
        assert waiting.on_error(SLOW_DOWN, START + age, server_responded_at=START + age - 1).end is None
    step, now = fail(waiting, SLOW_DOWN, START + 5000, START + 6000)
    assert end_of(step).ending is Ending.UNAVAILABLE
    assert now == pytest.approx(START + 5570, abs=30)


def test_a_wait_without_responses_loses_its_tolerance_although_others_get_some() -> None:
    waiting, now = wait(deadline=None), START
    while (step := waiting.on_error(DOWN, now, server_responded_at=now - 1)).end is None:
        now += step.delay
    assert now == pytest.approx(START + 600, abs=30)


def test_a_refused_first_poll_does_not_end_a_wait_even_without_tolerance() -> None:
    waiting = wait(poll_failure_tolerance=0)
    assert waiting.on_error(SLOW_DOWN, START).end is None
    assert waiting.on_error(SLOW_DOWN, START + THROTTLE_GRACE).end is not None


def test_a_wait_that_is_overdue_has_what_is_left_of_its_time() -> None:
    waiting = wait(deadline=START + 60)
    step = waiting.on_overdue(START + 59.5)
    assert (step.end, step.delay) == (None, 0.5)
    assert end_of(waiting.on_overdue(START + 60)).ending is Ending.TIMED_OUT


# -- what a list shows --------------------------------------------------------------------------------------------


def listed(state: ImportState, **raw: Any) -> ImportProgress:
    return ImportProgress("j-1", state, raw.get("progress", 0), raw={"state": state.value, **raw})


def test_a_list_ends_a_wait_with_what_it_knows() -> None:
    done = listed(ImportState.COMPLETED)
    end = end_of(wait().on_listed(done, START + 5))
    assert (end.ending, end.progress, end.listed, end.needs_description) == (Ending.REACHED, None, done, True)
    failed = end_of(wait().on_listed(listed(ImportState.FAILED), START + 5))
    assert (failed.ending, failed.needs_description) == (Ending.JOB_FAILED, True)


def test_a_list_s_word_for_running_is_not_new_for_a_described_job() -> None:
    waiting = wait()
    waiting.on_progress(job(progress=40), START)
    assert waiting.on_listed(listed(ImportState.IMPORTING), START + 30).notes == ()


def test_a_list_shows_that_a_job_began() -> None:
    waiting = wait()
    waiting.on_progress(job(ImportState.PENDING, 0), START)
    assert texts(waiting.on_listed(listed(ImportState.IMPORTING), START + 30)) == ["Import job j-1: Importing"]
    assert waiting.on_listed(listed(ImportState.IMPORTING), START + 60).notes == ()


def test_a_list_with_percentages_shows_each_change() -> None:
    waiting = wait()
    waiting.on_progress(job(progress=40), START)
    step = waiting.on_listed(listed(ImportState.IMPORTING, progress=70), START + 30)
    assert texts(step) == ["Import job j-1: Importing 70 %, about 30 s left"]


def test_a_wait_for_uncommitted_does_not_rely_on_lists() -> None:
    assert wait().can_be_listed
    assert not wait(target_state=ImportState.UNCOMMITTED).can_be_listed


def test_a_useless_list_is_logged_once() -> None:
    waiting = wait()
    assert "cannot be used" in texts(waiting.on_list_useless(ZillizApiError("no such route"), START))[0]
    assert waiting.on_list_useless(ZillizApiError("no such route"), START + 600).notes == ()


# -- a job that a list showed as ended ----------------------------------------------------------------------------


def undescribed(state: ImportState) -> ImportWait:
    end = end_of(wait().on_listed(listed(state), START))
    return wait(undescribed=end)


def test_the_description_of_a_listed_end_decides() -> None:
    described = job(ImportState.COMPLETED, 100, imported_rows=7)
    assert end_of(undescribed(ImportState.COMPLETED).on_progress(described, START + 1)).progress is described
    turned = undescribed(ImportState.COMPLETED).on_progress(job(ImportState.FAILED, 0, reason="r"), START + 1)
    assert end_of(turned).ending is Ending.JOB_FAILED


def test_a_job_that_runs_on_is_waited_for_without_lists() -> None:
    waiting = undescribed(ImportState.COMPLETED)
    step = waiting.on_progress(job(), START + 1)
    assert (step.end, waiting.undescribed, waiting.can_be_listed) == (None, None, False)
    assert Checkpoint.from_json(waiting.seen.as_json()).distrusts_list, "the next trigger knows it too"


@pytest.mark.parametrize("state", [ImportState.COMPLETED, ImportState.FAILED])
def test_a_listed_end_stands_when_no_description_is_available(state: ImportState) -> None:
    waiting = undescribed(state)
    assert waiting.undescribed is not None
    patience = DESCRIPTION_PATIENCE[waiting.undescribed.ending]
    assert waiting.on_error(DOWN, START + patience - 1).end is None
    step = waiting.on_error(DOWN, START + patience)
    assert step.end is not None
    assert step.end.job_has_ended
    assert step.notes[-1][0] == logging.WARNING
    lost = "its reason is the list's, if any" if state is ImportState.FAILED else "rows are unknown"
    assert f"from the job list, and {lost}, since its description is not available" in step.notes[-1][1]


def test_a_listed_end_of_a_forgotten_job_stands_at_once() -> None:
    assert undescribed(ImportState.COMPLETED).on_error(ZillizJobNotFound("gone"), START + 1).end is not None


def test_a_listed_end_with_a_refused_key_looks_the_connection_up_first() -> None:
    waiting = undescribed(ImportState.COMPLETED)
    assert waiting.on_error(ZillizAuthError("401"), START + 1).look_up_connection
    assert waiting.on_error(ZillizAuthError("401"), START + 2).end is not None


# -- pace and stall -----------------------------------------------------------------------------------------------


def test_two_readings_give_the_rate_and_the_time_left() -> None:
    waiting = wait()
    waiting.on_progress(job(imported_rows=1000, total_rows=5000), START)
    step = waiting.on_progress(job(progress=63, imported_rows=2000, total_rows=5000), START + 20)
    assert texts(step) == ["Import job j-1: Importing 63 %, 2,000 of 5,000 rows, 50 rows/s, about 60 s left"]


def test_a_job_that_does_not_move_is_warned_of_once_for_each_stall() -> None:
    waiting = wait(stall_warning=1800)
    for age, progress, warned in (
        (0, 80, 0),
        (1799, 80, 0),
        (1800, 80, 1),
        (3600, 80, 0),
        (3700, 90, 0),
        (5500, 90, 1),
    ):
        notes = waiting.on_progress(job(progress=progress), START + age - 3600).notes
        assert len([text for level, text in notes if level == logging.WARNING]) == warned, age


def test_a_wait_whose_memory_has_no_state_warns_of_no_stall() -> None:
    waiting = wait(Checkpoint(moved_at=START - 7200))
    assert waiting.on_unchanged(START).notes == ()


def test_no_stall_warning_where_none_is_wanted() -> None:
    waiting = wait(stall_warning=None, deadline=None)
    waiting.on_progress(job(), START)
    assert waiting.on_progress(job(), START + 10**6).notes == ()


def test_the_memory_crosses_processes_whole() -> None:
    seen = Checkpoint(summary="s", at=1.5, told=("stall",), state="Importing", percent=0, rows=0, distrusts_list=True)
    assert Checkpoint.from_json(json.dumps(seen.as_json())) == seen
    assert Checkpoint().as_json() == {}
