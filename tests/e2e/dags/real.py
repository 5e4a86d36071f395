"""What the tests of a whole Airflow run."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from airflow_zilliz.operators import ZillizImportOperator


def load(**arguments):
    ZillizImportOperator(task_id="load", files=[["a.parquet"]], timeout=timedelta(minutes=10), **arguments)


RETRIED = {"poke_interval": 1, "retries": 2, "retry_delay": timedelta(seconds=1)}


@dag(schedule=None)
def two_phases():
    load(
        collection_name="films",
        options={"auto_commit": False},
        target_state="Uncommitted",
        cancel_on_kill=True,
        deferrable=True,
        poke_interval=2,
    )


@dag(schedule=None)
def on_a_worker():
    load(collection_name="songs", **RETRIED)


two_phases()
on_a_worker()
