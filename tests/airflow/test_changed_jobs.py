"""A sensor whose ``job_id`` has changed while it was deferred: it waits for what its argument says now."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_zilliz.exceptions import ZillizImportFailed
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.sensors import ZillizImportSensor
from tests.airflow.submitting import TaskInstance, run_operator

RUNNING = {"state": "Importing", "seconds": 0.5, "progress": 40}
COMPLETED, FAILED = {"state": "Completed"}, {"state": "Failed", "reason": "row 8: wrong dimension"}


def wait(first: Any, then: Any) -> Any:
    """Run a sensor whose argument has changed by the time that it resumes."""
    job_ids = iter([first, *[then] * 9])

    def make() -> ZillizImportSensor:
        return ZillizImportSensor(
            task_id="import", job_id=next(job_ids), deferrable=True, poke_interval=0.2, timeout=20
        )

    return run_operator(make, TaskInstance())


def job(server: LocalServer, end: dict[str, Any]) -> str:
    return server.add_job(RUNNING, end, collectionName="books", totalRows=5)


def test_a_job_in_the_place_of_another_is_waited_for(server: LocalServer) -> None:
    first, then = job(server, FAILED), server.add_job({**RUNNING, "seconds": 1.5}, COMPLETED, collectionName="books")
    assert wait(first, then)["job_id"] == then


def test_a_failed_job_in_the_place_of_a_completed_one_fails_the_task(server: LocalServer) -> None:
    with pytest.raises(ZillizImportFailed, match="row 8"):
        wait(job(server, COMPLETED), job(server, FAILED))


def test_a_list_in_the_place_of_one_job_is_waited_for(server: LocalServer) -> None:
    first, other = job(server, COMPLETED), job(server, FAILED)
    with pytest.raises(ZillizImportFailed, match="1 of 2"):
        wait(first, [first, other])


def test_one_job_in_the_place_of_a_list_is_waited_for(server: LocalServer) -> None:
    first, other = job(server, COMPLETED), job(server, FAILED)
    assert wait([first, other], first)["job_id"] == first
