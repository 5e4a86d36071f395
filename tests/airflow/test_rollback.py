"""What a newer version wrote into Airflow's database, and this one reads after a rollback."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from airflow_zilliz._tasks.two_phase import ZillizCommitImportOperator
from airflow_zilliz._wait.checkpoint import Checkpoint
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.sensors import ZillizImportSensor
from airflow_zilliz.triggers import ZillizImportEventTrigger, ZillizImportTrigger, ZillizOwnedImportTrigger
from tests.helpers.servers import ServerPool

NEWER = {"of_a_newer_version": "s3cret", "another": {"nested": 1}}
WAITS: Any = pytest.mark.parametrize("cls", [ZillizImportTrigger, ZillizOwnedImportTrigger])


@pytest.fixture(scope="module")
def server_process(server_pool: ServerPool) -> LocalServer:
    return server_pool.take()


class Lines:
    """Stands for a task's log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, level: int, text: str, *values: object) -> None:
        self.lines.append(text % values)

    def warning(self, text: str, *values: object) -> None:
        self.lines.append(text % values)

    info = warning


def assert_logged_once(lines: list[str]) -> None:
    logged = [line for line in lines if "are ignored" in line]
    assert logged == [
        "Arguments that this version of the provider does not know are ignored: another, of_a_newer_version"
    ]


@WAITS
def test_a_trigger_ignores_the_arguments_of_a_newer_version(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, cls: type[ZillizImportTrigger]
) -> None:
    log = Lines()
    monkeypatch.setattr(cls, "log", log)
    job_id = server.add_job({"state": "Completed"})
    trigger = cls(job_id=job_id, zilliz_conn_id="zilliz_default", **NEWER)
    assert not NEWER.keys() & trigger.serialize()[1].keys()

    async def payloads() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    (payload,) = asyncio.run(payloads())
    assert payload["ending"] == "reached"
    assert_logged_once(log.lines)


def test_the_trigger_of_an_asset_watcher_does_so_too(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Lines()
    server.set(collections=["books"])
    monkeypatch.setattr(ZillizImportEventTrigger, "log", log)
    trigger = ZillizImportEventTrigger("books", poke_interval=0.1, **NEWER)
    assert not NEWER.keys() & trigger.serialize()[1].keys()

    async def watch() -> Any:
        first = asyncio.ensure_future(anext(trigger.run()))
        while not await asyncio.to_thread(server.requests, "list"):  # noqa: ASYNC110 - another process serves it
            await asyncio.sleep(0.05)
        await asyncio.to_thread(server.add_job, {"state": "Completed"}, collectionName="books")
        return (await asyncio.wait_for(first, 10)).payload

    assert asyncio.run(watch())["collection_name"] == "books"
    assert_logged_once(log.lines)


@pytest.mark.parametrize("cls", [ZillizImportSensor, ZillizCommitImportOperator])
def test_a_task_ignores_what_a_newer_version_s_deferral_left_for_it(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, cls: type[Any]
) -> None:
    log = Lines()
    monkeypatch.setattr(cls, "log", log)
    task = cls(task_id="wait", job_id=server.add_job({"state": "Completed"}, totalRows=3))
    kwargs = {"event": None, "started_at": time.time(), **NEWER}
    assert task.resume_execution("execute_complete", kwargs, {})["imported_rows"] == 3
    assert_logged_once(log.lines)


def test_the_memory_of_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    written = json.dumps({"summary": "Importing 40 %", "of_a_newer_version": [1], "polled_at": "yesterday"})
    assert Checkpoint.from_json(written) == Checkpoint(summary="Importing 40 %")
