from __future__ import annotations

import pickle

import pytest

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz.exceptions import ZillizApiError, ZillizAuthError, ZillizImportFailed, ZillizUnavailable


@pytest.mark.parametrize("cls", [ZillizApiError, ZillizAuthError, ZillizUnavailable])
def test_an_error_says_whether_it_is_the_api_s_own(cls: type[ZillizApiError]) -> None:
    assert cls("m", code=1100, http_status=200).from_api
    assert not cls("m", http_status=404).from_api
    assert not cls("m", code=403, from_api=False).from_api
    assert not pickle.loads(pickle.dumps(cls("m", code=403, from_api=False))).from_api


def test_failed_jobs_outlive_a_pickle() -> None:
    jobs = [ImportProgress(job_id, ImportState.FAILED) for job_id in ("1", "2")]
    error = pickle.loads(pickle.dumps(ZillizImportFailed("m", progress=jobs[0], failed=jobs)))
    assert (error.progress, error.failed, str(error)) == (jobs[0], tuple(jobs), "m")
    assert ZillizImportFailed("m", progress=jobs[0]).failed == (jobs[0],)


def test_an_error_with_another_pause_keeps_what_it_says() -> None:
    error = ZillizUnavailable("m", code=8, http_status=429, was_sent=False, from_api=False).with_retry_after(3)
    assert (error.retry_after, error.code, error.http_status, error.was_sent) == (3, 8, 429, False)
    assert not error.from_api
