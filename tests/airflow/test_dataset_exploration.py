"""The exploration of the operator for datasets, with one fault in each run; `make explore` runs it with two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_zilliz._submit.ledger import Ledger, Phase, Stage
from airflow_zilliz._tasks import dataset_account
from airflow_zilliz._tasks.dataset_run import DatasetRun
from airflow_zilliz._tasks.dataset_store import LedgerStore
from airflow_zilliz._tasks.dataset_wait import DatasetWait
from tests.exploration.datasets import Case, cases, explore
from tests.exploration.world import Setting


def test_no_file_is_lost_and_none_is_loaded_twice() -> None:
    reports = [explore(case, 1) for case in cases()]
    assert [finding for report in reports for finding in report.findings] == []
    assert sum(report.runs for report in reports) > 2500, "the exploration has become small"


def forgets_what_it_sends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LedgerStore, "save_entry", lambda *_: None)


def sends_everything_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "for_try", lambda ledger, _: Ledger.of(ledger.jobs))


def sends_less_than_everything(patch: pytest.MonkeyPatch) -> None:
    of = Ledger.of
    patch.setattr(Ledger, "of", lambda jobs, **named: of(tuple(jobs)[:-1], **named))


def believes_that_all_jobs_are_completed(patch: pytest.MonkeyPatch) -> None:
    def take(wait: DatasetWait, *_: Any) -> None:
        for index in wait._state.ledger.at(Stage.RUNNING):
            wait._state.put(index, stage=Stage.COMPLETED, result={})

    patch.setattr(DatasetWait, "take", take)


def forgets_what_it_sent_when_it_defers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LedgerStore, "before_deferral", lambda *_: None)


def commits_what_is_loaded_after_a_failure(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DatasetRun, "_enter", lambda run, _: run._state.enter(Phase.COMMITTING))


def names_no_file(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dataset_account, "missing_of", lambda _: [])


def takes_a_full_server_for_the_end(patch: pytest.MonkeyPatch) -> None:
    def fail(_: DatasetRun) -> None:
        raise AirflowFailException("full")

    patch.setattr(DatasetRun, "_pause", fail)


#: What is broken, and the case that has to show it.
BROKEN: dict[Callable[[pytest.MonkeyPatch], Any], Case] = {
    forgets_what_it_sends: Case(),
    sends_everything_again: Case(clears=True),
    sends_less_than_everything: Case(),
    believes_that_all_jobs_are_completed: Case(deferrable=True),
    forgets_what_it_sent_when_it_defers: Case(Setting(remembers=False), deferrable=True),
    commits_what_is_loaded_after_a_failure: Case(atomic=True, active=2),
    names_no_file: Case(),
    takes_a_full_server_for_the_end: Case(is_full=True),
}


@pytest.mark.parametrize("mechanism", BROKEN, ids=lambda mechanism: mechanism.__name__)
def test_the_exploration_notices_what_is_broken(
    mechanism: Callable[[pytest.MonkeyPatch], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mechanism(monkeypatch)
    assert explore(BROKEN[mechanism], 1).findings
