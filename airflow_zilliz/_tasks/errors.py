"""The exception for the outcome of a wait."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._wait.outcome import Ending, Outcome
from airflow_zilliz._wait.texts import key_advice
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizConfigError,
    ZillizError,
    ZillizImportFailed,
    ZillizImportFailedNoRetry,
    ZillizJobNotFound,
    ZillizUnavailable,
)


def error_of(outcome: Outcome, *, retry_on_failure: bool = False) -> BaseException | None:
    """Return the exception for an outcome, None for a success.

    :param outcome: how the wait ended
    :param retry_on_failure: let Airflow retry the task although a Failed job never completes
    """
    api_facts = {name: outcome.facts.get(name) for name in ("code", "http_status", "request_id")}
    match outcome.ending:
        case Ending.REACHED:
            return None
        case Ending.JOB_FAILED:
            progress = outcome.progress or outcome.listed or ImportProgress(job_id="", state=ImportState.FAILED)
            cls = ZillizImportFailed if retry_on_failure else ZillizImportFailedNoRetry
            return cls(outcome.message, progress=progress)
        case Ending.TIMED_OUT:
            return AirflowSensorTimeout(outcome.message)
        case Ending.EXECUTION_TIMED_OUT:
            return AirflowTaskTimeout(outcome.message)
        case Ending.KEY_REFUSED:
            return ZillizAuthError(outcome.message, **api_facts)
        case Ending.UNKNOWN_JOB:
            return ZillizJobNotFound(outcome.message, **api_facts)
        case Ending.UNAVAILABLE:
            facts: dict[str, Any] = {name: outcome.facts.get(name) for name in ("code", "http_status", "retry_after")}
            return ZillizUnavailable(outcome.message, **facts)
        case Ending.API_ERROR:
            return ZillizApiError(outcome.message, **api_facts)
        case _:
            return ZillizConfigError(outcome.message)


def name_import(error: ZillizError, collection_name: str, conn_id: str) -> None:
    """Put collection and connection before the text of an error that the server, or its absence, has caused."""
    if not isinstance(error, (ZillizApiError, ZillizUnavailable)):
        return
    text = f"Import into collection {collection_name!r} (connection {conn_id!r}): {error}"
    if isinstance(error, ZillizAuthError):
        text += f". {key_advice(conn_id)}"
    error.args = (text, *error.args[1:])


def reschedule_exception() -> type[Exception]:
    """Return the one exception of Airflow's sensors that common-compat does not bridge."""
    try:
        from airflow.sdk.exceptions import AirflowRescheduleException
    except ImportError:
        from airflow.exceptions import AirflowRescheduleException
    return AirflowRescheduleException
