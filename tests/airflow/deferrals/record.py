"""Records what the installed version of the provider leaves in Airflow's database for deferred tasks.

``AIRFLOW_HOME=$(mktemp -d) python tests/airflow/deferrals/record.py tests/airflow/deferrals/VERSION.json``, with the
version to record on ``PYTHONPATH``. It takes two minutes. `test_upgrade.py` lets this version resume what is recorded.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_zilliz import __version__
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.operators import ZillizCommitImportOperator, ZillizImportOperator
from airflow_zilliz.sensors import ZillizImportSensor
from airflow_zilliz.triggers import (
    ZillizImportEventTrigger,
    ZillizImportTrigger,
    ZillizOwnedImportTrigger,
    ZillizPauseTrigger,
)

#: Long enough for the waits to go on in any later year.
AGE = timedelta(days=36_500)
PLACES: tuple[dict[str, Any], ...] = (
    {"cluster_id": "in01-0123456789abcde", "project_id": None, "region_id": None, "db_name": "library"},
    {"cluster_id": None, "project_id": "proj-1", "region_id": "aws-us-west-2", "db_name": "library"},
)
PATIENT: dict[str, Any] = {"deferrable": True, "poke_interval": 0.2, "timeout": AGE, "execution_timeout": AGE}
FILES = [["day/a.parquet"], ["day/b.json"]]
STORAGE = {"conn_type": "aws", "login": "an-access-key", "password": "a-secret-key"}
JOB: dict[str, Any] = {"totalRows": 10, "files": [{"name": path, "rows": 5} for group in FILES for path in group]}

#: The deferred tasks by their job's id, each with every argument that its trigger or its resumption depends on.
TASKS: dict[str, Callable[[str], Any]] = {
    "sensor": lambda job_id: ZillizImportSensor(
        task_id="wait",
        job_id=job_id,
        zilliz_conn_id="zilliz_cloud",
        **PLACES[0],
        **PATIENT,
        poll_failure_tolerance=timedelta(minutes=7),
        stall_warning=timedelta(hours=1),
        target_state="Completed",
        exponential_backoff=True,
        max_wait=timedelta(seconds=0.3),
        silent_fail=True,
    ),
    "import": lambda _: ZillizImportOperator(
        task_id="wait", collection_name="books", files=FILES, storage_conn_id="s3", **PATIENT
    ),
    "import of two phases": lambda _: ZillizImportOperator(
        task_id="wait",
        collection_name="books",
        files=FILES,
        options={"auto_commit": False},
        target_state="Uncommitted",
        cancel_on_kill=True,
        **PATIENT,
    ),
    "import into a full server": lambda _: ZillizImportOperator(
        task_id="wait", collection_name="books", files=FILES, **PATIENT
    ),
    "commit": lambda job_id: ZillizCommitImportOperator(task_id="wait", job_id=job_id, **PATIENT),
}


class TaskInstance:
    """Stands for Airflow's, as far as the tasks need one."""

    dag_id, run_id, task_id, map_index = "dag", "manual__1", "wait", -1
    try_number, max_tries = 1, 0

    def __init__(self, **xcoms: Any) -> None:
        self.xcoms = xcoms

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        return self.xcoms.get(key)


def context_of(ti: TaskInstance) -> Any:
    """Return the context of a stretch on a worker."""
    run = SimpleNamespace(run_after=datetime.now(timezone.utc), logical_date=datetime.now(timezone.utc))
    return {"ti": ti, "dag_run": run}


def prepare(server: LocalServer, name: str) -> str:
    """Let a server be as the deferral of a task needs it; return the id of the job that is there before."""
    running = {"state": "Importing", "seconds": 3, "progress": 40}
    server.clear()
    server.set(collections=["books"], **({"max_jobs": 0} if name == "import into a full server" else {}))
    server.script(running, {"state": "Uncommitted" if name == "import of two phases" else "Completed"}, **JOB)
    if name == "sensor":
        return server.add_job(running, {"state": "Completed"}, **JOB, collectionName="books")
    if name == "commit":
        server.script({"state": "Uncommitted"}, **JOB)
        server.add_fault("status", status=503, path="describe", times=None)  # a committed job ends at once
        return ZillizHook().bulk_import("books", files=FILES, options={"auto_commit": False})
    return ""


