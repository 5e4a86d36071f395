"""What the tests of the pages that show imports wait for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, task

from airflow_zilliz.sensors import ZillizImportSensor

OPTIONS: dict[str, Any] = {"deferrable": True, "poke_interval": 2, "retries": 0}

with DAG("shown", schedule=None, start_date=datetime(2026, 1, 1)):
    ZillizImportSensor(task_id="wait", job_id="{{ dag_run.conf['job_id'] }}", **OPTIONS)

with DAG("shown_mapped", schedule=None, start_date=datetime(2026, 1, 1)):

    @task
    def jobs(**context: Any) -> list[str]:
        found: list[str] = context["dag_run"].conf["job_ids"]
        return found

    ZillizImportSensor.partial(task_id="wait", **OPTIONS).expand(job_id=jobs())
