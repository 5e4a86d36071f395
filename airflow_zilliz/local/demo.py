"""The demo: a real Airflow imports real files into a real Milvus, waits deferred, and sees a second import fail."""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import requests

from airflow_zilliz.local.testing import LocalServer

DAG_ID = "zilliz_import_wait"
SENSOR = "wait_for_import"
COLLECTION = "demo"
DIM = 8
PARQUET_ROWS, JSON_ROWS = 3000, 1500

T = TypeVar("T")


class DemoError(Exception):
    """Something did not happen as it should."""


def main() -> int:
    """Run the demo; 0 only if the first job was Completed with true row counts and the second one Failed."""
    arguments = argparse.ArgumentParser(prog="python -m airflow_zilliz.local.demo", description=__doc__)
    arguments.add_argument("--dags", type=Path, required=True, help="the folder of zilliz_import_wait.py")
    arguments.add_argument("--home", type=Path, required=True, help="where to leave logs and data; emptied first")
    options = arguments.parse_args()
    home = options.home.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    server = import_server(home)
    try:
        with server, airflow(home, options.dags.resolve(), server.connection()) as api:
            play(api, server, home)
    except (DemoError, requests.RequestException) as err:
        say(f"The demo FAILED: {err}")
        say(f"Logs: {home / 'airflow.log'}, {home / 'import-server.log'}")
        return 1
    say(f"Done in {time.monotonic() - started:.0f} s; nothing is left running. Logs and data: {home}")
    return 0


def play(api: AirflowApi, server: LocalServer, home: Path) -> None:
    """Import, wait, and compare what Airflow and Milvus say."""
    step(f"Local import server over Milvus Lite: {server.url}")
    rows_in_milvus = make_collection(server, home / "data")
    say(f"  collection {COLLECTION!r}, files part-1.parquet ({PARQUET_ROWS} rows), part-2.json ({JSON_ROWS} rows)")
    say("  and broken.json, whose 8th row has a vector of 3 dimensions")
    step(f"Airflow {api.version}: scheduler, triggerer, DAG processor and API server are up at {api.url}")
    api.wait_for_dag()
    good, bad = "good_files", "broken_file"
    api.trigger(good, [["part-1.parquet"], ["part-2.json"]])
    api.trigger(bad, [["broken.json"]])
    step(f"Two runs of {DAG_ID}.py: each submits an import, and waits for it deferred")
    watch(api, (good, bad), home / "airflow" / "logs")

    result = api.xcom(good)
    rows = rows_in_milvus()
    step("Job 1")
    say(f"  {result.get('state')}: XCom says {result.get('imported_rows')} rows, Milvus holds {rows}")
    expect(api.state(good) == "success" and result.get("state") == "Completed", "the first run succeeds, Completed")
    expect(result.get("imported_rows") == rows == PARQUET_ROWS + JSON_ROWS, "the sensor's rows are those in Milvus")
    step("Job 2")
    reason = failure_text(home / "airflow" / "logs", bad)
    say(f"  task {SENSOR} is {api.state(bad)}: {reason}")
    expect(api.state(bad) == "failed", "the second run's sensor fails")
    expect("3 dimensions" in reason and "ZillizImportFailed" in reason, "it fails with the job's reason")


def import_server(home: Path) -> LocalServer:
    """Empty a folder, and return the import server over Milvus Lite that keeps its data and log there."""
    shutil.rmtree(home, ignore_errors=True)
    (home / "data").mkdir(parents=True)
    return LocalServer(
        home / "data",
        api_key=secrets.token_hex(16),
        options=("--tick", "2", "--db", str(home / "milvus.db")),
        log_path=home / "import-server.log",
    )


