"""pymilvus's own bulk-import calls against the local server, and our hook's requests beside pymilvus's on the wire."""

from __future__ import annotations

import json
import time
from typing import Any

import grpc
import pytest
from pymilvus.bulk_writer import bulk_import, get_import_progress, list_import_jobs
from pymilvus.exceptions import MilvusException

from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.operators import ZillizImportOperator
from tests.airflow.submitting import TaskInstance, context_of
from tests.contract.conftest import CLUSTER, KEYS, connect, rows, write_json

PROJECT = {"project_id": "proj-1", "region_id": "aws-us-west-2"}


def place_of(server: LocalServer) -> dict[str, str]:
    return {"cluster_id": CLUSTER} if server.face == "cloud" else {}


def source_of(server: LocalServer, name: str) -> dict[str, Any]:
    return {"object_urls": [[f"s3://bucket/{name}"]]} if server.face == "cloud" else {"files": [[name]]}


def write(server: LocalServer, name: str, content: object) -> None:
    folder = server.data_dir / ("bucket" if server.face == "cloud" else "")
    folder.mkdir(exist_ok=True)
    write_json(folder, name, content)


def test_pymilvus_imports_follows_and_lists(any_face: LocalServer) -> None:
    key, place = KEYS[any_face.face], place_of(any_face)
    write(any_face, "sdk.json", rows(30))
    created = bulk_import(any_face.url, "books", api_key=key, **place, **source_of(any_face, "sdk.json")).json()
    job_id = created["data"]["jobId"]
    assert job_id.startswith("job-") if any_face.face == "cloud" else job_id.isdigit()
    wire_place = {"clusterId": CLUSTER} if place else {}
    any_face.wait_for_job(job_id, "Completed", **wire_place)
    described = get_import_progress(any_face.url, job_id, api_key=key, **place).json()["data"]
    assert (described["state"], described["progress"], described["importedRows"]) == ("Completed", 100, 30)
    listed = list_import_jobs(any_face.url, api_key=key, page_size=100, **place).json()["data"]["records"]
    assert {"jobId": job_id, "state": "Completed"}.items() <= next(r for r in listed if r["jobId"] == job_id).items()


def test_pymilvus_shows_a_failed_job(any_face: LocalServer) -> None:
    key, place = KEYS[any_face.face], place_of(any_face)
    write(any_face, "broken.json", [{"id": 1}])
    created = bulk_import(any_face.url, "books", api_key=key, **place, **source_of(any_face, "broken.json")).json()
    job_id = created["data"]["jobId"]
    any_face.wait_for_job(job_id, "Failed", **({"clusterId": CLUSTER} if place else {}))
    described = get_import_progress(any_face.url, job_id, api_key=key, **place).json()["data"]
    assert (described["state"], described["progress"], "vector" in described["reason"]) == ("Failed", 0, True)


def test_pymilvus_does_not_know_a_job(any_face: LocalServer) -> None:
    code, text = (96026, "Job not found") if any_face.face == "cloud" else (2101, "import job does not exist, jobID=5")
    with pytest.raises(MilvusException, match=rf"code: {code}, message: {text}"):
        get_import_progress(any_face.url, "5", api_key=KEYS[any_face.face], **place_of(any_face))


def test_pymilvus_pages(any_face: LocalServer) -> None:
    any_face.clear()
    made = {any_face.add_job({"state": "Importing"}) for _ in range(25)}
    key, place = KEYS[any_face.face], place_of(any_face)
    pages = [
        list_import_jobs(any_face.url, api_key=key, page_size=20, current_page=page, **place).json()["data"]["records"]
        for page in (1, 2)
    ]
    assert [len(page) for page in pages] == ([20, 5] if any_face.face == "cloud" else [25, 25])
    assert {record["jobId"] for page in pages for record in page} == made


def test_pymilvus_is_refused_with_a_wrong_key(any_face: LocalServer) -> None:
    with pytest.raises(MilvusException, match=r"401|apikey is illegal"):
        get_import_progress(any_face.url, "1", api_key="wrong", **place_of(any_face))


