from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_zilliz._submit.record import (
    CLOCK_SKEW,
    MAX_KNOWN_IDS,
    PATIENCE,
    Earlier,
    Record,
    TaskTry,
    earlier_of,
)

NOW = 1_800_000_000.0
KEPT = Record("k", "d", turn=2)
FULL = Record("k", "d", 3, True, 20.5, 10.5, frozenset({"a", "b"}), "job", {"state": "Completed"}, 4, 5)


def kept(record: Record) -> Record | None:
    return Record.from_json(json.loads(json.dumps(record.as_json())))


@pytest.mark.parametrize(
    "record", [Record("k"), KEPT, FULL, replace(FULL, known=frozenset()), replace(FULL, given_up=0)]
)
def test_a_record_survives_json(record: Record) -> None:
    assert kept(record) == record


def test_what_is_unset_takes_no_room() -> None:
    assert Record("k").as_json() == {"key": "k", "turn": 1}


@pytest.mark.parametrize(("count", "is_kept"), [(MAX_KNOWN_IDS, True), (MAX_KNOWN_IDS + 1, False)])
def test_more_ids_than_are_worth_their_room_are_not_kept(count: int, is_kept: bool) -> None:
    found = kept(replace(FULL, known=frozenset(map(str, range(count)))))
    assert found is not None
    assert (found.known is not None) is is_kept


@pytest.mark.parametrize("value", [None, 5, "k", [], {}, {"key": None}, {"key": 5}])
def test_what_is_no_record_says_nothing(value: Any) -> None:
    assert Record.from_json(value) is None


@pytest.mark.parametrize(
    "field",
    ["digest", "turn", "sending", "sent_at", "first_sent_at", "known", "job_id", "result", "given_up", "cleared"],
)
@pytest.mark.parametrize("value", [[], {}, True, False, "", None, -1])
def test_a_field_that_somebody_edited_is_as_if_unset_or_of_its_own_type(field: str, value: Any) -> None:
    record = Record.from_json({"key": "k", field: value})
    assert record is not None
    found = getattr(record, field)
    every: dict[str, tuple[Any, ...]] = {
        "digest": (None,),
        "turn": (1,),
        "sending": (value is True,),
        "sent_at": (None, -1.0),
        "first_sent_at": (None, -1.0),
        "known": (None, frozenset()),
        "job_id": (None,),
        "result": (None, {}),
        "given_up": (None, -1),
        "cleared": (None, -1),
    }
    assert found in every[field]
    assert not isinstance(found, bool) or field == "sending"


def test_numbers_of_either_kind_are_times() -> None:
    assert Record.from_json({"key": "k", "sent_at": 5}) == Record("k", sent_at=5.0)
    assert Record.from_json({"key": "k", "turn": 7, "given_up": 0}) == Record("k", turn=7, given_up=0)


def test_ids_become_text() -> None:
    assert Record.from_json({"key": "k", "known": [1, "2"]}) == Record("k", known=frozenset({"1", "2"}))


def test_before_the_first_request_is_sent_the_listed_ids_are_noted() -> None:
    listed = frozenset({"a"})
    assert KEPT.before_sending(NOW, 2, listed, 5) == Record("k", "d", 2, True, NOW, NOW, listed, cleared=5)


def test_what_was_there_before_the_first_of_several_requests_counts() -> None:
    first = KEPT.before_sending(NOW, 2, frozenset({"a"}), 0)
    second = first.before_sending(NOW + 5, 3, frozenset({"a", "b"}), 5)
    assert second == Record("k", "d", 3, True, NOW + 5, NOW, frozenset({"a"}), cleared=5)


def test_a_record_of_version_0_1_has_no_first_time() -> None:
    assert Record("k", sending=True).before_sending(NOW, 1, None, 0).first_sent_at == NOW


def test_a_job_takes_the_place_of_what_may_be_out() -> None:
    assert FULL.started("new", 4, 5) == Record("k", "d", 4, job_id="new", cleared=5)


