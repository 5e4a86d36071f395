"""Load several collections so that either all of them show their new rows, or none does.

Each import stops at Uncommitted, where its rows are loaded but not yet visible. If every import gets there with the
expected number of rows, all are committed; otherwise all are aborted, and the run fails. Needs a Milvus with two-phase
imports (3.0), or the local import server. Run it with the imports as its configuration, for instance
``--conf '{"imports": {"books": {"files": [["books.parquet"]], "rows": 1000}}}'``.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import dag, task

from airflow_zilliz.operators import ZillizAbortImportOperator, ZillizCommitImportOperator, ZillizImportOperator
from airflow_zilliz.sensors import ZillizImportSensor


@dag(
    schedule=None,
    catchup=False,
    params={
        "imports": {name: {"files": [[f"{name}.parquet"]], "rows": 1000} for name in ("books", "authors", "shops")}
    },
    tags=["zilliz", "example"],
    doc_md=__doc__,
)
def zilliz_two_phase_import():
    @task
    def plan(params: dict | None = None) -> list[dict]:
        return [{"collection_name": name, "files": part["files"]} for name, part in params["imports"].items()]

    start = ZillizImportOperator.partial(
        task_id="import_files", options={"auto_commit": False}, wait_for_completion=False
    ).expand_kwargs(plan())
    wait = ZillizImportSensor(task_id="wait", job_id=start.output, target_state="Uncommitted", deferrable=True)

    @task(trigger_rule="all_done")
    def decide(results: list[dict], params: dict | None = None) -> dict[str, list[str]]:
        found = {
            result["collection_name"]: result["imported_rows"] for result in results if result["state"] != "Failed"
        }
        wanted = {name: part["rows"] for name, part in params["imports"].items()}
        job_ids = [result["job_id"] for result in results]
        print(f"rows loaded: {found}, wanted: {wanted}")
        return {"commit": job_ids, "abort": []} if found == wanted else {"commit": [], "abort": job_ids}

    # the sensor's results hold failed imports as well
    decision = decide(wait.output["results"])
    commit = ZillizCommitImportOperator(task_id="commit", job_id=decision["commit"], deferrable=True)
    abort = ZillizAbortImportOperator(task_id="abort", job_id=decision["abort"])

    @task(trigger_rule="all_done")
    def all_or_nothing(job_ids: list[str]) -> None:
        if not job_ids:
            raise ValueError("not all imports were as expected, so none was committed")

    all_or_nothing(decision["commit"]) << [commit, abort]


zilliz_two_phase_import()
