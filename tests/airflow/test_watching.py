"""The trigger of an asset watcher: an event for each completed import of a collection."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.triggers import ZillizImportEventTrigger


class Store:
    """Stands for Airflow 3.3's asset state store."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.broken = False

    async def aget(self, key: str, default: Any = None) -> Any:
        if self.broken:
            raise OSError("no supervisor")
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = json.dumps(value)


@pytest.fixture
def server(server_process: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    server_process.clear()
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", server_process.connection(max_requests_per_second=1000))
    return server_process


def end(server: LocalServer, job_id: str, collection: str = "books", state: str = "Completed") -> None:
    server.set_job(job_id, {"state": state}, collectionName=collection, totalRows=10)


async def watch(store: Store | None, happen: Any = None, seconds: float = 1.5, **arguments: Any) -> list[Any]:
    """Return the payloads of a trigger that runs for a while, in which something happens on a worker's side."""
    classpath, kwargs = ZillizImportEventTrigger("books", poke_interval=0.1, **arguments).serialize()
    assert classpath == "airflow_zilliz.triggers.ZillizImportEventTrigger"
    trigger: Any = ZillizImportEventTrigger(**json.loads(json.dumps(kwargs)))
    trigger.asset_state_store = store
    payloads: list[Any] = []

    async def listen() -> None:
        async with aclosing(trigger.run()) as events:
            async for event in events:
                payloads.append(json.loads(json.dumps(event.payload)))

    listening = asyncio.ensure_future(listen())
    await asyncio.sleep(seconds / 3)
    if happen is not None:
        await asyncio.to_thread(happen)
    await asyncio.sleep(seconds * 2 / 3)
    assert not listening.done(), "it never ends by itself"
    listening.cancel()
    return payloads


def ids(payloads: list[Any]) -> list[str]:
    return [payload["job_id"] for payload in payloads]


async def test_each_completion_in_the_collection_is_one_event(server: LocalServer) -> None:
    def happen() -> None:
        end(server, "101")
        end(server, "102", collection="films")
        end(server, "103", state="Failed")
        end(server, "104")

    end(server, "100")
    payloads = await watch(Store(), happen)
    assert sorted(ids(payloads)) == ["101", "104"]
    assert (payloads[0]["state"], payloads[0]["collection_name"], payloads[0]["total_rows"]) == (
        "Completed",
        "books",
        10,
    )


async def test_a_restarted_triggerer_reports_what_it_missed_and_nothing_twice(server: LocalServer) -> None:
    store = Store()
    server.set(collections=["books"])
    assert ids(await watch(store, lambda: end(server, "101"))) == ["101"]
    end(server, "102")
    assert ids(await watch(store)) == ["102"]
    assert ids(await watch(store)) == []


async def test_trouble_is_waited_out(server: LocalServer) -> None:
    def happen() -> None:
        end(server, "101")
        server.clear("faults")

    server.add_fault("status", path="list", status=503, times=None)
    store = Store()
    store.values["zilliz/zilliz_default/////books"] = "{}"
    assert ids(await watch(store, happen)) == ["101"]


async def test_a_store_that_cannot_be_read_does_not_start_a_new_watcher(server: LocalServer) -> None:
    store = Store()
    store.values["zilliz/zilliz_default/////books"] = "{}"
    store.broken = True
    end(server, "101")

    def happen() -> None:
        store.broken = False

    assert ids(await watch(store, happen)) == ["101"]


@pytest.mark.parametrize("arguments", [{"collection_name": ""}, {"collection_name": "books", "poke_interval": 0}])
def test_the_constructor_rejects_what_can_never_work(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        ZillizImportEventTrigger(**arguments)
