"""One task that waits for many jobs on Postgres, while triggerers, workers and the server's memory come and go."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

pytest.importorskip("airflow.sdk")

from airflow import __version__ as airflow_version

from airflow_zilliz.local.testing import LocalServer
from tests.e2e.deployment import Deployment, postgres_programs

pytestmark = [
    pytest.mark.skipif(Version(airflow_version) < Version("3.3"), reason="of the newest Airflow alone"),
    pytest.mark.skipif(
        postgres_programs() is None and "CI" not in os.environ, reason="Debian's package postgresql is not here"
    ),
    pytest.mark.xdist_group("whole airflow"),
    pytest.mark.timeout(900),
]

DAG_ID, RUN_ID = "one_wait", "all"
#: An hour takes 8 seconds in these processes: Airflow imports this module early in each of them.
HASTE = """
from airflow_zilliz._wait import list_wait
list_wait.CHECKPOINT_EVERY, list_wait.GATHERING = 8.0, 15.0  # a trigger's first poll comes after 7 s
"""


class Wait:
    """The task, and what it has written down."""

    def __init__(self, airflow: Deployment, server: LocalServer) -> None:
        self.airflow = airflow
        self.server = server

    def state(self) -> str | None:
        query = "select state from task_instance where dag_id = %s and task_id = 'wait'"
        rows = self.airflow.postgres.rows(query, DAG_ID)
        return rows[0][0] if rows else None

    def until(self, *states: str, within: float = 240) -> str:
        def found() -> str | None:
            state = self.state()
            return state if state in states else None

        found_state = self.airflow.until(found, f"the task is {' or '.join(states)}", within)
        assert found_state is not None
        return found_state

    def results(self) -> list[dict[str, Any]]:
        query = "select value from xcom where dag_id = %s and task_id = 'wait' and key = 'results'"
        rows = self.airflow.postgres.rows(query, DAG_ID)
        if not rows:
            return []
        value = rows[0][0]
        found: list[dict[str, Any]] = json.loads(value) if isinstance(value, str) else value
        return found


@pytest.fixture
def wait(tmp_path: Path) -> Iterator[Wait]:
    (tmp_path / "haste").mkdir()
    (tmp_path / "haste" / "airflow_local_settings.py").write_text(HASTE)
    settings = {
        "PYTHONPATH": str(tmp_path / "haste"),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    }
    home = tmp_path / "airflow"
    home.mkdir()
    with (
        LocalServer(tmp_path / "server") as server,
        Deployment(home, Path(__file__).parent / "deployed", settings) as airflow,
    ):
        airflow.add_connection(server.connection())
        yield Wait(airflow, server)


def test_every_result_is_right_and_none_is_lost(wait: Wait) -> None:
    airflow, server = wait.airflow, wait.server
    running = {"state": "Importing", "seconds": 25, "progress": 40}
    broken = {"state": "Failed", "reason": "row 8: wrong dimension"}
    early = [server.add_job(running, broken if n < 5 else {"state": "Completed"}, totalRows=n) for n in range(30)]
    late = [server.add_job({"state": "Importing", "progress": 40}) for _ in range(30)]
    airflow.api.wait_for_dag(DAG_ID)
    airflow.api.start(DAG_ID, RUN_ID, jobs=early + late)
    wait.until("deferred")

    for part in ("triggerer-1", "triggerer-2"):  # there is none for a while
        airflow.kill(part)
    for part in ("triggerer-1", "triggerer-2"):
        airflow.start(part)

    airflow.until(lambda: len(wait.results()) == 30, "what has ended is written down")
    for job_id in early:
        server.forget_job(job_id)
    wait.until("deferred")
    for number, job_id in enumerate(late):
        server.set_job(job_id, {"state": "Completed"}, totalRows=number)

    # a worker may need less than the time between two requests for the state of the task
    if wait.until("scheduled", "queued", "running", "failed") != "failed":
        airflow.kill("scheduler")  # and its workers
        airflow.start("scheduler")
    wait.until("failed")
    assert [result["job_id"] for result in wait.results()] == early + late
    assert [result["state"] for result in wait.results()] == [*["Failed"] * 5, *["Completed"] * 55]
    rows = [result["imported_rows"] for result in wait.results()]
    assert rows[5:30] == list(range(5, 30))
    assert rows[30:] == list(range(30))
    assert {result["reason"] for result in wait.results()[:5]} == {"row 8: wrong dimension"}
