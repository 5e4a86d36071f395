from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from airflow_zilliz._protocol.import_request import commits_by_itself
from airflow_zilliz._triggers.killed_task import was_killed


class State(str, Enum):
    DEFERRED = "deferred"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, True),
        ({}, True),
        ({"auto_commit": "true"}, True),
        ({"auto_commit": False}, False),
        ({"auto_commit": " False "}, False),
    ],
)
def test_an_import_commits_by_itself_by_default(options: Any, expected: bool) -> None:
    assert commits_by_itself(options) is expected


@pytest.mark.parametrize(
    ("states", "killed"),
    [
        ({"load": "failed"}, True),
        ({"load": None}, True),
        ({"load": "deferred"}, False),
        ({"load": State.DEFERRED}, False),
        ({"other": "failed"}, False),
    ],
)
def test_a_task_was_killed_where_its_state_is_another(states: dict[str, Any], killed: bool) -> None:
    assert was_killed({"run": states}, "run", "load", -1) is killed


def test_a_mapped_task_is_found_by_its_index() -> None:
    states = {"run": {"load_0": "deferred", "load_1": "failed"}}
    assert [was_killed(states, "run", "load", index) for index in (0, 1, 2)] == [False, True, False]
