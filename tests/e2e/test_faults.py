"""Two hundred deferred waits on Postgres, two triggerers, and what happens to deployments in a year.

The tests run in their order: each lets some of the jobs end while something is broken, and the last one reads what all
of it has left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

pytest.importorskip("airflow.sdk")

from airflow import __version__ as airflow_version

from airflow_zilliz.local.testing import LocalServer
from tests.e2e.deployment import BAD_WORDS, Deployment, postgres_programs

pytestmark = [
    pytest.mark.skipif(Version(airflow_version) < Version("3.3"), reason="of the newest Airflow alone"),
    pytest.mark.skipif(
        postgres_programs() is None and "CI" not in os.environ, reason="Debian's package postgresql is not here"
    ),
    pytest.mark.xdist_group("whole airflow"),
    pytest.mark.timeout(1200),
]

WAITS = 200
#: Other tests keep the machine busy: any loop of Airflow's stands still for more than its default of 0.2 s then.
SETTINGS = {"AIRFLOW__TRIGGERER__BLOCKED_MAIN_THREAD_WARNING_THRESHOLD": "1.0"}
DAG_ID, TASK_ID, RUN_ID = "waits", "wait", "all"
KEY, NEXT_KEY = "the-first-key-of-these-tests", "the-key-that-replaces-it"


@dataclass
class Fleet:
    """The waits, and the jobs that they wait for."""

    airflow: Deployment
    server: LocalServer
    jobs: list[str] = field(default_factory=list)
    ended: int = 0
    began: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        self.jobs = [
            self.server.add_job({"state": "Importing", "progress": 40}, collectionName=f"c{number}")
            for number in range(WAITS)
        ]
        self.airflow.api.wait_for_dag(DAG_ID)
        self.airflow.api.start(DAG_ID, RUN_ID, jobs=self.jobs)
        self.airflow.until(lambda: self.count()["deferred"] == WAITS, "all waits are deferred", 600)

    def states(self) -> dict[int, str]:
        return {index: state for (_, index), state in self.airflow.states(DAG_ID, TASK_ID).items()}

    def count(self) -> Counter[str]:
        return Counter(self.states().values())

    def end(self, number: int, after: float = 0) -> range:
        """Let the next jobs end, one in five of them Failed, now or in some seconds; return which."""
        which = range(self.ended, min(self.ended + number, WAITS))
        self.ended = which.stop
        for index in which:
            end = {"state": "Failed", "reason": f"row {index}: too long"} if fails(index) else {"state": "Completed"}
            before = [{"state": "Importing", "progress": 60, "seconds": after}] if after else []
            self.server.set_job(self.jobs[index], *before, end, collectionName=f"c{index}", totalRows=index)
        return which

    def until_ended(self, which: range, within: float = 300) -> None:
        """Wait until the tasks of some jobs have ended, each as its job did."""

        def found() -> bool:
            states = self.states()
            wrong = {i: states[i] for i in which if states[i] in ("success", "failed") and states[i] != expected(i)}
            assert not wrong, "\n".join([str(wrong), self.log(next(iter(wrong)))])
            return all(states[index] == expected(index) for index in which)

        self.airflow.until(found, f"the tasks {which} have ended", within)
        assert self.count()["deferred"] == WAITS - self.ended, self.count()

    def entries(self, index: int) -> list[dict[str, Any]]:
        """Return a task's log, the worker's and the triggerers' lines by time."""
        folder = self.airflow.home / "airflow/logs" / f"dag_id={DAG_ID}/run_id={RUN_ID}/task_id={TASK_ID}"
        lines = [
            line
            for path in (folder / f"map_index={index}").rglob("*.log*")
            for line in path.read_text(errors="replace").splitlines()
        ]
        return sorted(map(json.loads, lines), key=lambda entry: str(entry.get("timestamp")))

    def log(self, index: int) -> str:
        return "\n".join(f"{entry.get('level')}: {entry.get('event')}" for entry in self.entries(index))

    def begins(self, what: str) -> None:
        """Note that something happens to all waits whose jobs have not ended."""
        self.began[what] = self.ended

    def troubles(self, index: int) -> list[str]:
        """Return the warnings in a task's log; Airflow reports its failure."""
        logged = [str(entry["event"]) for entry in self.entries(index) if entry.get("level") in ("warning", "error")]
        return [line for line in logged if not line.startswith(("Task failed", "Skipping masking for a secret"))]


def fails(index: int) -> bool:
    return index % 5 == 0


def expected(index: int) -> str:
    return "failed" if fails(index) else "success"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    home = tmp_path_factory.mktemp("faults")
    dags = home / "dags"
    shutil.copytree(Path(__file__).parent / "deployed", dags)
    data = home / "data"
    data.mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(LocalServer(data, api_key=KEY))
        airflow = stack.enter_context(Deployment(home, dags, settings=SETTINGS))
        airflow.add_connection(server.connection())
        fleet = Fleet(airflow, server)
        fleet.start()
        yield fleet


