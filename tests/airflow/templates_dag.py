"""Two DAGs whose arguments come from templates and XComs in every way; test_dags.py runs them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG

try:
    from airflow.sdk import ObjectStoragePath, task
except ImportError:
    from airflow.decorators import task
    from airflow.io.path import ObjectStoragePath

from airflow_zilliz.operators import ZillizImportOperator
from airflow_zilliz.sensors import ZillizImportSensor

BOOKS: dict[str, Any] = {"collection_name": "books", "wait_for_completion": False}
# in two parts each, so that a search of the logs for one finds no line of this file; a URL is taken by its end alone
KEY_ID, SIGNATURE = "AKIA012345678" + "9ABCDEF", "5196" + "c0ffee"


@task
def group(number: int) -> list[str]:
    return [f"{number}.parquet"]


@task(show_return_value_in_logs=False)
def signed(number: int) -> list[list[str]]:
    query = f"X-Amz-Credential={KEY_ID}%2Fx&X-Amz-Signature={SIGNATURE}{number}&name=.parquet"
    return [[f"https://bucket.host/{number}.parquet?{query}"]]


def an_import(task_id: str, files: Any, **arguments: Any) -> ZillizImportOperator:
    return ZillizImportOperator(task_id=task_id, files=files, **{**BOOKS, **arguments})


for native in (True, False):
    with DAG(
        f"templates_{native}", schedule=None, start_date=datetime(2026, 1, 1), render_template_as_native_obj=native
    ):
        groups = group.expand(number=[1, 2])
        gathered = an_import(
            "gathered",
            groups,
            collection_name="{{ '20240101' }}",
            options="""{{ '{"timeout": "300s"}' }}""",
            idempotency_key="{{ none }}",
            partition_name="{{ none }}",
        )
        text = an_import("text", "{{ ti.xcom_pull(task_ids='group') | list }}")
        groups >> text
        an_import("stored", [[ObjectStoragePath("s3://conn@bucket/day/a b.parquet")]])
        signed.override(task_id="first")(9) >> an_import("one_signed", "{{ ti.xcom_pull(task_ids='first') }}")
        each = ZillizImportOperator.partial(task_id="each", **BOOKS).expand(files=signed.expand(number=[3, 4]))
        ZillizImportSensor(task_id="by_result", job_id=gathered.output)
        ZillizImportSensor(task_id="by_key", job_id=text.output["job_id"])
        text >> ZillizImportSensor(task_id="by_template", job_id="{{ ti.xcom_pull(task_ids='text') }}")
        ZillizImportSensor.partial(task_id="each_by_result").expand(job_id=each.output)
        ZillizImportSensor.partial(task_id="each_by_key").expand(
            job_id=each.output.map(lambda result: result["job_id"])
        )

#: Of a URL that no XCom and no DAG's source holds whole.
STORAGE_SIGNATURE = "77aa" + "beefcafe"


def signed_macro() -> list[list[str]]:
    query = f"X-Amz-Credential={KEY_ID[::-1]}&X-Amz-Signature={STORAGE_SIGNATURE}&name=.parquet"
    return [[f"https://bucket.host/day/a.parquet?{query}"]]


with DAG(
    "storage", schedule=None, start_date=datetime(2026, 1, 1), user_defined_macros={"signed": signed_macro}
) as storage:
    for deferrable in (True, False):
        an_import(
            f"fails_{deferrable}",
            "{{ signed() }}",
            storage_conn_id="s3",
            wait_for_completion=True,
            deferrable=deferrable,
        )
