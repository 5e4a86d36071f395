"""The demo: a real Airflow imports real files into a real Milvus and waits deferred; a second import fails."""

from __future__ import annotations

import argparse
import json
import logging
import random
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from airflow_zilliz.local.testing import LocalServer
from dev.airflow_process import AirflowApi, RunningError, airflow
from dev.supervisor import end_with_parent

DAG_ID = "zilliz_import_wait"
SENSOR = "wait_for_import"
COLLECTION = "demo"
DIM = 8
PARQUET_ROWS, JSON_ROWS = 3000, 1500


def main() -> int:
    """Run the demo; return 0 only if the first job is Completed with the right row counts and the second one Failed."""
    arguments = argparse.ArgumentParser(prog="python -m dev.demo", description=__doc__)
    arguments.add_argument("--dags", type=Path, required=True, help="the folder of zilliz_import_wait.py")
    arguments.add_argument("--home", type=Path, required=True, help="the folder for logs and data; emptied first")
    options = arguments.parse_args()
    home = options.home.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    end_with_parent()
    started = time.monotonic()
    server = import_server(home)
    try:
        with server, airflow(home, options.dags.resolve(), server.connection()) as api:
            play(api, server, home)
    except (RunningError, requests.RequestException) as err:
        say(f"The demo FAILED: {err}")
        say(f"Logs: {home / 'airflow.log'}, {home / 'import-server.log'}")
        return 1
    say(f"Done in {time.monotonic() - started:.0f} s; nothing is left running. Logs and data: {home}")
    return 0


def play(api: AirflowApi, server: LocalServer, home: Path) -> None:
    """Import, wait, and compare the results in Airflow with the rows in Milvus."""
    step(f"Local import server over Milvus Lite: {server.url}")
    rows_in_milvus = make_collection(server, home / "data")
    say(f"  collection {COLLECTION!r} with a dynamic field; BulkWriter's part-1.parquet ({PARQUET_ROWS} rows),")
    say(f"  part-2.json ({JSON_ROWS} rows) and broken.json, whose 8th row has a vector of 3 dimensions")
    step(f"Airflow {api.version}: scheduler, triggerer, DAG processor and API server are up at {api.url}")
    api.wait_for_dag(DAG_ID)
    good, bad = "good_files", "broken_file"
    api.start(DAG_ID, good, collection_name=COLLECTION, files=[["part-1.parquet"], ["part-2.json"]])
    api.start(DAG_ID, bad, collection_name=COLLECTION, files=[["broken.json"]])
    step(f"Two runs of {DAG_ID}.py: each submits an import, and waits for it deferred")
    watch(api, (good, bad), home / "airflow" / "logs")

    result = api.xcom(DAG_ID, good, SENSOR)
    rows = rows_in_milvus()
    step("Job 1")
    say(f"  {result.get('state')}: XCom says {result.get('imported_rows')} rows, Milvus holds {rows}")
    expect(
        api.state(DAG_ID, good, SENSOR) == "success" and result.get("state") == "Completed",
        "the first run succeeds, Completed",
    )
    expect(result.get("imported_rows") == rows == PARQUET_ROWS + JSON_ROWS, "the sensor's rows are those in Milvus")
    step("Job 2")
    reason = failure_text(home / "airflow" / "logs", bad)
    say(f"  task {SENSOR} is {api.state(DAG_ID, bad, SENSOR)}: {reason}")
    expect(api.state(DAG_ID, bad, SENSOR) == "failed", "the second run's sensor fails")
    expect("3 dimensions" in reason and "ZillizImportFailed" in reason, "it fails with the job's reason")


def import_server(home: Path) -> LocalServer:
    """Empty a folder, and return an import server over Milvus Lite with its data and log there."""
    shutil.rmtree(home, ignore_errors=True)
    (home / "data").mkdir(parents=True)
    return LocalServer(
        home / "data",
        api_key=secrets.token_hex(16),
        options=("--tick", "2", "--db", str(home / "milvus.db")),
        log_path=home / "import-server.log",
    )


def make_collection(server: LocalServer, data: Path) -> Callable[[], int]:
    """Make the collection and the files; return a function that counts the collection's rows."""
    from pymilvus import DataType, MilvusClient
    from pymilvus.bulk_writer import BulkFileType, LocalBulkWriter

    logging.disable(logging.INFO)  # BulkWriter logs every step
    client = MilvusClient(server.url)
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("title", DataType.VARCHAR, max_length=100)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(COLLECTION, schema=schema, index_params=index)
    chance = random.Random(7)  # noqa: S311 - for vectors, not for secrets

    def rows(first: int, count: int) -> list[dict[str, Any]]:
        return [
            {
                "id": number,
                "title": f"article {number}",
                "shelf": number % 9,
                "vector": [chance.random() for _ in range(DIM)],
            }
            for number in range(first, first + count)
        ]

    writer = LocalBulkWriter(schema, str(data), file_type=BulkFileType.PARQUET)
    for row in rows(0, PARQUET_ROWS):
        writer.append_row(row)
    writer.commit()
    shutil.move(writer.batch_files[0][0], data / "part-1.parquet")
    (data / "part-2.json").write_text(json.dumps(rows(PARQUET_ROWS, JSON_ROWS)))
    broken = rows(10_000, 20)
    broken[7]["vector"] = broken[7]["vector"][:3]
    (data / "broken.json").write_text(json.dumps(broken))

    def count() -> int:
        client.load_collection(COLLECTION)
        return int(client.query(COLLECTION, filter="", output_fields=["count(*)"])[0]["count(*)"])

    return count


def watch(api: AirflowApi, runs: tuple[str, ...], logs: Path, within: float = 120.0) -> None:
    """Print the sensors' states and progress lines as they come, until all runs have ended."""
    states: dict[str, str] = {}
    logged: set[str] = set()
    until = time.monotonic() + within
    open_runs = list(runs)
    while open_runs and time.monotonic() < until:
        api.check_alive()
        for run_id in list(open_runs):
            if api.run_state(DAG_ID, run_id) in ("success", "failed"):
                open_runs.remove(run_id)
            state = api.state(DAG_ID, run_id, SENSOR)
            if state != states.get(run_id) and state != "None":
                states[run_id] = state
                say(f"  [{run_id:11}] task {SENSOR}: {state}")
            for event in log_events(logs, run_id):
                line = f"  [{run_id:11}] {event}"
                if event.startswith("Import job") and line not in logged:
                    logged.add(line)
                    say(line)
        time.sleep(0.3)
    expect(not open_runs, "all runs end in time")
    expect(logged != set(), "the sensors log their progress")


def log_events(logs: Path, run_id: str) -> list[str]:
    """Return the log lines of a run's sensor, from the worker and the triggerer."""
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
    """Return the exception that failed a run's sensor, from the task's log."""
    for entry in log_entries(logs, run_id):
        for detail in entry.get("error_detail") or ():
            return f"{detail.get('exc_type')}: {detail.get('exc_value')}"
    return ""


def expect(happened: bool, what: str) -> None:
    """Fail the demo unless something has happened."""
    if not happened:
        raise RunningError(f"expected: {what}")


def step(text: str) -> None:
    """Print a headline."""
    say(f"\n{text}")


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
