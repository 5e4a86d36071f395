"""Real DAG runs: `dag.test()` with a metadata database, real deferral, real logs, on whichever Airflow is installed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from airflow_zilliz.local.testing import LocalServer
from tests.airflow.modes import AIRFLOW_3
from tests.helpers.dag_runs import HOME, DagRunner

pytestmark = pytest.mark.xdist_group("dags")
KEY = "k3y-that-must-not-be-found-anywhere"
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "example_dags"

DAG = """
from datetime import datetime, timedelta
from airflow.providers.common.compat.sdk import DAG
from airflow_zilliz.sensors import ZillizImportSensor
jobs = {jobs}
with DAG("{dag_id}", schedule=None, start_date=datetime(2026, 1, 1)):
    for name, job_id in jobs.items():
        if name == "mapped":
            ZillizImportSensor.partial(task_id=name, {options}).expand(job_id=job_id)
        else:
            ZillizImportSensor(task_id=name, job_id=job_id, soft_fail=name == "soft", {options})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("dags")
    with LocalServer(folder, api_key=KEY, log_path=folder / "server.log") as process:
        yield process


def make_collection(server: LocalServer, name: str) -> None:
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(server.url, token=KEY)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    if client.has_collection(name):
        client.drop_collection(name)
    client.create_collection(name, schema=schema, index_params=index)


