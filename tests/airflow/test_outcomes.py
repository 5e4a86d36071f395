"""The contract: every row of the README's table of outcomes, in every mode alike."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_zilliz._tasks import base
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizConfigError,
    ZillizImportFailed,
    ZillizJobNotFound,
    ZillizUnavailable,
)
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.sensors import ZillizImportSensor
from airflow_zilliz.triggers import ZillizImportTrigger
from tests.airflow.modes import AIRFLOW_3, MODES, Outcome, run_task

KEY = "k3y-0123456789abcdef"
FAST: dict[str, Any] = {"poke_interval": 0.2, "timeout": 20}


@pytest.fixture
def server(server_process: LocalServer, monkeypatch: pytest.MonkeyPatch, fast: None) -> LocalServer:
    server_process.clear()
    connect(monkeypatch, server_process, KEY)
    return server_process


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def log_lines(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """Return what was logged: Airflow 2 goes through logging, 3 straight to standard output, and 3.0 both ways."""
    caplog.set_level("INFO")

    def lines() -> list[str]:
        printed = capsys.readouterr()
        logged = [record.getMessage() for record in caplog.records]
        lines = (printed.out + printed.err).splitlines() if AIRFLOW_3 else []
        return logged + [line for line in lines if not any(message in line for message in logged)]

    return lines


def connect(monkeypatch: pytest.MonkeyPatch, server: LocalServer, key: str, **extra: Any) -> None:
    fields = {"conn_type": "zilliz", "host": server.url, "password": key}
    extra = {"max_requests_per_second": 1000, **extra}
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps({**fields, "extra": extra}))


def phase(state: str, seconds: float = 0.0, progress: int = 0, reason: str = "") -> dict[str, Any]:
    return {"state": state, "seconds": seconds, "progress": progress, "reason": reason}


def later(seconds: float, do: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, do)
    timer.start()
    return timer


def error_of(outcome: Outcome, *facts: str) -> BaseException:
    assert outcome.error is not None, f"the task succeeded with {outcome.xcom}"
    for fact in facts:
        assert fact in str(outcome.error)
    assert KEY not in str(outcome.error)
    assert KEY not in json.dumps([outcome.events, outcome.kwargs])
    return outcome.error


# -- Completed ----------------------------------------------------------------------------------------------------


def test_completed_job(server: LocalServer, mode: str) -> None:
    job_id = server.add_job(phase("Completed"), collectionName="books", totalRows=5_000_000_000)
    outcome = run_task(mode, job_id=job_id, **FAST)
    assert outcome.error is None
    assert outcome.left == 0, "the first poll is on the worker"
    xcom = json.loads(json.dumps(outcome.xcom))
    assert xcom.pop("complete_time").endswith("+00:00")
    assert xcom == {
        "job_id": job_id,
        "collection_name": "books",
        "state": "Completed",
        "imported_rows": 5_000_000_000,
        "total_rows": 5_000_000_000,
        "file_size": 0,
    }


def test_job_that_runs_first(server: LocalServer, mode: str) -> None:
    job_id = server.add_job(
        phase("Pending", 0.4),
        phase("Importing", 0.4, 40),
        phase("Frobnicating", 0.3, 90),
        phase("Committing", 0.3, 99),
        phase("Completed"),
        totalRows=7,
    )
    outcome = run_task(mode, job_id=job_id, **FAST)
    assert outcome.error is None
    assert (outcome.xcom["state"], outcome.xcom["imported_rows"]) == ("Completed", 7)
    assert (outcome.left > 0) is (mode != "poke")


def test_xcom_is_the_same_in_every_mode(server: LocalServer) -> None:
    job_id = server.add_job(phase("Completed"), collectionName="books", totalRows=3, files=[{"name": "a", "size": 9}])
    assert len({json.dumps(run_task(mode, job_id=job_id, **FAST).xcom) for mode in MODES}) == 1


# -- Failed -------------------------------------------------------------------------------------------------------


def failing_job(server: LocalServer, reason: str = "row 8: wrong dimension", running: float = 0.3) -> str:
    files = [{"name": "a.json", "state": "Failed", "reason": "8 rows too many"}]
    return server.add_job(
        phase("Importing", running, 40), phase("Failed", reason=reason), collectionName="books", files=files
    )


@pytest.mark.parametrize("running", [0.0, 0.3])
def test_failed_job(server: LocalServer, mode: str, running: float) -> None:
    job_id = failing_job(server, running=running)
    outcome = run_task(mode, job_id=job_id, **FAST)
    error = error_of(
        outcome, job_id, "'books'", "'zilliz_default'", "row 8: wrong dimension", "[a.json]: 8 rows too many"
    )
    assert isinstance(error, ZillizImportFailed)
    assert isinstance(error, AirflowFailException), "Airflow does not retry it"
    assert (error.progress.job_id, error.progress.reason) == (job_id, "row 8: wrong dimension")


def test_failed_job_without_reason(server: LocalServer, mode: str) -> None:
    error = error_of(run_task(mode, job_id=failing_job(server, reason=""), **FAST), "gave no reason")
    assert isinstance(error, ZillizImportFailed)


def test_job_cancelled_in_zilliz_cloud(server: LocalServer, mode: str) -> None:
    job_id = server.add_job(phase("Importing", 0.3, 40), phase("CANCELING", 0.3, 40), phase("CANCELED"))
    error = error_of(run_task(mode, job_id=job_id, **FAST), job_id, "cancelled on the server, which says 'CANCELED'")
    assert isinstance(error, ZillizImportFailed)


def test_failed_job_that_may_be_retried(server: LocalServer, mode: str) -> None:
    error = error_of(run_task(mode, job_id=failing_job(server), retry_on_failure=True, **FAST), "row 8")
    assert isinstance(error, ZillizImportFailed)
    assert not isinstance(error, AirflowFailException)


@pytest.mark.parametrize("options", [{"soft_fail": True}, {"soft_fail": True, "retry_on_failure": True}])
def test_failed_job_skips_softly_and_says_why(server: LocalServer, mode: str, options: dict[str, Any]) -> None:
    error = error_of(run_task(mode, job_id=failing_job(server), **options, **FAST), "row 8: wrong dimension")
    assert isinstance(error, AirflowSkipException)


# -- Uncommitted --------------------------------------------------------------------------------------------------


def test_uncommitted_waits_with_a_warning(server: LocalServer, mode: str, log_lines: Callable[[], list[str]]) -> None:
    job_id = server.add_job(phase("Uncommitted", 0.8, 99), phase("Completed"))
    assert run_task(mode, job_id=job_id, **FAST).error is None
    warnings = [line for line in log_lines() if "needs a commit" in line]
    # without a store between polls, each poll of a rescheduled sensor is the first one
    assert len(warnings) > 1 if mode == "reschedule" else len(warnings) == 1


def test_uncommitted_as_target(server: LocalServer, mode: str) -> None:
    job_id = server.add_job(phase("Importing", 0.3, 40), phase("Uncommitted", 0, 99), totalRows=4)
    outcome = run_task(mode, job_id=job_id, target_state="Uncommitted", **FAST)
    assert outcome.error is None
    assert outcome.xcom["state"] == "Uncommitted"


# -- the key ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key(server: LocalServer, mode: str, status: int) -> None:
    server.add_fault("status", status=status, times=None)
    error = error_of(run_task(mode, job_id=server.add_job(phase("Importing")), **FAST), "key", "'zilliz_default'")
    assert isinstance(error, ZillizAuthError)
    assert isinstance(error, AirflowFailException), "never retried"
    assert error.http_status == status


def test_wrong_key(server: LocalServer, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, server, "another-key-0123456789")
    outcome = run_task(mode, job_id=server.add_job(phase("Importing")), **FAST)
    assert isinstance(error_of(outcome, "hasn't authenticated"), ZillizAuthError)
    assert len(server.requests("describe")) == 2, "the connection is looked up again, once"


def test_key_that_is_rotated_in_mid_wait(server: LocalServer, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def rotate() -> None:
        connect(monkeypatch, server, "rotated-key-0123456789")
        server.set(api_key="rotated-key-0123456789")

    job_id = server.add_job(phase("Importing", 2.0, 40), phase("Completed"))
    timer = later(0.7, rotate)
    outcome = run_task(mode, job_id=job_id, **FAST)
    timer.join()
    assert outcome.error is None


def test_refused_key_fails_under_soft_fail_too(server: LocalServer, mode: str) -> None:
    server.add_fault("status", status=401, times=None)
    outcome = run_task(mode, job_id=server.add_job(phase("Importing")), soft_fail=True, **FAST)
    assert isinstance(error_of(outcome), ZillizAuthError)


# pages of whatever stands before the server: a firewall, a login proxy, a load balancer without a backend
PAGES: list[dict[str, Any]] = [
    {"status": 403, "message": "<html>Request blocked by the firewall</html>"},
    {"status": 401, "message": "<html>Please log in</html>"},
    {"status": 407, "message": "Proxy Authentication Required"},
    {"status": 404, "message": "default backend - 404"},
    {"status": 404, "message": "<html><center>nginx</center></html>"},
    {"status": 405, "message": "<html><center>nginx</center></html>"},
    {"status": 403, "message": '{"message": "Forbidden"}'},
]
# what Milvus says while it restarts or fails over, and unknown codes
CODES: list[dict[str, Any]] = [
    {"code": 65535, "message": "find no available mixcoord"},
    {"code": 65535, "message": "rpc error: code = Unavailable desc = transport is closing"},
    {"code": 10000, "message": "context canceled"},
    {"code": 5, "message": "service internal error"},
    {"code": 901, "message": "node not match"},
    {"code": 500, "message": "panic"},
    {"code": 4711, "message": "never heard of"},
]
ODD = [{"kind": "page", **page} for page in PAGES] + [{"kind": "status", "status": 200, **code} for code in CODES]


def odd_name(fault: dict[str, Any]) -> str:
    return f"{fault.get('code', fault['status'])} {fault['message'][:16]}"


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("fault", ODD, ids=odd_name)
def test_an_odd_response_does_not_end_a_wait(server: LocalServer, mode: str, fault: dict[str, Any], after: int) -> None:
    server.add_fault(**fault, times=4, after=after)
    # long enough for six polls
    outcome = run_task(mode, job_id=server.add_job(phase("Importing", 0.7, 40), phase("Completed")), **FAST)
    assert outcome.error is None


@pytest.mark.parametrize("fault", [PAGES[0], PAGES[3]], ids=lambda fault: fault["message"][:16])
def test_a_page_that_stays_is_no_refused_key_and_retriable(
    server: LocalServer, mode: str, fault: dict[str, Any]
) -> None:
    server.add_fault("page", **fault, times=None)
    outcome = run_task(mode, job_id=server.add_job(phase("Importing")), poll_failure_tolerance=1, **FAST)
    error = error_of(outcome, "Could not poll", fault["message"], "not touched")
    assert isinstance(error, ZillizUnavailable)
    assert not isinstance(error, AirflowFailException)


# -- unknown job --------------------------------------------------------------------------------------------------


def test_unknown_job(server: LocalServer, mode: str) -> None:
    started = time.monotonic()
    outcome = run_task(mode, job_id="453468002260053160", **FAST)
    assert isinstance(error_of(outcome, "453468002260053160", "forgotten"), ZillizJobNotFound)
    assert time.monotonic() - started >= 1.0, "waited out first"


def test_job_that_becomes_known(server: LocalServer, mode: str) -> None:
    job_id = "453468002260053161"
    timer = later(0.5, lambda: server.set_job(job_id, phase("Completed")))
    outcome = run_task(mode, job_id=job_id, **FAST)
    timer.join()
    assert outcome.error is None


def test_job_that_is_forgotten_in_mid_wait(server: LocalServer, mode: str) -> None:
    job_id = server.add_job(phase("Importing", 0, 63))
    timer = later(1.3, lambda: server.forget_job(job_id))
    outcome = run_task(mode, job_id=job_id, **FAST)
    timer.join()
    assert isinstance(error_of(outcome, "forgotten"), ZillizJobNotFound)


def test_one_unknown_job_in_mid_wait_ends_nothing(server: LocalServer, mode: str) -> None:
    """A fail-over: the server does not know the job for a moment, long after the first minute of the wait."""
    job_id = server.add_job(phase("Importing", 0, 63), phase("Completed"))
    over = threading.Event()

    def fail_over() -> None:
        time.sleep(1.5)  # the minute is a second here
        server.add_fault("status", status=200, code=2100, message=f"import job does not exist, jobID={job_id}", times=2)
        time.sleep(1.5)
        server.set_job(job_id, phase("Completed"))
        over.set()

    server.set_job(job_id, phase("Importing", 0, 63))
    timer = later(0, fail_over)
    outcome = run_task(mode, job_id=job_id, **FAST)
    timer.join()
    assert outcome.error is None
    assert over.is_set()


# -- no usable response ---------------------------------------------------------------------------------------------

FAULTS: list[dict[str, Any]] = [
    {"kind": "status", "status": 408},
    {"kind": "status", "status": 429, "retry_after": 0.3},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503},
    {"kind": "slow", "seconds": 2},
    {"kind": "cut"},
    {"kind": "html"},
    {"kind": "reset"},
    {"kind": "huge"},
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f['kind']}{f.get('status', '')}")
def test_trouble_that_passes(
    server: LocalServer, mode: str, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, server, KEY, request_timeout=0.5)
    server.add_fault(**fault, times=4)
    outcome = run_task(mode, job_id=server.add_job(phase("Completed"), totalRows=7), **FAST)
    assert outcome.error is None
    assert outcome.xcom["imported_rows"] == 7


def test_trouble_that_stays(server: LocalServer, mode: str) -> None:
    server.add_fault("status", status=503, message="upstream down", times=None)
    job_id = server.add_job(phase("Importing"))
    outcome = run_task(mode, job_id=job_id, poll_failure_tolerance=timedelta(seconds=1), **FAST)
    error = error_of(
        outcome,
        "Could not poll",
        job_id,
        "upstream down",
        "has not been seen in this wait",
        "the job itself was not touched",
    )
    assert isinstance(error, ZillizUnavailable)
    assert not isinstance(error, AirflowFailException), "retriable"
    assert error.http_status == 503


def test_trouble_after_good_polls_reports_the_last_state(server: LocalServer, mode: str) -> None:
    server.add_fault("status", status=503, after=1, times=None)
    job_id = server.add_job(phase("Importing", 0, 63))
    outcome = run_task(mode, job_id=job_id, poll_failure_tolerance=1, **FAST)
    # a rescheduled poll remembers nothing of those before, where Airflow gives it no store
    last = "has not been seen in this wait" if mode == "reschedule" else "Importing 63 %"
    assert isinstance(error_of(outcome, "Could not poll", last, "not touched"), ZillizUnavailable)


def test_trouble_is_no_soft_failure(server: LocalServer, mode: str) -> None:
    server.add_fault("status", status=503, times=None)
    outcome = run_task(
        mode, job_id=server.add_job(phase("Importing")), poll_failure_tolerance=0.5, soft_fail=True, **FAST
    )
    assert isinstance(error_of(outcome), ZillizUnavailable)


def test_the_first_poll_may_fail(server: LocalServer) -> None:
    server.add_fault("status", status=503, times=3)
    outcome = run_task("deferrable", job_id=server.add_job(phase("Completed")), **FAST)
    assert (outcome.error, outcome.left) == (None, 1)


def test_alternating_trouble_is_logged_once(server: LocalServer, mode: str, log_lines: Callable[[], list[str]]) -> None:
    for turn in range(1, 7):  # every second response
        server.add_fault("status", status=200, code=65535, message="find no available mixcoord", after=turn)
    job_id = server.add_job(phase("Importing", 3.0, 40), phase("Completed"))
    assert run_task(mode, job_id=job_id, **FAST).error is None
    logged = [line for line in log_lines() if "Could not poll" in line]
    # without a store between polls, a rescheduled poll knows nothing of those before
    assert len(logged) == 1 or (mode == "reschedule" and logged)


def test_a_host_that_moves_in_mid_wait_is_found(
    server: LocalServer, mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job_id = server.add_job(phase("Importing", 0, 40))
    with LocalServer(tmp_path, api_key=KEY) as new:
        new.set_job(job_id, phase("Completed"), totalRows=7)

        def move() -> None:
            server.add_fault("status", status=503, times=None)
            connect(monkeypatch, new, KEY)

        timer = later(0.7, move)
        outcome = run_task(mode, job_id=job_id, **FAST)
        timer.join()
    assert outcome.error is None
    assert outcome.xcom["imported_rows"] == 7


# -- timeout ------------------------------------------------------------------------------------------------------


def test_a_poll_in_vain_at_the_deadline_is_no_poll(server: LocalServer, mode: str) -> None:
    """The server is unreachable at the deadline, and the job is done."""
    job_id = server.add_job(phase("Importing", 1.0), phase("Completed"))
    server.add_fault("status", status=200, code=65535, message="transport is closing", times=None, after=1)
    timer = later(2.2, lambda: server.clear("faults"))
    outcome = run_task(mode, job_id=job_id, poke_interval=0.2, timeout=1.5)
    timer.join()
    assert outcome.error is None


@pytest.mark.parametrize("state", ["Completed", "Importing"])
def test_a_triggerer_that_comes_back_long_after_the_deadline_polls_first(server: LocalServer, state: str) -> None:
    job_id = server.add_job(phase(state, 0, 80))
    late = time.time() - 3600
    trigger = ZillizImportTrigger(job_id=job_id, zilliz_conn_id="zilliz_default", started_at=late - 60, deadline=late)

    async def payloads() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    (payload,) = asyncio.run(payloads())
    assert payload["ending"] == ("reached" if state == "Completed" else "timed_out")
    # by another route where an earlier test of this process taught it that the server lacks that one
    assert len(server.requests()) == 1


@pytest.mark.parametrize("ending", ["timed_out", "execution_timed_out"])
def test_a_worker_polls_once_before_it_believes_a_timeout(server: LocalServer, ending: str) -> None:
    event = {"version": 1, "ending": ending, "message": "m", "progress": None, "facts": {}}
    span = {"started_at": time.time() - 60, "deadline": time.time() - 1}
    done = ZillizImportSensor(task_id="wait", job_id=server.add_job(phase("Completed"), totalRows=3))
    assert done.execute_complete({}, event, **span)["imported_rows"] == 3
    running = ZillizImportSensor(task_id="wait", job_id=server.add_job(phase("Importing")))
    with pytest.raises(AirflowSensorTimeout if ending == "timed_out" else AirflowTaskTimeout, match="m"):
        running.execute_complete({}, event, **span)
    server.add_fault("status", status=403, times=None)
    with pytest.raises(AirflowSensorTimeout if ending == "timed_out" else AirflowTaskTimeout, match="m"):
        running.execute_complete({}, event, **span)


def test_a_second_wait_for_a_job_keeps_to_its_own_first_delay(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 3 fails a task whose trigger fires before it has heard of the deferral."""
    job_id = server.add_job(phase("Importing", 1.5), phase("Completed"))

    async def event_after(delay: float) -> tuple[float, str]:
        await asyncio.sleep(delay)
        began = time.monotonic()
        trigger = ZillizImportTrigger(job_id=job_id, zilliz_conn_id="zilliz_default", poke_interval=0.3)
        (event,) = [event async for event in trigger.run()]
        return time.monotonic() - began, event.payload["ending"]

    async def both() -> list[tuple[float, str]]:
        monkeypatch.setattr("airflow_zilliz._triggers.base.SHORTEST_FIRST_DELAY", 1.0)
        return list(await asyncio.gather(event_after(0), event_after(1.3)))

    (_, first), (took, second) = asyncio.run(both())
    assert (first, second) == ("reached", "reached")
    assert took >= 0.99


