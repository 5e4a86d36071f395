"""Runs DAGs as `airflow dags test` does, each in a process of its own, forked from one that has imported Airflow.

A line of JSON on stdin is a run, see `main`; its exit status is a line on stdout. Imports take a third of a run.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import traceback
from datetime import datetime
from typing import Any

#: What a run imports, as far as the installed Airflow has it.
PRELOADED = (
    "airflow.dag_processing.dagbag",
    "airflow.models.dagbag",
    "airflow.api_fastapi.execution_api.routes",
    "airflow.jobs.triggerer_job_runner",
    # Airflow 2 deletes an earlier run of the same day, for which it has to know the table of users
    "airflow.providers.fab.auth_manager.models",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow_zilliz._transport.aio",
    "airflow_zilliz.operators",
    "airflow_zilliz.sensors",
    "airflow_zilliz.triggers",
)
ENDED = "DAG RUN ENDED"


def run(path: str, dag_id: str, conf: dict[str, Any], day: str) -> None:
    """Run a DAG of a file to its end."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow before 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef] # the same in its older place
    bag = DagBag(path)
    assert not bag.import_errors, bag.import_errors
    dag: Any = bag.dags[dag_id]
    when = "execution_date" if "execution_date" in inspect.signature(dag.test).parameters else "logical_date"
    dag.test(**{when: datetime.fromisoformat(day)}, run_conf=conf)
    print(ENDED)


def main() -> None:
    """Serve runs: objects with ``run``, the arguments of `run`, ``environment``, and the path of the ``output``."""
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # of another Airflow
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _be_a_run(order)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _be_a_run(order: dict[str, Any]) -> None:
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ |= order["environment"]
    try:
        run(**order["run"])
    except BaseException:  # noqa: BLE001 - this process ends here, whatever it is
        traceback.print_exc()
        status = 1
    else:
        status = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
