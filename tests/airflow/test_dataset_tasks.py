"""A dataset's task beside its import: its reports to outlets and OpenLineage, and what a kill of it does."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias, TaskDeferred
from airflow.triggers.base import BaseTrigger

from airflow_zilliz._tasks import dataset, dataset_run
from airflow_zilliz._tasks.openlineage import has_openlineage
from airflow_zilliz.exceptions import ZillizImportFailed
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.operators import ZillizImportDatasetOperator
from airflow_zilliz.triggers import ZillizOwnedImportListTrigger
from tests.airflow.submitting import QUICK, TaskInstance, context_of, run_operator

COMPLETED = {"state": "Completed", "progress": 100}
UNCOMMITTED = {"state": "Uncommitted", "progress": 99}
IMPORTING = {"state": "Importing", "progress": 40}
tells_triggers = pytest.mark.skipif(
    not hasattr(BaseTrigger, "on_kill"), reason="triggers learn of a kill since Airflow 3.3"
)


@pytest.fixture
def server(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    monkeypatch.setattr(dataset_run, "PATIENCE", QUICK)
    monkeypatch.setattr(dataset, "SETTLING_SECONDS", 0.0)
    return server


def an_import(**arguments: Any) -> ZillizImportDatasetOperator:
    given = {
        "files": [[f"s3://lake/{number}.json"] for number in range(4)],
        "max_files_per_job": 2,
        "poke_interval": 0.2,
        "timeout": 30,
        **arguments,
    }
    return ZillizImportDatasetOperator(task_id="import", collection_name="books", **given)


# -- outlets and lineage --------------------------------------------------------------------------------------------


class OutletEvents(dict[str, Any]):
    """By address: an Asset of Airflow 3.1 cannot be hashed."""

    def __getitem__(self, outlet: Any) -> Any:
        return self.setdefault(outlet.uri, SimpleNamespace(extra={}))


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_outlet_s_event_has_the_sums(server: LocalServer, tmp_path: Path, deferrable: bool) -> None:
    server.script({**IMPORTING, "seconds": 0.3}, COMPLETED, totalRows=5)
    events = OutletEvents()
    outlets = [Asset("milvus://local/books"), AssetAlias("any")]
    make = partial(an_import, deferrable=deferrable, outlets=outlets)
    run_operator(make, TaskInstance(), tmp_path / "store", events)
    (extra,) = (event.extra for event in events.values())
    assert (extra["jobs"], extra["imported_rows"], extra["collection_name"]) == (2, 10, "books")


def test_no_outlet_has_an_event_of_a_dataset_that_lacks_files(server: LocalServer, tmp_path: Path) -> None:
    server.script({"state": "Failed", "reason": "broken"})
    events = OutletEvents()
    make = partial(an_import, outlets=[Asset("milvus://local/books")])
    with pytest.raises(ZillizImportFailed):
        run_operator(make, TaskInstance(), tmp_path / "store", events)
    assert events == {}


@pytest.mark.skipif(not has_openlineage(), reason="the OpenLineage provider is not installed")
@pytest.mark.parametrize("deferrable", [True, False])
def test_openlineage_gets_every_file_and_the_rows(server: LocalServer, tmp_path: Path, deferrable: bool) -> None:
    server.script({**IMPORTING, "seconds": 0.3}, COMPLETED, totalRows=5)
    operator = an_import(deferrable=deferrable)
    run_operator(lambda: operator, TaskInstance(), tmp_path / "store")
    facets = operator.get_openlineage_facets_on_complete(None)
    assert [(found.namespace, found.name) for found in facets.inputs] == [("s3://lake", f"{n}.json") for n in range(4)]
    ((name, rows),) = ((found.name, found.outputFacets["outputStatistics"].rowCount) for found in facets.outputs)
    assert (name, rows) == ("default.books", 10)
    assert facets.run_facets == {}


@pytest.mark.skipif(not has_openlineage(), reason="the OpenLineage provider is not installed")
def test_openlineage_gets_the_files_that_are_not_in_and_why(server: LocalServer, tmp_path: Path) -> None:
    server.script({"state": "Failed", "reason": "broken"})
    operator = an_import()
    with pytest.raises(ZillizImportFailed):
        run_operator(lambda: operator, TaskInstance(), tmp_path / "store")
    facets = operator.get_openlineage_facets_on_failure(None)
    assert len(facets.inputs) == 4
    assert "2 imports failed, the first one: import job" in facets.run_facets["errorMessage"].message
    assert "broken" in facets.run_facets["errorMessage"].message


# -- killing --------------------------------------------------------------------------------------------------------

OWNED: dict[str, Any] = {"atomic": True, "cancel_on_kill": True, "deferrable": True, "max_files_per_job": 1}


def deferred(make: Any, store: Path, ti: TaskInstance | None = None) -> tuple[ZillizImportDatasetOperator, BaseTrigger]:
    operator = make()
    with pytest.raises(TaskDeferred) as raised:
        operator.execute(context_of(ti or TaskInstance(), store))
    return operator, raised.value.trigger


def states() -> list[str]:
    return [job.state.value for job in ZillizHook().list_import_jobs(collection_name="books")]


def test_a_killed_worker_s_jobs_are_aborted(server: LocalServer, tmp_path: Path) -> None:
    server.script(IMPORTING)
    operator, _ = deferred(partial(an_import, **OWNED), tmp_path / "store")
    operator.on_kill()
    assert states() == ["Failed"] * 4


@pytest.mark.parametrize("arguments", [{"cancel_on_kill": False}, {"atomic": False}])
def test_no_other_job_is_touched_by_a_kill(server: LocalServer, tmp_path: Path, arguments: dict[str, Any]) -> None:
    server.script(IMPORTING)
    operator, trigger = deferred(partial(an_import, **{**OWNED, **arguments}), tmp_path / "store")
    operator.on_kill()
    assert not isinstance(trigger, ZillizOwnedImportListTrigger)
    assert server.requests("abort") == []


def killed(monkeypatch: pytest.MonkeyPatch, trigger: BaseTrigger, state: str | None) -> None:
    """Tell a trigger of a kill, as Airflow does, when its task is in this state; it is restored before."""
    task_runner = pytest.importorskip("airflow.sdk.execution_time.task_runner")
    monkeypatch.setattr(
        task_runner.RuntimeTaskInstance, "get_task_states", lambda **_: {"manual__1": {"import": state}}
    )
    path, kwargs = trigger.serialize()
    assert path == "airflow_zilliz.triggers.ZillizOwnedImportListTrigger"
    restored = ZillizOwnedImportListTrigger(**kwargs)
    restored._task_instance = TaskInstance()
    asyncio.run(restored.on_kill())


@tells_triggers
def test_a_deferred_task_that_is_killed_has_its_running_and_its_loaded_jobs_aborted(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    submit = ZillizHook.submit

    def submit_one(hook: ZillizHook, *arguments: Any) -> Any:
        server.script(IMPORTING if server.requests("create") else UNCOMMITTED)
        return submit(hook, *arguments)

    monkeypatch.setattr(ZillizHook, "submit", submit_one)
    _, trigger = deferred(partial(an_import, **OWNED, max_active_jobs=2), tmp_path / "store")
    assert sorted(states()) == ["Importing", "Importing", "Uncommitted"]
    killed(monkeypatch, trigger, None)
    assert states() == ["Failed"] * 3


@tells_triggers
def test_a_deferred_task_whose_trigger_moves_keeps_its_jobs(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.script(IMPORTING)
    _, trigger = deferred(partial(an_import, **OWNED), tmp_path / "store")
    killed(monkeypatch, trigger, "deferred")
    assert server.requests("abort") == []


@tells_triggers
@pytest.mark.parametrize("remembers", [True, False], ids=["3.3", "no store"])
def test_the_try_after_a_kill_starts_all_jobs_again(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, remembers: bool
) -> None:
    server.script(IMPORTING)
    make = partial(an_import, **OWNED)
    _, trigger = deferred(make, tmp_path / "store")
    killed(monkeypatch, trigger, "failed")
    server.script(UNCOMMITTED, totalRows=5, files=[{"name": "of another task.json", "rows": 5}])
    store = tmp_path / "store" if remembers else None
    assert run_operator(make, TaskInstance(2), store)["imported_rows"] == 20
    assert sorted(states()) == ["Completed"] * 4 + ["Failed"] * 4


def test_what_is_being_committed_is_not_aborted(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.script(UNCOMMITTED, totalRows=5)
    monkeypatch.setattr(ZillizHook, "commit_import", lambda *_, **__: None)  # a server that takes its time
    operator, trigger = deferred(partial(an_import, **OWNED), tmp_path / "store")
    operator.on_kill()
    assert not isinstance(trigger, ZillizOwnedImportListTrigger)
    assert server.requests("abort") == []
