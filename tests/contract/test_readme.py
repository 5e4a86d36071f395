"""Runs every code sample of the README and of the docs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest

from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.sensors import ZillizImportSensor
from tests.airflow.test_dags import DONE, RUNNING, Runs
from tests.contract.conftest import KEYS, client_of, connect, make_collection, rows, write_json
from tests.helpers.dag_runs import DagRunner

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(path.read_text() for path in PAGES)
FOUND = re.findall(r"<!-- test: (\w+) -->\n```\w+\n(.*?)```", TEXT, flags=re.DOTALL)
SAMPLES = dict(FOUND)
#: Whole files, which have tests of their own, and drawings.
FILES = re.findall(r"```python\n--8<-- \"(.*)\"\n```", TEXT)
DRAWINGS = re.findall(
    r"^```\n.*?^```\n", re.sub(r"```\w+\n.*?```\n", "", TEXT, flags=re.DOTALL), re.DOTALL | re.MULTILINE
)


in_dags = pytest.mark.xdist_group("dags")


def test_every_sample_has_a_test() -> None:
    tests = {name.removeprefix("test_sample_") for name in globals() if name.startswith("test_sample_")}
    assert tests == set(SAMPLES)
    assert len(FOUND) == len(SAMPLES), "two samples have the same name"
    blocks = len(SAMPLES) + len(FILES) + len(DRAWINGS)
    assert TEXT.count("```") == 2 * blocks, "a sample without a mark is not run"
    assert {Path(name).parent.name for name in FILES} == {"example_dags"}


def test_no_sample_of_the_quickstart_scrolls_sideways() -> None:
    for name in re.findall(r"README\.md:(\w+)", (ROOT / "docs" / "index.md").read_text()):
        for line in SAMPLES.get(name, "").splitlines():
            assert len(line) <= 79, "a page of 1,300 px shows 79 characters"


def test_sample_make() -> None:
    targets = re.findall(r"^make ([\w-]+)", SAMPLES["make"], flags=re.MULTILINE)
    assert targets == ["demo", "ui", "test", "test-full"]
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
    ci = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"make ([\w-]+)$", ci, flags=re.MULTILINE) == ["demo", "test-full"]
    assert re.search(r"^test-full: test ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    # the one that is left, ui, is run by tests/e2e/test_ui.py


def test_sample_install(tmp_path: Path) -> None:
    """Build what `pip install .` installs, and look into it; pip itself would need the network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert {"airflow_zilliz/py.typed", "airflow_zilliz/sensors.py", "airflow_zilliz/local/app.py"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "example_dags", "dev"))]
    for extra in re.findall(r"\[(\w+)\]", SAMPLES["install"]):
        assert f"Provides-Extra: {extra}" in metadata
    assert "apache_airflow_provider" in entry_points


def test_sample_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, milvus = endpoints(SAMPLES["connection"], monkeypatch)
    assert cloud.base_url == "https://api.cloud.zilliz.com"
    assert (cloud.token, cloud.target) == ("your-api-key", Target("in01-0123456789abcde"))
    assert (milvus.base_url, milvus.token, milvus.target) == ("http://localhost:19530", "root:Milvus", Target())


def test_sample_connection_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    as_json, as_uri = endpoints(SAMPLES["connection_forms"], monkeypatch)
    assert as_json == as_uri == endpoints(SAMPLES["connection"], monkeypatch)[0]


def endpoints(sample: str, monkeypatch: pytest.MonkeyPatch) -> list[Endpoint]:
    """Run the exports of a sample, and return what the hook makes of each."""
    words = shlex.split(sample, comments=True)
    assert set(words[::2]) == {"export"}
    found = []
    for word in words[1::2]:
        name, _, value = word.partition("=")
        monkeypatch.setenv(name, value)
        found.append(ZillizHook().endpoint())
    return found


@in_dags
def test_sample_dag(milvus: LocalServer, dag_runner: DagRunner) -> None:
    milvus.script(*RUNNING, DONE, totalRows=42)
    path = write_dag(milvus, "dag")
    runs = Runs(milvus, dag_runner)
    assert runs.run(path, "wait_for_an_import") == {("start_import", -1): "success", ("wait", -1): "success"}
    assert runs.xcoms("wait_for_an_import", "wait")[0]["imported_rows"] == 42
    assert milvus.requests("create")[-1]["body"]["files"] == [["part-1.parquet"], ["part-2.json"]]


@in_dags
def test_sample_import(milvus: LocalServer, dag_runner: DagRunner) -> None:
    milvus.script(*RUNNING, DONE, totalRows=42)
    path = Path(os.environ["AIRFLOW_HOME"]) / "dags" / "readme_import.py"
    path.write_text(SAMPLES["import"])
    runs = Runs(milvus, dag_runner)
    assert runs.run(path, "import_books", files=[["a.parquet"]]) == {("import_books", -1): "success"}
    assert runs.xcoms("import_books", "import_books")[0]["imported_rows"] == 42
    assert milvus.requests("create")[-1]["body"]["files"] == [["a.parquet"]]


