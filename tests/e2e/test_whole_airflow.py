"""Scheduler, workers, triggerer and API server of the newest Airflow, with processes that die."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from packaging.version import Version

pytest.importorskip("airflow.sdk")
psutil = pytest.importorskip("psutil")

from airflow import __version__ as airflow_version  # noqa: E402 - Airflow 2 is skipped above

from airflow_zilliz.hooks import ZillizHook  # noqa: E402
from airflow_zilliz.local.testing import LocalServer  # noqa: E402
from dev import airflow_process  # noqa: E402
from tests.helpers.dying import POINTS  # noqa: E402

pytestmark = [
    pytest.mark.skipif(Version(airflow_version) < Version("3.3"), reason="on_kill and the stores came with 3.3"),
    pytest.mark.xdist_group("whole airflow"),
    pytest.mark.timeout(1200),
]

T = TypeVar("T")
WATCHING = "zilliz_on_import"
FILES = [{"name": "a.parquet", "rows": 5}]


@dataclass
class Whole:
    """A running Airflow beside a local import server."""

    api: airflow_process.AirflowApi
    server: LocalServer
    home: Path
    triggerers: ExitStack = field(default_factory=ExitStack)

    def start(self, dag_id: str, **params: str) -> str:
        run_id = f"{dag_id}-{time.time_ns()}"
        self.api.wait_for_dag(dag_id)
        self.api.start(dag_id, run_id, **params)
        return run_id

    def task(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return self.api.call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/load")

    def until_task_is(self, state: str, dag_id: str, run_id: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            task = self.task(dag_id, run_id)
            assert state == "failed" or task["state"] != "failed", self.log(dag_id, run_id)
            return task if task["state"] == state else None

        return self.until(found, f"the task of {dag_id} is {state}")

    def until_the_triggerer_polls(self) -> None:
        polls = len(self.server.requests("describe"))
        self.until(lambda: len(self.server.requests("describe")) > polls, "the triggerer has the wait")

    def until(self, found: Callable[[], T | None], what: str, within: float = 120) -> T:
        end = time.monotonic() + within
        while not (value := found()):
            if time.monotonic() > end:
                log = (self.home / "airflow.log").read_text(errors="replace")
                raise AssertionError(f"it is still not so that {what}:\n{log[-5000:]}")
            time.sleep(0.5)
        return value

    def log(self, dag_id: str, run_id: str) -> str:
        paths = sorted((self.home / "airflow" / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}").rglob("*.log*"))
        return "\n".join(path.read_text(errors="replace") for path in paths)

    def job_of(self, collection: str) -> str | None:
        jobs = list(ZillizHook().list_import_jobs(collection_name=collection))
        assert len(jobs) <= 1, "a second import was started"
        return jobs[0].job_id if jobs else None

    def running(self, collection: str) -> list[str]:
        jobs = ZillizHook().list_import_jobs(collection_name=collection)
        return [job.job_id for job in jobs if job.state.value == "Importing"]

    def is_watched(self) -> bool:
        """Whether the watcher has polled twice: the jobs of the first poll are older than it."""
        polls = [poll for poll in self.server.requests("list") if poll["body"].get("collectionName") == "books"]
        return len(polls) > 1

    def watched(self) -> dict[str, dict[str, Any]]:
        """Return what the runs of the watching DAG received, by job; no job twice."""
        reported: dict[str, dict[str, Any]] = {}
        for run in self.api.call("GET", f"dags/{WATCHING}/dagRuns")["dag_runs"]:
            if run["state"] != "success":
                continue
            path = f"dags/{WATCHING}/dagRuns/{run['dag_run_id']}/taskInstances/report/xcomEntries/return_value"
            for payload in self.api.call("GET", f"{path}?deserialize=false")["value"]:
                assert payload["job_id"] not in reported, "reported twice"
                reported[payload["job_id"]] = payload
        return reported

    def lineage(self, kind: str, job: str) -> dict[str, Any] | None:
        """Return the newest OpenLineage event of a kind for a task."""
        path = self.home / "lineage.jsonl"
        events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return next((e for e in reversed(events) if (e["eventType"], e["job"]["name"]) == (kind, job)), None)

    def kill_triggerer(self) -> dict[str, str]:
        """Kill all of the triggerer's processes at once; return its environment."""
        here = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "triggerer" in (process.info["cmdline"] or []) and self._is_ours(process)
        ]
        assert here
        environment: dict[str, str] = here[0].environ()
        family = {process.pid for known in here for process in [known, *known.children(recursive=True)]}
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        return environment

    def _is_ours(self, process: Any) -> bool:
        try:
            return bool(process.environ().get("AIRFLOW_HOME") == str(self.home / "airflow"))
        except psutil.Error:
            return False

    def start_triggerer(self, environment: dict[str, str]) -> None:
        log = self.triggerers.enter_context((self.home / "triggerer.log").open("w"))
        command = [sys.executable, "-m", "airflow", "triggerer"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.triggerers.callback(airflow_process.end_tree, process)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    home = tmp_path_factory.mktemp("whole")
    settings = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(home / "lineage.jsonl"), "append": True}
        ),
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    }
    with (
        pytest.MonkeyPatch.context() as patch,
        LocalServer(home) as server,
        airflow_process.airflow(home, _dags(home / "dags"), server.connection(), settings) as api,
    ):
        patch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", server.connection())
        assert api.version
        found = Whole(api, server, home)
        with found.triggerers:
            yield found


