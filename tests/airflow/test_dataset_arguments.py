"""What a retry of a dataset's import must make of arguments that have changed, and what it must not show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout, TaskDeferred

from airflow_zilliz._tasks import dataset_run
from airflow_zilliz.exceptions import ZillizConfigError, ZillizImportFailed, ZillizSubmissionUnknown
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.operators import ZillizImportDatasetOperator
from tests.airflow.submitting import QUICK, TaskInstance, context_of, run_operator

FAST: dict[str, Any] = {"poke_interval": 0.2, "timeout": 30, "deferrable": False}
CLUSTER = "in01-0123456789abcde"
KEY = "k3y-0123456789abcdef"


@pytest.fixture(scope="module")
def server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with LocalServer(tmp_path_factory.mktemp("review"), api_key=KEY, flavor="cloud") as process:
        yield process


@pytest.fixture
def server(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    monkeypatch.setattr(dataset_run, "PATIENCE", QUICK)
    return server


def urls(signature: str, *names: str) -> list[list[str]]:
    return [[f"https://bucket.host/{name}.parquet?X-Amz-Signature={signature}"] for name in names or ("a", "b")]


def an_import(**arguments: Any) -> Callable[[], Any]:
    given = {"max_files_per_job": 1, "cluster_id": CLUSTER, **FAST, **arguments}
    return lambda: ZillizImportDatasetOperator(task_id="import", collection_name="books", **given)


def test_signatures_that_are_new_are_no_new_files(server: LocalServer, tmp_path: Path) -> None:
    server.set(idempotency=False)
    server.script({"state": "Completed"}, totalRows=2)
    run_operator(an_import(object_urls=urls("0ld")), TaskInstance(), tmp_path / "s")
    run_operator(an_import(object_urls=urls("n3w")), TaskInstance(2), tmp_path / "s")
    assert len(server.requests("create")) == 2


def test_no_signature_is_shown_or_kept(server: LocalServer, tmp_path: Path) -> None:
    server.script({"state": "Failed", "reason": "broken"}, totalRows=2)
    ti = TaskInstance()
    with pytest.raises(ZillizImportFailed) as raised:
        run_operator(an_import(object_urls=urls("s1gnature")), ti, tmp_path / "s")
    assert "s1gnature" not in str(raised.value)
    assert "s1gnature" not in json.dumps(ti.xcoms)
    assert "s1gnature" not in (tmp_path / "s").read_text()


def test_another_key_imports_again(server: LocalServer, tmp_path: Path) -> None:
    server.script({"state": "Completed"}, totalRows=2)
    run_operator(an_import(object_urls=urls("x"), idempotency_key="one"), TaskInstance(), tmp_path / "s")
    cleared = TaskInstance(2)
    cleared.max_tries = 1
    run_operator(an_import(object_urls=urls("x"), idempotency_key="two"), cleared, tmp_path / "s")
    assert len(server.requests("create")) == 4


def test_what_failed_is_shown_with_its_job(server: LocalServer, tmp_path: Path) -> None:
    server.script({"state": "Failed", "reason": "broken"}, totalRows=2)
    ti = TaskInstance()
    with pytest.raises(ZillizImportFailed) as raised:
        run_operator(an_import(object_urls=urls("x")), ti, tmp_path / "s")
    ids = {job.job_id for job in raised.value.failed}
    assert len(ids) == 2
    assert {job["job_id"] for job in ti.xcoms["jobs"]} == ids
    assert {job.job_id for job in ZillizHook().list_import_jobs(cluster_id=CLUSTER)} == ids


def test_an_object_that_is_signed_twice_would_be_loaded_twice(server: LocalServer) -> None:
    with pytest.raises(ZillizConfigError, match=r"https://bucket\.host/a\.parquet' is in two groups") as raised:
        run_operator(an_import(object_urls=[*urls("0ne", "a"), *urls("tw0", "a")]), TaskInstance())
    assert "tw0" not in str(raised.value)
    assert server.requests("create") == []


@pytest.mark.parametrize("deferral", [{"timeout": 5}, {"execution_timeout": timedelta(seconds=3)}])
def test_a_deferral_that_airflow_ended_says_which_time_was_over(
    server: LocalServer, tmp_path: Path, deferral: dict[str, Any]
) -> None:
    server.script({"state": "Importing", "seconds": 60}, {"state": "Completed"}, totalRows=2)
    make = an_import(**{"object_urls": urls("x"), "deferrable": True, **deferral})
    context = context_of(TaskInstance(), tmp_path / "s")
    with pytest.raises(TaskDeferred):
        make().execute(context)
    wanted = AirflowTaskTimeout if "execution_timeout" in deferral else AirflowSensorTimeout
    with pytest.raises(wanted, match=next(iter(deferral))):
        make().resume_execution("__fail__", {"error": "Trigger timeout"}, context)


CHANGES: list[dict[str, Any]] = [{"options": {"sep": ";"}}, {"partition_name": "p"}, {"idempotency_key": "2"}]


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("memory", [True, False])
def test_a_resumed_task_does_not_import_with_other_arguments(
    server: LocalServer, tmp_path: Path, changes: dict[str, Any], memory: bool
) -> None:
    server.script({"state": "Importing", "seconds": 0.5}, {"state": "Completed"}, totalRows=2)
    stretches = iter([{}, *[changes] * 9])

    def make() -> Any:
        return an_import(object_urls=urls("s"), deferrable=True, max_active_jobs=1, **next(stretches))()

    with pytest.raises(ZillizSubmissionUnknown, match=r"has changed since.* Of 2 jobs with 2 files"):
        run_operator(make, TaskInstance(), tmp_path / "s" if memory else None)
    assert len(server.requests("create")) == 1


@pytest.mark.parametrize("changes", CHANGES)
def test_only_a_cleared_task_imports_with_other_arguments(
    server: LocalServer, tmp_path: Path, changes: dict[str, Any]
) -> None:
    server.script({"state": "Completed"}, totalRows=2)
    run_operator(an_import(object_urls=urls("s")), TaskInstance(), tmp_path / "s")
    changed = an_import(object_urls=urls("s"), **changes)
    with pytest.raises(ZillizSubmissionUnknown, match="has changed since"):
        run_operator(changed, TaskInstance(2), tmp_path / "s")
    cleared = TaskInstance(3)
    cleared.max_tries = 3
    run_operator(an_import(object_urls=urls("s")), cleared, tmp_path / "s")
    with pytest.raises(ZillizSubmissionUnknown, match="has changed since"):
        run_operator(changed, cleared, tmp_path / "s")
    assert len(server.requests("create")) == 2
    cleared.max_tries = 4
    run_operator(changed, cleared, tmp_path / "s")
    assert len(server.requests("create")) == 4


def test_another_timeout_makes_no_other_import(server: LocalServer, tmp_path: Path) -> None:
    server.script({"state": "Completed"}, totalRows=2)
    for number in (1, 2):
        make = an_import(object_urls=urls("s"), options={"timeout": f"{number}00s"})
        run_operator(make, TaskInstance(number), tmp_path / "s")
    assert len(server.requests("create")) == 2


def test_files_whose_names_differ_behind_a_number_sign_are_two(server: LocalServer, tmp_path: Path) -> None:
    server.set(idempotency=True)
    server.script({"state": "Completed"}, totalRows=2)
    names = [[f"s3://bucket/part#{number}.parquet"] for number in range(2)]
    result = run_operator(an_import(object_urls=names), TaskInstance(), tmp_path / "s")
    assert (result["jobs"], result["files"]) == (2, 2)
    assert [request["body"]["objectUrls"] for request in server.requests("create")] == [[name] for name in names]
