"""Start many bulk imports, one mapped task for each, and wait for all of them in one task.

However many imports there are, the wait is one task, one trigger and two worker starts, and its log has one line a
minute for all of them. Run it with one list of files for each import, for instance
``--conf '{"imports": [[["part-1.parquet"]], [["part-2.parquet"], ["part-3.parquet"]]]}'``.
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
        "imports": Param([[["part-1.parquet"]], [["part-2.parquet"]]], type="array", items={"type": "array"}),
    },
    tags=["zilliz", "example"],
    doc_md=__doc__,
)
def zilliz_many_imports():
    @task
    def plan(params: dict | None = None) -> list[list[list[str]]]:
        return params["imports"]

    start = ZillizImportOperator.partial(
        task_id="start",
        collection_name="{{ params.collection_name }}",
        wait_for_completion=False,
    ).expand(files=plan())

    wait_for_all = ZillizImportSensor(
        task_id="wait_for_all",
        job_id=start.output,
        deferrable=True,
        timeout=timedelta(hours=6),
    )

    @task
    def report(results: list[dict]) -> None:
        print(f"{len(results)} jobs imported {sum(result['imported_rows'] for result in results)} rows")

    report(wait_for_all.output)


zilliz_many_imports()