def test_timeout(server: LocalServer, mode: str) -> None:
    job_id = server.add_job(phase("Importing", 0, 80))
    outcome = run_task(mode, job_id=job_id, poke_interval=0.2, timeout=1.2)
    error = error_of(outcome, "Timed out", job_id, "Importing 80 %", "not touched")
    assert type(error) is AirflowSensorTimeout


def test_timeout_skips_softly(server: LocalServer, mode: str) -> None:
    outcome = run_task(
        mode, job_id=server.add_job(phase("Importing", 0, 80)), poke_interval=0.2, timeout=0.8, soft_fail=True
    )
    assert isinstance(error_of(outcome, "Importing 80 %"), AirflowSkipException)


def test_no_triggerer_alive_is_a_timeout_too(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(self: ZillizImportTrigger) -> Any:
        await asyncio.sleep(60)
        yield None

    monkeypatch.setattr(ZillizImportTrigger, "run", nobody)
    monkeypatch.setattr(base, "BACKSTOP_MARGIN", timedelta(seconds=0.5))
    job_id = server.add_job(phase("Importing"))
    error = error_of(run_task("deferrable", job_id=job_id, timeout=0.5), job_id, "no triggerer", "was Importing 0 %")
    assert type(error) is AirflowSensorTimeout
    ended = server.add_job(phase("Importing", 0.5), phase("Completed"))
    assert run_task("deferrable", job_id=ended, timeout=0.5).error is None, "it is polled once more"


@pytest.mark.parametrize("alive", [True, False])
def test_execution_timeout_while_deferred(server: LocalServer, monkeypatch: pytest.MonkeyPatch, alive: bool) -> None:
    if not alive:
        monkeypatch.setattr("airflow_zilliz._triggers.base.SHORTEST_FIRST_DELAY", 60)
        monkeypatch.setattr(base, "BACKSTOP_MARGIN", timedelta(0))
    job_id = server.add_job(phase("Importing", 0, 80))
    outcome = run_task("deferrable", job_id=job_id, timeout=60, execution_timeout=timedelta(seconds=0.8))
    assert type(error_of(outcome, "execution_timeout", job_id)) is AirflowTaskTimeout


def test_the_trigger_s_arguments_are_primitives_without_a_secret(server: LocalServer) -> None:
    job_id = server.add_job(phase("Importing", 0.3, 40), phase("Completed"))
    (kwargs,) = run_task("deferrable", job_id=job_id, **FAST).kwargs
    assert all(value is None or isinstance(value, (str, int, float, bool)) for value in kwargs.values())
    assert KEY not in json.dumps(kwargs)


def test_every_option_reaches_the_trigger(server: LocalServer) -> None:
    options = {
        "poke_interval": 7,
        "poll_failure_tolerance": timedelta(seconds=8),
        "exponential_backoff": True,
        "max_wait": timedelta(seconds=9),
        "silent_fail": True,
        "target_state": "Uncommitted",
        "db_name": "films",
        "project_id": "proj-1",
        "region_id": "r",
    }
    sensor = ZillizImportSensor(task_id="wait", job_id=server.add_job(phase("Importing")), deferrable=True, **options)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    kwargs = deferred.value.trigger.serialize()[1]
    assert {
        "poke_interval": 7.0,
        "poll_failure_tolerance": 8.0,
        "exponential_backoff": True,
        "max_wait": 9.0,
        "ignore_errors": True,
        "target_state": "Uncommitted",
        "db_name": "films",
        "project_id": "proj-1",
        "region_id": "r",
        "cluster_id": None,
    }.items() <= kwargs.items()


def test_a_trigger_of_an_earlier_version_still_runs(server: LocalServer) -> None:
    """New arguments have defaults: a wait in flight has those of its day."""
    job_id = server.add_job(phase("Completed"))
    trigger = ZillizImportTrigger(job_id=job_id, zilliz_conn_id="zilliz_default")

    async def first() -> Any:
        return [event.payload async for event in trigger.run()]

    (payload,) = asyncio.run(first())
    assert payload["ending"] == "reached"


@pytest.mark.parametrize("event", [None, {"status": "of another version"}, {"ending": "reached"}])
def test_after_an_event_without_description_the_task_polls_itself(server: LocalServer, event: Any) -> None:
    done = ZillizImportSensor(task_id="wait", job_id=server.add_job(phase("Completed"), totalRows=3))
    assert done.execute_complete({}, event)["imported_rows"] == 3
    running = ZillizImportSensor(task_id="wait", job_id=server.add_job(phase("Importing")))
    with pytest.raises(TaskDeferred):
        running.execute_complete({}, event, started_at=time.time(), deadline=time.time() + 60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target_state": "Failed"}, "target_state must be 'Completed' or 'Uncommitted', not 'Failed'"),
        ({"poll_failure_tolerance": -1}, "poll_failure_tolerance"),
        ({"poll_failure_tolerance": "soon"}, "poll_failure_tolerance"),
        ({"cluster_id": "in01", "project_id": "p"}, "cluster_id cannot be given together"),
    ],
)
def test_the_constructor_rejects_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ZillizImportSensor(task_id="wait", job_id="j", **arguments)


