"""The operators: starting an import once, waiting as the sensor does, and the two phases."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    Asset,
    AssetAlias,
    TaskDeferred,
)
from airflow.triggers.base import BaseTrigger

from airflow_zilliz import operators
from airflow_zilliz._submit.storage_keys import StorageKeys
from airflow_zilliz._tasks import importing, room_pause
from airflow_zilliz._tasks.job_wait import JobWait
from airflow_zilliz._triggers import base
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizConfigError,
    ZillizIdempotencyKeyReused,
    ZillizImportFailed,
    ZillizJobNotFound,
    ZillizSubmissionUnknown,
    ZillizUnavailable,
)
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.operators import ZillizAbortImportOperator, ZillizCommitImportOperator, ZillizImportOperator
from airflow_zilliz.triggers import ZillizOwnedImportTrigger
from tests.airflow.submitting import QUICK, TaskInstance, context_of, run_in_process, run_operator
from tests.helpers.dying import POINTS

FILES = [["day/a.parquet"], ["day/b.json"]]
FAST: dict[str, Any] = {"poke_interval": 0.2, "timeout": 20}
RUNNING = ({"state": "Importing", "seconds": 0.5, "progress": 40}, {"state": "Completed"})
FAILED = ({"state": "Failed", "reason": "row 8: wrong dimension"},)


@pytest.fixture
def server(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    monkeypatch.setattr(operators, "PATIENCE", QUICK)
    script(server, *RUNNING)
    return server


@pytest.fixture(params=[True, False], ids=["key", "no key"])
def heeds_keys(request: pytest.FixtureRequest, server: LocalServer) -> bool:
    server.set(idempotency=request.param)
    return bool(request.param)


def script(server: LocalServer, *phases: dict[str, Any]) -> None:
    server.script(*phases, totalRows=10, files=[{"name": path, "rows": 5} for group in FILES for path in group])


def an_import(**changes: Any) -> ZillizImportOperator:
    return ZillizImportOperator(**{"task_id": "import", "collection_name": "books", "files": FILES, **FAST, **changes})


def jobs(server: LocalServer) -> list[str]:
    return [job.job_id for job in ZillizHook().list_import_jobs()]


# -- starting and waiting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_import_is_started_and_waited_for(server: LocalServer, deferrable: bool) -> None:
    ti = TaskInstance()
    result = run_operator(lambda: an_import(deferrable=deferrable), ti)
    assert jobs(server) == [ti.xcoms["job_id"]]
    assert (result["job_id"], result["state"], result["imported_rows"]) == (ti.xcoms["job_id"], "Completed", 10)
    (create,) = server.requests("create")
    key = create["headers"]["idempotency-key"]
    assert key.rpartition("/")[0] == "airflow/dag/manual__1/import"
    assert re.fullmatch("[0-9a-f]{20}", key.rpartition("/")[2])


def test_without_a_wait_the_job_goes_on_alone(server: LocalServer) -> None:
    ti = TaskInstance()
    result = run_operator(lambda: an_import(wait_for_completion=False), ti)
    assert result == {"job_id": ti.xcoms["job_id"], "collection_name": "books"}
    assert server.requests("describe") == []


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_failed_job_fails_the_task_with_its_reason(server: LocalServer, deferrable: bool) -> None:
    script(server, {"state": "Importing", "seconds": 0.4, "progress": 40}, *FAILED)
    with pytest.raises(ZillizImportFailed, match="row 8: wrong dimension") as raised:
        run_operator(lambda: an_import(deferrable=deferrable), TaskInstance())
    assert isinstance(raised.value, AirflowFailException)


def test_an_import_that_cannot_start_names_collection_and_connection(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = r"Import into collection 'books' \(connection 'zilliz_default'\): http"
    server.add_fault("status", path="create", status=200, code=100, message="collection not found")
    with pytest.raises(ZillizApiError, match=start):
        run_operator(an_import, TaskInstance())
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", server.connection().replace(str(server.api_key), "another"))
    with pytest.raises(ZillizAuthError, match=rf"{start}.* Correct the key of connection 'zilliz_default'"):
        run_operator(an_import, TaskInstance())


def test_a_mapped_task_has_a_key_of_its_own(server: LocalServer) -> None:
    ti = TaskInstance()
    ti.map_index = 3
    run_operator(lambda: an_import(wait_for_completion=False), ti)
    key = server.requests("create")[0]["headers"]["idempotency-key"]
    assert key.startswith("airflow/dag/manual__1/import/3/")


def test_files_may_be_the_json_text_of_a_template(server: LocalServer) -> None:
    run_operator(lambda: an_import(files=json.dumps(FILES), wait_for_completion=False), TaskInstance())
    assert server.requests("create")[0]["body"]["files"] == FILES


@pytest.mark.parametrize("fails", [False, True])
def test_the_console_button_has_its_address_before_anything_fails(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    url = "https://console.test/jobs"
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", server.connection(console_url=url))
    ti = TaskInstance()
    if fails:
        server.add_fault("status", path="create", status=400)
        with pytest.raises(ZillizApiError):
            run_operator(an_import, ti)
    else:
        run_operator(an_import, ti)
    assert ti.xcoms["zilliz_console"] == url


class OutletEvents(dict[str, Any]):
    """By address: an Asset of Airflow 3.1 cannot be hashed."""

    def __getitem__(self, outlet: Any) -> Any:
        return self.setdefault(outlet.uri, SimpleNamespace(extra={}))


@pytest.mark.parametrize("deferrable", [True, False])
def test_each_outlet_s_event_says_what_was_imported(server: LocalServer, deferrable: bool) -> None:
    events = OutletEvents()
    outlets = [Asset("milvus://local/books"), AssetAlias("any")]
    result = run_operator(lambda: an_import(deferrable=deferrable, outlets=outlets), TaskInstance(), events=events)
    (extra,) = (event.extra for event in events.values())
    expected = {"job_id": result["job_id"], "collection_name": "books", "imported_rows": 10, "total_rows": 10}
    assert expected.items() <= extra.items()
    assert 0 <= extra["duration"] < 10


# -- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"files": None}, "not none"),
        ({"object_urls": FILES}, "files and object_urls"),
        ({"volume_name": "v"}, "go together"),
        ({"options": {"sep": [","]}}, "plain value"),
        ({"timeout": -1}, "timeout must be"),
        ({"target_state": "Done"}, "target_state must be"),
    ],
)
def test_the_constructor_rejects_what_can_never_work(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        an_import(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"files": ["a.parquet"]}, {"files": "a.parquet"}, {"collection_name": ""}, {"idempotency_key": "ö"}],
)
def test_what_a_template_gave_is_checked_before_anything_is_sent(server: LocalServer, arguments: Any) -> None:
    with pytest.raises(ZillizConfigError):
        run_operator(lambda: an_import(**arguments), TaskInstance())
    assert server.requests() == []


# -- the object storage's keys ------------------------------------------------------------------------------------


def test_storage_keys_come_from_their_connection_and_are_shown_nowhere(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secrets = {"login": "AKIA-0123456789", "password": "s3cret-0123456789", "extra": {"session_token": "t0ken-012345"}}
    monkeypatch.setenv("AIRFLOW_CONN_S3", json.dumps({"conn_type": "aws", **secrets}))
    ti = TaskInstance()
    operator = an_import(storage_conn_id="s3", wait_for_completion=False)
    operator.execute(context_of(ti))
    body = server.requests("create")[0]["body"]
    assert (body["accessKey"], body["secretKey"], body["token"]) == ("***", "***", "***")  # the server's record
    server.add_fault(
        "status", path="create", status=400, message="cannot read with s3cret-0123456789 / AKIA-0123456789"
    )
    with pytest.raises(ZillizApiError, match=r"cannot read with \*\*\*") as raised:
        an_import(storage_conn_id="s3").execute(context_of(TaskInstance()))
    printed = capfd.readouterr()
    shown = [str(raised.value), json.dumps(ti.xcoms), printed.out, printed.err, repr(vars(operator))]
    assert not any(secret in text for secret in ("s3cret-0123456789", "t0ken-012345") for text in shown)


STORAGE: dict[str, Any] = {
    "login": "AKIA-0123456789",
    "password": "s3cret/0123&456789+",
    "extra": {"session_token": "t0ken=/012345"},
}
SIGNED = "https://bucket.host/day/a.parquet?X-Amz-Credential=ASIA0123456789ABCDEF%2Fx&X-Amz-Signature=5196c0ffee&name=.parquet"


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_failed_job_s_reason_shows_no_key_of_the_storage(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], deferrable: bool
) -> None:
    """Servers print what they read with, escaped as JSON and URLs escape, and signed URLs whole."""
    monkeypatch.setenv("AIRFLOW_CONN_S3", json.dumps({"conn_type": "aws", **STORAGE}))
    forms = [form(value) for value in (STORAGE["login"], STORAGE["password"], "t0ken=/012345") for form in FORMS]
    reason = f"cannot read {SIGNED} with {' '.join(forms)}"
    server.script(
        {"state": "Importing", "seconds": 0.5},
        {"state": "Failed", "reason": reason},
        files=[{"name": SIGNED, "reason": reason}],
    )
    ti, events = TaskInstance(), list[Any]()
    make = lambda: an_import(  # noqa: E731 - a fresh operator for each stretch
        files=[[SIGNED]], storage_conn_id="s3", deferrable=deferrable
    )
    with pytest.raises(
        ZillizImportFailed, match=r"cannot read https://bucket.host/day/a.parquet with \*\*\*"
    ) as raised:
        run_operator(make, ti, on_event=events.append)
    assert len(events) == deferrable
    job = raised.value.progress
    printed = capfd.readouterr()
    shown = [str(raised.value), repr(job), json.dumps([ti.xcoms, events]), printed.out, printed.err]
    searched = [*forms, *(form.strip('"') for form in forms), "X-Amz", "5196c0ffee", "ASIA0123456789ABCDEF"]
    # the names of files are what jobs are known by, and lie in the error's progress as they came
    shown[1] = repr((job.reason, job.file_reasons))
    assert [secret for secret in searched for text in shown if secret in text] == []


def test_a_reason_is_not_shown_where_the_keys_to_mask_cannot_be_had(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_S3", json.dumps({"conn_type": "aws", **STORAGE}))
    server.script({"state": "Importing", "seconds": 0.5}, {"state": "Failed", "reason": f"with {STORAGE['password']}"})
    with pytest.raises(ZillizImportFailed, match=r"storage_conn_id 's3', which cannot be looked up") as raised:
        run_operator(
            lambda: an_import(storage_conn_id="s3", deferrable=True),
            TaskInstance(),
            on_event=lambda _: monkeypatch.delenv("AIRFLOW_CONN_S3"),
        )
    assert STORAGE["password"] not in f"{raised.value} {raised.value.progress}"


FORMS: tuple[Callable[[str], str], ...] = (
    str,
    lambda value: json.dumps(value)[1:-1].replace("&", "\\u0026").replace("/", "\\/"),
    lambda value: quote(value, safe=""),
    quote_plus,
)


def test_the_storage_connection_is_looked_up_once(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def keys_of(conn_id: str, _: Any) -> StorageKeys:
        asked.append(conn_id)
        return StorageKeys("AKIA-0123456789", "s3cret-0123456789")

    monkeypatch.setattr(importing, "keys_of", keys_of)
    an_import(storage_conn_id="s3").execute(context_of(TaskInstance()))
    assert asked == ["s3"]


@pytest.mark.parametrize("fields", [{"login": "a"}, {"password": "b"}, {}])
def test_a_storage_connection_without_keys_is_an_error(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_S3", json.dumps({"conn_type": "aws", **fields}))
    with pytest.raises(ZillizConfigError, match="storage_conn_id 's3' has no"):
        an_import(storage_conn_id="s3").execute(context_of(TaskInstance()))
    assert server.requests() == []


# -- once ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [True, False], ids=["3.3", "before 3.3"])
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_worker_s_retry_starts_no_second_job(
    server: LocalServer, heeds_keys: bool, memory: bool, point: str, tmp_path: Path
) -> None:
    store = tmp_path / "store" if memory else None
    arguments = {"collection_name": "books", "files": FILES, **FAST}
    run_in_process(point, 1, store, **arguments)
    assert len(jobs(server)) == (0 if point == "before the request" else 1)
    result = run_in_process(None, 2, store, **arguments)
    assert result is not None
    assert len(jobs(server)) == 1
    assert result["xcom"]["job_id"] == jobs(server)[0]
    assert len(server.requests("create")) == 1, "not even a server that honours keys got two requests"


def test_where_it_cannot_be_known_the_retry_fails_clearly(server: LocalServer, heeds_keys: bool) -> None:
    run_in_process("before the response", 1, None, collection_name="books", files=FILES, **FAST)
    # its files are never shown, as on a server that is too busy to begin
    server.set_job(jobs(server)[0], {"state": "Pending"}, collectionName="books")
    with pytest.raises(ZillizSubmissionUnknown, match=f"{jobs(server)[0]} .Pending") as raised:
        run_operator(an_import, TaskInstance(try_number=2))
    assert isinstance(raised.value, AirflowFailException), "it is not retried"
    assert len(jobs(server)) == 1


@pytest.mark.parametrize("kind", ["reset", "cut", "html", "status"])
def test_the_job_of_a_lost_response_is_found(server: LocalServer, heeds_keys: bool, kind: str) -> None:
    server.add_fault(kind, path="create", status=502, done=True)
    result = run_operator(an_import, TaskInstance())
    assert jobs(server) == [result["job_id"]]
    assert len(server.requests("create")) == 1


def test_a_lost_request_is_retried_by_airflow_alone(server: LocalServer, heeds_keys: bool) -> None:
    server.add_fault("reset", path="create")
    with pytest.raises(ZillizUnavailable, match="A retry checks it again") as raised:
        run_operator(an_import, TaskInstance())
    assert not isinstance(raised.value, AirflowFailException)
    assert len(server.requests("create")) == 1
    assert run_operator(an_import, TaskInstance(try_number=2))["state"] == "Completed"
    assert len(jobs(server)) == 1


@pytest.mark.parametrize("memory", [True, False], ids=["3.3", "before 3.3"])
def test_a_retry_after_a_failed_job_starts_another(
    server: LocalServer, heeds_keys: bool, memory: bool, tmp_path: Path
) -> None:
    store = tmp_path / "store" if memory else None
    script(server, *FAILED)
    with pytest.raises(ZillizImportFailed):
        run_operator(lambda: an_import(retry_on_failure=True), TaskInstance(), store)
    script(server, *RUNNING)
    assert run_operator(an_import, TaskInstance(try_number=2), store)["state"] == "Completed"
    assert len(jobs(server)) == 2


def test_a_retry_goes_on_with_the_job_after_polling_failed(server: LocalServer, tmp_path: Path) -> None:
    script(server, {"state": "Importing", "progress": 40})
    server.add_fault("status", path="describe", status=503, times=None)
    with pytest.raises(ZillizUnavailable):
        run_operator(lambda: an_import(poll_failure_tolerance=0.2), TaskInstance(), tmp_path / "store")
    server.clear("faults")
    server.set_job(jobs(server)[0], {"state": "Completed"}, collectionName="books")
    assert run_operator(an_import, TaskInstance(try_number=2), tmp_path / "store")["job_id"] == jobs(server)[0]


FULL = "The number of jobs has reached the limit, please try again later."


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_server_that_is_full_is_waited_for(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, deferrable: bool
) -> None:
    monkeypatch.setattr(room_pause, "MIN_ROOM_PAUSE", 0.1)
    monkeypatch.setattr(base, "SHORTEST_FIRST_DELAY", 0.1)
    server.add_fault("status", path="create", status=200, code=2100, message=FULL, times=2)
    result = run_operator(lambda: an_import(deferrable=deferrable), TaskInstance())
    assert result["state"] == "Completed"
    assert len(server.requests("create")) == 3
    assert jobs(server) == [result["job_id"]]


def test_a_server_that_stays_full_ends_the_task_at_its_timeout(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_pause, "MIN_ROOM_PAUSE", 0.1)
    server.add_fault("status", path="create", status=200, code=2100, message=FULL, times=None)
    with pytest.raises(AirflowSensorTimeout, match=r"'books' was not started within 1 s: .*has reached the limit"):
        run_operator(lambda: an_import(timeout=1), TaskInstance())
    assert jobs(server) == []


def test_a_pause_that_something_else_ended_is_an_error_that_a_retry_follows(server: LocalServer) -> None:
    with pytest.raises(AirflowException) as raised:
        an_import().resume_execution("__fail__", {"error": "Trigger failure"}, context_of(TaskInstance()))
    assert not isinstance(raised.value, AirflowFailException)


@pytest.mark.parametrize("memory", [True, False], ids=["3.3", "before 3.3"])
def test_a_task_that_fails_after_execute_starts_no_second_job(
    server: LocalServer, heeds_keys: bool, memory: bool, tmp_path: Path
) -> None:
    store = tmp_path / "store" if memory else None
    first = run_operator(an_import, TaskInstance(), store)
    second = run_operator(an_import, TaskInstance(try_number=2), store)
    assert second == first
    assert jobs(server) == [first["job_id"]]


def test_a_job_that_was_completed_and_is_shown_failed_is_not_imported_again(
    server: LocalServer, heeds_keys: bool, tmp_path: Path
) -> None:
    first = run_operator(an_import, TaskInstance(), tmp_path / "store")
    server.set_job(first["job_id"], {"state": "Failed", "reason": "import timeout"}, collectionName="books")
    assert run_operator(an_import, TaskInstance(try_number=2), tmp_path / "store") == first
    server.forget_job(first["job_id"])
    assert run_operator(an_import, TaskInstance(try_number=3), tmp_path / "store") == first
    assert len(server.requests("create")) == 1


def test_a_clear_with_corrected_files_imports_them(server: LocalServer, heeds_keys: bool, tmp_path: Path) -> None:
    first = run_operator(an_import, TaskInstance(), tmp_path / "store")
    script(server, *RUNNING)
    cleared = TaskInstance(try_number=2)
    cleared.max_tries = 1
    again = run_operator(lambda: an_import(files=[["day/c.parquet"]]), cleared, tmp_path / "store")
    assert again["job_id"] != first["job_id"]
    assert len(jobs(server)) == 2


@pytest.mark.parametrize("files", [FILES[::-1], [FILES[0], ["/day/b.json"]]], ids=["order", "slash"])
def test_a_retry_with_the_files_in_another_form_is_the_same_import(
    server: LocalServer, heeds_keys: bool, files: Any, tmp_path: Path
) -> None:
    first = run_operator(an_import, TaskInstance(), tmp_path / "store")
    again = lambda: an_import(files=files, options={"timeout": "600s"})  # noqa: E731
    assert run_operator(again, TaskInstance(try_number=2), tmp_path / "store") == first
    assert len(jobs(server)) == 1


@pytest.mark.parametrize("changes", [{"files": [*FILES, ["day/c.parquet"]]}, {"idempotency_key": "2"}])
def test_a_retry_that_nobody_cleared_does_not_import_with_other_arguments(
    server: LocalServer, heeds_keys: bool, changes: Any, tmp_path: Path
) -> None:
    first = run_operator(an_import, TaskInstance(), tmp_path / "store")
    with pytest.raises(ZillizSubmissionUnknown, match=f"started import job {first['job_id']}.*has changed since"):
        run_operator(lambda: an_import(**changes), TaskInstance(try_number=2), tmp_path / "store")
    assert len(jobs(server)) == 1


def test_a_run_that_was_made_again_under_its_old_name_imports_again(
    server: LocalServer, heeds_keys: bool, tmp_path: Path
) -> None:
    first = run_operator(an_import, TaskInstance(), tmp_path / "deleted with the run")
    assert run_operator(an_import, TaskInstance(), tmp_path / "store")["job_id"] != first["job_id"]
    assert len(jobs(server)) == 2


def test_an_own_key_that_two_tasks_share_is_an_error(server: LocalServer) -> None:
    server.set(idempotency=True)
    run_operator(lambda: an_import(idempotency_key="books"), TaskInstance())
    with pytest.raises(ZillizIdempotencyKeyReused, match="'books' stands for job") as raised:
        run_operator(lambda: an_import(idempotency_key="books", files=[["day/c.parquet"]]), TaskInstance())
    assert isinstance(raised.value, AirflowFailException)


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("state", ["Uncommitted", "Completed"])
def test_an_own_key_whose_job_shows_its_files_late_is_an_error_at_the_end(
    server: LocalServer, deferrable: bool, state: str
) -> None:
    # the script's job is of other files, and shows them as late as Milvus does
    script(server, {"state": "Importing", "seconds": 1, "progress": 10}, {"state": state, "progress": 80})
    arguments = {"files": [["day/c.parquet"]], "deferrable": deferrable, "target_state": state}
    make = lambda: an_import(idempotency_key="books", **arguments)  # noqa: E731
    with pytest.raises(ZillizIdempotencyKeyReused, match="not imported"):
        run_operator(make, TaskInstance())


def test_a_job_that_the_server_forgot_is_started_again_by_a_clear_alone(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(server, {"state": "Importing", "progress": 40})
    ti = TaskInstance()
    with pytest.raises(TaskDeferred):
        an_import(deferrable=True).execute(context_of(ti, tmp_path / "store"))
    server.forget_job(ti.xcoms["job_id"])
    script(server, *RUNNING)

    def not_found(self: JobWait) -> NoReturn:
        raise ZillizJobNotFound("import job does not exist")

    with monkeypatch.context() as patch:  # a minute goes by before a wait gives up
        patch.setattr(JobWait, "wait", not_found)
        for _ in range(2):
            with pytest.raises(ZillizSubmissionUnknown, match="is unknown to the server") as raised:
                run_operator(an_import, TaskInstance(try_number=2), tmp_path / "store")
            assert isinstance(raised.value, AirflowFailException)
    cleared = TaskInstance(try_number=3)
    cleared.max_tries = 3
    assert run_operator(an_import, cleared, tmp_path / "store")["job_id"] != ti.xcoms["job_id"]
    assert len(server.requests("create")) == 2


# -- two phases ---------------------------------------------------------------------------------------------------


def two_phase_job(server: LocalServer) -> str:
    script(server, {"state": "Uncommitted", "progress": 99})
    ti = TaskInstance()
    run_operator(lambda: an_import(options={"auto_commit": False}, target_state="Uncommitted"), ti)
    return str(ti.xcoms["job_id"])


def test_commit_of_a_job_that_commits_itself_is_refused(server: LocalServer) -> None:
    server.set(milvus="2.6")
    job_id = run_operator(an_import, TaskInstance())["job_id"]
    with pytest.raises(ZillizApiError, match=rf"{job_id}.*auto_commit.*The job is Completed"):
        run_operator(lambda: ZillizCommitImportOperator(task_id="commit", job_id=job_id, **FAST), TaskInstance())
    with pytest.raises(ZillizApiError, match="The job is Completed"):
        run_operator(lambda: ZillizAbortImportOperator(task_id="abort", job_id=job_id), TaskInstance())


@pytest.mark.parametrize("operator", [ZillizCommitImportOperator, ZillizAbortImportOperator])
def test_commit_or_abort_of_an_unknown_job_names_the_connection(server: LocalServer, operator: Any) -> None:
    text = r"Import job '450000000000000001' \(connection 'zilliz_default'\): .* Its state cannot be read"
    with pytest.raises(ZillizJobNotFound, match=text):
        run_operator(lambda: operator(task_id="commit", job_id="450000000000000001"), TaskInstance())


def test_commit_of_a_completed_job_that_commits_itself_does_nothing_on_newer_servers(server: LocalServer) -> None:
    job_id = run_operator(an_import, TaskInstance())["job_id"]
    result = run_operator(lambda: ZillizCommitImportOperator(task_id="commit", job_id=job_id, **FAST), TaskInstance())
    assert result["state"] == "Completed"


def test_abort_may_be_repeated_and_leaves_a_failed_job_alone(server: LocalServer) -> None:
    job_id = two_phase_job(server)
    for _ in range(2):
        run_operator(lambda: ZillizAbortImportOperator(task_id="abort", job_id=job_id), TaskInstance())
    assert ZillizHook().get_import_progress(job_id).state.value == "Failed"
    script(server, *FAILED)
    with pytest.raises(ZillizImportFailed):
        run_operator(lambda: an_import(idempotency_key="other"), TaskInstance())
    failed = next(job for job in jobs(server) if job != job_id)
    run_operator(lambda: ZillizAbortImportOperator(task_id="abort", job_id=failed), TaskInstance())


# -- killing ------------------------------------------------------------------------------------------------------

UNCOMMITTED: dict[str, Any] = {"options": {"auto_commit": False}, "cancel_on_kill": True}


def running(server: LocalServer, **arguments: Any) -> ZillizImportOperator:
    """Return an operator whose job is on its way."""
    script(server, {"state": "Importing", "progress": 40})
    operator = an_import(**{**UNCOMMITTED, "deferrable": True, **arguments})
    with pytest.raises(TaskDeferred):
        operator.execute(context_of(TaskInstance()))
    return operator


def state_of(job_id: str) -> str:
    return ZillizHook().get_import_progress(job_id).state.value


def test_a_killed_worker_s_two_phase_job_is_aborted(server: LocalServer) -> None:
    operator = running(server)
    operator.on_kill()
    assert state_of(operator.job_id) == "Failed"


@pytest.mark.parametrize("arguments", [{"cancel_on_kill": False}, {"options": {"auto_commit": "true"}}])
def test_no_other_job_is_touched_by_a_kill(server: LocalServer, arguments: dict[str, Any]) -> None:
    operator = running(server, **arguments)
    operator.on_kill()
    assert server.requests("abort") == []
    assert state_of(operator.job_id) == "Importing"


def test_a_kill_before_the_job_is_known_sends_nothing(server: LocalServer) -> None:
    an_import(**UNCOMMITTED).on_kill()
    assert server.requests("abort") == []


@pytest.mark.parametrize("memory", [True, False], ids=["3.3", "before 3.3"])
def test_the_try_after_a_kill_starts_another_job(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, heeds_keys: bool, memory: bool, tmp_path: Path
) -> None:
    store = tmp_path / "store" if memory else None
    script(server, {"state": "Importing", "progress": 40})
    operator = an_import(**UNCOMMITTED, deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(context_of(TaskInstance(), store))
    operator.on_kill()
    script(server, {"state": "Uncommitted", "progress": 99})
    monkeypatch.setattr(operators, "SETTLING_SECONDS", 0.1)
    again = run_operator(lambda: an_import(**UNCOMMITTED, target_state="Uncommitted"), TaskInstance(2), store)
    assert again["state"] == "Uncommitted"
    assert again["job_id"] != operator.job_id


@pytest.mark.parametrize(
    ("arguments", "owned"), [({}, True), ({"cancel_on_kill": False}, False), ({"options": None}, False)]
)
def test_only_a_wait_that_may_abort_has_a_trigger_that_can(
    server: LocalServer, arguments: dict[str, Any], owned: bool
) -> None:
    script(server, {"state": "Importing"})
    operator = an_import(**{**UNCOMMITTED, "deferrable": True, **arguments})
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context_of(TaskInstance()))
    kills_reach_triggers = hasattr(BaseTrigger, "on_kill")
    name = "ZillizOwnedImportTrigger" if owned and kills_reach_triggers else "ZillizImportTrigger"
    assert deferred.value.trigger.serialize()[0] == f"airflow_zilliz.triggers.{name}"


@pytest.mark.skipif(not hasattr(BaseTrigger, "on_kill"), reason="triggers learn of a kill since Airflow 3.3")
@pytest.mark.parametrize(
    ("states", "left"),
    [
        ({"manual__1": {"import": "failed"}}, "Failed"),
        ({"manual__1": {"import": None}}, "Failed"),
        ({"manual__1": {"import": "deferred"}}, "Importing"),
        ({}, "Importing"),
        (None, "Importing"),
    ],
)
async def test_a_trigger_aborts_only_for_a_task_that_is_deferred_no_more(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, states: Any, left: str
) -> None:
    task_runner = pytest.importorskip("airflow.sdk.execution_time.task_runner")
    asked = []

    def get_task_states(**arguments: Any) -> Any:
        asked.append(arguments)
        if states is None:
            raise OSError("the supervisor is gone")
        return states

    monkeypatch.setattr(task_runner.RuntimeTaskInstance, "get_task_states", get_task_states)
    job_id = await asyncio.to_thread(lambda: running(server).job_id)
    trigger = ZillizOwnedImportTrigger(job_id, "zilliz_default")
    trigger._task_instance = TaskInstance()
    await trigger.on_kill()
    assert await asyncio.to_thread(state_of, job_id) == left
    assert asked == [{"dag_id": "dag", "run_ids": ["manual__1"], "task_ids": ["import"], "map_index": -1}]
