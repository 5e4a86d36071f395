"""One task that waits for as many jobs as the run's parameter says."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import dag, task

from airflow_zilliz.sensors import ZillizImportSensor


@dag(schedule=None, params={"jobs": 1000})
def one_wait():
    @task
    def jobs(params: dict | None = None) -> list[str]:
        return [f"job-{number}" for number in range(params["jobs"])]

    ZillizImportSensor(
        task_id="wait",
        job_id=jobs(),
        cluster_id="in01-bench",
        deferrable=True,
        poke_interval=30,
        timeout=timedelta(hours=2),
    )


one_wait()