def make_collection(server: LocalServer, data: Path) -> Callable[[], int]:
    """Make the collection and the files; return what counts the collection's rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(server.url)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("title", DataType.VARCHAR, max_length=100)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(COLLECTION, schema=schema, index_params=index)
    chance = random.Random(7)  # noqa: S311 - vectors, no secrets

    def rows(first: int, count: int) -> list[dict[str, Any]]:
        return [
            {"id": number, "title": f"article {number}", "vector": [chance.random() for _ in range(DIM)]}
            for number in range(first, first + count)
        ]

    pq.write_table(pa.Table.from_pylist(rows(0, PARQUET_ROWS)), data / "part-1.parquet")
    (data / "part-2.json").write_text(json.dumps(rows(PARQUET_ROWS, JSON_ROWS)))
    broken = rows(10_000, 20)
    broken[7]["vector"] = broken[7]["vector"][:3]
    (data / "broken.json").write_text(json.dumps(broken))

    def count() -> int:
        client.load_collection(COLLECTION)
        return int(client.query(COLLECTION, filter="", output_fields=["count(*)"])[0]["count(*)"])

    return count


@contextmanager
def airflow(
    home: Path,
    dags: Path,
    connection: str | None,
    settings: Mapping[str, str] | None = None,
    *,
    port: int | None = None,
) -> Iterator[AirflowApi]:
    """Run a real Airflow with an SQLite metadata database, and end every process of it.

    :param connection: what ``zilliz_default`` is, from the environment; None leaves it to Airflow's database
    :param settings: environment variables that differ from the demo's
    :param port: the API server's; None takes a free one
    """
    port = port or free_port()
    variables = {**environment(home, dags, connection, port), **(settings or {})}
    with (home / "airflow.log").open("w") as log:
        command = [sys.executable, "-m", "airflow", "standalone"]
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
    try:
        yield AirflowApi(f"http://127.0.0.1:{port}", process)
    finally:
        end_tree(process)


def environment(home: Path, dags: Path, connection: str | None, port: int) -> dict[str, str]:
    """Return the environment of an Airflow's processes; what the caller's own says of Airflow is left out.

    :param connection: what ``zilliz_default`` is; None leaves it to Airflow's database
    :param port: the API server's
    """
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "AIRFLOW_HOME": str(home / "airflow"),
        **({"AIRFLOW_CONN_ZILLIZ_DEFAULT": connection} if connection else {}),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    }


class AirflowApi:
    """Airflow's REST API, as far as the demo needs it."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
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
        token = self._session.post(f"{self.url}/auth/token", json={}, timeout=10)
        if token.status_code >= 400:
            token = self._session.get(f"{self.url}/auth/token", timeout=10)
        self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        return str(self.call("GET", "version")["version"])

    def wait_for_dag(self, dag_id: str = DAG_ID) -> None:
        """Wait until the DAG is parsed, and let it run."""

        def parsed() -> bool:
            return self._session.get(f"{self.url}/api/v2/dags/{dag_id}", timeout=10).status_code == 200

        self._until(f"{dag_id} is parsed", parsed, within=60)
        self.call("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def start(self, dag_id: str, run_id: str, **conf: Any) -> None:
        """Start a run of a DAG."""
        self.call("POST", f"dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": conf})

    def trigger(self, run_id: str, files: list[list[str]]) -> None:
        """Start a run of the demo's DAG."""
        self.start(DAG_ID, run_id, collection_name=COLLECTION, files=files)

    def run_state(self, run_id: str) -> str:
        """Return the state of a run."""
        return str(self.call("GET", f"dags/{DAG_ID}/dagRuns/{run_id}")["state"])

    def state(self, run_id: str) -> str:
        """Return the state of a run's sensor."""
        return str(self.call("GET", f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{SENSOR}")["state"])

    def xcom(self, run_id: str) -> dict[str, Any]:
        """Return what a run's sensor returned."""
        path = f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{SENSOR}/xcomEntries/return_value"
        response = self._session.get(f"{self.url}/api/v2/{path}", timeout=30)
        value = response.json().get("value") if response.status_code == 200 else None
        return json.loads(value) if isinstance(value, str) else value or {}

    def check_alive(self) -> None:
        """Raise if Airflow ended."""
        if self._process.poll() is not None:
            raise DemoError(f"Airflow ended with exit status {self._process.returncode}")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the API below ``/api/v2``; raise `DemoError` for a refusal."""
        response = self._session.request(method, f"{self.url}/api/v2/{path}", json=body, timeout=30)
        if response.status_code >= 400:
            raise DemoError(f"{method} {path}: HTTP {response.status_code} {response.text[:500]}")
        answer: dict[str, Any] = response.json()
        return answer

    def _until(self, what: str, happened: Callable[[], bool], within: float) -> None:
        until = time.monotonic() + within
        while not happened():
            self.check_alive()
            if time.monotonic() > until:
                raise DemoError(f"after {within:g} s it is still not so that {what}")
            time.sleep(0.3)


def watch(api: AirflowApi, runs: tuple[str, ...], logs: Path, within: float = 120.0) -> None:
    """Print the sensors' states and progress lines as they come, until all runs have ended."""
    states: dict[str, str] = {}
    told: set[str] = set()
    until = time.monotonic() + within
    open_runs = list(runs)
    while open_runs and time.monotonic() < until:
        api.check_alive()
        for run_id in list(open_runs):
            if api.run_state(run_id) in ("success", "failed"):
                open_runs.remove(run_id)
            state = api.state(run_id)
            if state != states.get(run_id) and state != "None":
                states[run_id] = state
                say(f"  [{run_id:11}] task {SENSOR}: {state}")
            for event in log_events(logs, run_id):
                line = f"  [{run_id:11}] {event}"
                if event.startswith("Import job") and line not in told:
                    told.add(line)
                    say(line)
        time.sleep(0.3)
    expect(not open_runs, "all runs end in time")
    expect(told != set(), "the sensors log their progress")


def log_events(logs: Path, run_id: str) -> list[str]:
    """Return the lines of a run's sensor, the worker's and the triggerer's."""
    return [str(entry.get("event", "")) for entry in log_entries(logs, run_id)]


def log_entries(logs: Path, run_id: str) -> list[dict[str, Any]]:
    """Return the log entries of a run's sensor, ordered by time."""
    entries = []
    for path in logs.glob(f"dag_id={DAG_ID}/run_id={run_id}/task_id={SENSOR}/attempt=*.log*"):
        for line in path.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                entries.append(entry)
    return sorted(entries, key=lambda entry: str(entry.get("timestamp", "")))


def failure_text(logs: Path, run_id: str) -> str:
    """Return the exception that failed a run's sensor, as the task's log has it."""
    for entry in log_entries(logs, run_id):
        for detail in entry.get("error_detail") or ():
            return f"{detail.get('exc_type')}: {detail.get('exc_value')}"
    return ""


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process and every descendant of it."""
    import psutil  # a dependency of Airflow

    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    for child in family:
        if child.is_running():
            child.terminate()
    _, alive = psutil.wait_procs(family, timeout=10)
    for child in alive:
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


def expect(happened: bool, what: str) -> None:
    """Fail the demo unless something happened."""
    if not happened:
        raise DemoError(f"it is not so that {what}")


def step(text: str) -> None:
    """Print a headline."""
    say(f"\n{text}")


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
