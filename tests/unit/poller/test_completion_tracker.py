from __future__ import annotations

import json
from datetime import datetime, timezone

from airflow_zilliz._poller.completion_tracker import KEPT_SECONDS, Completions
from airflow_zilliz._protocol.models import ImportProgress, ImportState

NOW = 1_790_000_000.0


def job(job_id: str, state: ImportState = ImportState.COMPLETED, minute: int = 0) -> ImportProgress:
    return ImportProgress(job_id, state, complete_time=datetime(2026, 1, 1, 0, minute, tzinfo=timezone.utc), raw={})


def ids(jobs: list[ImportProgress]) -> list[str]:
    return [job.job_id for job in jobs]


def test_what_was_complete_before_emits_no_event() -> None:
    completions = Completions()
    assert completions.new([job("a")], NOW) == []
    assert completions.new([job("a")], NOW + 30) == []


def test_a_job_is_new_until_it_was_reported() -> None:
    completions = Completions()
    completions.new([job("a", ImportState.IMPORTING)], NOW)
    assert ids(completions.new([job("a")], NOW + 30)) == ["a"]
    assert ids(completions.new([job("a")], NOW + 60)) == ["a"], "it was not reported"
    completions.note("a", NOW + 60)
    assert completions.new([job("a")], NOW + 90) == []


def test_failed_jobs_are_no_completions() -> None:
    completions = Completions({})
    assert completions.new([job("a", ImportState.FAILED), job("b", ImportState.UNCOMMITTED)], NOW) == []


def test_they_come_in_the_order_of_their_ends() -> None:
    assert ids(Completions({}).new([job("a", minute=2), job("b", minute=1)], NOW)) == ["b", "a"]


def test_a_store_keeps_what_was_reported() -> None:
    completions = Completions()
    completions.new([job("a")], NOW)
    again = Completions.from_json(json.loads(json.dumps(completions.as_json())))
    assert ids(again.new([job("a"), job("b")], NOW + 30)) == ["b"]


def test_an_empty_store_is_not_a_new_watcher() -> None:
    assert ids(Completions.from_json({}).new([job("a")], NOW)) == ["a"]
    assert ids(Completions.from_json(None).new([job("a")], NOW)) == []


def test_a_job_that_a_walk_missed_is_not_reported_again() -> None:
    completions = Completions({"a": NOW})
    completions.new([], NOW + 30)
    completions.note("b", NOW + 30)
    assert completions.new([job("a"), job("b")], NOW + 60) == []


def test_what_the_server_forgot_is_forgotten() -> None:
    completions = Completions({"a": NOW, "b": NOW})
    completions.new([job("b")], NOW + KEPT_SECONDS + 1)
    completions.note("c", NOW + KEPT_SECONDS + 1)
    assert completions.as_json().keys() == {"b", "c"}
