"""Start a bulk import into a collection and wait for it without holding a worker.

Run it with the files to import, for instance
``airflow dags trigger zilliz_import_wait --conf '{"files": [["part-1.parquet"], ["part-2.json"]]}'``.
The connection ``zilliz_default`` says where Milvus or Zilliz Cloud is.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import dag, task

from airflow_zilliz.sensors import ZillizImportSensor


@dag(
    schedule=None,
    catchup=False,
    params={"collection_name": "demo", "files": [["part-1.parquet"]]},
    tags=["zilliz", "example"],
    doc_md=__doc__,
)
def zilliz_import_wait():
    @task(retries=0)  # a second try would load every row twice
    def submit(params: dict | None = None) -> str:
        from airflow_zilliz.hooks import ZillizHook

        assert params is not None
        with ZillizHook() as hook:
            return hook.bulk_import(params["collection_name"], files=params["files"])

    @task
    def report(result: dict) -> None:
        print(f"{result['imported_rows']} of {result['total_rows']} rows are in {result['collection_name']}")

    wait_for_import = ZillizImportSensor(
        task_id="wait_for_import",
        job_id=submit(),
        deferrable=True,
        timeout=timedelta(hours=6),
    )
    report(wait_for_import.output)


zilliz_import_wait()
