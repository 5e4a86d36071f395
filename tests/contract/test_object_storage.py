"""A dataset listed over S3, by Airflow's own provider of it; moto's server stands for S3. `make test-s3` runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("s3fs", reason="make test-s3 installs what S3 needs")
pytest.importorskip("airflow.providers.amazon", reason="make test-s3 installs what S3 needs")
pytest.importorskip("moto", reason="make test-s3 installs what S3 needs")

import boto3
import numpy as np
import requests

from airflow_zilliz._tasks.dataset_source import key_of_url, list_source
from airflow_zilliz.exceptions import ZillizUnavailable
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.operators import ZillizImportDatasetOperator
from dev.airflow_process import free_port
from tests.airflow.submitting import TaskInstance, run_operator
from tests.helpers.book_files import ids_in, make_collection, write_books, write_parquet

ROWS, FILES = 2, 12
#: S3 returns so many names at a time.
PAGE = 1000


@pytest.fixture(autouse=True)
def no_blocked_loop() -> None:
    """The loop is s3fs's own, in a thread of its own."""


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """Run a server that speaks S3; yield its address."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                try:
                    requests.get(url, timeout=1)
                except requests.ConnectionError:
                    assert server.poll() is None
                    continue
                break
            yield url
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def lake(storage: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill a bucket, and the folder from which the local server reads the same keys."""
    folder = tmp_path_factory.mktemp("lake")
    write_books(folder / "books", FILES, ROWS, write_parquet)
    for name, key in (("deep/er/one", 100), ("deep/two", 200)):
        path = folder / "books" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(path, range(key, key + ROWS))
    for part in ("a", "b"):
        (folder / "arrays" / part).mkdir(parents=True)
        ids = np.arange(ROWS) + 300 + 10 * (part == "b")
        np.save(folder / "arrays" / part / "id.npy", ids)
        np.save(folder / "arrays" / part / "vector.npy", np.full((ROWS, 2), 0.5, np.float32))
    for name in ("books/_SUCCESS", "books/.crc/00000.parquet", "books/_tmp/00000.parquet"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("hidden")
    (folder / "books" / "empty.parquet").touch()
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=storage, **keys)
    client.create_bucket(Bucket="lake")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), "lake", str(path.relative_to(folder)))
    for number in range(PAGE + 5):
        client.put_object(Bucket="lake", Key=f"many/{number:05}.json", Body=b"[]")
    client.put_object(Bucket="lake", Key="books/", Body=b"")  # as consoles mark a folder
    return folder


@pytest.fixture(autouse=True)
def connection(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {
        "conn_type": "aws",
        "login": "test",
        "password": "test",
        "extra": {"endpoint_url": storage, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(fields))


def listed(source: str) -> list[tuple[tuple[str, ...], int | None]]:
    return [(group.paths, group.size) for group in list_source(source, key_of_url).groups]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("books/*.parquet", [f"books/{number:05}.parquet" for number in range(FILES)]),
        ("books/deep/**", ["books/deep/er/one.parquet", "books/deep/two.parquet"]),
        ("books/**/t*.parquet", ["books/deep/two.parquet"]),
        ("books/0000[0-2].parquet", [f"books/0000{number}.parquet" for number in range(3)]),
        ("books/deep/two.parquet", ["books/deep/two.parquet"]),
    ],
)
def test_files_are_listed_with_their_sizes_and_in_order(lake: Path, pattern: str, names: list[str]) -> None:
    assert listed(f"s3://lake@lake/{pattern}") == [((name,), (lake / name).stat().st_size) for name in names]


def test_hidden_and_empty_files_are_left_out(lake: Path) -> None:
    found = list_source("s3://lake@lake/books", key_of_url)
    assert (len(found.groups), found.hidden, found.empty) == (FILES + 2, 3, 1)


def test_the_numpy_files_of_a_folder_are_one_group(lake: Path) -> None:
    groups = [tuple(f"arrays/{part}/{name}.npy" for name in ("id", "vector")) for part in ("a", "b")]
    sizes = [sum((lake / path).stat().st_size for path in paths) for paths in groups]
    assert listed("s3://lake@lake/arrays/**/*.npy") == list(zip(groups, sizes, strict=True))


def test_a_listing_has_many_pages(lake: Path) -> None:
    assert len(listed("s3://lake@lake/many")) == PAGE + 5


def test_a_bucket_that_is_not_there_is_worth_a_retry() -> None:
    with pytest.raises(ZillizUnavailable, match=r"cannot be listed .* a retry is safe"):
        listed("s3://lake@nowhere/books")


@pytest.mark.parametrize("deferrable", [True, False])
def test_every_row_of_a_bucket_is_in(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    with LocalServer(lake) as server:
        name = f"books_{deferrable}"
        make_collection(server, name)
        monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", server.connection(max_requests_per_second=1000))
        result = run_operator(
            lambda: ZillizImportDatasetOperator(
                task_id="import",
                collection_name=name,
                source="s3://lake@lake/books/**/*.parquet",
                max_files_per_job=5,
                poke_interval=0.2,
                timeout=60,
                deferrable=deferrable,
            ),
            TaskInstance(),
            tmp_path / "store",
        )
        assert (result["jobs"], result["files"]) == (3, FILES + 2)
        assert ids_in(server, name) == [*range(FILES * ROWS), 100, 101, 200, 201]
