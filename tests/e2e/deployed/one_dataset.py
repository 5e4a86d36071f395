"""What the tests with Postgres run: one task that imports all files of a folder."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import dag

from airflow_zilliz.operators import ZillizImportDatasetOperator


def folder_and_name(url: str) -> str:
    return "/".join(url.rsplit("/", 2)[1:])


@dag(schedule=None, params={"folder": "", "collection": ""})
def one_dataset():
    ZillizImportDatasetOperator(
        task_id="load",
        collection_name="{{ params.collection }}",
        source="file://{{ params.folder }}/*.parquet",
        to_path=folder_and_name,
        max_files_per_job=int(os.environ.get("DATASET_FILES_PER_JOB", "10")),
        max_active_jobs=10,
        deferrable=True,
        poke_interval=3,
        timeout=timedelta(hours=1),
        retries=20,
        retry_delay=timedelta(seconds=1),
    )


one_dataset()