def test_nothing_is_broken(fleet: Fleet) -> None:
    fleet.until_ended(fleet.end(15))


def test_a_triggerer_dies_and_the_other_takes_over(fleet: Fleet) -> None:
    fleet.airflow.kill("triggerer-1")
    fleet.until_ended(fleet.end(25))


def test_the_other_dies_and_what_ended_meanwhile_is_seen_by_the_one_that_comes_back(fleet: Fleet) -> None:
    fleet.airflow.kill("triggerer-2")
    ended = fleet.end(25)
    time.sleep(10)
    fleet.airflow.start("triggerer-1")
    fleet.until_ended(ended)
    fleet.airflow.start("triggerer-2")


def test_the_import_server_is_unreachable_for_a_minute(fleet: Fleet) -> None:
    fleet.begins("the server is unreachable")
    ended = fleet.end(25, after=20)
    fleet.server.kill()
    time.sleep(60)
    fleet.server.start()
    fleet.until_ended(ended)


def test_postgres_is_restarted(fleet: Fleet) -> None:
    ended = fleet.end(25, after=5)
    fleet.airflow.postgres.restart()
    fleet.until_ended(ended)


def test_the_scheduler_is_restarted(fleet: Fleet) -> None:
    fleet.airflow.kill("scheduler")
    ended = fleet.end(25)
    time.sleep(10)
    fleet.airflow.start("scheduler")
    fleet.until_ended(ended)


def test_the_key_is_rotated(fleet: Fleet) -> None:
    fleet.begins("the key is rotated")
    fleet.airflow.set_key(NEXT_KEY)
    fleet.server.set(api_key=NEXT_KEY)
    fleet.until_ended(fleet.end(25))


def test_all_that_is_left_ends_at_once(fleet: Fleet) -> None:
    fleet.until_ended(fleet.end(WAITS))


def test_nothing_was_lost_or_doubled(fleet: Fleet) -> None:
    rows = fleet.airflow.postgres.rows
    assert fleet.count() == {"success": 160, "failed": 40}
    tries = rows("select distinct try_number from task_instance where task_id = %s and map_index >= 0", TASK_ID)
    assert tries == [(1,)]
    assert rows("select count(*) from trigger") == [(0,)]
    values = {index: value for (_, index), value in fleet.airflow.returned(DAG_ID, TASK_ID).items()}
    assert values.keys() == {index for index in range(WAITS) if not fails(index)}
    for index, value in values.items():
        assert (value["job_id"], value["state"], value["imported_rows"]) == (fleet.jobs[index], "Completed", index)


def test_each_log_has_what_happened_and_nothing_else(fleet: Fleet) -> None:
    for index in range(WAITS):
        refusals = [line for line in fleet.troubles(index) if line.startswith("The key was refused (")]
        outages = [line for line in fleet.troubles(index) if line.startswith("Could not poll import job")]
        assert len(outages) == (index >= fleet.began["the server is unreachable"]), fleet.log(index)
        assert len(refusals) == (index >= fleet.began["the key is rotated"]), fleet.log(index)
        assert fleet.troubles(index) == outages + refusals
        assert all(fleet.jobs[index] in line and "connection refused" in line for line in outages)
        logged = fleet.log(index)
        assert (" responds again after" in logged) == bool(outages)  # the server, or its job list first
        assert logged.count(f"Import job {fleet.jobs[index]}: Importing 40 %") == 1
        assert (f"row {index}: too long" in json.dumps(fleet.entries(index))) == fails(index)
        assert logged.count("Task failed with exception") == fails(index)


def test_airflow_has_nothing_to_complain_of(fleet: Fleet) -> None:
    # Airflow's scheduler and DAG processor may end when their database becomes unreachable; what runs our code must not
    assert not {part for part in fleet.airflow.came_back if part.startswith("triggerer")}
    for part in ("scheduler", "triggerer-1", "triggerer-2"):
        printed = fleet.airflow.log_of(part).read_text(errors="replace").splitlines()
        words = BAD_WORDS if part == "scheduler" else (*BAD_WORDS, "Traceback")  # a failed task's is the scheduler's
        assert [line for line in printed if any(word in line for word in words)] == []


def test_no_key_is_in_anything_that_airflow_stored_or_printed(fleet: Fleet) -> None:
    (fleet.airflow.home / "dump.sql").write_text(fleet.airflow.postgres.dump())
    files = [path for path in fleet.airflow.home.rglob("*") if path.is_file() and "data" not in path.parts]
    assert len(files) > 2 * WAITS
    assert fleet.jobs[0].encode() in (fleet.airflow.home / "dump.sql").read_bytes()
    found = [path for path in files if any(key.encode() in path.read_bytes() for key in (KEY, NEXT_KEY))]
    assert found == []
