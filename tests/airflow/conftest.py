from __future__ import annotations

import pytest

from airflow_zilliz import triggers
from airflow_zilliz._poller import server_health
from airflow_zilliz._wait import policy, state_machine


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waits be as short as tests are: polls every 0.1 s, pauses of half a second, unknown jobs known in one."""
    monkeypatch.setattr(server_health, "LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(policy, "SHORTEST_YOUNG_DELAY", 0.1)
    monkeypatch.setattr(state_machine, "UNKNOWN_JOB_GRACE", 1.0)
    monkeypatch.setattr(triggers, "SHORTEST_FIRST_DELAY", 0.05)
