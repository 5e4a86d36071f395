from __future__ import annotations

import pytest

from airflow_zilliz._poller import list_poll, server_health
from airflow_zilliz._transport import driver
from airflow_zilliz._triggers import base
from airflow_zilliz._wait import policy, state_machine


@pytest.fixture(autouse=True)
def unknown_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget which route describes a job: a server that another test has used may have another route."""
    monkeypatch.setattr(driver, "_describe_paths", {})


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make waits as short as tests: polls every 0.1 s, pauses of half a second, unknown jobs tolerated for a second."""
    monkeypatch.setattr(server_health, "LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(policy, "SHORTEST_YOUNG_DELAY", 0.1)
    monkeypatch.setattr(state_machine, "UNKNOWN_JOB_GRACE", 1.0)
    monkeypatch.setattr(base, "SHORTEST_FIRST_DELAY", 0.05)
    monkeypatch.setattr(list_poll, "DESCRIPTION_DELAY", 0.05)
