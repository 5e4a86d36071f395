from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
)

from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState
from airflow_zilliz._tasks.errors import error_of
from airflow_zilliz._wait.outcome import Ending, Outcome
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizConfigError,
    ZillizError,
    ZillizImportFailed,
    ZillizJobNotFound,
    ZillizUnavailable,
)

FAILED = ImportProgress(
    "j",
    ImportState.FAILED,
    0,
    "bad file",
    "books",
    0,
    10,
    2**40,
    details=(
        FileProgress("a.json", ImportState.FAILED, 0, "row 8"),
        FileProgress("b.json", ImportState.COMPLETED, 100),
    ),
)


@pytest.mark.parametrize(
    ("ending", "error", "retried"),
    [
        (Ending.JOB_FAILED, ZillizImportFailed, False),
        (Ending.TIMED_OUT, AirflowSensorTimeout, False),
        (Ending.EXECUTION_TIMED_OUT, AirflowTaskTimeout, True),
        (Ending.KEY_REFUSED, ZillizAuthError, False),
        (Ending.UNKNOWN_JOB, ZillizJobNotFound, True),
        (Ending.UNAVAILABLE, ZillizUnavailable, True),
        (Ending.API_ERROR, ZillizApiError, True),
        (Ending.MISCONFIGURED, ZillizConfigError, True),
    ],
)
def test_each_end_has_its_exception(ending: Ending, error: type[BaseException], retried: bool) -> None:
    raised = error_of(Outcome(ending, "what happened", FAILED))
    assert isinstance(raised, error)
    assert str(raised) == "what happened"
    assert isinstance(raised, (AirflowFailException, AirflowSensorTimeout)) is not retried


def test_a_success_has_none() -> None:
    assert error_of(Outcome(Ending.REACHED, "done")) is None


def test_retry_on_failure_brings_retries_back() -> None:
    error = error_of(Outcome(Ending.JOB_FAILED, "failed", FAILED), retry_on_failure=True)
    assert isinstance(error, ZillizImportFailed)
    assert not isinstance(error, AirflowFailException)
    assert error.progress is FAILED


def test_every_error_of_ours_is_an_airflow_exception() -> None:
    assert issubclass(ZillizError, AirflowException)


def test_an_error_keeps_what_the_server_said() -> None:
    cause = ZillizUnavailable("503", retry_after=7, http_status=503)
    error = error_of(Outcome.of(Ending.UNAVAILABLE, "gone", cause))
    assert isinstance(error, ZillizUnavailable)
    assert (error.retry_after, error.http_status) == (7, 503)
