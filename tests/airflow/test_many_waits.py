"""Many triggers in one process, over real sockets: they share one poll, and each task gets its own job's facts."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._wait import description_retry
from airflow_zilliz._wait.outcome import Ending
from airflow_zilliz.exceptions import ZillizImportFailed
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.sensors import ZillizImportSensor
from airflow_zilliz.triggers import ZillizImportTrigger
from tests.helpers.servers import ServerPool

MANY = 30


@pytest.fixture(scope="module", params=["milvus", "cloud"])
def any_server(request: pytest.FixtureRequest, server_pool: ServerPool) -> LocalServer:
    return server_pool.take(request.param)


@pytest.fixture
def server(any_server: LocalServer, fast: None, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    any_server.clear()
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", any_server.connection(max_requests_per_second=100))
    return any_server


def trigger(job_id: str, **kwargs: Any) -> ZillizImportTrigger:
    return ZillizImportTrigger(job_id, "zilliz_default", poke_interval=0.3, **kwargs)


async def event_of(one: ZillizImportTrigger) -> dict[str, Any]:
    events = [event async for event in one.run()]
    assert len(events) == 1
    payload: dict[str, Any] = json.loads(json.dumps(events[0].payload))
    return payload


async def events_of(jobs: list[str]) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*(event_of(trigger(job_id)) for job_id in jobs)))


def resume(job_id: str, event: dict[str, Any], **kwargs: Any) -> Any:
    return ZillizImportSensor(task_id="wait", job_id=job_id, deferrable=True).execute_complete({}, event, **kwargs)


def running(server: LocalServer, seconds: float, *last: dict[str, Any]) -> list[str]:
    phase = {"state": "Importing", "seconds": seconds, "progress": 40}
    return [server.add_job(phase, last[number % len(last)], totalRows=5) for number in range(MANY)]


def test_a_fleet_is_listed_and_each_task_describes_its_own_job(server: LocalServer) -> None:
    jobs = running(server, 1.0, {"state": "Completed"}, {"state": "Failed", "reason": "row 8: wrong dimension"})
    events = asyncio.run(events_of(jobs))
    assert server.requests("list")
    assert len(server.requests("describe")) <= MANY // 2, "far fewer than one for each wait and poll"
    for number, (job_id, event) in enumerate(zip(jobs, events, strict=True)):
        assert event["ending"] == (Ending.JOB_FAILED if number % 2 else Ending.REACHED).value
        if number % 2:
            with pytest.raises(ZillizImportFailed, match="row 8: wrong dimension") as failed:
                resume(job_id, event)
            assert failed.value.progress.reason == "row 8: wrong dimension"
        else:
            assert resume(job_id, event)["imported_rows"] == 5


def listed_end(server: LocalServer, state: str) -> tuple[str, dict[str, Any]]:
    """Return a job whose end a list has shown, with the trigger's event."""
    # ended before the first poll: the last few of a fleet would be described one by one, and here they cannot be
    jobs = running(server, 0.0, {"state": state, "reason": "of the server"} if state == "Failed" else {"state": state})
    server.add_fault("status", status=503, path="describe", times=None)
    events = asyncio.run(events_of(jobs))
    listed = [(job_id, event) for job_id, event in zip(jobs, events, strict=True) if event["progress"] is None]
    assert len(listed) == MANY, "no description could be had"
    return listed[0]


def test_a_listed_completion_stands_when_it_cannot_be_described(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(description_retry, "DESCRIPTION_PATIENCE", {Ending.REACHED: 2.0, Ending.JOB_FAILED: 3.0})
    job_id, event = listed_end(server, "Completed")
    result = resume(job_id, event)
    assert (result["job_id"], result["state"], result["imported_rows"]) == (job_id, "Completed", None)


def test_a_listed_failure_is_asked_for_its_reason_before_the_task_fails_without(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(description_retry, "DESCRIPTION_PATIENCE", {Ending.REACHED: 2.0, Ending.JOB_FAILED: 3.0})
    job_id, event = listed_end(server, "Failed")
    began = time.monotonic()
    with pytest.raises(ZillizImportFailed, match="of the server" if server.face == "milvus" else "gave no reason"):
        resume(job_id, event)
    assert time.monotonic() - began >= 3


def test_a_job_that_the_list_calls_ended_and_that_runs_on_is_waited_for_again(server: LocalServer) -> None:
    job_id, event = server.add_job({"state": "Importing", "seconds": 600}), None
    end = {"version": 1, "ending": "reached", "message": "m", "progress": None}
    event = {**end, "listed": {"jobId": job_id, "state": "Completed"}, "facts": {}}
    with pytest.raises(TaskDeferred) as deferred:
        resume(job_id, event, started_at=time.time())
    assert json.loads(deferred.value.trigger.seen)["distrusts_list"] is True


def test_a_refused_list_leaves_the_waits_to_descriptions(server: LocalServer) -> None:
    server.add_fault("status", status=403, path="list", times=None)
    events = asyncio.run(events_of(running(server, 0.5, {"state": "Completed"})))
    assert [event["progress"]["importedRows"] for event in events] == [5] * MANY


def test_cancelled_waits_disturb_no_other(server: LocalServer) -> None:
    jobs = running(server, 60, {"state": "Completed"})

    def end_all() -> None:
        for job_id in jobs:
            server.set_job(job_id, {"state": "Completed"}, totalRows=5)

    async def some_are_cancelled() -> list[Any]:
        tasks = [asyncio.create_task(event_of(trigger(job_id))) for job_id in jobs]
        await asyncio.sleep(0.7)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.to_thread(end_all)
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    for number, outcome in enumerate(asyncio.run(some_are_cancelled())):
        if number % 3 == 0:
            assert isinstance(outcome, asyncio.CancelledError)
        else:
            assert outcome["ending"] == "reached"


def test_triggers_that_start_together_share_a_look_up_and_may_give_it_up(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [server.add_job({"state": "Completed"}) for _ in range(3)]
    looked_up = []
    look_up = ZillizHook.aendpoint

    async def slowly(hook: ZillizHook) -> Endpoint:
        looked_up.append(hook.zilliz_conn_id)
        await asyncio.sleep(0.1)
        return await look_up(hook)

    monkeypatch.setattr(ZillizHook, "aendpoint", slowly)

    async def live() -> list[dict[str, Any]]:
        first, *others = [asyncio.create_task(event_of(trigger(job_id))) for job_id in jobs]
        await asyncio.sleep(0.05)
        first.cancel()
        return list(await asyncio.gather(*others))

    assert [event["ending"] for event in asyncio.run(live())] == [Ending.REACHED.value] * 2
    assert looked_up == ["zilliz_default"]


def test_a_key_rotated_in_mid_wait_is_found_by_all(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = running(server, 2.0, {"state": "Completed"})

    async def the_key_changes() -> list[dict[str, Any]]:
        waits = asyncio.gather(*(event_of(trigger(job_id)) for job_id in jobs))
        await asyncio.sleep(0.5)
        fields = json.loads(server.connection(max_requests_per_second=100))
        monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps({**fields, "password": "another-key-0123"}))
        await asyncio.to_thread(server.set, api_key="another-key-0123")
        return list(await waits)

    assert [event["ending"] for event in asyncio.run(the_key_changes())] == ["reached"] * MANY


def test_a_server_that_limits_its_rate_is_waited_out(server: LocalServer) -> None:
    server.set(requests_per_second=2)
    events = asyncio.run(events_of(running(server, 1.0, {"state": "Completed"})))
    assert [event["ending"] for event in events] == ["reached"] * MANY
