"""What the tests with Postgres run: one task that waits for many jobs."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag, task

from airflow_zilliz.sensors import ZillizImportSensor


@dag(schedule=None, params={"jobs": Param([], type="array")})
def one_wait():
    @task
    def jobs(params):
        return params["jobs"]

    ZillizImportSensor(
        task_id="wait",
        job_id=jobs(),
        deferrable=True,
        poke_interval=3,
        timeout=timedelta(hours=1),
        retries=3,
        retry_delay=timedelta(seconds=1),
    )


one_wait()
