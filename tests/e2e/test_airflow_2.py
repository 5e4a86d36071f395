"""The scheduler and the workers of Airflow 2.11, where nothing is kept between two tries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from airflow import __version__ as airflow_version
from packaging.version import Version

from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from dev import airflow_process
from tests.helpers.dying import POINTS

pytestmark = [
    pytest.mark.skipif(Version(airflow_version) >= Version("3"), reason="later ones have test_whole_airflow.py"),
    pytest.mark.xdist_group("whole airflow"),
    pytest.mark.timeout(900),
]


@dataclass
class Airflow2:
    """A running scheduler, beside a local import server."""

    server: LocalServer
    home: Path
    environment: dict[str, str]
    scheduler: subprocess.Popen[bytes] | None = None

    def call(self, *words: str) -> str:
        command = [sys.executable, "-m", "airflow", *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def start(self, dag_id: str, run_id: str, conf: str) -> None:
        self.call("dags", "trigger", dag_id, "--run-id", run_id, "--conf", conf)

    def states(self, dag_id: str) -> dict[str, tuple[str, int]]:
        """Return the state and the number of tries of each run's task."""
        import sqlite3

        with sqlite3.connect(self.home / "airflow.db") as database:
            query = "select run_id, state, try_number from task_instance where dag_id = ?"
            return {run_id: (state, tries) for run_id, state, tries in database.execute(query, (dag_id,))}

    def until_all_end(self, dag_id: str, within: float = 600) -> dict[str, tuple[str, int]]:
        end = time.monotonic() + within
        while True:
            states = self.states(dag_id)
            if states and all(state in ("success", "failed") for state, _ in states.values()):
                return states
            assert self.scheduler is not None
            assert self.scheduler.poll() is None, (self.home / "scheduler.log").read_text()[-3000:]
            assert time.monotonic() < end, (states, (self.home / "scheduler.log").read_text()[-3000:])
            time.sleep(1)

    def job_of(self, collection: str) -> str | None:
        jobs = list(ZillizHook().list_import_jobs(collection_name=collection))
        assert len(jobs) <= 1, "a second import was started"
        return jobs[0].job_id if jobs else None


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow2]:
    home = tmp_path_factory.mktemp("airflow-2")
    here = Path(__file__).parent
    (home / "dags").mkdir()
    shutil.copy(here / "dags" / "mortal.py", home / "dags")
    shutil.copy(here.parent / "helpers" / "dying.py", home / "dags")
    with pytest.MonkeyPatch.context() as patch, LocalServer(home) as server:
        patch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", server.connection())
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",  # it starts `airflow`
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_ZILLIZ_DEFAULT": server.connection(),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
        }
        running_airflow = Airflow2(server, home, environment)
        running_airflow.call("db", "migrate")
        running_airflow.call("dags", "reserialize")
        with (home / "scheduler.log").open("w") as log:
            command = [sys.executable, "-m", "airflow", "scheduler"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        running_airflow.scheduler = process
        try:
            yield running_airflow
        finally:
            airflow_process.end_tree(process)


def script(server: LocalServer, *phases: dict[str, object]) -> None:
    server.script(*phases, totalRows=5, files=[{"name": "a.parquet", "rows": 5}])


@pytest.mark.parametrize("heeds_keys", [True, False], ids=["with the key", "without"])
def test_wherever_a_task_dies_or_fails_it_leaves_one_job(airflow: Airflow2, heeds_keys: bool) -> None:
    airflow.server.set(idempotency=heeds_keys)
    script(airflow.server, {"state": "Importing", "seconds": 3, "progress": 40}, {"state": "Completed"})
    for point in POINTS:
        name = f"{point.replace(' ', '_')}_{heeds_keys}"
        airflow.start("mortal", name, f'{{"point": "{point}", "collection": "{name}"}}')
    name = f"fails_after_{heeds_keys}"
    airflow.start("fails_after_execute", name, f'{{"collection": "{name}"}}')
    for dag_id in ("mortal", "fails_after_execute"):
        for run_id, (state, tries) in airflow.until_all_end(dag_id).items():
            assert (state, tries) == ("success", 2), run_id
            assert airflow.job_of(run_id) is not None
