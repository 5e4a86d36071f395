from __future__ import annotations

from typing import Any

import pytest

from airflow_zilliz._protocol.calls import create
from airflow_zilliz._protocol.import_request import create_request, digest_of
from airflow_zilliz._protocol.target import Target
from airflow_zilliz.exceptions import ZillizConfigError, ZillizUnavailable
from tests.helpers.responses import response_of, run


def test_a_milvus_import() -> None:
    request = create_request(
        "books",
        Target(db_name="db"),
        files=[["a.parquet"], ["b.npy", "c.npy"]],
        partition_name="p",
        options={"auto_commit": False, "timeout": "300s", "start_ts": 5, "ezk": None},
        idempotency_key="dag/run/task/-1",
    )
    assert request.body == {
        "collectionName": "books",
        "dbName": "db",
        "partitionName": "p",
        "files": [["a.parquet"], ["b.npy", "c.npy"]],
        "options": {"auto_commit": "false", "timeout": "300s", "start_ts": "5"},
    }
    assert request.headers == {"DB-Name": "db", "Idempotency-Key": "dag/run/task/-1"}
    assert not request.repeatable


def test_a_cloud_import_of_a_volume() -> None:
    request = create_request("books", Target("in01-x"), volume_name="v", data_paths=(("dir/",),))
    assert request.body == {
        "collectionName": "books",
        "clusterId": "in01-x",
        "volumeName": "v",
        "dataPaths": [["dir/"]],
    }


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ({}, "exactly one"),
        ({"files": [["a"]], "object_urls": [["s3://a"]]}, "exactly one"),
        ({"volume_name": "v"}, "go together"),
        ({"files": ["a.parquet"]}, "list of lists"),
        ({"files": [[]]}, "list of lists"),
        ({"files": []}, "list of lists"),
        ({"files": "a"}, "list of lists"),
        ({"files": [[3]]}, "list of lists"),
        ({"files": [["a"]], "idempotency_key": ""}, "idempotency_key"),
        ({"files": [["a"]], "idempotency_key": "x" * 257}, "idempotency_key"),
        ({"files": [["a"]], "idempotency_key": "ü"}, "idempotency_key"),
    ],
)
def test_what_no_server_takes_is_refused_before_it_is_sent(source: dict[str, Any], word: str) -> None:
    with pytest.raises(ZillizConfigError, match=word):
        create_request("books", Target(), **source)


def test_the_job_id_comes_back() -> None:
    request = create_request("books", Target(), files=[["a"]])
    assert run(create(request), response_of({"code": 0, "data": {"jobId": "7"}})) == ("7", [request])


def test_no_job_id_is_no_usable_response() -> None:
    with pytest.raises(ZillizUnavailable, match="without a job id"):
        run(create(create_request("books", Target(), files=[["a"]])), response_of({"code": 0, "data": {}}))


def digest(*groups: list[str], options: dict[str, Any] | None = None) -> str:
    return digest_of(create_request("books", Target(), files=groups, options=options))


def test_the_same_files_have_the_same_digest() -> None:
    found = {
        digest(["a.parquet"], ["1/id.npy", "1/vector.npy"]),
        digest(["1/vector.npy", "1/id.npy"], ["a.parquet"]),
        digest(["/a.parquet"], ["1/id.npy", "1/vector.npy"], options={"timeout": "300s"}),
    }
    assert len(found) == 1


def test_other_files_have_another_digest() -> None:
    found = [
        digest(["a.parquet"]),
        digest(["a.parquet"], ["a.parquet"]),
        digest(["a.parquet"], options={"auto_commit": False}),
        digest(["s3://bucket/a#1.parquet"]),
        digest(["s3://bucket/a#2.parquet"]),
        digest(["s3://bucket/a?.parquet"]),
    ]
    assert len(set(found)) == len(found)
