"""A thousand jobs in one task, beside a thousand mapped tasks: processes, CPU and delay, in a real Airflow.

Scheduler, workers, triggerer, API server and PostgreSQL, against a server with Zilliz Cloud's limit. The jobs begin to
end once all waits are deferred, and end within 5 minutes. `bench_triggerer.py --list` and `make bench-list` run it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from airflow_costs import AirflowCosts  # noqa: E402 - as the next one

from tests.e2e.deployment import BAD_WORDS, Deployment  # noqa: E402 - the tests are no package that is installed

SPREAD = 300.0
POKE_INTERVAL = 30.0
BLOCKED = "async thread was blocked"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--waits", type=int, default=1000)
    parser.add_argument("--mapped", type=int, help="jobs of the mapped form, 0 for none; as many as --waits by default")
    parser.add_argument("--spread", type=float, default=SPREAD, help="seconds within which the jobs end")
    parser.add_argument("--within", type=float, default=3600, help="seconds for deferring, and again for finishing")
    arguments = parser.parse_args()
    return compare(
        arguments.waits,
        arguments.waits if arguments.mapped is None else arguments.mapped,
        arguments.spread,
        arguments.within,
    )


def compare(waits: int, mapped: int, spread: float, within: float) -> int:
    """Run both forms, print a table, and return 0 where the one task keeps its promises."""
    server = subprocess.Popen([sys.executable, HERE / "limited_server.py"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            return _compare(Path(home), url, waits, mapped, spread, within)
    finally:
        server.terminate()
        server.wait()


def _compare(home: Path, url: str, waits: int, mapped: int, spread: float, within: float) -> int:
    settings = {
        "BENCH_WAITS": str(max(mapped, 1)),
        "AIRFLOW__CORE__PARALLELISM": str(2 * (os.cpu_count() or 1)),
        "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "0",
        "AIRFLOW__TRIGGERER__CAPACITY": "10000",
        "PYTHONPATH": str(HERE / "advice"),
    }
    with Deployment(home, HERE / "dags", settings, triggerers=1) as airflow:
        connection = {"conn_type": "zilliz", "host": url, "password": "k" * 20, "extra": {}}
        airflow.add_connection(json.dumps(connection))
        print(f"Airflow {airflow.api.version} on PostgreSQL, ends over {spread:g} s", flush=True)
        Runner(airflow, url, 1.0, within).form("one_wait", 2, 1, "warm-up")  # a triggerer's first trigger imports a lot
        run = Runner(airflow, url, spread, within)
        one = run.form("one_wait", waits, 1)
        print(one.row, flush=True)
        rows = run.rows_of_one_task()
        many = run.form("many_waits", mapped, mapped) if mapped else None
        bad = [line for part in airflow.home.glob("*.log") for line in part.read_text(errors="replace").splitlines()]
        blocked = sum(BLOCKED in line for line in bad)
        bad = [line for line in bad if BLOCKED not in line and any(word in line for word in BAD_WORDS)]
    heads = ("", "worker starts", "deferred after", "p50", "p99", "last", "CPU", "of the triggerer", "429")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    print("\n".join(form.row for form in (one, many) if form is not None))
    print(f"of the one task: {rows['results']:,} results, {rows['with_rows']:,} with rows")
    print(f"its row in trigger: {rows['trigger']:,} bytes of arguments, encrypted or not as this Airflow does")
    print(f"warnings of a blocked loop, of this provider's doing or not: {blocked}")
    print("\n".join([f"bad lines: {len(bad)}", *bad[:5]]), flush=True)
    keeps = one.starts <= 4 and one.last <= POKE_INTERVAL + 10 and one.refused == 0
    return 0 if keeps and rows["with_rows"] == waits and not bad else 1


@dataclass(frozen=True)
class Form:
    """What one form of waiting cost. All values except the counts are seconds."""

    name: str
    starts: int
    deferred: float
    p50: float
    p99: float
    last: float
    cpu: float
    triggerer: float
    refused: int

    @property
    def row(self) -> str:
        return (
            f"| {self.name} | {self.starts:,} | {self.deferred:.0f} s | {self.p50:.0f} s | {self.p99:.0f} s "
            f"| {self.last:.1f} s | {self.cpu:.0f} s | {self.triggerer:.1f} s | {self.refused} |"
        )


class Runner:
    """Runs one DAG after the other."""

    def __init__(self, airflow: Deployment, url: str, spread: float, within: float) -> None:
        self._airflow = airflow
        self._costs = AirflowCosts(airflow)
        self._url = url
        self._spread = spread
        self._within = within
        self._trigger_bytes = 0
        self._run_id = ""

    def form(self, dag_id: str, jobs: int, tasks: int, run_id: str = "bench") -> Form:
        """Run one form of the wait.

        :param tasks: how many tasks wait
        """
        self._run_id = run_id
        self._plan(jobs, time.time() + 10**6)
        self._airflow.api.wait_for_dag(dag_id)
        costs = self._costs
        starts, cpu, triggerer = costs.worker_starts("wait"), costs.cpu(), costs.cpu("triggerer-1")
        began = time.monotonic()
        self._airflow.api.start(dag_id, run_id, **({"jobs": jobs} if tasks == 1 else {}))
        self._until(lambda: self._count(dag_id, "deferred") == tasks, "all are deferred")
        deferred = time.monotonic() - began
        if tasks == 1:
            self._trigger_bytes = self._rows("select max(length(kwargs)) from trigger")[0][0]
        ends = self._plan(jobs, time.time() + 5)
        self._until(lambda: self._count(dag_id, "success", "failed") == tasks, "all have ended")
        assert self._count(dag_id, "success") == tasks, "a task failed"
        query = "select map_index, end_date from task_instance where dag_id = %s and run_id = %s and task_id = 'wait'"
        found: dict[int, datetime] = dict(self._rows(query, dag_id, run_id))
        time.sleep(5)  # until the scheduler has heard of the last process
        if tasks == 1:
            delays = sorted(found[-1].timestamp() - end for end in ends.values())
            last = found[-1].timestamp() - max(ends.values())
        else:
            delays = sorted(found[index].timestamp() - ends[f"job-{index}"] for index in range(tasks))
            last = max(end.timestamp() for end in found.values()) - max(ends.values())
        return Form(
            "one task" if tasks == 1 else f"{tasks:,} mapped tasks",
            costs.worker_starts("wait") - starts,
            deferred,
            delays[len(delays) // 2],
            delays[int(0.99 * (len(delays) - 1))],
            last,
            costs.cpu() - cpu,
            costs.cpu("triggerer-1") - triggerer,
            requests.get(f"{self._url}/counts", timeout=10).json().get("429", 0),
        )

    def rows_of_one_task(self) -> dict[str, int]:
        """Return what the one task left in the database."""
        query = "select value from xcom where run_id = 'bench' and task_id = 'wait' and key = 'return_value'"
        value = self._rows(query)[0][0]
        results = json.loads(value) if isinstance(value, str) else value
        with_rows = sum(result["imported_rows"] == 1000 for result in results)
        return {"results": len(results), "with_rows": with_rows, "trigger": self._trigger_bytes}

    def _rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return self._airflow.postgres.rows(query, *arguments)

    def _count(self, dag_id: str, *states: str) -> int:
        query = (
            "select count(*) from task_instance "
            "where dag_id = %s and run_id = %s and task_id = 'wait' and state = any(%s)"
        )
        return int(self._rows(query, dag_id, self._run_id, list(states))[0][0])

    def _plan(self, number: int, begin: float) -> dict[str, float]:
        body = {"number": number, "begin": begin, "spread": self._spread}
        ends: dict[str, float] = requests.post(f"{self._url}/plan", json=body, timeout=10).json()
        return ends

    def _until(self, happened: Callable[[], bool], what: str) -> None:
        self._airflow.until(happened, what, self._within)


if __name__ == "__main__":
    raise SystemExit(main())
