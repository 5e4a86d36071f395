"""What earlier versions left in Airflow's database for deferred tasks: recorded by them, and resumed by this one."""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout

from airflow_zilliz import exceptions, operators, triggers
from airflow_zilliz.local.testing import LocalServer
from tests.airflow.deferrals import record
from tests.airflow.submitting import QUICK
from tests.helpers.servers import ServerPool

RECORDS = {path.stem: json.loads(path.read_text()) for path in Path(record.__file__).parent.glob("*.json")}
TRIGGERS = [
    pytest.param(path, kwargs, id=f"{name}-{path.rpartition('.')[2]}-{number}")
    for name, recorded in RECORDS.items()
    for number, (path, kwargs) in enumerate(recorded["triggers"])
]
DEFERRALS = [
    pytest.param(task, deferral, id=f"{name}-{task}")
    for name, recorded in RECORDS.items()
    for task, deferral in recorded["deferrals"].items()
]
ENDINGS = [
    pytest.param(ending, event, recorded["deferrals"]["sensor"]["kwargs"], id=f"{name}-{ending}")
    for name, recorded in RECORDS.items()
    for ending, event in recorded["events"].items()
]
ERRORS: dict[str, type[BaseException]] = {
    "job_failed": exceptions.ZillizImportFailed,
    "timed_out": AirflowSensorTimeout,
    "execution_timed_out": AirflowTaskTimeout,
    "key_refused": exceptions.ZillizAuthError,
    "unknown_job": exceptions.ZillizJobNotFound,
    "unavailable": exceptions.ZillizUnavailable,
    "api_error": exceptions.ZillizApiError,
    "misconfigured": exceptions.ZillizConfigError,
}


@pytest.fixture(scope="module")
def processes(server_pool: ServerPool) -> dict[str, LocalServer]:
    key = "k3y-0123456789abcdef"
    return {"zilliz_default": server_pool.take(api_key=key), "zilliz_cloud": server_pool.take("cloud", key)}


@pytest.fixture
def servers(processes: dict[str, LocalServer], monkeypatch: pytest.MonkeyPatch, fast: None) -> dict[str, LocalServer]:
    for server in processes.values():
        server.clear()
        server.set(collections=["books"])
    connections = record.connections(processes["zilliz_default"], processes["zilliz_cloud"])
    for name, value in connections.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(operators, "PATIENCE", QUICK)
    return processes


def made_by_airflow(path: str, kwargs: dict[str, Any]) -> Any:
    """Make a trigger as the triggerer does of what is in the database."""
    module, _, name = path.rpartition(".")
    trigger = getattr(import_module(module), name)(**json.loads(json.dumps(kwargs)))
    assert not trigger.__dict__.get("_unknown"), "an argument of the earlier version is not known any more"
    return trigger


async def event_of(trigger: Any, servers: dict[str, LocalServer]) -> Any:
    """Let a trigger fire, with whatever it waits for."""
    if not isinstance(trigger, triggers.ZillizImportEventTrigger):
        return await asyncio.wait_for(record.first_event(trigger), 30)
    first = asyncio.ensure_future(record.first_event(trigger))
    server = servers[trigger.zilliz_conn_id]
    while not await asyncio.to_thread(server.requests, "list"):  # noqa: ASYNC110 - another process serves it
        await asyncio.sleep(0.05)
    await asyncio.to_thread(
        server.add_job, {"state": "Completed"}, collectionName=trigger.collection_name, **record.JOB
    )
    return await asyncio.wait_for(first, 30)


def add_job(server: LocalServer, job_id: str | None, state: str) -> None:
    named = {"jobId": job_id} if job_id else {}
    server.add_job({"state": state}, **named, collectionName="books", **record.JOB)


@pytest.mark.parametrize(("path", "kwargs"), TRIGGERS)
def test_a_trigger_with_all_its_arguments_fires(
    servers: dict[str, LocalServer], path: str, kwargs: dict[str, Any]
) -> None:
    if "job_id" in kwargs:
        add_job(servers[kwargs["zilliz_conn_id"]], kwargs["job_id"], "Completed")
    trigger = made_by_airflow(path, kwargs)
    assert trigger.serialize() == (path, kwargs), "a triggerer of the earlier version can take it back"
    event = asyncio.run(event_of(trigger, servers))
    if "job_id" in kwargs:
        assert (event["ending"], event["progress"]["importedRows"]) == ("reached", 10)
    elif "collection_name" in kwargs:
        assert (event["state"], event["imported_rows"]) == ("Completed", 10)
    else:
        assert event == kwargs


@pytest.mark.parametrize(("name", "deferral"), DEFERRALS)
def test_a_deferred_task_goes_on_to_its_end(
    servers: dict[str, LocalServer], name: str, deferral: dict[str, Any]
) -> None:
    path, kwargs = deferral["trigger"]
    server = servers[kwargs.get("zilliz_conn_id", "zilliz_default")]
    state = kwargs.get("target_state", "Completed")
    server.script({"state": state}, **record.JOB)
    if "job_id" in kwargs:
        add_job(server, kwargs["job_id"], state)
    fired = json.loads(json.dumps(asyncio.run(event_of(made_by_airflow(path, kwargs), servers))))
    for event in filter(None, (deferral["event"], fired)):
        ti = record.TaskInstance(**deferral["xcoms"])
        next_kwargs = {**deferral["kwargs"], "event": event}
        result = record.TASKS[name](kwargs.get("job_id", "")).resume_execution(
            deferral["method"], next_kwargs, record.context_of(ti)
        )
        assert (result["state"], result["total_rows"]) == (state, 10)
        assert result["job_id"] == kwargs.get("job_id", result["job_id"])


@pytest.mark.parametrize(("ending", "event", "kwargs"), ENDINGS)
def test_each_ending_of_a_wait_is_understood(
    servers: dict[str, LocalServer], ending: str, event: dict[str, Any], kwargs: dict[str, Any]
) -> None:
    assert event["ending"] == ending
    sensor = record.TASKS["sensor"]("job-0123456789abcdefghijk")
    sensor.silent_fail = False
    # where a job list showed the end, the task requests the job's description
    states = {"reached": "Completed", "job_failed": "Failed"}
    add_job(servers["zilliz_cloud"], sensor.job_id, states.get(ending, "Importing"))
    resume = lambda: sensor.resume_execution("execute_complete", {**kwargs, "event": event}, {})  # noqa: E731
    if ending == "reached":
        assert resume()["imported_rows"] == 10
        return
    with pytest.raises(ERRORS[ending]) as raised:
        resume()
    assert str(raised.value).startswith(event["message"][:11])


def test_all_endings_are_recorded() -> None:
    assert RECORDS
    for recorded in RECORDS.values():
        assert recorded["events"].keys() == {"reached", *ERRORS}
        assert recorded["deferrals"].keys() == record.TASKS.keys()
        classes = {path.rpartition(".")[2] for path, _ in recorded["triggers"]}
        names = ("Import", "OwnedImport", "Pause", "ImportEvent")
        assert classes >= {f"Zilliz{name}Trigger" for name in names}, "later versions have more"
