"""One mapped task of as many deferred sensors as BENCH_WAITS says."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.common.compat.sdk import dag

from airflow_zilliz.sensors import ZillizImportSensor

WAITS = int(os.environ["BENCH_WAITS"])


@dag(schedule=None, max_active_tasks=WAITS)
def many_waits():
    ZillizImportSensor.partial(
        task_id="wait", cluster_id="in01-bench", deferrable=True, poke_interval=30, timeout=timedelta(hours=2)
    ).expand(job_id=[f"job-{number}" for number in range(WAITS)])


many_waits()
