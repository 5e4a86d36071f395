"""Importing a dataset: many files, split into jobs, over real sockets and the real local server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

from airflow_zilliz._tasks import dataset, dataset_run, dataset_store, importing, room_pause
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizConfigError,
    ZillizImportFailed,
    ZillizSubmissionUnknown,
    ZillizUnavailable,
)
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.operators import ZillizImportDatasetOperator
from tests.airflow.submitting import QUICK, TaskInstance, context_of, run_operator

FAST: dict[str, Any] = {"poke_interval": 0.2, "timeout": 30}


@pytest.fixture(scope="module")
def server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with LocalServer(tmp_path_factory.mktemp("datasets"), api_key="k3y-0123456789abcdef") as process:
        yield process


@pytest.fixture
def server(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    monkeypatch.setattr(dataset_run, "PATIENCE", QUICK)
    monkeypatch.setattr(room_pause, "MIN_ROOM_PAUSE", 0.1)
    return server


@pytest.fixture(params=["deferrable", "on a worker"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "deferrable")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.json"


def files(number: int) -> list[list[str]]:
    return [[f"books/{index:04}.json"] for index in range(number)]


def an_import(**arguments: Any) -> Callable[[], ZillizImportDatasetOperator]:
    given = {"files": files(10), "max_files_per_job": 2, **FAST, **arguments}
    return lambda: ZillizImportDatasetOperator(task_id="import", collection_name="books", **given)


def completed(server: LocalServer) -> None:
    server.script({"state": "Completed", "progress": 100}, totalRows=2, files=[{"name": "a.json", "rows": 2}])


def created(server: LocalServer) -> list[list[str]]:
    """Return the files of each create request."""
    return [
        [path for group in request["body"]["files"] for path in group]
        for request in server.requests()
        if request["path"].endswith("/create")
    ]


def test_every_file_is_in_one_job_and_the_sums_are_returned(server: LocalServer, deferrable: bool) -> None:
    completed(server)
    ti = TaskInstance()
    result = run_operator(an_import(deferrable=deferrable, max_active_jobs=2), ti)
    assert (result["jobs"], result["files"], result["imported_rows"]) == (5, 10, 10)
    assert sorted(path for paths in created(server) for path in paths) == [path for (path,) in files(10)]
    assert [job["state"] for job in ti.xcoms["jobs"]] == ["Completed"] * 5
    assert [path for job in ti.xcoms["jobs"] for path in job["files"]] == [path for (path,) in files(10)]
    assert ti.xcoms["missing"] == []


def test_a_second_try_sends_nothing_again(server: LocalServer, store: Path, deferrable: bool) -> None:
    completed(server)
    make = an_import(deferrable=deferrable)
    first = run_operator(make, TaskInstance(), store)
    assert run_operator(make, TaskInstance(2), store) == first
    assert len(created(server)) == 5


def test_a_failed_job_keeps_no_other_out_and_a_retry_loads_it_alone(
    server: LocalServer, store: Path, deferrable: bool
) -> None:
    completed(server)
    make = an_import(deferrable=deferrable, files=files(6))
    server.script({"state": "Failed", "reason": "the file is broken"}, totalRows=2)
    ti = TaskInstance()
    with pytest.raises(ZillizImportFailed, match="Of 1 job with 2 files: 1 job with 2 files is Failed"):
        run_operator(an_import(deferrable=deferrable, files=files(2)), ti, store)
    assert ti.xcoms["missing"] == ["books/0000.json", "books/0001.json"]
    completed(server)
    before = len(created(server))
    assert run_operator(make, TaskInstance(2), store)["jobs"] == 3
    assert len(created(server)) == before + 3
    assert run_operator(make, TaskInstance(3), store)["jobs"] == 3
    assert len(created(server)) == before + 3


def test_a_dataset_that_cannot_start_names_collection_and_connection(server: LocalServer) -> None:
    server.add_fault("status", path="create", status=200, code=100, message="collection not found", times=None)
    text = r"Import into collection 'books' \(connection 'zilliz_default'\): http.*not found.* Of 5 jobs with 10 files"
    with pytest.raises(ZillizApiError, match=text):
        run_operator(an_import(), TaskInstance())


def test_a_failure_is_logged_when_the_trigger_reports_it(
    server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Airflow overwrites a trigger's log when its task defers again."""
    server.script({"state": "Importing", "seconds": 0.5}, {"state": "Failed", "reason": "the file is broken"})
    with pytest.raises(ZillizImportFailed):
        run_operator(an_import(files=files(4), deferrable=True), TaskInstance())
    text = r"Job 1 of 2 \(2 files: books/0000.json, books/0001.json\): import job \d+ is Failed: the file is broken"
    assert len(re.findall(text, capsys.readouterr().out)) == 1


