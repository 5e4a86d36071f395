from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from tests.helpers.servers import ServerPool

KEYS = {"milvus": "root:Milvus-0123456789", "cloud": "k3y-0123456789abcdef"}
CLUSTER = "in01-0123456789abcde"
DIM = 4


@pytest.fixture(scope="module", params=["milvus", "cloud"])
def any_face(request: pytest.FixtureRequest, server_pool: ServerPool) -> LocalServer:
    """A server of each face, with a key, and a collection ``books``."""
    server = server_pool.take(request.param, KEYS[request.param])
    make_collection(server, "books")
    return server


@pytest.fixture(scope="module")
def milvus_process(server_pool: ServerPool) -> LocalServer:
    return server_pool.take(api_key=KEYS["milvus"])


@pytest.fixture
def milvus(milvus_process: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    milvus_process.clear()
    connect(monkeypatch, milvus_process)
    return milvus_process


def connect(monkeypatch: pytest.MonkeyPatch, server: LocalServer, **extra: Any) -> ZillizHook:
    fields = json.loads(server.connection(max_requests_per_second=1000, **extra))
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps(fields))
    return ZillizHook()


def client_of(server: LocalServer) -> Any:
    from pymilvus import MilvusClient

    return MilvusClient(server.url)


def make_collection(server: LocalServer, name: str, *, dynamic: bool = False) -> Any:
    """Make a collection of all the kinds of field that files are converted for."""
    from pymilvus import DataType

    client = client_of(server)
    schema = client.create_schema(enable_dynamic_field=dynamic)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("title", DataType.VARCHAR, max_length=20, nullable=True)
    schema.add_field("price", DataType.DOUBLE, nullable=True)
    schema.add_field("sold", DataType.BOOL, nullable=True)
    schema.add_field("extra", DataType.JSON, nullable=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    if client.has_collection(name):
        client.drop_collection(name)
    client.create_collection(name, schema=schema, index_params=index)
    return client


def rows_in(server: LocalServer, name: str) -> int:
    client = client_of(server)
    client.load_collection(name)
    return int(client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"])


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": first + n, "title": f"book {n}", "vector": [0.1 * n] * DIM} for n in range(count)]


def write_json(folder: Path, name: str, content: object) -> str:
    (folder / name).write_text(json.dumps(content))
    return name