def _dags(folder: Path) -> Path:
    """Make a DAGs folder: the tests' own, and the example with a watcher, which is to poll more often here."""
    here = Path(__file__).parent
    shutil.copytree(here / "dags", folder)
    shutil.copy(here.parent / "helpers" / "dying.py", folder)
    example = (here.parents[1] / "example_dags" / f"{WATCHING}.py").read_text()
    assert "poke_interval=30" in example
    (folder / f"{WATCHING}.py").write_text(example.replace("poke_interval=30", "poke_interval=1"))
    return folder


def script(whole: Whole, *phases: dict[str, Any]) -> None:
    whole.server.script(*phases, totalRows=5, files=FILES)


def test_a_killed_worker_s_import_is_started_once(whole: Whole) -> None:
    script(whole, {"state": "Importing", "progress": 40})
    run_id = whole.start("on_a_worker")
    job_id = whole.until(lambda: whole.job_of("songs"), "there is a job")
    first = whole.until_task_is("running", "on_a_worker", run_id)
    os.kill(first["pid"], signal.SIGKILL)
    whole.until(
        lambda: (task := whole.task("on_a_worker", run_id))["try_number"] == 2 and task["state"] == "running",
        "the second try runs",
    )
    whole.server.set_job(job_id, {"state": "Completed"}, collectionName="songs", totalRows=5, files=FILES)
    whole.until_task_is("success", "on_a_worker", run_id)
    assert whole.job_of("songs") == job_id
    assert "continuing with it" in whole.log("on_a_worker", run_id)
    lineage = whole.until(lambda: whole.lineage("COMPLETE", "on_a_worker.load"), "OpenLineage receives it")
    assert [file["name"] for file in lineage["inputs"]] == ["a.parquet"]
    (output,) = lineage["outputs"]
    assert (output["name"], output["outputFacets"]["outputStatistics"]["rowCount"]) == ("default.songs", 5)
    assert lineage["run"]["facets"]["externalQuery"]["externalQueryId"] == job_id


@pytest.mark.parametrize("heeds_keys", [True, False], ids=["with the key", "without"])
def test_wherever_a_worker_dies_its_retry_starts_no_second_job(whole: Whole, heeds_keys: bool) -> None:
    whole.server.set(idempotency=heeds_keys)
    script(whole, {"state": "Importing", "seconds": 15, "progress": 40}, {"state": "Completed"})
    points = {f"{point.replace(' ', '_')}_{heeds_keys}": point for point in POINTS}
    runs = {name: whole.start("mortal", collection=name, point=point) for name, point in points.items()}
    for collection, run_id in runs.items():
        assert whole.until_task_is("success", "mortal", run_id)["try_number"] == 2, collection
        assert whole.job_of(collection) is not None