def rows_in(server: LocalServer, name: str) -> int:
    from pymilvus import MilvusClient

    client = MilvusClient(server.url, token=KEY)
    client.load_collection(name)
    return int(client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"])


class Runs:
    def __init__(self, server: LocalServer, runner: DagRunner) -> None:
        self.server = server
        self.database = runner.database
        self.output = ""
        self._runner = runner

    def run(self, path: Path, dag_id: str, **conf: Any) -> dict[tuple[str, int], str]:
        """Run a DAG from the DAGs folder and return its tasks' states, by task and map index."""
        target = HOME / "dags" / path.name
        if path != target:
            shutil.copy(path, target)
        environment = {**os.environ, "AIRFLOW_CONN_ZILLIZ_DEFAULT": self.server.connection()}
        self.output += self._runner.run(target, dag_id, conf, environment)
        query = "SELECT task_id, map_index, state FROM task_instance WHERE dag_id = ?"
        with sqlite3.connect(self.database) as db:
            return {(task, index): state for task, index, state in db.execute(query, (dag_id,))}

    def run_sensors(self, dag_id: str, options: str, **jobs: Any) -> dict[tuple[str, int], str]:
        """Run a DAG of sensors for some jobs."""
        path = HOME / "dags" / f"{dag_id}.py"
        path.write_text(DAG.format(dag_id=dag_id, jobs=repr(jobs), options=options))
        return self.run(path, dag_id)

    def xcoms(self, dag_id: str, task_id: str, key: str = "return_value") -> list[dict[str, Any]]:
        """Return what a task's instances returned or pushed, in the order of their map index."""
        query = "SELECT value FROM xcom WHERE dag_id = ? AND task_id = ? AND key = ? ORDER BY map_index"
        with sqlite3.connect(self.database) as db:
            values = [row[0] for row in db.execute(query, (dag_id, task_id, key))]
        decoded = [json.loads(value) for value in values]
        return [json.loads(value) if isinstance(value, str) else value for value in decoded]


@pytest.fixture(scope="module")
def runs(server: LocalServer, dag_runner: DagRunner) -> Runs:
    return Runs(server, dag_runner)


MAPPED_DATASETS = """
from datetime import datetime
from airflow.providers.common.compat.sdk import DAG
from airflow_zilliz.operators import ZillizImportDatasetOperator
with DAG("mapped_datasets", schedule=None, start_date=datetime(2026, 1, 1)):
    ZillizImportDatasetOperator.partial(
        task_id="load", collection_name="books", max_files_per_job=1, max_active_jobs=1, deferrable=True,
        poke_interval=0.5,
    ).expand(files=[[["a/1.json"], ["a/2.json"]], [["b/1.json"]]])
"""


@pytest.mark.full
def test_each_mapped_dataset_has_jobs_and_an_account_of_its_own(runs: Runs) -> None:
    path = HOME / "dags" / "mapped_datasets.py"
    path.write_text(MAPPED_DATASETS)
    runs.server.clear("requests")
    runs.server.script({"state": "Importing", "seconds": 1.5}, {"state": "Completed"}, totalRows=5)
    try:
        assert runs.run(path, "mapped_datasets") == {("load", 0): "success", ("load", 1): "success"}
    finally:
        runs.server.clear("script")
    assert [result["imported_rows"] for result in runs.xcoms("mapped_datasets", "load")] == [10, 5]
    accounts: Any = runs.xcoms("mapped_datasets", "load", "jobs")
    assert [[job["files"] for job in jobs] for jobs in accounts] == [[["a/1.json"], ["a/2.json"]], [["b/1.json"]]]
    assert len(runs.server.requests("create")) == 3


RUNNING = ({"state": "Importing", "seconds": 2.5, "progress": 40},)
DONE = {"state": "Completed"}
BROKEN = {"state": "Failed", "reason": "row 8: wrong dimension"}


@pytest.mark.parametrize("options", ["deferrable=True", "deferrable=False", "deferrable=False, mode='reschedule'"])
def test_sensors_in_a_dag_run(runs: Runs, options: str) -> None:
    if "reschedule" in options:
        options += ", poke_interval=0.5"
    dag_id = f"sensors_{len(options)}"
    good = runs.server.add_job(*RUNNING, DONE, totalRows=42, collectionName="books")
    bad = runs.server.add_job(*RUNNING, BROKEN, collectionName="books")
    soft = runs.server.add_job(*RUNNING, BROKEN)
    found = runs.run_sensors(dag_id, options, good=good, bad=bad, soft=soft)
    assert found == {("good", -1): "success", ("bad", -1): "failed", ("soft", -1): "skipped"}
    (xcom,) = runs.xcoms(dag_id, "good")
    assert (xcom["job_id"], xcom["state"], xcom["imported_rows"]) == (good, "Completed", 42)
    assert "row 8: wrong dimension" in runs.output


FILES = [{"name": "a.parquet", "rows": 40, "state": "Completed"}, {"name": "b.parquet", "rows": 2}]


@pytest.mark.parametrize("is_shown", [True, False])
def test_the_progress_is_in_an_xcom(runs: Runs, monkeypatch: pytest.MonkeyPatch, is_shown: bool) -> None:
    if not is_shown:
        monkeypatch.setenv("AIRFLOW__ZILLIZ__PROGRESS_XCOM", "False")
    good = runs.server.add_job(*RUNNING, DONE, totalRows=42, collectionName="books", files=FILES)
    bad = runs.server.add_job(BROKEN, collectionName="books")
    dag_id = f"shown_{is_shown}"
    found = runs.run_sensors(dag_id, "deferrable=True", good=good, bad=bad)
    assert found == {("good", -1): "success", ("bad", -1): "failed"}
    if not is_shown:
        assert runs.xcoms(dag_id, "good", "zilliz_progress") == []
        assert len(runs.xcoms(dag_id, "good")) == 1
        return
    (shown,) = runs.xcoms(dag_id, "good", "zilliz_progress")
    assert (shown["job_id"], shown["collection_name"], shown["state"]) == (good, "books", "Completed")
    assert (shown["percent"], shown["rows"], shown["total_rows"]) == (100, 42, 42)
    assert sorted((file["name"], file["state"]) for file in shown["files"]) == [
        ("[a.parquet]", "Completed"),
        ("[b.parquet]", "Completed"),
    ]
    (shown,) = runs.xcoms(dag_id, "bad", "zilliz_progress")
    assert (shown["state"], shown["reason"]) == ("Failed", "row 8: wrong dimension")


WRITER = """
import asyncio
from airflow_zilliz._progress.triggerer import TaskKey, write_to_database
key = TaskKey("of_airflow_2", "{run_id}", "one", -1)
for state in ("Importing", "Committing"):
    asyncio.run(write_to_database(key, dict(state=state)))
"""


@pytest.mark.skipif(AIRFLOW_3, reason="only Airflow 2's triggerer has the database")
def test_airflow_2_s_triggerer_writes_to_the_database(runs: Runs) -> None:
    runs.run_sensors("of_airflow_2", "deferrable=True", one=runs.server.add_job(DONE))
    with sqlite3.connect(runs.database) as db:
        ((run_id,),) = db.execute("SELECT run_id FROM dag_run WHERE dag_id = 'of_airflow_2'").fetchall()
    subprocess.run([sys.executable, "-c", WRITER.format(run_id=run_id)], check=True, capture_output=True, timeout=120)
    assert runs.xcoms("of_airflow_2", "one", "zilliz_progress") == [{"state": "Committing"}]


def test_a_mapped_sensor(runs: Runs) -> None:
    jobs = [runs.server.add_job(*RUNNING, DONE, totalRows=n + 1) for n in range(3)]
    found = runs.run_sensors("mapped", "deferrable=True", mapped=jobs)
    assert found == {("mapped", n): "success" for n in range(3)}
    assert [xcom["imported_rows"] for xcom in runs.xcoms("mapped", "mapped")] == [1, 2, 3]


def test_the_example_dag(runs: Runs) -> None:
    runs.server.clear()
    runs.server.script(*RUNNING, DONE, totalRows=4500, collectionName="demo")
    found = runs.run(EXAMPLES / "zilliz_import_wait.py", "zilliz_import_wait", files=[["a.parquet"]])
    assert found == {(task, -1): "success" for task in ("report", "submit", "wait_for_import")}
    (request,) = runs.server.requests("create")
    assert request["body"] == {"collectionName": "demo", "files": [["a.parquet"]]}
    runs.server.clear("script")


def test_the_example_of_many_imports(runs: Runs) -> None:
    runs.server.clear()
    runs.server.script(*RUNNING, DONE, totalRows=100, collectionName="demo")
    found = runs.run(
        EXAMPLES / "zilliz_many_imports.py", "zilliz_many_imports", imports=[[[f"{n}.parquet"]] for n in range(6)]
    )
    assert found == {
        **{(task, -1): "success" for task in ("plan", "wait_for_all", "report")},
        **{("start", index): "success" for index in range(6)},
    }
    results: Any
    (results,) = runs.xcoms("zilliz_many_imports", "wait_for_all")
    assert [result["imported_rows"] for result in results] == [100] * 6
    assert "6 jobs imported 600 rows" in runs.output
    runs.server.clear("script")


def test_the_example_of_a_dataset(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.server.clear()
    has_rows = find_spec("milvus_lite") is not None
    if has_rows:
        make_collection(runs.server, "demo")
    else:
        runs.server.script(DONE, totalRows=50, collectionName="demo", files=[{"name": "a.json", "rows": 50}])
    monkeypatch.setenv("MILVUS_DATA_DIR", str(runs.server.data_dir))
    for number in range(300):
        path = runs.server.data_dir / "books" / f"day={number % 3}" / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([{"id": number, "vector": [0.5, number]}]))
    found = runs.run(EXAMPLES / "zilliz_dataset.py", "zilliz_dataset")
    assert found == {("load", -1): "success", ("report", -1): "success"}
    assert not has_rows or rows_in(runs.server, "demo") == 300
    assert len(runs.server.requests("create")) == 6
    assert "6 jobs imported 300 rows from 300 files" in runs.output
    with sqlite3.connect(runs.database) as db:
        assert list(db.execute("SELECT key FROM variable")) == [], "what was kept for a retry is removed"
    runs.server.clear("script")


@pytest.mark.parametrize("as_wanted", [True, False])
def test_the_two_phase_example(runs: Runs, as_wanted: bool) -> None:
    pytest.importorskip("milvus_lite", reason="the local server needs Milvus Lite for real imports")
    runs.server.clear()
    names = ("books", "authors", "shops")
    for name in names:
        make_collection(runs.server, name)
        lines = [json.dumps({"id": number, "vector": [0.5, number]}) for number in range(3)]
        (runs.server.data_dir / f"{name}.json").write_text(f"[{', '.join(lines)}]")
    wanted = {name: {"files": [[f"{name}.json"]], "rows": 3 if as_wanted or name != "shops" else 4} for name in names}
    found = runs.run(EXAMPLES / "zilliz_two_phase_import.py", "zilliz_two_phase_import", imports=wanted)
    assert {state for (task, _), state in found.items() if task == "import_files"} == {"success"}
    assert {rows_in(runs.server, name) for name in names} == ({3} if as_wanted else {0})
    assert len(runs.server.requests("commit" if as_wanted else "abort")) == 3
    assert found["all_or_nothing", -1] == ("success" if as_wanted else "failed")


def test_the_two_phase_example_aborts_what_it_started_when_another_import_is_refused(runs: Runs) -> None:
    pytest.importorskip("milvus_lite", reason="the local server needs Milvus Lite for real imports")
    runs.server.clear()
    make_collection(runs.server, "books")
    (runs.server.data_dir / "books.json").write_text('[{"id": 1, "vector": [0.5, 1]}]')
    wanted = {name: {"files": [["books.json"]], "rows": 1} for name in ("books", "missing")}
    found = runs.run(EXAMPLES / "zilliz_two_phase_import.py", "zilliz_two_phase_import", imports=wanted)
    assert sorted(state for (task, _), state in found.items() if task == "import_files") == ["failed", "success"]
    assert len(runs.server.requests("abort")) == 1
    assert rows_in(runs.server, "books") == 0
    assert found["all_or_nothing", -1] == "failed"


@pytest.mark.parametrize("native", [True, False])
def test_what_templates_and_xcoms_hand_over(runs: Runs, native: bool) -> None:
    runs.server.clear()
    runs.server.script(DONE)
    found = runs.run(Path(__file__).with_name("templates_dag.py"), f"templates_{native}")
    assert set(found.values()) == {"success"}, found
    bodies = {body["collectionName"]: body for body in (request["body"] for request in runs.server.requests("create"))}
    assert bodies["20240101"] == {
        "collectionName": "20240101",
        "files": [["1.parquet"], ["2.parquet"]],
        "options": {"timeout": "300s"},
    }
    sent = [request["body"]["files"] for request in runs.server.requests("create")]
    assert sent.count([["1.parquet"], ["2.parquet"]]) == 2
    assert [["s3://bucket/day/a b.parquet"]] in sent
    assert sum("X-Amz-Signature=5196" in json.dumps(files) for files in sent) == 3


def test_signatures_are_in_no_rendered_field(runs: Runs) -> None:
    """Airflow stores rendered fields before a task begins, and shows them; the signed URLs come from XComs here."""
    runs.server.clear()
    runs.server.script(DONE)
    runs.run(Path(__file__).with_name("templates_dag.py"), "templates_False")
    query = "SELECT task_id, map_index, rendered_fields FROM rendered_task_instance_fields WHERE task_id IN (?, ?)"
    with sqlite3.connect(runs.database) as db:
        stored = db.execute(query, ("each", "one_signed")).fetchall()
    assert {(task, index) for task, index, _ in stored} == {("each", 0), ("each", 1), ("one_signed", -1)}
    assert all("https://bucket.host/" in fields for _, _, fields in stored)
    secrets = ("5196c0ffee", "AKIA0123456789ABCDEF")
    assert [(task, secret) for task, _, fields in stored for secret in secrets if secret in fields] == []
    printed = [line for line in runs.output.splitlines() if "MaskSecret" not in line]
    assert [line for line in printed for secret in secrets if secret in line] == []


STORAGE = {"login": "AKIA-0123456789", "password": "s3cret/0123&456789+", "extra": {"session_token": "t0ken=/012345"}}


def test_storage_keys_and_signatures_are_found_nowhere(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search all that two failed imports have left, whose server prints what it read with, also escaped."""
    monkeypatch.setenv("AIRFLOW_CONN_S3", json.dumps({"conn_type": "aws", **STORAGE}))
    values = (STORAGE["login"], STORAGE["password"], "t0ken=/012345")
    forms = [form(str(value)) for value in values for form in (str, in_go_s_json, quote_everything, quote_plus)]
    signature = "77aa" + "beefcafe"
    reason = f"cannot read https://bucket.host/day/a.parquet?X-Amz-Signature={signature} with {' '.join(forms)}"
    runs.server.clear()
    runs.server.script(*RUNNING, {"state": "Failed", "reason": reason}, files=[{"name": "a", "reason": reason}])
    before = len(runs.output)
    found = runs.run(Path(__file__).with_name("templates_dag.py"), "storage")
    assert set(found.values()) == {"failed"}
    output = "\n".join(line for line in runs.output[before:].splitlines() if "MaskSecret" not in line)
    assert output.count("cannot read https://bucket.host/day/a.parquet with ***") >= 2, "the reason came through"
    with sqlite3.connect(runs.database) as db:
        dump = "\n".join(db.iterdump())
        rendered = db.execute(
            "SELECT rendered_fields FROM rendered_task_instance_fields WHERE dag_id = 'storage'"
        ).fetchall()
    assert len(rendered) == 2
    assert all("https://bucket.host/day/a.parquet" in fields for (fields,) in rendered)
    logs = "\n".join(path.read_text(errors="replace") for path in HOME.rglob("*.log"))
    searched = {*forms, signature}
    assert [text for text in searched for place in (output, dump, logs) if text in place] == []


def in_go_s_json(value: str) -> str:
    return json.dumps(value)[1:-1].replace("&", "\\u0026").replace("/", "\\/")


def quote_everything(value: str) -> str:
    return quote(value, safe="")


def test_every_example_is_run() -> None:
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))
    here = ["zilliz_dataset.py", "zilliz_import_wait.py", "zilliz_many_imports.py", "zilliz_two_phase_import.py"]
    by_a_whole_airflow = ["zilliz_on_import.py"]
    assert names == sorted(here + by_a_whole_airflow), "give a new example its test"


def test_the_key_is_found_nowhere(runs: Runs) -> None:
    """Search all that the runs of this module, and of this test at least, have left."""
    runs.run_sensors("searched", "deferrable=True", one=runs.server.add_job(*RUNNING, BROKEN))
    runs.server.add_fault("status", status=401, message=f"bad key {KEY}", times=None)
    runs.run_sensors("refused", "deferrable=True", one=runs.server.add_job(*RUNNING, DONE))
    runs.server.clear("faults")
    assert "bad key ***" in runs.output, "the server's words came through, without the key"
    with sqlite3.connect(runs.database) as db:
        dump = "\n".join(db.iterdump())
    assert "searched" in dump, "this is the database that the runs used"
    files = {path: path.read_bytes() for path in HOME.rglob("*") if path.is_file()}
    assert runs.server.log_path is not None
    files[runs.server.log_path] = runs.server.log_path.read_bytes()
    assert KEY not in dump
    # Airflow 3.0's supervisor prints the secret that it is to mask, when it runs under dag.test()
    printed = [line for line in runs.output.splitlines() if "MaskSecret" not in line]
    assert KEY not in "\n".join(printed)
    assert [path for path, content in files.items() if KEY.encode() in content] == []
    assert KEY not in json.dumps(runs.server.requests())