# -- never_fail, silent_fail, other errors ------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["failed", "refused", "timeout", "down"])
def test_never_fail_skips_whatever_happened(server: LocalServer, mode: str, ending: str) -> None:
    job_id = failing_job(server) if ending == "failed" else server.add_job(phase("Importing"))
    if ending == "refused":
        server.add_fault("status", status=401, times=None)
    if ending == "down":
        server.add_fault("status", status=503, times=None)
    outcome = run_task(mode, job_id=job_id, never_fail=True, poke_interval=0.2, timeout=2, poll_failure_tolerance=0.5)
    assert isinstance(error_of(outcome), AirflowSkipException)


def test_silent_fail_outwaits_errors(server: LocalServer, mode: str) -> None:
    server.add_fault("status", status=403, times=4)
    job_id = server.add_job(phase("Completed"))
    assert run_task(mode, job_id=job_id, silent_fail=True, poll_failure_tolerance=0, **FAST).error is None


def test_other_errors_fail_at_once_with_the_server_s_words(server: LocalServer, mode: str) -> None:
    server.add_fault("status", status=400, code=1100, message="invalid parameter", times=None)
    outcome = run_task(mode, job_id=server.add_job(phase("Importing")), **FAST)
    error = error_of(outcome, "invalid parameter", "'zilliz_default'")
    assert type(error) is ZillizApiError