def test_a_client_with_nothing_to_say_may_ping(any_face: LocalServer) -> None:
    """Each pymilvus client pings its server every 10 s; gRPC's servers disconnect such clients by default."""
    states: list[grpc.ChannelConnectivity] = []
    options = {
        "grpc.keepalive_time_ms": 1000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
    }
    with grpc.insecure_channel(any_face.url.removeprefix("http://"), options=list(options.items())) as channel:
        channel.subscribe(states.append, try_to_connect=True)
        grpc.channel_ready_future(channel).result(timeout=30)
        time.sleep(5)
    assert states[-1] is grpc.ChannelConnectivity.READY
    assert states.count(grpc.ChannelConnectivity.READY) == 1, "it had to connect again"


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Compare two requests field by field; pymilvus sends "" and null for what is not set (wire 1.4)."""

    def given(body: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in body.items() if value not in ("", None, {})}

    assert ours["method"] == theirs["method"]
    assert ours["path"] == theirs["path"]
    assert given(ours["body"]) == given(theirs["body"])
    for header in ("authorization-sha256", "db-name", "content-type"):
        assert ours["headers"].get(header) == theirs["headers"].get(header), header


@pytest.mark.parametrize("db_name", ["", "films"])
@pytest.mark.parametrize("target", ["cluster", "project"])
def test_our_progress_request_is_pymilvus_s(
    any_face: LocalServer, monkeypatch: pytest.MonkeyPatch, target: str, db_name: str
) -> None:
    hook = connect(monkeypatch, any_face)
    place = {"cluster_id": CLUSTER} if target == "cluster" else PROJECT
    job_id = any_face.add_job({"state": "Importing"})
    any_face.clear("requests")
    get_import_progress(any_face.url, job_id, api_key=KEYS[any_face.face], db_name=db_name, **place)
    hook.get_import_progress(job_id, db_name=db_name or None, **place)
    theirs, ours = any_face.requests()
    same(ours, theirs)


@pytest.mark.parametrize("collection", ["", "books"])
def test_our_list_request_is_pymilvus_s(
    any_face: LocalServer, monkeypatch: pytest.MonkeyPatch, collection: str
) -> None:
    hook = connect(monkeypatch, any_face)
    any_face.clear("requests")
    any_face.set(collections=["books"])
    arguments = {"db_name": "films", "cluster_id": CLUSTER}
    list_import_jobs(any_face.url, collection, api_key=KEYS[any_face.face], page_size=100, **arguments)
    list(hook.list_import_jobs(collection_name=collection or None, **arguments))
    theirs, ours = any_face.requests()
    same(ours, theirs)


@pytest.mark.parametrize(
    "source",
    [
        {"files": [["a.parquet"], ["b.npy", "c.npy"]], "partition_name": "p", "options": {"timeout": "300s"}},
        {"object_urls": [["s3://b/a.parquet"]], "access_key": "a", "secret_key": "s", "token": "t"},
        {"volume_name": "v", "data_paths": [["dir/"]]},
    ],
)
@pytest.mark.parametrize("place", [{}, {"cluster_id": CLUSTER}, PROJECT])
def test_our_import_request_is_pymilvus_s(
    any_face: LocalServer, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], place: dict[str, str]
) -> None:
    if any_face.face == "cloud" and not place:
        place = {"cluster_id": "in02-0123456789abcde"}  # Zilliz Cloud has no imports without a place
    hook = connect(monkeypatch, any_face)
    any_face.script({"state": "Completed"})
    any_face.clear("requests")
    if any_face.face == "milvus":
        source = {**source, "files": source.get("files", [["a.parquet"]])}
        source = {k: v for k, v in source.items() if k in ("files", "partition_name", "options")}
    bulk_import(any_face.url, "books", api_key=KEYS[any_face.face], **place, **source)
    hook.bulk_import("books", **place, **source)
    storage = {name: source.pop(name, None) for name in ("access_key", "secret_key", "token")}
    if storage["access_key"]:
        fields = {"login": storage["access_key"], "password": storage["secret_key"]}
        extra = {"session_token": storage["token"]}
        monkeypatch.setenv("AIRFLOW_CONN_STORAGE", json.dumps({"conn_type": "aws", **fields, "extra": extra}))
        source = {**source, "storage_conn_id": "storage"}
    operator = ZillizImportOperator(task_id="t", collection_name="books", wait_for_completion=False, **place, **source)
    operator.execute(context_of(TaskInstance()))
    any_face.clear("script")
    theirs, ours, operators = any_face.requests("create")
    same(ours, theirs)
    same(operators, theirs)
