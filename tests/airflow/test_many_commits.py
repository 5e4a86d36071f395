"""Many imports in one task: committing and aborting them, and what is reported of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_zilliz._tasks.openlineage import has_openlineage
from airflow_zilliz.exceptions import ZillizApiError, ZillizAuthError, ZillizUnavailable
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.operators import ZillizAbortImportOperator, ZillizCommitImportOperator
from airflow_zilliz.sensors import ZillizImportSensor
from tests.airflow.submitting import TaskInstance, run_operator

FAST: dict[str, Any] = {"poke_interval": 0.2, "timeout": 20}


def uncommitted(server: LocalServer, number: int) -> list[str]:
    files = [["a.json"]]
    server.script({"state": "Uncommitted", "progress": 99}, totalRows=5, files=[{"name": "a.json", "rows": 5}])
    hook = ZillizHook()
    return [
        hook.bulk_import("books", files=files, options={"auto_commit": False}, idempotency_key=f"key-{index}")
        for index in range(number)
    ]


def commit(job_ids: list[str], **arguments: Any) -> Any:
    return run_operator(
        lambda: ZillizCommitImportOperator(task_id="import", job_id=job_ids, **FAST, **arguments), TaskInstance()
    )


def abort(job_ids: list[str]) -> Any:
    return run_operator(lambda: ZillizAbortImportOperator(task_id="import", job_id=job_ids), TaskInstance())


def states(job_ids: list[str]) -> list[str]:
    return [ZillizHook().get_import_progress(job_id).state.value for job_id in job_ids]


@pytest.mark.parametrize("deferrable", [True, False])
def test_many_jobs_are_committed_and_waited_for(server: LocalServer, deferrable: bool) -> None:
    job_ids = uncommitted(server, 6)
    results = commit(job_ids, deferrable=deferrable)
    assert [(result["job_id"], result["state"]) for result in results] == [(one, "Completed") for one in job_ids]
    assert commit(job_ids) == results, "and again"


def test_a_job_that_was_recorded_and_forgotten_is_not_committed_again(server: LocalServer, tmp_path: Path) -> None:
    job_ids = uncommitted(server, 3)
    make = lambda: ZillizCommitImportOperator(task_id="import", job_id=job_ids, **FAST)  # noqa: E731
    first = run_operator(make, TaskInstance(), tmp_path / "store")
    server.forget_job(job_ids[1])
    assert run_operator(make, TaskInstance(2), tmp_path / "store") == first
    assert len(server.requests("commit")) == 3


def test_without_a_wait_the_ids_are_returned(server: LocalServer) -> None:
    job_ids = uncommitted(server, 2)
    assert commit(job_ids, wait_for_completion=False) == [{"job_id": job_id} for job_id in job_ids]


def test_a_refusal_of_some_keeps_no_other_from_being_committed(server: LocalServer) -> None:
    job_ids = uncommitted(server, 5)
    abort(job_ids[1:3])
    with pytest.raises(ZillizApiError, match=r"^committed 3, failed 2: job") as raised:
        commit(job_ids)
    assert all(f"job '{job_id}'" in str(raised.value) for job_id in job_ids[1:3])
    assert "safe to clear this task" in str(raised.value)
    assert states(job_ids[1:3]) == ["Failed"] * 2
    assert set(states([job_ids[0], *job_ids[3:]])) <= {"Committing", "Completed"}


def test_many_jobs_are_aborted_and_failed_ones_left_alone(server: LocalServer) -> None:
    job_ids = uncommitted(server, 4)
    assert abort(job_ids[:2]) == [{"job_id": job_id} for job_id in job_ids[:2]]
    abort(job_ids)
    assert states(job_ids) == ["Failed"] * 4


def test_a_refused_key_stops_it_with_a_count(server: LocalServer) -> None:
    job_ids = uncommitted(server, 3)
    server.add_fault("status", status=401, path="commit", times=None, after=1)
    with pytest.raises(ZillizAuthError, match=r"^committed 1, failed 0, then stopped: .* not sent for 2 other jobs"):
        commit(job_ids)


def test_a_server_that_is_away_stops_it_and_a_retry_goes_on(server: LocalServer) -> None:
    job_ids = uncommitted(server, 3)
    server.add_fault("status", status=503, path="commit", times=3, after=1)  # one request is repeated twice
    with pytest.raises(ZillizUnavailable, match=r"^committed 1, failed 0, then stopped: "):
        commit(job_ids)
    assert {result["state"] for result in commit(job_ids)} == {"Completed"}


def test_a_server_that_asks_for_fewer_requests_is_waited_out(server: LocalServer) -> None:
    job_ids = uncommitted(server, 2)
    server.add_fault("status", status=429, path="commit", times=1)
    assert {result["state"] for result in commit(job_ids)} == {"Completed"}


@pytest.mark.parametrize("run", [commit, abort])
def test_an_empty_list_skips_the_task(run: Any) -> None:
    with pytest.raises(AirflowSkipException, match="empty list"):
        run([])


# -- what a task of many jobs reports -------------------------------------------------------------------------


class OutletEvents(dict[str, Any]):
    """By address: an Asset of Airflow 3.1 cannot be hashed."""

    def __getitem__(self, outlet: Any) -> Any:
        return self.setdefault(outlet.uri, SimpleNamespace(extra={}))


def waiting(server: LocalServer, **arguments: Any) -> ZillizImportSensor:
    running = {"state": "Importing", "seconds": 0.3, "progress": 40}
    job_ids = [
        server.add_job(
            running, {"state": "Completed"}, totalRows=5, collectionName=name, files=[{"name": f"s3://b/{name}.json"}]
        )
        for name in ("books", "books", "authors", "shops", "films", "songs")
    ]
    return ZillizImportSensor(task_id="import", job_id=job_ids, **FAST, **arguments)


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_asset_s_event_has_the_sums(server: LocalServer, deferrable: bool) -> None:
    events, sensor = OutletEvents(), waiting(server, deferrable=deferrable)
    sensor.outlets = [SimpleNamespace(uri="zilliz://books")]
    run_operator(lambda: sensor, TaskInstance(), events=events)
    (extra,) = (event.extra for event in events.values())
    assert (extra["jobs"], extra["imported_rows"], extra["collection_name"]) == (6, 30, None)


@pytest.mark.skipif(not has_openlineage(), reason="the OpenLineage provider is not installed")
@pytest.mark.parametrize("deferrable", [True, False])
def test_openlineage_gets_every_file_and_every_collection(server: LocalServer, deferrable: bool) -> None:
    sensor = waiting(server, deferrable=deferrable)
    run_operator(lambda: sensor, TaskInstance())
    lineage = sensor.get_openlineage_facets_on_complete(None)
    names = ("books", "authors", "shops", "films", "songs")
    inputs = {f"[s3://b/{name}.json]" for name in names}  # as Milvus names them
    assert {found.name for found in lineage.inputs} == inputs
    rows = {found.name: found.outputFacets["outputStatistics"].rowCount for found in lineage.outputs}
    assert rows == {"default.books": 10, **{f"default.{name}": 5 for name in names[1:]}}
    assert "externalQuery" not in lineage.run_facets
