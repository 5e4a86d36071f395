"""What is written of an import's progress: by a worker in every mode, and by a triggerer."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_zilliz._progress import setting, triggerer
from airflow_zilliz._progress.triggerer import TaskKey
from airflow_zilliz._wait import write_pacing
from airflow_zilliz.exceptions import ZillizImportFailed
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.sensors import ZillizImportSensor
from airflow_zilliz.triggers import ZillizImportTrigger
from tests.helpers.servers import ServerPool

KEY = TaskKey("dag", "manual__2026-11-26T00:00:00+00:00", "wait", 3)
FAST: dict[str, Any] = {"poke_interval": 0.2, "timeout": 20}


@pytest.fixture(scope="module")
def server_process(server_pool: ServerPool) -> LocalServer:
    return server_pool.take()


@pytest.fixture
def server(server_process: LocalServer, monkeypatch: pytest.MonkeyPatch, fast: None) -> LocalServer:
    server_process.clear()
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", server_process.connection())
    monkeypatch.setattr(write_pacing, "WAIT_INTERVAL", 0.0)
    monkeypatch.setattr(write_pacing, "PROCESS_INTERVAL", 0.0)
    return server_process


class Task:
    """A task instance that keeps its XComs, and how each of them came to be."""

    def __init__(self, fails: bool = False) -> None:
        self.__dict__.update(KEY._asdict())
        self.try_number = 1
        self.kept: dict[str, Any] = {}
        self.shown: list[dict[str, Any]] = []
        self.fails = fails
        #: how often an XCom was read that is not there, for which Airflow logs an error
        self.missed = 0

    def xcom_push(self, key: str, value: Any) -> None:
        if self.fails and key == setting.PROGRESS_KEY:
            raise RuntimeError("the API server is unreachable")
        self.kept[key] = json.loads(json.dumps(value))
        if key == setting.PROGRESS_KEY:
            self.shown.append(self.kept[key])

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == ("wait", 3)
        if key == setting.PROGRESS_KEY:
            self.missed += key not in self.kept
        return self.kept.get(key)


def states(shown: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(one["state"], one["percent"]) for one in shown]


def phase(state: str, seconds: float = 0.0, progress: int = 0, reason: str = "") -> dict[str, Any]:
    return {"state": state, "seconds": seconds, "progress": progress, "reason": reason}


def sensor(job_id: str, **arguments: Any) -> ZillizImportSensor:
    return ZillizImportSensor(task_id="wait", job_id=job_id, **{**FAST, "deferrable": False, **arguments})


def test_a_worker_writes_each_change_and_the_end(server: LocalServer) -> None:
    phases = phase("Importing", 0.5, 10), phase("Importing", 0.5, 60), phase("Completed")
    job_id = server.add_job(*phases, totalRows=10, collectionName="books", files=[{"name": "a", "rows": 10}])
    task: Any = Task()
    sensor(job_id).execute({"ti": task})
    assert states(task.shown) == [("Importing", 10), ("Importing", 60), ("Completed", 100)]
    assert [file["name"] for file in task.shown[-1]["files"]] == ["[a]"]


def test_a_worker_writes_seldom_but_never_drops_the_end(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_pacing, "WAIT_INTERVAL", 30.0)
    job_id = server.add_job(phase("Importing", 1.5, 10), phase("Importing", 1.5, 60), phase("Failed", reason="row 8"))
    task: Any = Task()
    with pytest.raises(ZillizImportFailed):
        sensor(job_id).execute({"ti": task})
    assert states(task.shown) == [("Importing", 10), ("Failed", 60)]
    assert task.shown[-1]["reason"] == "row 8"


def test_a_worker_that_cannot_write_waits_all_the_same(server: LocalServer) -> None:
    job_id = server.add_job(phase("Importing", 0.5, 10), phase("Completed"))
    task: Any = Task(fails=True)
    assert sensor(job_id).execute({"ti": task})["state"] == "Completed"


def test_a_job_that_is_done_at_once_has_no_earlier_files_to_read(server: LocalServer) -> None:
    task: Any = Task()
    sensor(server.add_job(phase("Completed"))).execute({"ti": task})
    assert states(task.shown) == [("Completed", 100)]
    assert not task.missed


def test_nothing_is_written_where_it_is_switched_off(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ZILLIZ__PROGRESS_XCOM", "False")
    task: Any = Task()
    sensor(server.add_job(phase("Completed"))).execute({"ti": task})
    assert setting.PROGRESS_KEY not in task.kept
    trigger = trigger_of(server.add_job(phase("Importing", 0.5, 10), phase("Completed")))
    assert run(trigger, monkeypatch) == []


def test_a_task_that_resumes_keeps_the_files_that_the_trigger_showed(server: LocalServer) -> None:
    job_id = server.add_job(phase("Importing", 0.5, 10), phase("Completed"), totalRows=10)
    task: Any = Task()
    waiting = sensor(job_id, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({"ti": task})
    assert states(task.shown) == [("Importing", 10)]
    task.kept[setting.PROGRESS_KEY]["files"] = [{"name": "a", "state": "Importing", "percent": 70}]
    (event,) = asyncio.run(events(deferred.value.trigger))
    sensor(job_id).execute_complete({"ti": task}, event, **deferred.value.kwargs)
    assert task.shown[-1]["files"] == [{"name": "a", "state": "Completed", "percent": 100}]


def trigger_of(job_id: str, **arguments: Any) -> ZillizImportTrigger:
    trigger = ZillizImportTrigger(job_id, "zilliz_default", poke_interval=0.1, **arguments)
    trigger.task_instance = SimpleNamespace(**KEY._asdict())  # type: ignore[assignment] # as Airflow sets it
    return trigger


async def events(trigger: ZillizImportTrigger) -> list[Any]:
    return [event.payload async for event in trigger.run()]


def run(trigger: ZillizImportTrigger, monkeypatch: pytest.MonkeyPatch, fails: int = 0) -> list[dict[str, Any]]:
    """Run a trigger to its end, and return what it has written."""
    written: list[dict[str, Any]] = []

    async def write(key: TaskKey, value: dict[str, Any]) -> None:
        assert key == KEY
        await asyncio.sleep(0)
        if len(written) < fails:
            written.append({})
            raise RuntimeError("the supervisor is unreachable")
        written.append(json.loads(json.dumps(value)))

    monkeypatch.setattr(triggerer, "_write_of_this_airflow", lambda: write)
    (event,) = asyncio.run(events(trigger))
    assert event["ending"] in ("reached", "job_failed")
    return written


def test_a_trigger_writes_each_change_and_leaves_the_end_to_its_task(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = server.add_job(phase("Importing", 0.5, 10), phase("Importing", 0.5, 60), phase("Completed"))
    assert states(run(trigger_of(job_id), monkeypatch)) == [("Importing", 10), ("Importing", 60)]


def test_a_trigger_whose_writes_fail_waits_all_the_same(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_pacing, "FAILURE_PAUSE", 0.0)
    job_id = server.add_job(phase("Importing", 0.5, 10), phase("Committing", 0.5, 60), phase("Completed"))
    written = run(trigger_of(job_id), monkeypatch, fails=1)
    assert states([one for one in written if one]) == [("Importing", 10), ("Committing", 60)]


def test_a_trigger_that_withholds_reasons_shows_none(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [{"name": "a", "reason": "s3cr3t"}]
    job_id = server.add_job(phase("Importing", 0.5, 10, "s3cr3t"), phase("Completed"), files=files)
    written = run(trigger_of(job_id, withhold_reasons=True), monkeypatch)
    assert written
    assert "s3cr3t" not in json.dumps(written)


def test_a_write_that_hangs_holds_no_wait_up(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def write(key: TaskKey, value: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(triggerer, "_write_of_this_airflow", lambda: write)
    job_id = server.add_job(phase("Importing", 0.5, 10), phase("Importing", 0.5, 60), phase("Completed"))
    (event,) = asyncio.run(events(trigger_of(job_id)))
    assert event["ending"] == "reached"