def test_missing_connection(mode: str) -> None:
    error = error_of(run_task(mode, job_id="1", zilliz_conn_id="nowhere", **FAST), "'nowhere' does not exist")
    assert isinstance(error, ZillizConfigError)
    assert isinstance(error, AirflowException)


@pytest.mark.parametrize("job_id", [None, "", "None", "  "])
def test_empty_job_id(server: LocalServer, mode: str, job_id: Any) -> None:
    assert isinstance(error_of(run_task(mode, job_id=job_id, **FAST), "job_id", "'wait'"), ZillizConfigError)


# -- servers of other ages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"describe_routed": False}, {"success_code": 200}, {"old_shape": True}])
def test_older_servers(server: LocalServer, mode: str, settings: dict[str, Any]) -> None:
    server.set(**settings)
    job_id = server.add_job(phase("Importing", 0.3, 40), phase("Completed"))
    outcome = run_task(mode, job_id=job_id, **FAST)
    assert outcome.error is None
    assert outcome.xcom["state"] == "Completed"


@pytest.mark.parametrize("settings", [{"describe_routed": False}, {"success_code": 200}, {"old_shape": True}])
def test_older_servers_report_failures(server: LocalServer, mode: str, settings: dict[str, Any]) -> None:
    server.set(**settings)
    assert isinstance(error_of(run_task(mode, job_id=failing_job(server), **FAST), "row 8"), ZillizImportFailed)