def test_waves_that_follow_one_another_log_one_line_a_minute(
    server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    completed(server)
    run_operator(an_import(max_active_jobs=1), TaskInstance())
    assert len(re.findall(r"\d jobs?: \d Completed", capsys.readouterr().out)) == 1


def test_the_failure_names_job_reason_and_files(server: LocalServer) -> None:
    server.script({"state": "Failed", "reason": "the file is broken"}, totalRows=2)
    text = r"job 1 \(2 files: books/0000.json, books/0001.json\): import job \d+ is Failed: the file is broken; job 2"
    with pytest.raises(ZillizImportFailed, match=text):
        run_operator(an_import(files=files(4)), TaskInstance())


def test_a_worker_wakes_for_waves_and_not_for_each_job(server: LocalServer) -> None:
    server.script({"state": "Importing", "seconds": 0.5}, {"state": "Completed"}, totalRows=2)
    events: list[Any] = []
    result = run_operator(
        an_import(files=files(24), max_files_per_job=1, max_active_jobs=8, deferrable=True),
        TaskInstance(),
        on_event=events.append,
    )
    assert result["jobs"] == 24
    assert len(events) <= 9, "24 jobs in waves of at least 2"


def test_more_jobs_never_run_at_once(server: LocalServer) -> None:
    server.set(max_jobs=3)
    server.script({"state": "Importing", "seconds": 0.3}, {"state": "Completed"}, totalRows=2)
    assert run_operator(an_import(files=files(9), max_files_per_job=1, max_active_jobs=3), TaskInstance())["jobs"] == 9
    assert len(created(server)) == 9, "no request was refused"


def test_a_server_without_room_is_waited_for(server: LocalServer, deferrable: bool) -> None:
    server.set(max_jobs=2)
    server.script({"state": "Importing", "seconds": 0.3}, {"state": "Completed"}, totalRows=2)
    make = an_import(files=files(6), max_files_per_job=1, deferrable=deferrable)
    assert run_operator(make, TaskInstance())["jobs"] == 6


def test_a_refusal_ends_the_try_with_an_account(server: LocalServer, store: Path) -> None:
    completed(server)
    server.add_fault("code", code=100, message="no such collection", path="create", times=1, after=2)
    with pytest.raises(ZillizApiError, match=r"Of 5 jobs with 10 files: 2 jobs with 4 files are running, 3 jobs"):
        run_operator(an_import(), TaskInstance(), store)
    assert run_operator(an_import(), TaskInstance(2), store)["jobs"] == 5
    assert len(created(server)) == 6, "and the refused one"


def test_a_timeout_names_what_is_open(server: LocalServer, deferrable: bool) -> None:
    server.script({"state": "Importing"}, totalRows=2)
    with pytest.raises(AirflowSensorTimeout, match=r"Timed out .* Of 1 job with 2 files: 1 job with 2 files is run"):
        run_operator(an_import(files=files(2), timeout=0.5, deferrable=deferrable), TaskInstance())


def test_a_job_that_the_server_forgot_is_in_doubt_and_the_others_are_waited_for(
    server: LocalServer, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script({"state": "Importing", "seconds": 3}, {"state": "Completed"}, totalRows=2)
    with pytest.raises(AirflowSensorTimeout):
        run_operator(an_import(files=files(4), timeout=0.3), TaskInstance(), store)
    server.forget_job(first_job(store))
    ti = TaskInstance(2)
    with pytest.raises(ZillizSubmissionUnknown, match=r"1 job with 2 files is Completed, 1 job with 2 .* in doubt"):
        run_operator(an_import(files=files(4)), ti, store)
    assert ti.xcoms["missing"] == ["books/0000.json", "books/0001.json"]
    assert len(created(server)) == 2


def first_job(store: Path) -> str:
    saved = dataset_store.LedgerStore(context_of(TaskInstance(), store)).load()
    assert saved is not None
    return str(saved.ledger.entries[0].job_id)


def test_a_job_that_the_server_returns_for_two_is_in_doubt(server: LocalServer, deferrable: bool) -> None:
    completed(server)
    # a server that honours keys, and here mistakes one for another
    key = mock.patch.object(dataset, "names_of", return_value=())
    digest = mock.patch.object(importing, "digest_of", return_value="0")
    with key, digest, pytest.raises(ZillizSubmissionUnknown, match=r"which is job 1 of this task"):
        run_operator(an_import(files=files(4), deferrable=deferrable), TaskInstance())


# -- what is in the storage ---------------------------------------------------------------------------------------


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    for name in ("a/1.json", "a/2.json", "b/3.json", "b/_tmp.json", ".x/4.json", "b/other.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("[]")
    (folder / "b" / "empty.json").touch()
    return folder


def of_source(lake: Path, pattern: str = "**/*.json", **arguments: Any) -> Callable[[], ZillizImportDatasetOperator]:
    def to_path(url: str) -> str:
        return url.removeprefix(f"file://{lake}/")

    return an_import(files=None, source=f"file://{lake}/{pattern}", to_path=to_path, **arguments)


def test_a_folder_that_airflow_takes_for_another_is_an_error(server: LocalServer, lake: Path, store: Path) -> None:
    (lake / "a#").mkdir()
    (lake / "a#" / "1.json").write_text("[]")
    with pytest.raises(ZillizConfigError, match=r"a#' cannot be listed: .* takes it for '.*a'"):
        run_operator(of_source(lake, "a#"), TaskInstance(), store)
    completed(server)
    run_operator(of_source(lake, "a?/*.json"), TaskInstance(), store)
    assert created(server) == [["a#/1.json"]]


def test_a_source_is_listed_once_and_a_retry_imports_the_same_files(
    server: LocalServer, store: Path, lake: Path, deferrable: bool
) -> None:
    completed(server)
    server.add_fault("code", code=100, message="not now", path="create", times=1, after=1)
    make = of_source(lake, deferrable=deferrable)
    with pytest.raises(ZillizApiError):
        run_operator(make, TaskInstance(), store)
    (lake / "a" / "0.json").write_text("[]")
    assert run_operator(make, TaskInstance(2), store)["files"] == 3
    assert created(server) == [["a/1.json", "a/2.json"], ["b/3.json"], ["b/3.json"]]


def test_before_airflow_3_3_a_variable_keeps_the_listing_until_the_task_succeeds(
    server: LocalServer, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, str] = {}
    variables = SimpleNamespace(
        get=lambda key, default: values.get(key, default),
        set=lambda key, value, description: values.update({key: value}),
        delete=values.pop,
    )
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Variable", variables, raising=False)
    completed(server)
    server.add_fault("code", code=100, message="not now", path="create", times=1)
    with pytest.raises(ZillizApiError):
        run_operator(of_source(lake), TaskInstance())
    (lake / "a" / "0.json").write_text("[]")
    assert len(values) == 1
    assert run_operator(of_source(lake), TaskInstance(2))["files"] == 3
    assert values == {}


def test_a_source_splits_by_bytes(server: LocalServer, store: Path, lake: Path) -> None:
    completed(server)
    (lake / "a" / "1.json").write_text("[" + " " * 100 + "]")
    run_operator(of_source(lake, max_files_per_job=10, max_bytes_per_job=50), TaskInstance(), store)
    assert created(server) == [["a/1.json"], ["a/2.json", "b/3.json"]]


def test_an_empty_source_skips_the_task_or_fails_it(server: LocalServer, store: Path, lake: Path) -> None:
    with pytest.raises(AirflowSkipException, match="contains no file"):
        run_operator(of_source(lake, "*.none"), TaskInstance(), store)
    with pytest.raises(ZillizConfigError, match="contains no file"):
        run_operator(of_source(lake, "*.none", fail_on_empty=True), TaskInstance(), store)


def test_a_source_that_cannot_be_listed_is_worth_a_retry(
    server: LocalServer, store: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("AccessDenied")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.find", refuse)
    with pytest.raises(
        ZillizUnavailable, match=r"cannot be listed \(PermissionError: AccessDenied\).* a retry is safe"
    ):
        run_operator(of_source(lake), TaskInstance(), store)
    assert server.requests("create") == []


def test_a_source_whose_storage_no_provider_has_is_wrong(server: LocalServer, store: Path) -> None:
    with pytest.raises(ZillizConfigError, match=r"'nofs://bucket/books' cannot be listed: .*Install the provider"):
        run_operator(an_import(files=None, source="nofs://bucket/books"), TaskInstance(), store)


# -- all or nothing -----------------------------------------------------------------------------------------------


def states(server: LocalServer) -> list[str]:
    return sorted(job.state.value for job in ZillizHook().list_import_jobs(collection_name="books"))


def two_phases(server: LocalServer) -> None:
    server.script({"state": "Uncommitted", "progress": 99}, totalRows=2, files=[{"name": "a.json", "rows": 2}])


def test_all_jobs_are_loaded_before_the_first_is_committed(server: LocalServer, store: Path, deferrable: bool) -> None:
    two_phases(server)
    make = an_import(atomic=True, deferrable=deferrable, max_active_jobs=2)
    assert run_operator(make, TaskInstance(), store)["jobs"] == 5
    paths = [request["path"].rpartition("/")[2] for request in server.requests()]
    calls = [path for path in paths if path in ("create", "commit")]
    assert calls == ["create"] * 5 + ["commit"] * 5


def test_one_failure_aborts_all_and_a_retry_starts_again(server: LocalServer, store: Path, deferrable: bool) -> None:
    two_phases(server)
    make = an_import(atomic=True, deferrable=deferrable, files=files(6), max_active_jobs=2)
    with (
        failing_job(server, 2),
        pytest.raises(ZillizImportFailed, match="aborted, since other jobs failed"),
    ):
        run_operator(make, TaskInstance(), store)
    assert set(states(server)) == {"Failed"}
    two_phases(server)
    assert run_operator(make, TaskInstance(2), store)["jobs"] == 3
    assert states(server).count("Completed") == 3


@contextmanager
def failing_job(server: LocalServer, number: int) -> Iterator[None]:
    """Let the job of the n-th create request fail."""
    send = ZillizHook.submit

    def submit(hook: ZillizHook, *arguments: Any) -> Any:
        done = send(hook, *arguments)
        if len(created(server)) == number:
            server.set_job(done.job_id, {"state": "Failed", "reason": "the file is broken"})
        return done

    with mock.patch.object(ZillizHook, "submit", submit):
        yield


def test_a_crash_between_two_commits_is_finished_by_the_retry(server: LocalServer, store: Path) -> None:
    two_phases(server)
    server.add_fault("status", status=503, path="commit", times=9, after=2)
    with pytest.raises(ZillizUnavailable, match="committed 2"):
        run_operator(an_import(atomic=True), TaskInstance(), store)
    server.clear("faults")
    assert run_operator(an_import(atomic=True), TaskInstance(2), store)["jobs"] == 5
    assert len(created(server)) == 5


def test_a_server_that_commits_by_itself_cannot_be_atomic(server: LocalServer, store: Path) -> None:
    completed(server)
    with pytest.raises(ZillizConfigError, match="atomic=True cannot be guaranteed"):
        run_operator(an_import(atomic=True, max_active_jobs=1), TaskInstance(), store)
    assert len(created(server)) == 1


# -- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"files": None}, "exactly one of"),
        ({"source": "s3://b/k"}, "source cannot be given together with files"),
        ({"files": None, "source": "b/k"}, "source must be the URL"),
        ({"files": None, "source": "s3://b/k?X-Amz-Signature=1"}, "signed URL"),
        ({"max_files_per_job": 0}, "max_files_per_job must be"),
        ({"max_bytes_per_job": 0}, "max_bytes_per_job must be"),
        ({"max_active_jobs": 1.5}, "max_active_jobs must be"),
    ],
)
def test_wrong_arguments_fail_when_the_dag_is_parsed(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        an_import(**wrong)()


# -- real rows ----------------------------------------------------------------------------------------------------

ROWS = 3


@pytest.fixture
def rows(server: LocalServer) -> Callable[[], int]:
    """Make a collection, and 200 files for it; return what counts its rows."""
    pytest.importorskip("milvus_lite", reason="the local server needs Milvus Lite for real imports")
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(server.url, token="k3y-0123456789abcdef")
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    if client.has_collection("books"):
        client.drop_collection("books")
    client.create_collection("books", schema=schema, index_params=index)
    (server.data_dir / "books").mkdir(exist_ok=True)
    for number, (path,) in enumerate(files(200)):
        lines = [{"id": number * ROWS + row, "vector": [0.5, row]} for row in range(ROWS)]
        (server.data_dir / path).write_text(json.dumps(lines))

    def count() -> int:
        client.load_collection("books")
        return int(client.query("books", filter="", output_fields=["count(*)"])[0]["count(*)"])

    return count


def of_folder(server: LocalServer, **arguments: Any) -> Callable[[], ZillizImportDatasetOperator]:
    """Return the import of the 200 files in 20 jobs."""
    given = {"max_files_per_job": 10, "max_active_jobs": 5, **arguments}
    return an_import(
        files=None,
        source=f"file://{server.data_dir}/books/*.json",
        to_path=lambda url: url.removeprefix(f"file://{server.data_dir}/"),
        **given,
    )


def test_a_broken_file_keeps_its_job_out_and_the_retry_after_its_repair_loads_that_one(
    server: LocalServer, rows: Callable[[], int], store: Path, deferrable: bool
) -> None:
    broken = server.data_dir / "books" / "0042.json"
    whole = broken.read_text()
    broken.write_text("[{]")
    ti = TaskInstance()
    with pytest.raises(
        ZillizImportFailed, match=r"19 jobs with 190 files are Completed, 1 job with 10 files is Failed"
    ):
        run_operator(of_folder(server, deferrable=deferrable), ti, store)
    assert rows() == 190 * ROWS
    assert ti.xcoms["missing"] == [f"books/{number:04}.json" for number in range(40, 50)]
    broken.write_text(whole)
    assert run_operator(of_folder(server, deferrable=deferrable), TaskInstance(2), store)["imported_rows"] == 200 * ROWS
    assert rows() == 200 * ROWS
    assert len(created(server)) == 21


def test_a_lost_response_is_found_again(server: LocalServer, rows: Callable[[], int], store: Path) -> None:
    server.add_fault("reset", path="create", times=1, after=1, done=True)
    run_operator(of_folder(server), TaskInstance(), store)
    assert rows() == 200 * ROWS
    assert len(created(server)) == 20


def test_without_a_store_a_retry_finds_the_jobs_in_the_list(server: LocalServer, rows: Callable[[], int]) -> None:
    make = an_import(files=files(200), max_files_per_job=50)
    run_operator(make, TaskInstance())
    assert run_operator(make, TaskInstance(2))["imported_rows"] == 200 * ROWS
    assert rows() == 200 * ROWS
    assert len(created(server)) == 4


def test_all_or_nothing_is_visible_at_the_end_or_not_at_all(
    server: LocalServer, rows: Callable[[], int], store: Path, deferrable: bool
) -> None:
    broken = server.data_dir / "books" / "0199.json"
    whole = broken.read_text()
    broken.write_text("[{]")
    make = of_folder(server, atomic=True, deferrable=deferrable)
    with pytest.raises(ZillizImportFailed, match="aborted, since other jobs failed"):
        run_operator(make, TaskInstance(), store)
    assert rows() == 0
    broken.write_text(whole)
    assert run_operator(make, TaskInstance(2), store)["imported_rows"] == 200 * ROWS
    assert rows() == 200 * ROWS
