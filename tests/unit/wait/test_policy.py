"""The pauses between polls."""

from __future__ import annotations

import pytest

from airflow_zilliz._wait import policy
from airflow_zilliz._wait.policy import WaitPolicy


def test_what_was_computed_for_other_constants_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests shorten the young delay; what they leave must not change another test's pauses in the same process."""
    usual = WaitPolicy(poke_interval=20.0).delay(age=100.0)
    with monkeypatch.context() as shorter:
        shorter.setattr(policy, "SHORTEST_YOUNG_DELAY", 0.1)
        WaitPolicy(poke_interval=21.0).delay(age=100.0)
    assert usual == WaitPolicy(poke_interval=21.0).delay(age=100.0) == pytest.approx(10.0)
