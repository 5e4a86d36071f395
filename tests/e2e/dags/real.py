"""What the tests of a whole Airflow run."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_zilliz.operators import ZillizImportOperator
from airflow_zilliz.triggers import ZillizImportEventTrigger

books = Asset(
    "books_loaded",
    watchers=[AssetWatcher(name="books", trigger=ZillizImportEventTrigger("books", poke_interval=1))],
)


@dag(schedule=[books], max_active_runs=16)
def watched():
    @task
    def tell(triggering_asset_events=None) -> list[dict]:
        return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]

    tell()


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


watched()
two_phases()
on_a_worker()
