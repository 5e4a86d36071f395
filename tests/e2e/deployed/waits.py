"""What the tests with Postgres run: many deferred waits of one mapped task."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag, task

from airflow_zilliz.sensors import ZillizImportSensor


@dag(schedule=None, params={"jobs": Param([], type="array")}, max_active_runs=100)
def waits():
    @task
    def jobs(params):
        return params["jobs"]

    ZillizImportSensor.partial(
        task_id="wait", deferrable=True, poke_interval=5, timeout=timedelta(hours=1), retries=0
    ).expand(job_id=jobs())


waits()
