"""Import a dataset of any number of files in one task.

The operator lists the folder, splits its files into jobs, sends them in waves, waits for all of them, and accounts for
each file. A retry or a cleared task imports what is missing, and nothing twice.

This example reads a folder that the local import server serves: start it with
``python -m airflow_zilliz.local --data-dir /data``, and set ``MILVUS_DATA_DIR`` for Airflow if the folder is another.
With an object storage, ``source`` is a URL such as ``s3://aws_default@lake/books/**/*.parquet``, and Milvus and Zilliz
Cloud need no ``to_path``. The connection ``zilliz_default`` says where the server is.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.common.compat.sdk import dag, task

from airflow_zilliz.operators import ZillizImportDatasetOperator

DATA = os.environ.get("MILVUS_DATA_DIR", "/data")


def below_the_data_folder(url: str) -> str:
    """Return a file's path as the local server knows it."""
    return url.removeprefix(f"file://{DATA}/")


@dag(
    schedule=None,
    catchup=False,
    params={"collection_name": "demo", "folder": "books"},
    tags=["zilliz", "example"],
    doc_md=__doc__,
)
def zilliz_dataset():
    load = ZillizImportDatasetOperator(
        task_id="load",
        collection_name="{{ params.collection_name }}",
        source=f"file://{DATA}/{{{{ params.folder }}}}/**/*.json",
        to_path=below_the_data_folder,
        max_files_per_job=50,
        max_active_jobs=4,
        deferrable=True,
        timeout=timedelta(hours=6),
        retries=2,
        retry_on_failure=True,
    )

    @task
    def report(result: dict) -> None:
        print(f"{result['jobs']} jobs imported {result['imported_rows']} rows from {result['files']} files")

    report(load.output)


zilliz_dataset()
