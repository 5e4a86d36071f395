"""What pymilvus's BulkWriter writes is imported, and read back equal: every format, every type that the engine has."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from pymilvus import DataType, MilvusClient
from pymilvus.bulk_writer import BulkFileType, LocalBulkWriter
from pymilvus.exceptions import MilvusException

from airflow_zilliz.local.testing import LocalServer
from tests.helpers.servers import ServerPool

FORMATS = {
    "parquet": BulkFileType.PARQUET,
    "json": BulkFileType.JSON,
    "jsonl": BulkFileType.JSONL,
    "csv": BulkFileType.CSV,
    "numpy": BulkFileType.NUMPY,
}
#: A field's values, of which the second is another extreme.
SCALARS: dict[str, tuple[Any, Any]] = {
    "BOOL": (True, False),
    "INT8": (127, -128),
    "INT16": (32767, -32768),
    "INT32": (2**31 - 1, -(2**31)),
    "INT64": (2**63 - 1, -(2**63)),
    "FLOAT": (0.5, -3.4028234663852886e38),
    "DOUBLE": (0.1, -1.7976931348623157e308),
    "VARCHAR": ('a, "b"\nü', "1"),
    "JSON": ({"a": [1, 2.5, None, "ü", {"b": True}]}, {}),
    "GEOMETRY": ("POINT (1 2)", "POINT (3 4)"),
    "TIMESTAMPTZ": ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678901Z"),
}
ELEMENTS = ("BOOL", "INT8", "INT16", "INT32", "INT64", "FLOAT", "DOUBLE", "VARCHAR")
VECTOR = [0.5, -1.0, 2.0, 3.25]
numbers = itertools.count()


@pytest.fixture(scope="module")
def server(server_pool: ServerPool) -> LocalServer:
    return server_pool.take()


class Written:
    """A collection of one field beside its key and its vector, and rows that BulkWriter writes for it."""

    def __init__(self, server: LocalServer, *, dynamic: bool = False, auto_id: bool = False) -> None:
        self.server = server
        self.client = MilvusClient(server.url)
        self.name = f"c{next(numbers)}"
        self.schema = self.client.create_schema(enable_dynamic_field=dynamic, auto_id=auto_id)
        self.schema.add_field("id", DataType.INT64, is_primary=True, auto_id=auto_id)
        self.schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
        self.auto_id = auto_id

    def add(self, name: str, kind: str, **options: Any) -> Written:
        options = {"max_length": 100, **options} if kind == "VARCHAR" or options.get("element_type") else options
        self.schema.add_field(name, DataType[kind], **options)
        return self

    def write(self, kind: str, rows: list[dict[str, Any]]) -> list[list[str]]:
        index = self.client.prepare_index_params()
        for field in self.schema.fields:
            if field.dtype == DataType.FLOAT_VECTOR:
                index.add_index(field.name, index_type="FLAT", metric_type="L2")
            if field.dtype == DataType.SPARSE_FLOAT_VECTOR:
                index.add_index(field.name, index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        self.client.create_collection(self.name, schema=self.schema, index_params=index)
        folder = self.server.data_dir / self.name
        writer = LocalBulkWriter(self.schema, str(folder), file_type=FORMATS[kind])
        for number, row in enumerate(rows):
            key = {} if self.auto_id else {"id": number}
            writer.append_row({**key, "vector": list(VECTOR), **row})
        writer.commit()
        root = self.server.data_dir.resolve()
        return [
            [str(Path(path).resolve().relative_to(root.resolve())) for path in group] for group in writer.batch_files
        ]

    def imported(self, files: list[list[str]]) -> list[dict[str, Any]]:
        job = self.run(files)
        assert job["state"] == "Completed", job
        assert "reason" not in job["details"][0], "no row is doubled"
        self.client.load_collection(self.name)
        found = self.client.query(self.name, filter="id >= 0", output_fields=["*"], limit=1000)
        assert len(found) == job["importedRows"]
        return sorted((dict(row) for row in found), key=lambda row: row["id"])

    def run(self, files: list[list[str]]) -> dict[str, Any]:
        url = f"{self.server.url}/v2/vectordb/jobs/import/create"
        response = requests.post(url, json={"collectionName": self.name, "files": files}, timeout=30).json()
        assert response["code"] == 0, response
        return self.server.wait_for_job(response["data"]["jobId"], "Completed", "Failed")


def round_trip(written: Written, kind: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return written.imported(written.write(kind, rows))


def plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def values(row: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: plain(row[name]) for name in names}


@pytest.mark.parametrize("kind", FORMATS)
def test_scalars(server: LocalServer, kind: str) -> None:
    written = Written(server)
    for field in SCALARS:
        written.add(field, field)
    given = [{field: both[index] for field, both in SCALARS.items()} for index in (0, 1)]
    found = round_trip(written, kind, given)
    assert [values(row, SCALARS) for row in found] == given
    assert [list(row["vector"]) for row in found] == [VECTOR, VECTOR]


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "numpy"])  # BulkWriter writes none of these
def test_arrays(server: LocalServer, kind: str) -> None:
    written = Written(server)
    for element in ELEMENTS:
        written.add(element, "ARRAY", element_type=DataType[element], max_capacity=4)
    given = [{element: list(SCALARS[element]) for element in ELEMENTS}, {element: [] for element in ELEMENTS}]
    found = round_trip(written, kind, given)
    assert [{name: [plain(item) for item in row[name]] for name in ELEMENTS} for row in found] == given


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "numpy"])
@pytest.mark.parametrize("given", [{1: 0.5, 4294967294: 2.0}, {"indices": [3, 7], "values": [1.0, 0.25]}])
def test_sparse_vectors(server: LocalServer, kind: str, given: dict[Any, Any]) -> None:
    found = round_trip(Written(server).add("x", "SPARSE_FLOAT_VECTOR"), kind, [{"x": given}])
    pairs = zip(given["indices"], given["values"], strict=True) if "indices" in given else given.items()
    assert found[0]["x"] == dict(pairs)


#: What BulkWriter writes another value than null for: the words ``None`` and ``null``.
NO_NULL = {"csv": ("BOOL",), "parquet": ("JSON",)}


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "numpy"])  # it makes object arrays of them
def test_nulls(server: LocalServer, kind: str) -> None:
    """R43."""
    fields = [field for field in SCALARS if field not in NO_NULL.get(kind, ())]
    written = Written(server)
    for field in fields:
        written.add(field, field, nullable=True)
    none, some = dict.fromkeys(fields), {field: SCALARS[field][0] for field in fields}
    if "INT64" in some:
        some["INT64"] = 2**53  # beside a null, pandas makes a float of it
    found = round_trip(written, kind, [dict(none), {}, dict(some)])
    assert [values(row, fields) for row in found] == [none, none, some]


@pytest.mark.parametrize("kind", FORMATS)
def test_defaults(server: LocalServer, kind: str) -> None:
    """R43."""
    written = Written(server).add("x", "INT64", default_value=7).add("y", "VARCHAR", default_value="none")
    found = round_trip(written, kind, [{"x": None}, {}, {"x": 8, "y": ""}])
    default = "none" if kind == "csv" else ""  # the null word of CSV is the empty text
    assert [(row["x"], row["y"]) for row in found] == [(7, "none"), (7, "none"), (8, default)]


@pytest.mark.parametrize("kind", FORMATS)
def test_auto_id(server: LocalServer, kind: str) -> None:
    found = round_trip(Written(server, auto_id=True).add("x", "INT64"), kind, [{"x": number} for number in range(3)])
    assert sorted(row["x"] for row in found) == [0, 1, 2]
    assert len({row["id"] for row in found}) == 3


@pytest.mark.parametrize("kind", FORMATS)
def test_dynamic_fields(server: LocalServer, kind: str) -> None:
    """R36."""
    given: list[dict[str, Any]] = [{"shelf": "A3", "copies": 2, "tags": [1, "ü", None]}, {}, {"$meta": {"shelf": "B1"}}]
    written = Written(server, dynamic=True)
    ((*paths,),) = written.write(kind, given)
    assert any("$meta" in name for name in paths) or b"$meta" in (server.data_dir / paths[0]).read_bytes()
    found = written.imported([paths])
    extra = [{key: value for key, value in row.items() if key not in ("id", "vector")} for row in found]
    assert extra == [given[0], {}, {"shelf": "B1"}]


def test_pymilvus_inserts_no_meta(server: LocalServer) -> None:
    """R104: what an import takes, pymilvus's own insert does not."""
    written = Written(server, dynamic=True)
    files = written.write("json", [{"shelf": "A3"}])
    row = {"id": 0, "vector": VECTOR}
    with pytest.raises(MilvusException):
        written.client.insert(written.name, [{**row, "$meta": {"shelf": "A3"}}])
    assert [found["shelf"] for found in written.imported(files)] == ["A3"]
    assert written.client.insert(written.name, [row])["insert_count"] == 1, "the key alone was wrong"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_text_of_a_varchar_key(server: LocalServer, kind: str, tmp_path: Path) -> None:
    written = Written(server)
    written.schema = written.client.create_schema()
    written.schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=20)
    written.schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    files = written.write(kind, [{"id": "ä"}, {"id": "007"}])
    assert written.run(files)["state"] == "Completed"
    written.client.load_collection(written.name)
    found = written.client.query(written.name, filter='id != ""', output_fields=["id"])
    assert sorted(row["id"] for row in found) == ["007", "ä"]


