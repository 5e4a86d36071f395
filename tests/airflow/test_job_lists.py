"""One task that waits for many jobs: every row of the table of outcomes, in every mode alike."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._tasks import base, job_list
from airflow_zilliz._tasks.list_worker import with_reasons
from airflow_zilliz._wait import list_wait
from airflow_zilliz._wait.job_results import unpack_jobs
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizConfigError,
    ZillizImportFailed,
    ZillizJobNotFound,
    ZillizUnavailable,
)
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.sensors import ZillizImportSensor
from tests.airflow.modes import MODES, Outcome, first_event, run_task

KEY = "k3y-0123456789abcdef"
FAST: dict[str, Any] = {"poke_interval": 0.2, "timeout": 20}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def jobs(server: LocalServer, number: int, *, seconds: float = 0.4, failed: int = 0, **last: Any) -> list[str]:
    """Return jobs that run for a while; the first ones fail then."""
    running = {"state": "Importing", "seconds": seconds, "progress": 40}
    done = {"state": "Completed", **last}
    broken = {"state": "Failed", "reason": "row 8: wrong dimension"}
    return [
        server.add_job(running, broken if index < failed else done, totalRows=5, collectionName="books")
        for index in range(number)
    ]


def error_of(outcome: Outcome, *facts: str) -> BaseException:
    assert outcome.error is not None, f"the task succeeded with {outcome.xcom}"
    for fact in facts:
        assert fact in str(outcome.error)
    assert KEY not in str(outcome.error)
    assert KEY not in json.dumps([outcome.events, outcome.kwargs, outcome.xcoms])
    return outcome.error


# -- how it ends --------------------------------------------------------------------------------------------------


def test_a_list_gives_a_list_of_results_in_its_order(server: LocalServer, mode: str) -> None:
    job_ids = jobs(server, 8)
    outcome = run_task(mode, job_id=[*reversed(job_ids), job_ids[3]], **FAST)
    assert outcome.error is None
    assert [result["job_id"] for result in outcome.xcom] == list(reversed(job_ids))
    assert {result["imported_rows"] for result in outcome.xcom} == {5}
    assert {result["state"] for result in outcome.xcom} == {"Completed"}
    one = run_task(mode, job_id=job_ids[0], **FAST)
    assert one.xcom in json.loads(json.dumps(outcome.xcom)), "each is what one job gives"
    assert outcome.xcoms["results"] == outcome.xcom
    shown = outcome.xcoms["zilliz_progress"]
    assert (shown["counts"], shown["percent"], shown["rows"]) == ({"Completed": 8}, 100, 40)
    assert (outcome.left > 0) is (mode != "poke")


def test_jobs_that_are_done_already_need_no_deferral(server: LocalServer, mode: str) -> None:
    outcome = run_task(mode, job_id=jobs(server, 8, seconds=0), **FAST)
    assert (outcome.error, outcome.left, len(outcome.xcom)) == (None, 0, 8)


def test_a_list_of_one_gives_a_list_of_one(server: LocalServer, mode: str) -> None:
    outcome = run_task(mode, job_id=jobs(server, 1), **FAST)
    assert [result["state"] for result in outcome.xcom] == ["Completed"]


def test_all_are_waited_for_before_failed_ones_fail_the_task(server: LocalServer, mode: str) -> None:
    job_ids = jobs(server, 2, seconds=0, failed=2) + jobs(server, 4, seconds=0.8)
    error = error_of(
        run_task(mode, job_id=job_ids, **FAST), "2 of 6 import jobs failed", "'zilliz_default'", "'books'", *job_ids[:2]
    )
    assert isinstance(error, ZillizImportFailed)
    assert isinstance(error, AirflowFailException), "Airflow does not retry it"
    assert [job.job_id for job in error.failed] == job_ids[:2]
    assert {job.reason for job in error.failed} == {"row 8: wrong dimension"}
    assert "4 Completed" in str(error)


def test_failed_ones_are_in_the_results_with_their_reasons(server: LocalServer, mode: str) -> None:
    job_ids = jobs(server, 5, failed=1)
    outcome = run_task(mode, job_id=job_ids, retry_on_failure=True, **FAST)
    assert isinstance(outcome.error, ZillizImportFailed)
    assert not isinstance(outcome.error, AirflowFailException)
    results = outcome.xcoms["results"]
    assert [result["state"] for result in results] == ["Failed", *["Completed"] * 4]
    assert results[0]["reason"] == "row 8: wrong dimension"


def test_many_failures_are_counted_and_the_first_ones_named(server: LocalServer, mode: str) -> None:
    job_ids = jobs(server, 25, failed=25)
    error = error_of(run_task(mode, job_id=job_ids, **FAST), "25 of 25 import jobs failed", "and 5 more")
    assert job_ids[19] in str(error)
    assert job_ids[20] not in str(error)
    assert isinstance(error, ZillizImportFailed)
    assert len(error.failed) == 25


def test_the_first_failure_ends_it_where_that_is_wanted(server: LocalServer, mode: str) -> None:
    job_ids = jobs(server, 1, failed=1) + jobs(server, 4, seconds=60)
    error = error_of(run_task(mode, job_id=job_ids, fail_fast=True, **FAST), "1 of 5 import jobs failed", "4 open")
    assert isinstance(error, ZillizImportFailed)


def test_uncommitted_as_target(server: LocalServer, mode: str) -> None:
    job_ids = jobs(server, 6, state="Uncommitted", progress=99)
    outcome = run_task(mode, job_id=job_ids, target_state="Uncommitted", **FAST)
    assert [result["state"] for result in outcome.xcom] == ["Uncommitted"] * 6


@pytest.mark.parametrize("options", [{"soft_fail": True}, {"never_fail": True}])
def test_failed_ones_skip_softly_and_say_why(server: LocalServer, mode: str, options: dict[str, Any]) -> None:
    error = error_of(run_task(mode, job_id=jobs(server, 5, failed=1), **options, **FAST), "row 8: wrong dimension")
    assert isinstance(error, AirflowSkipException)


def test_an_empty_list_skips_and_says_so(mode: str) -> None:
    assert isinstance(error_of(run_task(mode, job_id=[], **FAST), "no job to wait for"), AirflowSkipException)


# -- what is wrong ------------------------------------------------------------------------------------------------


def test_a_refused_key_fails_it_and_names_the_open_jobs(server: LocalServer, mode: str) -> None:
    server.add_fault("status", status=401, times=None)
    job_ids = jobs(server, 6)
    error = error_of(run_task(mode, job_id=job_ids, **FAST), "key", "6 open", *job_ids)
    assert isinstance(error, ZillizAuthError)
    assert error.http_status == 401


def test_a_key_that_is_rotated_in_mid_wait(server: LocalServer, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def rotate() -> None:
        fields = json.loads(server.connection(max_requests_per_second=1000))
        monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps({**fields, "password": "rotated-key-0123"}))
        server.set(api_key="rotated-key-0123")

    job_ids = jobs(server, 6, seconds=2.0)
    timer = threading.Timer(0.7, rotate)
    timer.start()
    outcome = run_task(mode, job_id=job_ids, **FAST)
    timer.join()
    server.set(api_key=KEY)
    assert outcome.error is None


def test_an_unknown_job_fails_it_after_a_while(server: LocalServer, mode: str) -> None:
    job_ids = [*jobs(server, 3, seconds=60), "453468002260053160"]
    error = error_of(run_task(mode, job_id=job_ids, **FAST), "453468002260053160", "forgotten", "4 open")
    assert isinstance(error, ZillizJobNotFound)


def test_no_usable_response_fails_it_and_may_be_retried(server: LocalServer, mode: str) -> None:
    job_ids = jobs(server, 5, seconds=60)
    server.add_fault("status", status=503, times=None)
    outcome = run_task(mode, job_id=job_ids, poll_failure_tolerance=1, **FAST)
    error = error_of(outcome, "Could not poll", "not touched", "5 open")
    assert isinstance(error, ZillizUnavailable)


def test_trouble_that_passes_ends_nothing(server: LocalServer, mode: str) -> None:
    job_ids = jobs(server, 5, seconds=1.0)
    server.add_fault("status", status=503, times=4, after=2)
    assert run_task(mode, job_id=job_ids, **FAST).error is None


def test_a_request_that_is_wrong_for_good(server: LocalServer, mode: str) -> None:
    server.add_fault("status", status=200, code=1801, message="parameter is wrong", times=None)
    error = error_of(run_task(mode, job_id=jobs(server, 5), **FAST), "parameter is wrong")
    assert isinstance(error, ZillizApiError)


def test_no_such_connection(mode: str) -> None:
    error = error_of(run_task(mode, job_id=["1", "2"], zilliz_conn_id="nobody", **FAST), "'nobody' does not exist")
    assert isinstance(error, ZillizConfigError)


@pytest.mark.parametrize("options", [{}, {"soft_fail": True}])
def test_a_timeout_names_what_is_open(server: LocalServer, mode: str, options: dict[str, Any]) -> None:
    job_ids = jobs(server, 3, seconds=0) + jobs(server, 2, seconds=60)
    outcome = run_task(mode, job_id=job_ids, poke_interval=0.2, timeout=1.5, **options)
    error = error_of(outcome, "Timed out (timeout)", "3 are Completed", "2 open", *job_ids[3:])
    assert isinstance(error, AirflowSkipException if options else AirflowSensorTimeout)
    assert len(outcome.xcoms["results"]) == 3


def test_execution_timeout_while_deferred(server: LocalServer) -> None:
    from datetime import timedelta

    job_ids = jobs(server, 4, seconds=60)
    outcome = run_task("deferrable", job_id=job_ids, execution_timeout=timedelta(seconds=1), **FAST)
    assert isinstance(error_of(outcome, "execution_timeout"), AirflowTaskTimeout)


def test_no_triggerer(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    monkeypatch.setattr(base, "BACKSTOP_MARGIN", timedelta(0))
    monkeypatch.setattr("airflow_zilliz._triggers.base.SHORTEST_FIRST_DELAY", 60)
    done, late = jobs(server, 2, seconds=0.5), jobs(server, 2, seconds=60)
    error = error_of(run_task("deferrable", job_id=done + late, poke_interval=0.2, timeout=1.5), "no triggerer")
    assert isinstance(error, AirflowSensorTimeout)
    assert run_task("deferrable", job_id=done, poke_interval=0.2, timeout=1.5).error is None, "they are done by then"


# -- checkpoints --------------------------------------------------------------------------------------------------


@pytest.fixture
def hourly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an hour take half a second."""
    monkeypatch.setattr(list_wait, "CHECKPOINT_EVERY", 0.5)
    monkeypatch.setattr(job_list, "CHECKPOINT_EVERY", 0.5)
    monkeypatch.setattr(list_wait, "GATHERING", 0.1)


