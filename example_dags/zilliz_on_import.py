"""Run whenever an import into the collection ``books`` completes, whoever started it. Needs Airflow 3.

The connection ``zilliz_default`` says where Milvus or Zilliz Cloud is.
"""

from __future__ import annotations

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_zilliz.triggers import ZillizImportEventTrigger

books = Asset(
    "imports_into_books",
    watchers=[AssetWatcher(name="imports_into_books", trigger=ZillizImportEventTrigger("books", poke_interval=30))],
)


@dag(schedule=[books], tags=["zilliz", "example"], doc_md=__doc__)
def zilliz_on_import():
    @task
    def report(triggering_asset_events=None) -> list[dict]:
        imports = [event.extra["payload"] for events in triggering_asset_events.values() for event in events]
        for job in imports:
            print(f"import job {job['job_id']}: {job['imported_rows']} rows in {job['duration']} s")
        return imports

    report()


zilliz_on_import()