@pytest.mark.parametrize("heeds_keys", [True, False], ids=["with the key", "without"])
def test_a_task_that_fails_after_execute_leaves_one_job(whole: Whole, heeds_keys: bool) -> None:
    whole.server.set(idempotency=heeds_keys)
    script(whole, {"state": "Importing", "seconds": 2, "progress": 40}, {"state": "Completed"})
    collection = f"fails_after_{heeds_keys}"
    run_id = whole.start("fails_after_execute", collection=collection)
    assert whole.until_task_is("success", "fails_after_execute", run_id)["try_number"] == 2
    job_id = whole.job_of(collection)
    whole.until(lambda: whole.api.run_state("fails_after_execute", run_id) == "success", "the run has ended")
    # a clear of the task that succeeded gives the same job back
    whole.api.clear("fails_after_execute", run_id, "load")
    whole.until(lambda: whole.task("fails_after_execute", run_id)["try_number"] == 3, "the third try runs")
    whole.until_task_is("success", "fails_after_execute", run_id)
    assert whole.job_of(collection) == job_id


def test_where_it_cannot_be_known_the_retry_fails_clearly_and_is_the_last(whole: Whole) -> None:
    whole.server.set(idempotency=False)
    whole.server.script({"state": "Pending"})  # its files are never shown, as on a server that is too busy to begin
    run_id = whole.start("mortal", collection="riddles", point="before the response")
    assert whole.until_task_is("failed", "mortal", run_id)["try_number"] == 2
    job_id = whole.job_of("riddles")
    assert "ZillizSubmissionUnknown" in (log := whole.log("mortal", run_id))
    assert f"{job_id} (Pending" in log


def test_a_deferred_task_that_a_user_ends_has_its_job_aborted_and_a_dead_triggerer_s_has_not(whole: Whole) -> None:
    script(whole, {"state": "Importing", "progress": 40})
    run_id = whole.start("two_phases")
    whole.api.wait_for_dag(WATCHING)
    whole.until_task_is("deferred", "two_phases", run_id)
    job_id = whole.until(lambda: whole.job_of("films"), "there is a job")

    def end(watched_job: str) -> None:
        whole.server.set_job(watched_job, {"state": "Completed"}, collectionName="books", totalRows=5, files=FILES)

    whole.until(whole.is_watched, "the collection is watched")
    end("101")
    whole.until(lambda: "101" in whole.watched(), "the watching DAG ran for a completed import")
    assert whole.watched()["101"]["total_rows"] == 5

    environment = whole.kill_triggerer()
    end("102")
    whole.start_triggerer(environment)
    whole.until(lambda: "102" in whole.watched(), "the watching DAG ran for what completed meanwhile")
    assert whole.watched().keys() == {"101", "102"}
    assert ZillizHook().get_import_progress(job_id).state.value == "Importing"
    assert whole.task("two_phases", run_id)["state"] == "deferred"

    whole.until_the_triggerer_polls()
    whole.api.call("PATCH", f"dags/two_phases/dagRuns/{run_id}/taskInstances/load", {"new_state": "failed"})
    whole.until(lambda: ZillizHook().get_import_progress(job_id).state.value == "Failed", "the job is aborted")
    whole.until(lambda: "was aborted" in whole.log("two_phases", run_id), "the log says so")


def test_a_deferred_task_that_is_cleared_starts_another_job_once_the_first_is_aborted(whole: Whole) -> None:
    script(whole, {"state": "Importing", "progress": 40})
    run_id = whole.start("two_phases")
    whole.until_task_is("deferred", "two_phases", run_id)
    (first,) = whole.running("films")
    whole.until_the_triggerer_polls()  # a trigger that no triggerer has yet learns nothing: its job continues
    whole.api.clear("two_phases", run_id, "load")
    whole.until(lambda: ZillizHook().get_import_progress(first).state.value == "Failed", "the job is aborted")
    (second,) = whole.until(lambda: whole.running("films"), "there is another job")
    assert second != first
    whole.server.set_job(second, {"state": "Uncommitted"}, collectionName="films", totalRows=5, files=FILES)
    assert whole.until_task_is("success", "two_phases", run_id)["try_number"] == 2