def test_null_in_a_numpy_file_is_refused(server: LocalServer) -> None:
    """R97."""
    written = Written(server).add("x", "INT64", nullable=True)
    job = written.run(written.write("numpy", [{"x": None}, {"x": 1}]))
    assert (job["state"], "x.npy is not a readable NumPy file: Object arrays" in job["reason"]) == ("Failed", True), job


def test_a_key_that_was_there_is_warned_of(server: LocalServer) -> None:
    """R49, R50, R103: what Milvus has twice is there once, and counted twice."""
    written = Written(server)
    files = written.write("parquet", [{} for _ in range(10)])
    assert "reason" not in written.run(files)["details"][0]
    job = written.run(files)
    assert (job["state"], job["importedRows"], job["totalRows"]) == ("Completed", 10, 10)
    warning = "10 of the job's rows have a primary key that another row has"
    assert warning in job["details"][0]["reason"]
    assert server.log_path is not None
    assert warning in server.log_path.read_text()
    shutil.copy(server.data_dir / files[0][0], server.data_dir / "again.parquet")
    other = Written(server)
    other.write("parquet", [{}])
    job = other.run([["again.parquet"], ["again.parquet"]])
    assert "10 of the job's rows" in job["details"][1]["reason"], "within one job"


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("twice", ["in the collection", "in one job", "in one batch"])
def test_rows_with_a_key_that_another_row_has_are_counted(server: LocalServer, twice: str, *, loaded: bool) -> None:
    """R49."""
    written = Written(server)
    ((file,),) = written.write("json", [{} for _ in range(3000)])
    if not loaded:
        written.client.release_collection(written.name)
    if twice == "in the collection":
        assert "reason" not in written.run([[file]])["details"][0]
        files = [[file]]
    elif twice == "in one job":
        files = [[file], [file]]
    else:
        shutil.copy(server.data_dir / file, server.data_dir / "twice.json")
        rows = json.loads((server.data_dir / file).read_text())["rows"]
        (server.data_dir / "twice.json").write_text(json.dumps([row for row in rows for _ in (0, 1)]))
        files = [["twice.json"]]
    details = written.run(files)["details"]
    assert all(detail["reason"].startswith("3000 of the job's rows") for detail in details)
    written.client.load_collection(written.name)
    (found,) = written.client.query(written.name, filter="", output_fields=["count(*)"])
    assert found["count(*)"] == 3000


def test_a_null_vector_reads_back_as_zeros(server: LocalServer) -> None:
    """R102."""
    written = Written(server)
    written.schema = written.client.create_schema()
    written.schema.add_field("id", DataType.INT64, is_primary=True)
    written.schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4, nullable=True)
    found = round_trip(written, "parquet", [{"vector": None}, {}])
    assert [list(row["vector"]) for row in found] == [[0.0] * 4, VECTOR]


@pytest.mark.parametrize("kind", ["BINARY_VECTOR", "FLOAT16_VECTOR", "BFLOAT16_VECTOR", "INT8_VECTOR"])
def test_vectors_that_the_engine_lacks(server: LocalServer, kind: str) -> None:
    """R101."""
    client = MilvusClient(server.url)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType[kind], dim=8)
    with pytest.raises(MilvusException):
        client.create_collection(f"c{next(numbers)}", schema=schema)