def deferral(server: LocalServer, name: str) -> dict[str, Any]:
    """Let a task defer, and its trigger fire."""
    job_id = prepare(server, name)
    ti = TaskInstance()
    try:
        TASKS[name](job_id).execute(context_of(ti))
    except TaskDeferred as deferred:
        path, kwargs = deferred.trigger.serialize()
        event = None if name == "commit" else asyncio.run(first_event(deferred.trigger))
        return {
            "trigger": [path, kwargs],
            "method": deferred.method_name,
            "kwargs": deferred.kwargs,
            "xcoms": ti.xcoms,
            "event": event,
        }
    raise SystemExit(f"{name} did not defer")


async def first_event(trigger: Any) -> Any:
    """Return the payload of a trigger's first event."""
    event = await anext(trigger.run())
    return event.payload


async def all_endings(server: LocalServer) -> dict[str, Any]:
    """Return the event of each way in which a wait can end."""
    now = time.time()

    def wait(job_id: str, conn_id: str = "zilliz_default", **arguments: Any) -> Any:
        return first_event(ZillizImportTrigger(job_id=job_id, zilliz_conn_id=conn_id, poke_interval=0.2, **arguments))

    importing = server.add_job({"state": "Importing", "progress": 40}, collectionName="books")
    failed = [{"name": "day/a.parquet", "state": "Failed", "reason": "row 8: wrong dimension"}]
    waits = {
        "reached": wait(server.add_job({"state": "Completed"}, **JOB, collectionName="books")),
        "job_failed": wait(
            server.add_job({"state": "Failed", "reason": "row 8"}, collectionName="books", files=failed)
        ),
        "timed_out": wait(importing, deadline=now + 4),
        "execution_timed_out": wait(importing, execution_deadline=now + 4),
        "key_refused": wait(importing, "wrong_key"),
        "unknown_job": wait("464999999999999999"),
        "unavailable": wait(importing, "nobody_listens", poll_failure_tolerance=4.0),
        "api_error": wait(importing, "wrong_region"),
        "misconfigured": wait(importing, "not_there"),
    }
    return dict(zip(waits, await asyncio.gather(*waits.values()), strict=True))


def triggers() -> list[Any]:
    """Return each trigger as Airflow stores it, with all of its arguments."""
    wait = {
        "job_id": "job-0123456789abcdefghijk",
        "zilliz_conn_id": "zilliz_cloud",
        "target_state": "Completed",
        "poke_interval": 0.2,
        "poll_failure_tolerance": 420.0,
        "exponential_backoff": True,
        "max_wait": 0.3,
        "ignore_errors": True,
        "started_at": time.time(),
        "deadline": time.time() + AGE.total_seconds(),
        "execution_deadline": time.time() + AGE.total_seconds(),
        "stall_warning": 3600.0,
        "withhold_reasons": True,
    }
    watch = {"collection_name": "books", "zilliz_conn_id": "zilliz_cloud", "poke_interval": 0.2}
    found: list[Any] = [
        cls(**wait, **place) for cls in (ZillizImportTrigger, ZillizOwnedImportTrigger) for place in PLACES
    ]
    found += [ZillizImportEventTrigger(**watch, **place) for place in PLACES]
    return [trigger.serialize() for trigger in (*found, ZillizPauseTrigger(until=time.time()))]


def connections(milvus: LocalServer, cloud: LocalServer) -> dict[str, str]:
    """Return Airflow's connections, as environment variables."""
    wrong_key = {**json.loads(milvus.connection()), "password": "wrong"}
    found = {
        "zilliz_default": milvus.connection(max_requests_per_second=1000),
        "zilliz_cloud": cloud.connection(max_requests_per_second=1000),
        "wrong_key": json.dumps(wrong_key),
        "nobody_listens": json.dumps({"conn_type": "zilliz", "host": "http://127.0.0.1:9"}),
        "s3": json.dumps(STORAGE),
    }
    return {f"AIRFLOW_CONN_{name.upper()}": value for name, value in found.items()}


def record() -> dict[str, Any]:
    """Return all that is to be recorded."""
    with ExitStack() as stack:

        def server(**options: Any) -> LocalServer:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            return stack.enter_context(LocalServer(folder, **options))

        milvus, cloud = server(api_key="root:Milvus"), server(flavor="cloud", api_key="a-key")
        other = server(flavor="cloud", api_key="a-key")
        os.environ |= connections(milvus, cloud)
        os.environ["AIRFLOW_CONN_WRONG_REGION"] = other.connection()
        other.add_fault("code", code=1100, message="invalid parameter", times=None)
        tasks = {name: deferral(cloud if name == "sensor" else milvus, name) for name in TASKS}
        milvus.clear()
        return {
            "version": __version__,
            "triggers": triggers(),
            "deferrals": tasks,
            "events": asyncio.run(all_endings(milvus)),
        }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(record(), indent=1) + "\n")
