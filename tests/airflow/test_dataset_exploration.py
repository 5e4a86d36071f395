"""The exploration of the operator for datasets, with one fault in each run; `make explore` runs it with two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_zilliz._submit.ledger import Ledger
from airflow_zilliz._tasks.dataset_store import LedgerStore
from tests.exploration.datasets import explore, settings
from tests.exploration.world import Setting


def test_no_file_is_lost_and_none_is_loaded_twice() -> None:
    reports = [explore(setting, active, 1) for setting, active in settings()]
    assert [finding for report in reports for finding in report.findings] == []
    assert sum(report.runs for report in reports) > 900, "the exploration has become small"


def forgets_what_it_sends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LedgerStore, "save_entry", lambda *_: None)


def sends_everything_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "for_try", lambda ledger, _: Ledger.of(ledger.jobs))


def sends_less_than_everything(patch: pytest.MonkeyPatch) -> None:
    of = Ledger.of
    patch.setattr(Ledger, "of", lambda jobs, **named: of(tuple(jobs)[:-1], **named))


@pytest.mark.parametrize("mechanism", [forgets_what_it_sends, sends_everything_again, sends_less_than_everything])
def test_the_exploration_notices_what_is_broken(
    mechanism: Callable[[pytest.MonkeyPatch], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mechanism(monkeypatch)
    assert explore(Setting(), 1, 1).findings, mechanism.__name__
