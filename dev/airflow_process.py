"""A real Airflow: its processes, and those parts of its REST API that the demo and the tests use."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from dev import supervisor

#: Seconds for all of Airflow's processes to end, more than its supervisor gives them.
_ENDS_WITHIN = 30.0


class RunningError(Exception):
    """Airflow ended, refused a request, or took too long."""


@contextmanager
def airflow(
    home: Path,
    dags: Path,
    connection: str | None,
    settings: Mapping[str, str] | None = None,
    *,
    port: int | None = None,
    python: str = sys.executable,
    path: str = "",
    login: Mapping[str, str] | None = None,
) -> Iterator[AirflowApi]:
    """Run a real Airflow with an SQLite metadata database, and end all its processes after the block.

    They also end with this process, however it ends.

    :param connection: the connection ``zilliz_default`` for the environment; None if it is in Airflow's database
    :param settings: environment variables that differ from `environment`'s
    :param port: the API server's; None picks a free one
    :param python: the interpreter whose Airflow runs
    :param path: the path of its UI and API, such as ``/airflow``
    :param login: ``username`` and ``password`` for its API; None if every user is an admin
    """
    port = port or free_port()
    variables = {**environment(home, dags, connection, port, python=python, path=path), **(settings or {})}
    with (home / "airflow.log").open("w") as log:
        command = [sys.executable, supervisor.__file__, python, "-m", "airflow", "standalone"]
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    assert process.stdin is not None  # noqa: S101 - it is piped
    try:
        yield AirflowApi(f"http://127.0.0.1:{port}{path}", process, login)
    finally:
        process.stdin.close()
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            end_tree(process)


def environment(
    home: Path, dags: Path, connection: str | None, port: int, *, python: str = sys.executable, path: str = ""
) -> dict[str, str]:
    """Return the environment of an Airflow's processes, without the Airflow settings of the caller's own environment.

    :param connection: what ``zilliz_default`` is; None leaves it to Airflow's database
    :param port: the API server's
    """
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "AIRFLOW_HOME": str(home / "airflow"),
        **({"AIRFLOW_CONN_ZILLIZ_DEFAULT": connection} if connection else {}),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}{path}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}{path}/execution/",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    }


class AirflowApi:
    """The REST API of a running Airflow."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], login: Mapping[str, str] | None = None) -> None:
        self.url = url
        self._login = dict(login or {})
        self._process = process
        self._session = requests.Session()
        self._session.trust_env = False

    @property
    def version(self) -> str:
        """The running Airflow's version, known once all of its parts are healthy."""
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")

        def healthy() -> bool:
            try:
                health = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
            except (requests.RequestException, ValueError):
                return False
            return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

        self._until("Airflow is healthy", healthy, within=120)
        token = self._session.post(f"{self.url}/auth/token", json=self._login, timeout=10)
        if token.status_code >= 400:
            token = self._session.get(f"{self.url}/auth/token", timeout=10)
        self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        return str(self.call("GET", "version")["version"])

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until the DAG is parsed, and unpause it."""

        def parsed() -> bool:
            return self._session.get(f"{self.url}/api/v2/dags/{dag_id}", timeout=10).status_code == 200

        self._until(f"{dag_id} is parsed", parsed, within=60)
        self.call("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def start(self, dag_id: str, run_id: str, **conf: Any) -> None:
        """Start a run of a DAG."""
        self.call("POST", f"dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": conf})

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a run's task.

        Airflow 3.3.2 ends a run that it is about to end nevertheless: clear a task that has ended only after its run.
        """
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False}
        self.call("POST", f"dags/{dag_id}/clearTaskInstances", body)

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        return str(self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def state(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the state of a run's task."""
        return str(self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")["state"])

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return what a run's task returned."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        response = self._session.get(f"{self.url}/api/v2/{path}", timeout=30)
        value = response.json().get("value") if response.status_code == 200 else None
        return json.loads(value) if isinstance(value, str) else value or {}

    def check_alive(self) -> None:
        """Raise `RunningError` if Airflow has ended."""
        if self._process.poll() is not None:
            raise RunningError(f"Airflow ended with exit status {self._process.returncode}")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the API below ``/api/v2``; raise `RunningError` if it refuses the request."""
        response = self._session.request(method, f"{self.url}/api/v2/{path}", json=body, timeout=30)
        if response.status_code >= 400:
            raise RunningError(f"{method} {path}: HTTP {response.status_code} {response.text[:500]}")
        content: dict[str, Any] = response.json()
        return content

    def _until(self, what: str, happened: Callable[[], bool], within: float) -> None:
        until = time.monotonic() + within
        while not happened():
            self.check_alive()
            if time.monotonic() > until:
                raise RunningError(f"not within {within:g} s: {what}")
            time.sleep(0.3)


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process and all its descendants."""
    import psutil  # a dependency of Airflow

    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    for child in family:
        with suppress(psutil.NoSuchProcess):  # it may end at any moment
            child.terminate()
    _, alive = psutil.wait_procs(family, timeout=10)
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(alive, timeout=5)
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