# -- the log ------------------------------------------------------------------------------------------------------


def test_the_log_has_only_changes(server: LocalServer, mode: str, log_lines: Callable[[], list[str]]) -> None:
    job_id = server.add_job(phase("Importing", 2.0, 40), phase("Importing", 60.0, 63))

    over = threading.Event()

    def end_once_seen() -> None:
        time.sleep(2.5)
        polls = len(server.requests())
        while not over.is_set() and len(server.requests()) < polls + 3:
            time.sleep(0.1)
        server.set_job(job_id, phase("Completed"))

    ending = later(0, end_once_seen)
    outcome = run_task(mode, job_id=job_id, **FAST)
    over.set()
    ending.join()
    assert outcome.error is None
    lines = [line for line in log_lines() if f"Import job {job_id}" in line]
    assert any("Completed" in line for line in lines)
    for percent in ("40 %", "63 %"):
        logged = [line for line in lines if percent in line]
        assert len(logged) > 1 if mode == "reschedule" else len(logged) == 1, lines
    assert len(server.requests()) > 4, "it was polled more often than logged"


def test_the_server_s_log_does_not_hold_the_key(server: LocalServer) -> None:
    server.add_fault("status", status=401, message=f"bad key {KEY}", times=None)
    error = run_task("poke", job_id=server.add_job(phase("Importing")), **FAST).error
    assert KEY not in str(error)
    assert "bad key ***" in str(error)
    assert server.log_path is not None
    assert KEY not in Path(server.log_path).read_text()
    assert KEY not in json.dumps(server.requests())
