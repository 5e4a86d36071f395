"""One mapped task of as many deferred sensors as BENCH_WAITS says: this provider's, or Airflow's own for BENCH_FILE."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.common.compat.sdk import dag

WAITS = int(os.environ["BENCH_WAITS"])
FILE = os.environ.get("BENCH_FILE")
HOW = {"task_id": "wait", "deferrable": True, "poke_interval": 30, "timeout": timedelta(hours=2)}


@dag(schedule=None, max_active_tasks=WAITS)
def many_waits():
    if FILE:
        from airflow.providers.standard.sensors.filesystem import FileSensor

        FileSensor.partial(**HOW).expand(filepath=[FILE] * WAITS)
    else:
        from airflow_zilliz.sensors import ZillizImportSensor

        ZillizImportSensor.partial(cluster_id="in01-bench", **HOW).expand(
            job_id=[f"job-{number}" for number in range(WAITS)]
        )


many_waits()
