"""All that may go wrong around a submit, enumerated: `make explore` goes further than these tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_zilliz._submit import file_matching, job_search, submit_once, values
from airflow_zilliz._submit.file_matching import Match
from airflow_zilliz._submit.record import Earlier, Record, TaskTry
from airflow_zilliz._tasks import importing
from airflow_zilliz._tasks.task_state import ImportMemory
from airflow_zilliz.exceptions import ZillizUnavailable
from tests.exploration.explorer import LIMITS, Setting, explore, settings

ROOT = Path(__file__).parents[2]
PARTS = 4
Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.full
@pytest.mark.parametrize("part", range(PARTS))
def test_no_single_fault_loses_an_import_or_starts_it_twice(part: int) -> None:
    runs = 0
    for setting in list(settings())[part::PARTS]:
        report = explore(setting, 1, stop_at=1)
        assert not report.findings, str(report.findings[0])
        runs += report.runs
    assert runs > 3000, "the exploration has become small"


def by_base_names(patch: pytest.MonkeyPatch) -> None:
    def match(shown: Any, groups: Any, *, whole_paths: bool = True) -> Match:
        names = {str(name).strip("[]").rpartition("/")[2] for name in shown}
        return Match.SAME if names == {path.rpartition("/")[2] for (path,) in groups} else Match.OTHER

    for module in (file_matching, job_search, values):
        patch.setattr(module, "match_files", match)


def same_key_for_all_files(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(importing, "digest_of", lambda request: "0")


def no_settling(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Earlier, "settling", lambda self, settle: 0.0)


def every_error_is_a_refusal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(submit_once, "is_certain_refusal", lambda err: not isinstance(err, ZillizUnavailable) or err.code)


def nothing_is_written_before_sending(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Record, "before_sending", lambda self, *_: self)


def forgotten_at_the_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ImportMemory, "completed", lambda self, job_id, result: self.failed(job_id))


def servers_remember_for_ever(patch: pytest.MonkeyPatch) -> None:
    def earlier_of(record: Record | None, this: TaskTry) -> Earlier | None:
        earlier = EARLIER_OF(record, this)
        return earlier and replace(earlier, is_stale=False)

    patch.setattr(submit_once, "earlier_of", earlier_of)


def every_failed_job_loaded_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(submit_once, "loaded_nothing", lambda job: job.state.value == "Failed")
    patch.setattr(ImportMemory, "completed", lambda self, job_id, result: None)


EARLIER_OF = submit_once.earlier_of


@pytest.mark.parametrize(
    ("mechanism", "setting", "most_faults"),
    [
        (by_base_names, Setting(neighbour="sibling"), 1),
        (by_base_names, Setting(neighbour="sibling", heeds_keys=True, remembers=False), 1),
        (same_key_for_all_files, Setting(heeds_keys=True), 1),
        (no_settling, Setting(retry_delay=0.0), 1),
        (every_error_is_a_refusal, Setting(), 1),
        (nothing_is_written_before_sending, Setting(), 1),
        (forgotten_at_the_end, Setting(), 1),
        (servers_remember_for_ever, Setting(), 2),
        (every_failed_job_loaded_nothing, Setting(), 2),
    ],
)
def test_each_mechanism_is_needed(
    monkeypatch: pytest.MonkeyPatch, mechanism: Patch, setting: Setting, most_faults: int
) -> None:
    mechanism(monkeypatch)
    report = explore(setting, most_faults, stop_at=1)
    assert report.findings, f"{mechanism.__name__}: the exploration does not notice"


@pytest.mark.parametrize("limit", LIMITS.values())
def test_the_limits_are_real_and_the_docs_name_them(limit: str) -> None:
    limited = explore(Setting(), 1).limited + explore(Setting(neighbour="twin"), 1).limited
    limited += explore(Setting(remembers=False), 2).limited
    assert limited[limit] > 0
    assert limit in (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
