"""A dataset in a whole Airflow on Postgres: real rows in Milvus Lite, while everything around it comes and goes.

``DATASET_FILES=5000 DATASET_FILES_PER_JOB=100 DATASET_KILLS=5`` makes it a larger one.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from packaging.version import Version

pytest.importorskip("airflow.sdk")
pytest.importorskip("milvus_lite", reason="the local server needs Milvus Lite for real imports")

from airflow import __version__ as airflow_version

from airflow_zilliz.local.testing import LocalServer
from tests.e2e.deployment import Deployment, postgres_programs
from tests.helpers.book_files import (
    files_of_completed_jobs,
    ids_in,
    make_collection,
    write_books,
    write_parquet,
)

pytestmark = [
    pytest.mark.skipif(Version(airflow_version) < Version("3.3"), reason="of the newest Airflow alone"),
    pytest.mark.skipif(
        postgres_programs() is None and "CI" not in os.environ, reason="Debian's package postgresql is not here"
    ),
    pytest.mark.xdist_group("whole airflow"),
    pytest.mark.timeout(3600),
]

DAG_ID = "one_dataset"
FILES = int(os.environ.get("DATASET_FILES", "200"))
FILES_PER_JOB = int(os.environ.get("DATASET_FILES_PER_JOB", "10"))
JOBS = -(-FILES // FILES_PER_JOB)
ROWS = 2
#: How often the worker is killed; the triggerer is killed after the first and the last time, if that is another one.
KILLS = int(os.environ.get("DATASET_KILLS", "1"))
LIMIT = 1200.0
ENDED = ("success", "failed")
#: Seconds between two phases of a job, of which it has five: as long as others take to die meanwhile.
TICK = "1"


class Dataset:
    """One run of the DAG, into a collection of its own.

    :param name: of the run, of its collection and of its folder
    """

    def __init__(self, airflow: Deployment, server: LocalServer, name: str) -> None:
        self.airflow = airflow
        self.server = server
        self.name = name
        self.files = write_books(server.data_dir / name, FILES, ROWS, write_parquet)
        make_collection(server, name)

    def start(self) -> None:
        self.airflow.api.start(DAG_ID, self.name, folder=str(self.server.data_dir / self.name), collection=self.name)

    def clear(self) -> None:
        """Clear the task as a user does, and wait until it runs again."""
        self.airflow.until(lambda: self.airflow.api.run_state(DAG_ID, self.name) in ENDED, "the run has ended", LIMIT)
        _, tries, _ = self.task()
        self.airflow.api.clear(DAG_ID, self.name, "load")
        self.airflow.until(lambda: self.task()[1] > tries, "the next try runs", LIMIT)

    def task(self) -> tuple[str | None, int, int | None]:
        """Return the task's state, its number of tries and its process."""
        query = "select state, try_number, pid from task_instance where dag_id = %s and run_id = %s"
        rows = self.airflow.postgres.rows(query, DAG_ID, self.name)
        return rows[0] if rows else (None, 0, None)

    def until(self, *states: str) -> str:
        def found() -> str | None:
            state = self.task()[0]
            return state if state in states else None

        state = self.airflow.until(found, f"the task is {' or '.join(states)}", LIMIT)
        assert state is not None
        return state

    def xcom(self, key: str) -> Any:
        query = "select value from xcom where dag_id = %s and run_id = %s and key = %s"
        ((value,),) = self.airflow.postgres.rows(query, DAG_ID, self.name, key)
        return json.loads(value) if isinstance(value, str) else value

    def creates(self) -> list[list[str]]:
        """Return the files of each create request that the server knows of."""
        sent = [request["body"] for request in self.server.requests("create")]
        groups = [body["files"] for body in sent if body["collectionName"] == self.name]
        return [[path for group in paths for path in group] for paths in groups]

    def paths(self, *indices: int) -> list[str]:
        return [f"{self.name}/{self.files[index].name}" for index in indices]

    def kill_worker(self, creates: int) -> None:
        """Kill the task's process, as a machine without memory does, once so many jobs were sent by all tries.

        :raises AssertionError: the task has ended before
        """
        until = time.monotonic() + LIMIT
        while True:
            assert time.monotonic() < until, "it sends no more jobs"
            state, tries, pid = self.task()
            assert state not in ENDED, f"it is {state} before it was killed"
            if (
                state == "running"
                and pid is not None
                and len(self.creates()) >= creates
                and self._is_killed(tries, pid)
            ):
                return
            time.sleep(0.1)

    def _is_killed(self, tries: int, pid: int) -> bool:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
        self.airflow.until(lambda: self.task() != ("running", tries, pid), "its end is seen", LIMIT)
        if self.task()[0] == "deferred":  # it was just before
            return False
        self.airflow.until(lambda: self.task()[1] > tries, "it is tried again", LIMIT)
        return True

    def kill_triggerers(self) -> None:
        """Kill both triggerers while the task is deferred, and start them again."""
        assert self.until("deferred", *ENDED) == "deferred"
        for part in ("triggerer-1", "triggerer-2"):
            self.airflow.kill(part)
        for part in ("triggerer-1", "triggerer-2"):
            self.airflow.start(part)

    def keys(self, without: list[str] | tuple[str, ...] = ()) -> list[int]:
        """Return the keys that should be there, without those of some files."""
        missing = {int(Path(path).stem) for path in without}
        return [key for key in range(FILES * ROWS) if key // ROWS not in missing]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, LocalServer]]:
    home = tmp_path_factory.mktemp("dataset")
    shutil.copytree(Path(__file__).parent / "deployed", home / "dags")
    settings = {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5"}
    with (
        LocalServer(home / "data", options=("--tick", TICK)) as server,
        Deployment(home, home / "dags", settings) as airflow,
    ):
        airflow.add_connection(server.connection())
        airflow.api.wait_for_dag(DAG_ID)
        yield airflow, server


@pytest.fixture
def dataset(deployment: tuple[Deployment, LocalServer], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Dataset]:
    airflow, server = deployment
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", server.connection(max_requests_per_second=100))
    return lambda name: Dataset(airflow, server, name)


def test_every_row_is_counted_back(dataset: Callable[[str], Dataset]) -> None:
    run = dataset("plain")
    run.start()
    assert run.until(*ENDED) == "success"
    result = run.xcom("return_value")
    assert (result["jobs"], result["files"], result["imported_rows"]) == (JOBS, FILES, FILES * ROWS)
    assert ids_in(run.server, run.name) == run.keys()
    assert len(run.creates()) == JOBS


def test_nothing_is_lost_or_loaded_twice_while_all_parts_are_killed(dataset: Callable[[str], Dataset]) -> None:
    run = dataset("broken")
    airflow, server = run.airflow, run.server
    broken = run.files[FILES // 2]
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    in_its_job = run.paths(*range(FILES // 2 // FILES_PER_JOB * FILES_PER_JOB, FILES)[:FILES_PER_JOB])

    run.start()
    for number in range(1, KILLS + 1):
        run.kill_worker(number * JOBS // (KILLS + 2))
        if number in (1, KILLS):
            run.kill_triggerers()
    sent = len(run.creates())
    airflow.until(lambda: len(run.creates()) > sent, "more jobs are sent", LIMIT)
    server.restart()
    assert run.until(*ENDED) == "failed"

    # what was read when the server was stopped is Failed, and one clear brings it in
    missing = run.xcom("missing")
    assert set(in_its_job) <= set(missing)
    if missing != in_its_job:
        run.clear()
        assert run.until(*ENDED) == "failed"
    assert run.xcom("missing") == in_its_job
    assert [job["stage"] for job in run.xcom("jobs")].count("completed") == JOBS - 1
    assert ids_in(server, run.name) == run.keys(without=in_its_job)

    broken.write_bytes(whole)
    before = len(run.creates())
    run.clear()
    assert run.until(*ENDED) == "success"
    assert run.creates()[before:] == [in_its_job]
    assert ids_in(server, run.name) == run.keys()
    assert files_of_completed_jobs(run.name) == dict.fromkeys(run.paths(*range(FILES)), 1)
