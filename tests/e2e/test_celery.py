"""Waits and an import under Celery's workers, with Redis between them and the scheduler."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from packaging.version import Version

pytest.importorskip("airflow.sdk")
pytest.importorskip("airflow.providers.celery")

from airflow import __version__ as airflow_version

from airflow_zilliz.local.testing import LocalServer
from dev import airflow_process
from tests.e2e.deployment import Deployment, postgres_programs

pytestmark = [
    pytest.mark.skipif(Version(airflow_version) < Version("3.3"), reason="of the newest Airflow alone"),
    pytest.mark.skipif(
        (postgres_programs() is None or shutil.which("redis-server") is None) and "CI" not in os.environ,
        reason="Debian's packages postgresql and redis-server are not here",
    ),
    pytest.mark.xdist_group("whole airflow"),
    pytest.mark.timeout(1200),
]
WAITS = 10


@contextmanager
def redis(home: Path) -> Iterator[str]:
    """Run a Redis that keeps nothing; yield its address."""
    import redis as client

    port = airflow_process.free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(home)]
    with (home / "redis.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            retry = client.retry.Retry(client.backoff.ConstantBackoff(0.1), retries=100)
            errors = [client.exceptions.ConnectionError]
            client.Redis(port=port, retry=retry, retry_on_error=errors).ping()
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def test_waits_outlive_celery_s_worker(tmp_path: Path) -> None:
    dags, data = tmp_path / "dags", tmp_path / "data"
    shutil.copytree(Path(__file__).parent / "deployed", dags)
    data.mkdir()
    with ExitStack() as stack:
        broker = stack.enter_context(redis(tmp_path))
        server = stack.enter_context(LocalServer(data, api_key="a-key-of-these-tests"))
        settings = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
        }
        worker = {"worker": ("celery", "worker")}
        airflow = stack.enter_context(Deployment(tmp_path, dags, settings, worker, triggerers=1))
        airflow.add_connection(server.connection())
        jobs = [server.add_job({"state": "Importing", "progress": 40}, totalRows=index) for index in range(WAITS)]
        airflow.api.wait_for_dag("waits")
        airflow.api.start("waits", "celery", jobs=jobs)

        def are(*states: str) -> bool:
            found = airflow.states("waits", "wait")
            return [found.get(("celery", index)) for index in range(WAITS)] == list(states)

        airflow.until(lambda: are(*["deferred"] * WAITS), "all waits are deferred")
        airflow.kill("worker")
        for index, job_id in enumerate(jobs):
            end = {"state": "Completed"} if index else {"state": "Failed", "reason": "row 8: too long"}
            server.set_job(job_id, end, totalRows=index)
        airflow.until(lambda: "deferred" not in airflow.states("waits", "wait").values(), "the triggerer saw the ends")
        airflow.start("worker")
        airflow.until(lambda: are("failed", *["success"] * (WAITS - 1)), "the tasks have ended as their jobs did")
