"""What the tests of a whole Airflow run."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from airflow_zilliz.operators import ZillizImportOperator


@dag(schedule=None)
def two_phases():
    ZillizImportOperator(
        task_id="load",
        collection_name="films",
        files=[["a.parquet"]],
        options={"auto_commit": False},
        target_state="Uncommitted",
        cancel_on_kill=True,
        deferrable=True,
        poke_interval=2,
        timeout=timedelta(minutes=10),
    )


@dag(schedule=None)
def on_a_worker():
    ZillizImportOperator(
        task_id="load",
        collection_name="songs",
        files=[["a.parquet"]],
        poke_interval=1,
        timeout=timedelta(minutes=10),
        retries=2,
        retry_delay=timedelta(seconds=1),
    )


two_phases()
on_a_worker()