@in_dags
def test_sample_mapped_imports(milvus: LocalServer, dag_runner: DagRunner) -> None:
    milvus.script(*RUNNING, DONE, totalRows=42)
    path = Path(os.environ["AIRFLOW_HOME"]) / "dags" / "readme_mapped.py"
    path.write_text(SAMPLES["mapped_imports"])
    found = Runs(milvus, dag_runner).run(path, "imports")
    assert found == {**{("start", index): "success" for index in (0, 1)}, ("wait", -1): "success"}


def write_dag(server: LocalServer, name: str) -> Path:
    """Write a sample into the DAGs folder, with the test server's address and key."""
    path = Path(os.environ["AIRFLOW_HOME"]) / "dags" / f"{name}.py"
    path.write_text(SAMPLES[name].replace("http://localhost:19530", server.url).replace("root:Milvus", KEYS["milvus"]))
    return path


def run_sample(server: LocalServer, dag_runner: DagRunner, name: str, dag_id: str, **conf: Any) -> Any:
    """Run a sample that waits for one job, with the test server's address and key; return the task's XCom."""
    path = write_dag(server, name)
    runs = Runs(server, dag_runner)
    ((task, _), state), *others = runs.run(path, dag_id, **conf).items()
    assert (state, others) == ("success", []), runs.output[-3000:]
    return next(iter(runs.xcoms(dag_id, task)), None)


@in_dags
def test_sample_polling_sensor(milvus: LocalServer, dag_runner: DagRunner) -> None:
    job_id = milvus.add_job(DONE, totalRows=42)
    run_sample(milvus, dag_runner, "polling_sensor", "poll_with_a_sensor", job_id=job_id)


@in_dags
def test_sample_migrated_sensor(milvus: LocalServer, dag_runner: DagRunner) -> None:
    job_id = milvus.add_job(*RUNNING, DONE, totalRows=42)
    result = run_sample(milvus, dag_runner, "migrated_sensor", "wait_with_the_sensor", job_id=job_id)
    assert result["imported_rows"] == 42


@in_dags
def test_sample_polling_loop(milvus: LocalServer, dag_runner: DagRunner) -> None:
    milvus.script(DONE, totalRows=42)
    assert run_sample(milvus, dag_runner, "polling_loop", "import_in_a_loop")["importedRows"] == 42


def test_sample_local_settings() -> None:
    sample = SAMPLES["local_settings"]
    assert sample in (ROOT / "benchmarks" / "advice" / "airflow_local_settings.py").read_text(), "another was measured"
    fork = """
pid = os.fork()
if pid == 0:
    os._exit(3 if gc.get_freeze_count() else 4)
print(gc.get_freeze_count(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    for process, child in (("triggerer", 3), ("scheduler", 4)):
        command = [sys.executable, "-c", sample + fork, process]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["0", str(child)]


def test_sample_hook(milvus: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    milvus.script(DONE, totalRows=42)
    exec(SAMPLES["hook"], {})
    printed = capsys.readouterr().out
    assert "100 None 42 42" in printed
    assert "Completed" in printed.splitlines()[-1]


def test_sample_many_jobs(milvus: LocalServer) -> None:
    start = SimpleNamespace(output=[milvus.add_job(DONE, totalRows=rows) for rows in (1, 2)])
    sensor = eval(SAMPLES["many_jobs"], {"ZillizImportSensor": ZillizImportSensor, "start": start})
    sensor.deferrable = False
    assert [result["imported_rows"] for result in sensor.execute({})] == [1, 2]


def run_local(data_dir: Path, sample: str) -> LocalServer:
    """Start the README's command, but on a free port."""
    words = shlex.split(sample)
    assert words[:3] == ["python", "-m", "airflow_zilliz.local"]
    options = words[3:]
    assert options == ["--port", "19530", "--data-dir", "./data"]
    return LocalServer(data_dir)


def test_sample_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_local(tmp_path, SAMPLES["local"]) as server:
        make_collection(server, "books")
        write_json(tmp_path, "part-1.json", rows(5))
        hook = connect(monkeypatch, server)
        job_id = hook.bulk_import("books", files=[["part-1.json"]])
        assert server.wait_for_job(job_id, "Completed", "Failed")["importedRows"] == 5


def test_sample_pymilvus(milvus: LocalServer) -> None:
    names: dict[str, Any] = {}
    exec(SAMPLES["pymilvus"].replace("http://localhost:19530", milvus.url), names)
    assert "books" in client_of(milvus).list_collections()
    client_of(milvus).drop_collection("books")


def test_sample_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(SAMPLES["pytest"])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
