"""The local server's routes, given whatever can be sent: each response is one that a real server could give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_zilliz.local.testing import LocalServer
from tests.contract.conftest import make_collection
from tests.helpers.servers import ServerPool

IMPORTS = [f"jobs/import/{verb}" for verb in ("create", "describe", "get_progress", "list", "commit", "abort")]
DATABASES = [f"databases/{verb}" for verb in ("create", "describe", "list", "drop")]
KNOWN = ("collectionName", "dbName", "partitionName", "files", "options", "jobId", "clusterId", "projectId", "regionId")
CLOUD = ("objectUrl", "objectUrls", "accessKey", "secretKey", "volumeName", "dataPaths", "pageSize", "currentPage")
#: What may stand in a header; aiohttp itself refuses the rest.
HEADER_TEXT = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=300).map(str.strip)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("books") | st.just("a.json"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
requests_of_some_sense = st.dictionaries(st.sampled_from((*KNOWN, *CLOUD)), json_values, max_size=8)
bodies = st.binary() | (json_values | requests_of_some_sense).map(lambda value: json.dumps(value).encode())


@pytest.fixture(scope="module", params=["milvus", "cloud"])
def fuzzed(request: pytest.FixtureRequest, server_pool: ServerPool) -> Iterator[LocalServer]:
    server = server_pool.take(request.param)
    (server.data_dir / "a.json").write_text('[{"id": 1}]')
    make_collection(server, "books")
    server.add_job({"state": "Importing"}, jobId="1")
    assert server.log_path is not None
    before = server.log_path.stat().st_size
    yield server
    assert b"Traceback" not in server.log_path.read_bytes()[before:]


def send(server: LocalServer, path: str, body: bytes, headers: dict[str, str] | None = None) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"{server.url}{path}", data=body, headers=headers, timeout=30)


@settings(deadline=None)
@given(verb=st.sampled_from(IMPORTS), body=bodies, key=st.none() | HEADER_TEXT, database=st.none() | HEADER_TEXT)
def test_every_response_of_a_route_is_one_of_the_api(
    fuzzed: LocalServer, verb: str, body: bytes, key: str | None, database: str | None
) -> None:
    named = {"Idempotency-Key": key, "DB-Name": database}
    headers = {name: value for name, value in named.items() if value is not None}
    response = send(fuzzed, f"/v2/vectordb/{verb}", body, headers)
    assert response.status_code < 500, response.text
    answer = response.json()
    assert isinstance(answer["code"], int)
    assert ("data" in answer) == (answer["code"] in (0, 200)), answer


@settings(deadline=None)
@given(verb=st.sampled_from(DATABASES), name=st.text() | st.sampled_from(["../..", "/", ".", "a/b", "\0", "x" * 300]))
def test_any_name_of_a_database_gets_a_response(fuzzed: LocalServer, verb: str, name: str) -> None:
    response = send(fuzzed, f"/v2/vectordb/{verb}", json.dumps({"dbName": name}).encode())
    assert response.status_code == (200 if fuzzed.flavor == "milvus" else 404), response.text
    imported = {"collectionName": "books", "dbName": name, "files": [["a.json"]]}
    assert send(fuzzed, "/v2/vectordb/jobs/import/create", json.dumps(imported).encode()).status_code == 200


@settings(deadline=None)
@given(path=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60), body=st.binary())
def test_no_path_is_too_much(fuzzed: LocalServer, path: str, body: bytes) -> None:
    assert send(fuzzed, "/" + path.lstrip("/"), body).status_code < 500


@settings(deadline=None)
@given(what=st.sampled_from(["jobs", "faults", "settings", "script", "jobs/1"]), body=bodies)
def test_the_control_route_refuses_what_it_does_not_know(fuzzed: LocalServer, what: str, body: bytes) -> None:
    assert send(fuzzed, f"/_control/{what}", body).status_code in (200, 400)
    for one in ("faults", "settings", "script"):
        fuzzed.clear(one)
