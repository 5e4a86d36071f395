"""A dataset's import whose worker dies at each of its steps in turn, and is retried: each row is loaded once.

Rows are real, in Milvus Lite, whose keys are its own: a file that is loaded twice has its rows twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_zilliz._protocol.import_request import create_request
from airflow_zilliz._submit.record import Patience
from airflow_zilliz._tasks import dataset_run, importing
from airflow_zilliz._transport.sync import SyncTransport
from airflow_zilliz.exceptions import ZillizConfigError
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.operators import ZillizImportDatasetOperator
from tests.airflow.submitting import FileStore, TaskInstance, run_operator

pymilvus = pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite", reason="the local server needs Milvus Lite for real imports")

FILES = 6
#: A try has some 60 steps; the exploration takes all of them, in virtual time.
EVERY = 7


class WorkerDied(BaseException):
    """A worker was killed: no except clause of an Exception sees it."""


class Reaper:
    """Counts a worker's steps, and kills it at one of them.

    :param at: the step, counted from 1; 0 for none
    """

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise WorkerDied

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            self.step()
            result = call(*args, **kwargs)
            self.step()
            return result

        return called


@contextmanager
def dying(reaper: Reaper) -> Iterator[None]:
    with (
        mock.patch.object(SyncTransport, "exchange", reaper.around(SyncTransport.exchange)),
        mock.patch.object(FileStore, "set", reaper.around(FileStore.set)),
        mock.patch.object(TaskInstance, "xcom_push", reaper.around(TaskInstance.xcom_push)),
    ):
        yield


@pytest.fixture(scope="module")
def server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("crashes")
    for number in range(FILES):
        (folder / f"{number}.json").write_text(json.dumps([{"file": number, "vector": [0.5, 0.25]}] * 2))
    with LocalServer(folder, api_key="k3y-0123456789abcdef") as process:
        yield process


@pytest.fixture
def server(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    monkeypatch.setattr(dataset_run, "PATIENCE", Patience(pauses=(0.05, 0.05), settle=0.1))
    return server


def collection(server: LocalServer, name: str) -> Any:
    client = pymilvus.MilvusClient(server.url, token=server.api_key)
    schema = client.create_schema(auto_id=True)
    schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
    schema.add_field("file", pymilvus.DataType.INT64)
    schema.add_field("vector", pymilvus.DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    if client.has_collection(name):
        client.drop_collection(name)
    client.create_collection(name, schema=schema, index_params=index)
    client.load_collection(name)
    return client


def _same(operator: ZillizImportDatasetOperator) -> ZillizImportDatasetOperator:
    return operator


def loaded(client: Any, name: str) -> list[int]:
    return sorted(row["file"] for row in client.query(name, filter="", output_fields=["file"], limit=1000))


def crash_at(at: int, server: LocalServer, store: Path | None, name: str, **arguments: Any) -> tuple[int, list[int]]:
    """Return how many steps the first try takes, and the files of all rows after the second."""
    client = collection(server, name)

    def make() -> ZillizImportDatasetOperator:
        return ZillizImportDatasetOperator(
            task_id="import",
            collection_name=name,
            files=[[f"{number}.json"] for number in range(FILES)],
            max_files_per_job=2,
            max_active_jobs=2,
            poke_interval=0.1,
            timeout=30,
            **arguments,
        )

    reaper = Reaper(at)
    try:
        with dying(reaper):
            run_operator(make, TaskInstance(), store)
    except WorkerDied:
        result = run_operator(make, TaskInstance(2), store)
        assert result["imported_rows"] == 2 * FILES
    return reaper.steps, loaded(client, name)


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("remembers", [True, False])
def test_each_row_is_loaded_once_wherever_the_worker_dies(
    server: LocalServer, tmp_path: Path, atomic: bool, remembers: bool
) -> None:
    server.set(idempotency=False)
    deferrable = remembers
    wanted = sorted([*range(FILES)] * 2)
    steps, found = crash_at(
        0, server, tmp_path / "0" if remembers else None, "c0", deferrable=deferrable, atomic=atomic
    )
    assert found == wanted
    bad: dict[int, Any] = {}
    for at in range(1, steps + 1, EVERY):
        store = tmp_path / str(at) if remembers else None
        try:
            _, found = crash_at(at, server, store, f"c{at}", deferrable=deferrable, atomic=atomic)
        except AirflowException as err:
            bad[at] = repr(err)[:300]
        else:
            if found != wanted:
                bad[at] = found
    assert steps > 20
    assert bad == {}


def test_a_list_that_has_grown_moves_no_file_into_another_job(server: LocalServer, tmp_path: Path) -> None:
    client = collection(server, "grown")
    for number, names in enumerate(([1, 2], [0, 1, 2]), 1):
        operator = ZillizImportDatasetOperator(
            task_id="import",
            collection_name="grown",
            files=[[f"{name}.json"] for name in names],
            max_files_per_job=2,
            poke_interval=0.1,
            timeout=30,
        )
        run_operator(partial(_same, operator), TaskInstance(number), tmp_path / "store")
    assert loaded(client, "grown") == [0, 0, 1, 1, 2, 2]


def test_a_retry_that_knows_nothing_takes_no_server_of_one_phase_for_one_of_two(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.set(idempotency=False)
    # as servers do that do not know the option
    monkeypatch.setattr(
        importing, "create_request", lambda *args, **kwargs: create_request(*args, **{**kwargs, "options": {}})
    )
    collection(server, "one_phase")
    for number in (1, 2):
        operator = ZillizImportDatasetOperator(
            task_id="import",
            collection_name="one_phase",
            files=[[f"{name}.json"] for name in range(FILES)],
            max_files_per_job=2,
            max_active_jobs=1,
            atomic=True,
            poke_interval=0.1,
            timeout=30,
            deferrable=True,
        )
        with pytest.raises(ZillizConfigError, match="atomic=True cannot be guaranteed"):
            run_operator(partial(_same, operator), TaskInstance(number))
    assert len(server.requests("create")) == 2, "each try starts one job"