def test_a_failed_job_makes_room_for_the_next_key() -> None:
    assert FULL.failed() == Record("k", "d", 4)


# -- what is known of earlier tries -------------------------------------------------------------------------------

FIRST = TaskTry(NOW)
DUE = NOW - 600
HOURS = 3600.0


@pytest.mark.parametrize("remembers", [True, False])
def test_before_a_first_try_nothing_was_sent(remembers: bool) -> None:
    assert earlier_of(None, replace(FIRST, remembers=remembers)) is None
    assert TaskTry(NOW) == TaskTry(NOW, number=1, clears=0, was_cleared=False, run_due=None, least_pause=0.0)


def test_where_records_are_kept_none_says_that_nothing_was_sent() -> None:
    assert earlier_of(None, replace(FIRST, remembers=True, number=5)) is None
    assert earlier_of(KEPT, replace(FIRST, remembers=True, number=5)) is None


def test_without_records_every_try_may_have_sent() -> None:
    this = replace(FIRST, number=2, run_due=DUE, least_pause=300.0)
    assert earlier_of(None, this) == Earlier(None, DUE, 300.0, False)


@pytest.mark.parametrize(("pause", "is_stale"), [(10500.0, False), (10501.0, True)])
def test_without_records_a_retry_long_after_its_try_is_stale(pause: float, is_stale: bool) -> None:
    found = earlier_of(None, replace(FIRST, number=2, least_pause=pause))
    assert found == Earlier(None, None, pause, is_stale)


@pytest.mark.parametrize(
    ("run_due", "is_stale"), [(None, False), (NOW - 10500, False), (NOW - 10501, True), (NOW - 10499, False)]
)
def test_without_records_a_clear_may_follow_days_later(run_due: float | None, is_stale: bool) -> None:
    this = replace(FIRST, number=2, was_cleared=True, run_due=run_due, least_pause=300.0)
    assert earlier_of(None, this) == Earlier(None, run_due, 0.0, is_stale)


@pytest.mark.parametrize(
    ("sent_at", "quiet", "is_stale"),
    [
        (NOW, 0, False),
        (NOW + 30, 0, False),
        (NOW - 1, 1, False),
        (NOW - 10500, 10500, False),
        (NOW - 10501, 10501, True),
    ],
)
def test_a_record_says_when_a_request_was_sent(sent_at: float, quiet: float, is_stale: bool) -> None:
    record = Record("k", "d", 1, True, sent_at, NOW - 20_000, frozenset({"a"}))
    found = earlier_of(record, replace(FIRST, remembers=True, number=2, run_due=DUE))
    assert found == Earlier(frozenset({"a"}), NOW - 20_000, quiet, is_stale)


def test_a_record_without_a_first_time_has_that_of_its_last_request() -> None:
    found = earlier_of(Record("k", sending=True, sent_at=NOW - 9), replace(FIRST, remembers=True))
    assert found == Earlier(None, NOW - 9, 9.0, False)


def test_a_record_of_version_0_1_is_as_old_as_its_run() -> None:
    record = Record("k", sending=True, known=frozenset({"a"}))
    found = earlier_of(record, replace(FIRST, remembers=True, run_due=DUE))
    assert found == Earlier(frozenset({"a"}), DUE, 0.0, False)


@pytest.mark.parametrize(("quiet", "seconds"), [(0, 90), (60, 90), (61, 89), (149, 1), (150, 0), (900, 0)])
def test_a_clock_that_is_ahead_does_not_shorten_the_settling(quiet: float, seconds: float) -> None:
    assert CLOCK_SKEW == 60
    assert Earlier(quiet=quiet).settling(PATIENCE.settle) == seconds


def test_patience_is_that_of_the_docs() -> None:
    assert PATIENCE.settle == 90
    assert PATIENCE.pauses == (1, 2, 3, 5, 8, 13, 20)
