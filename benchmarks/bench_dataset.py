"""A dataset in one task, beside a mapped ZillizImportOperator: processes, requests, CPU and time, in a real Airflow.

Scheduler, workers, triggerer, API server and PostgreSQL, against the local server, whose jobs take a fixed time and
load nothing. `make bench-dataset` runs it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from airflow_costs import AirflowCosts  # noqa: E402 - as the next ones

from airflow_zilliz.local.testing import LocalServer  # noqa: E402
from tests.e2e.deployment import Deployment  # noqa: E402 - the tests are no package that is installed

ENDED = ("success", "failed")
RUN_ID = "bench"


@dataclass(frozen=True)
class Form:
    """What one form of the import cost.

    :param wall: seconds from the start of the DAG's run to its end
    :param cpu: seconds of all of Airflow's processes
    :param triggerer: those of the triggerer
    :param rows: what Airflow keeps of it in its tables of task instances and XComs
    """

    name: str
    starts: int
    wall: float
    cpu: float
    triggerer: float
    creates: int
    polls: int
    rows: int

    @property
    def row(self) -> str:
        return (
            f"| {self.name} | {self.starts:,} | {self.wall:.0f} s | {self.cpu:.0f} s | {self.triggerer:.1f} s "
            f"| {self.creates:,} | {self.polls:,} | {self.rows:,} |"
        )


class Runner:
    """Runs one form after the other."""

    def __init__(self, airflow: Deployment, server: LocalServer, jobs: int, seconds: float, within: float) -> None:
        self._airflow = airflow
        self._costs = AirflowCosts(airflow)
        self._server = server
        self._jobs = jobs
        self._seconds = seconds
        self._within = within

    def form(self, name: str, dag_id: str) -> Form:
        """Run one form of the import.

        :raises AssertionError: it did not succeed, or sent a job twice
        """
        airflow, costs = self._airflow, self._costs
        self._server.clear()
        importing = {"state": "Importing", "seconds": self._seconds, "progress": 40}
        self._server.script(importing, {"state": "Completed", "progress": 100}, totalRows=1000)
        airflow.api.wait_for_dag(dag_id)
        starts, cpu, triggerer = costs.worker_starts("load"), costs.cpu(), costs.cpu("triggerer-1")
        began = time.monotonic()
        airflow.api.start(dag_id, RUN_ID, jobs=self._jobs)
        airflow.until(lambda: airflow.api.run_state(dag_id, RUN_ID) in ENDED, f"{dag_id} has ended", self._within)
        wall = time.monotonic() - began
        assert airflow.api.run_state(dag_id, RUN_ID) == "success", f"{dag_id} failed"
        time.sleep(5)  # until the scheduler has heard of the last process
        calls = Counter(request["path"].rpartition("/")[2] for request in self._server.requests())
        creates = calls.pop("create")
        assert creates == self._jobs, f"{creates} jobs were sent"
        return Form(
            name,
            costs.worker_starts("load") - starts,
            wall,
            costs.cpu() - cpu,
            costs.cpu("triggerer-1") - triggerer,
            creates,
            calls.total(),
            sum(self._count(table, dag_id) for table in ("task_instance", "xcom")),
        )

    def _count(self, table: str, dag_id: str) -> int:
        query = f"select count(*) from {table} where dag_id = %s and task_id = 'load'"
        return int(self._airflow.postgres.rows(query, dag_id)[0][0])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30, help="how long each job takes")
    parser.add_argument("--within", type=float, default=1800, help="seconds for each form")
    arguments = parser.parse_args()
    settings = {
        "BENCH_WAITS": "1",
        "AIRFLOW__CORE__PARALLELISM": str(2 * (os.cpu_count() or 1)),
        "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "0",
        "PYTHONPATH": str(HERE / "advice"),
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home, data = Path(folder) / "airflow", Path(folder) / "data"
        home.mkdir()
        data.mkdir()
        with (
            LocalServer(data) as server,
            Deployment(home, HERE / "dags", settings, triggerers=1) as airflow,
        ):
            airflow.add_connection(server.connection())
            print(f"Airflow {airflow.api.version} on PostgreSQL: jobs of {arguments.seconds:g} s each", flush=True)
            # a triggerer's first trigger imports a lot
            Runner(airflow, server, 1, 1.0, arguments.within).form("warm-up", "dataset_warm_up")
            run = Runner(airflow, server, arguments.jobs, arguments.seconds, arguments.within)
            heads = ("", "worker starts", "time", "CPU", "of the triggerer", "creates", "polls", "rows in the database")
            print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|", flush=True)
            one = run.form("one task, all jobs at once", "dataset_all")
            print(one.row, flush=True)
            many = run.form(f"{arguments.jobs:,} mapped tasks", "mapped_imports")
            print(many.row, flush=True)
            print(run.form("one task, 10 jobs at once", "dataset_10").row, flush=True)
    return 0 if one.starts < many.starts and one.cpu < many.cpu else 1


if __name__ == "__main__":
    raise SystemExit(main())