def test_what_ended_and_was_forgotten_since_is_not_lost(
    server: LocalServer, mode: str, hourly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs end at 0.3 s, the server forgets them at 1.7 s, and the last ones end at 3 s."""
    early, late = jobs(server, 5, seconds=0.3, failed=1), jobs(server, 5, seconds=3.0)

    def forget() -> None:
        for job_id in early:
            server.forget_job(job_id)

    timer = threading.Timer(1.7, forget)
    timer.start()
    outcome = run_task(mode, job_id=early + late, **FAST)
    timer.join()
    error = error_of(outcome, "1 of 10 import jobs failed", "row 8", "9 Completed")
    assert isinstance(error, ZillizImportFailed)
    assert [result["job_id"] for result in outcome.xcoms["results"]] == early + late
    assert [result["imported_rows"] for result in outcome.xcoms["results"][1:]] == [5] * 9
    if mode == "deferrable":
        assert 2 <= outcome.left <= 4
        assert len(outcome.kwargs[-1]["job_ids"]) < len(outcome.kwargs[0]["job_ids"])


def test_a_failure_is_also_in_the_log_of_the_worker_that_defers_again(
    server: LocalServer, hourly: None, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow overwrites a trigger's log at the next deferral."""
    early, late = jobs(server, 5, seconds=1.5, failed=1), jobs(server, 5, seconds=4.0)
    outcome = run_task("deferrable", job_id=early + late, **FAST)
    assert outcome.left >= 2
    written = re.compile("1 of 10 import jobs failed.*row 8")
    assert max(len(written.findall(text)) for text in (capsys.readouterr().out, caplog.text)) == 1


def test_results_that_somebody_changed_are_polled_again(server: LocalServer) -> None:
    job_ids = jobs(server, 4, seconds=0)
    sensor = ZillizImportSensor(task_id="wait", job_id=job_ids, deferrable=True)
    pushed: dict[str, Any] = {}
    edited = [
        {"job_id": job_ids[0], "state": "Importing"},
        {"job_id": "another", "state": "Completed"},
        {"job_id": job_ids[1], "state": "Completed", "imported_rows": "<b>many</b>"},
        "nonsense",
    ]

    class TaskInstance:
        task_id, map_index, try_number = "wait", -1, 1

        def xcom_pull(self, **_: Any) -> Any:
            return edited

        def xcom_push(self, key: str, value: Any) -> None:
            pushed[key] = value

    event = {"version": 1, "ending": "reached", "jobs": "", "memory": ""}
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(BaseException) as deferred:  # noqa: PT011 - TaskDeferred is no Exception
        sensor.resume_execution("execute_list_complete", {"event": event}, context)
    assert type(deferred.value).__name__ == "TaskDeferred"
    assert deferred.value.trigger.recorded[0] == 1  # type: ignore[attr-defined] # TaskDeferred's


class Killed(BaseException):
    """A worker that dies at once."""


@pytest.mark.parametrize("fatal", range(1, 8))
def test_a_worker_that_dies_at_any_write_loses_nothing(server: LocalServer, hourly: None, fatal: int) -> None:
    """It dies instead of its so many-th write, and is retried; the server forgets what is recorded."""
    early, late = jobs(server, 4, seconds=0.3, failed=1), jobs(server, 4, seconds=2.5)
    writes: list[str] = []
    forgotten: set[str] = set()

    def write(key: str, value: Any, do: Callable[[], None]) -> None:
        writes.append(key)
        if len(writes) == fatal:
            raise Killed
        do()
        recorded = {job.job_id for job in unpack_jobs(value)} if key == "zilliz_results_0" else set()
        for job_id in recorded - forgotten:
            server.forget_job(job_id)
        forgotten.update(recorded)

    arguments: dict[str, Any] = {"job_id": early + late, "deferrable": True, **FAST}
    outcome = run_with_kills(arguments, write)
    assert isinstance(outcome.error, ZillizImportFailed)
    assert [result["job_id"] for result in outcome.xcoms["results"]] == early + late
    assert [result["state"] for result in outcome.xcoms["results"]] == ["Failed", *["Completed"] * 7]


def run_with_kills(arguments: dict[str, Any], write: Callable[[str, Any, Callable[[], None]], None]) -> Outcome:
    """Run a deferrable sensor; each try begins without XComs and with the state store, as on Airflow 3.3."""
    outcome, stored = Outcome(), dict[str, Any]()
    for try_number in range(1, 4):
        outcome.xcoms.clear()
        ti = SimpleNamespace(
            dag_id="dag",
            run_id="manual__1",
            try_number=try_number,
            task_id="wait",
            map_index=-1,
            xcom_push=lambda key, value: write(
                key, value, lambda: outcome.xcoms.__setitem__(key, json.loads(json.dumps(value)))
            ),
            xcom_pull=lambda key, **_: outcome.xcoms.get(key),
        )
        store = SimpleNamespace(
            get=stored.get, set=lambda key, value: write(key, value, lambda: stored.__setitem__(key, value))
        )
        context: Any = {"ti": ti, "task_state_store": store}
        try:
            run_deferrable(lambda: ZillizImportSensor(task_id="wait", **arguments), context)
        except Killed:
            continue
        except ZillizImportFailed as err:
            outcome.error = err
        return outcome
    raise AssertionError("it dies each time")


def run_deferrable(make: Callable[[], ZillizImportSensor], context: Any) -> Any:
    resume: Callable[[], Any] = lambda: make().execute(context)  # noqa: E731 - replaced at each deferral
    while True:
        try:
            return resume()
        except TaskDeferred as deferred:
            path, kwargs = deferred.trigger.serialize()
            event = json.loads(json.dumps(asyncio.run(first_event(path, json.loads(json.dumps(kwargs))))))
            next_kwargs, method = {**(deferred.kwargs or {}), "event": event}, deferred.method_name
            resume = lambda m=method, k=next_kwargs: make().resume_execution(m, k, context)  # type: ignore[misc] # noqa: E731 - bound now


def test_a_rescheduled_wait_logs_one_line_a_minute(
    server: LocalServer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    outcome = run_task("reschedule+memory", job_id=jobs(server, 5, seconds=1.5), **FAST)
    assert outcome.left > 2
    # Airflow 2 writes a line to both
    assert max(text.count("5 jobs: 5 Importing") for text in (capsys.readouterr().out, caplog.text)) == 1


def test_withheld_reasons_are_asked_for_by_the_worker(server: LocalServer) -> None:
    hook = ZillizHook()
    hook.other_secrets = ("dimension",)
    failed, done = jobs(server, 2, seconds=0, failed=1)
    found = [
        ImportProgress(failed, ImportState.FAILED),
        ImportProgress(done, ImportState.COMPLETED),
        ImportProgress("forgotten", ImportState.FAILED),
    ]
    assert [job.reason for job in with_reasons(found, hook, {})] == ["row 8: wrong ***", None, None]


# -- how a list may come ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "came",
    [
        lambda ids: json.dumps(ids),
        lambda ids: str([{"job_id": job_id, "imported_rows": None} for job_id in ids]),
        lambda ids: tuple({"jobId": int(job_id)} for job_id in ids),
    ],
    ids=["JSON text", "text of dicts", "numbers"],
)
def test_ids_come_in_many_shapes(server: LocalServer, came: Callable[[list[str]], Any]) -> None:
    job_ids = jobs(server, 3, seconds=0)
    assert [result["job_id"] for result in run_task("poke", job_id=came(job_ids), **FAST).xcom] == job_ids
