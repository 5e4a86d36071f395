"""Airflow as it is deployed: Postgres, and each of its parts a process that can die and come back by itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from dev import airflow_process
from dev.ui import CONN_ID

T = TypeVar("T")
#: What Airflow prints when it finds a task in a state that it did not expect, and when a trigger blocks its loop.
BAD_WORDS = ("state attribute is", "state mismatch", "async thread was blocked", "XCom not found")


def postgres_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL server that Debian's package left here."""
    return max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), default=None)


class Postgres:
    """A PostgreSQL server of its own, which refuses to run as root and then runs as Debian's ``postgres``."""

    def __init__(self) -> None:
        found = postgres_programs()
        assert found is not None
        self._programs = found.parent
        self._user = "postgres" if os.geteuid() == 0 else None
        self.home = Path(tempfile.mkdtemp(prefix="postgres-"))
        if self._user:
            shutil.chown(self.home, self._user)
        self.port = airflow_process.free_port()
        self.url = f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/airflow"

    def start(self) -> None:
        """Make the database and start its server."""
        self._run("initdb", "-D", self._data, "-U", "airflow", "--auth", "trust", "--no-sync")
        self._control("start")
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "airflow", "airflow")

    def restart(self) -> None:
        """Restart the server as an upgrade of its package does: every connection is cut."""
        self._control("restart", "-m", "fast")

    def stop(self) -> None:
        """End the server and delete the database."""
        if (self.home / "data" / "postmaster.pid").exists():
            self._control("stop", "-m", "immediate")
        shutil.rmtree(self.home, ignore_errors=True)

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        import psycopg2

        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="airflow", dbname="airflow")
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, arguments)
                found: list[tuple[Any, ...]] = cursor.fetchall()
                return found
        finally:
            connection.close()

    def dump(self) -> str:
        """Return all that is in the database, as SQL."""
        command = [str(self._programs / "pg_dump"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "airflow", "airflow"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _control(self, *words: str) -> None:
        options = f"-p {self.port} -k {self.home} -c listen_addresses=127.0.0.1 -c max_connections=200 -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-o", options, "-l", str(self.home / "log"), "-w", *words)

    @property
    def _data(self) -> str:
        return str(self.home / "data")

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), *words]
        with (self.home / "commands.log").open("a") as log:
            subprocess.run(command, check=True, user=self._user, cwd=self.home, stdout=log, stderr=log)


class Deployment:
    """The parts of a running Airflow, each of them a process; one that ends by itself is started again.

    :param home: where logs go
    :param dags: the DAGs folder
    :param settings: environment variables of every part
    :param workers: further parts by name, such as Celery's, with their words after ``airflow``
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        settings: dict[str, str] | None = None,
        workers: dict[str, tuple[str, ...]] | None = None,
        triggerers: int = 2,
    ) -> None:
        self.home = home
        self.postgres = Postgres()
        self._port = airflow_process.free_port()
        self._environment = airflow_process.environment(home, dags, None, self._port) | {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.postgres.url,
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
            "AIRFLOW__CORE__FERNET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
            "AIRFLOW__API__SECRET_KEY": "one for all parts of these tests",
            "AIRFLOW__API_AUTH__JWT_SECRET": "one for all parts of these tests, and long enough for HS512 to be happy",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
            **(settings or {}),
        }
        self._parts: dict[str, tuple[str, ...]] = {
            "api-server": ("api-server",),
            "dag-processor": ("dag-processor",),
            "scheduler": ("scheduler",),
            **{f"triggerer-{number}": ("triggerer",) for number in range(1, triggerers + 1)},
            **(workers or {}),
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.came_back: list[str] = []
        self.api: airflow_process.AirflowApi

    def __enter__(self) -> Deployment:
        try:
            self.postgres.start()
            self._call("db", "migrate")
            for part in self._parts:
                self.start(part)
            self.api = airflow_process.AirflowApi(f"http://127.0.0.1:{self._port}", self._running["api-server"])
            assert self.api.version
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def _end(self) -> None:
        for part in list(self._running):
            airflow_process.end_tree(self._running.pop(part))
        self.postgres.stop()

    def _call(self, *words: str) -> None:
        with (self.home / "commands.log").open("a") as log:
            command = [sys.executable, "-m", "airflow", *words]
            subprocess.run(command, env=self._environment, check=True, stdout=log, stderr=log)

    def start(self, part: str) -> None:
        """Start a part."""
        environment = self._environment | {
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(airflow_process.free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(airflow_process.free_port()),
        }
        with self.log_of(part).open("a") as log:
            command = [sys.executable, "-m", "airflow", *self._parts[part]]
            self._running[part] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, part: str) -> None:
        """End all processes of a part at once, as a machine that loses power does."""
        process = self._running.pop(part)
        here = psutil.Process(process.pid)
        for one in [here, *here.children(recursive=True)]:
            os.kill(one.pid, signal.SIGKILL)
        process.wait()

    def processes(self, part: str) -> list[psutil.Process]:
        """Return a part's processes, the first one first."""
        here = psutil.Process(self._running[part].pid)
        return [here, *here.children(recursive=True)]

    def log_of(self, part: str) -> Path:
        """Return where a part prints to."""
        return self.home / f"{part}.log"

    def supervise(self) -> None:
        """Start again what ended by itself, as systemd and Kubernetes do."""
        for part, process in list(self._running.items()):
            if process.poll() is not None:
                self.came_back.append(part)
                self.start(part)

    def until(self, found: Callable[[], T], what: str, within: float = 300) -> T:
        """Wait for something, and return it."""
        end = time.monotonic() + within
        while not (value := found()):
            self.supervise()
            assert time.monotonic() < end, f"it is still not so that {what}"
            time.sleep(0.5)
        return value

    def add_connection(self, connection: str) -> None:
        """Add the connection, given as JSON, to Airflow's database."""
        fields = json.loads(connection)
        fields |= {"connection_id": CONN_ID, "extra": json.dumps(fields["extra"])}
        self.api.call("POST", "connections", fields)

    def set_key(self, key: str) -> None:
        """Give the connection another key."""
        fields = {"connection_id": CONN_ID, "conn_type": "zilliz", "password": key}
        self.api.call("PATCH", f"connections/{CONN_ID}?update_mask=password", fields)

    def states(self, dag_id: str, task_id: str) -> dict[tuple[str, int], str]:
        """Return the state of each of a mapped task's instances, by run and index."""
        query = "select run_id, map_index, state from task_instance where dag_id = %s and task_id = %s"
        found = self.postgres.rows(query, dag_id, task_id)
        return {(run_id, index): state for run_id, index, state in found if index >= 0}

    def returned(self, dag_id: str, task_id: str) -> dict[tuple[str, int], Any]:
        """Return what each of a mapped task's instances returned, by run and index."""
        query = "select run_id, map_index, value from xcom where dag_id = %s and task_id = %s and key = 'return_value'"
        rows = self.postgres.rows(query, dag_id, task_id)
        return {(run_id, index): json.loads(v) if isinstance(v, str) else v for run_id, index, v in rows}
