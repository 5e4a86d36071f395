"""Start a bulk import into a collection, once for all retries, and wait for it without holding a worker.

Run it with the files to import, for instance
``airflow dags trigger zilliz_import_wait --conf '{"files": [["part-1.parquet"], ["part-2.json"]]}'``.
The connection ``zilliz_default`` says where Milvus or Zilliz Cloud is.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_zilliz.operators import ZillizImportOperator
from airflow_zilliz.sensors import ZillizImportSensor


@dag(
    schedule=None,
    catchup=False,
    params={
        "collection_name": "demo",
        "files": Param(
            [["part-1.parquet"]], type="array", items={"type": "array"}, description="A list of lists of paths"
        ),
    },
    tags=["zilliz", "example"],
    doc_md=__doc__,
)
def zilliz_import_wait():
    submit = ZillizImportOperator(
        task_id="submit",
        collection_name="{{ params.collection_name }}",
        files="{{ params.files | tojson }}",
        wait_for_completion=False,
    )

    @task
    def report(result: dict) -> None:
        print(f"imported {result['imported_rows']} of {result['total_rows']} rows into {result['collection_name']}")

    wait_for_import = ZillizImportSensor(
        task_id="wait_for_import",
        job_id=submit.output["job_id"],
        deferrable=True,
        timeout=timedelta(hours=6),
    )
    report(wait_for_import.output)


zilliz_import_wait()
