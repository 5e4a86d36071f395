"""A thousand deferred waits on PostgreSQL, with and without the XCom of their progress: CPU, delays, writes, the loop.

A real triggerer of the newest Airflow and a real PostgreSQL, against a server with Zilliz Cloud's limit whose list has
percentages, as that of Milvus. Every job moves between two polls, which is the most that there can be to write. The
deferred tasks are put into the database as their workers leave them, which saves two processes for each: so there is
no scheduler and no worker, and a delay ends where the trigger's event is in the database. Only the jobs of the
delays end; what the rest costs is measured before.
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
from pathlib import Path
from typing import Any

import psutil
import requests

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from bench_triggerer import BLOCKED, explain, watched  # noqa: E402

from airflow_zilliz._progress.setting import PROGRESS_KEY  # noqa: E402
from airflow_zilliz._wait.checkpoint import Checkpoint  # noqa: E402
from airflow_zilliz._wait.snapshot import Snapshot  # noqa: E402
from airflow_zilliz._wait.snapshot_json import snapshot_json  # noqa: E402
from dev import airflow_process  # noqa: E402
from tests.e2e.deployment import Postgres  # noqa: E402 - the tests are no package that is installed

DAG_ID, RUN_ID, TASK_ID = "many_waits", "bench", "wait"
TRIGGER = "airflow_zilliz.triggers.ZillizImportTrigger"
#: Seconds for every wait's first poll, and all that an interpreter does but once.
WARM_UP = 60.0
SPREAD = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--waits", type=int, default=1000)
    parser.add_argument(
        "--seconds", type=float, default=240, help="for how long all jobs move before they begin to end"
    )
    parser.add_argument("--order", default="on,off,off,on", help="the runs, each with the XCom on or off")
    arguments = parser.parse_args()
    server = subprocess.Popen([sys.executable, HERE / "limited_server.py"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    runs: list[Figures] = []
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        for number, which in enumerate(arguments.order.split(",")):
            if not number:
                print(f"{arguments.waits:,} waits, all of which move for {arguments.seconds:g} s", flush=True)
                print(f"| {' | '.join(HEADS)} |\n{'|---' * len(HEADS)}|", flush=True)
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
                bench = Bench(Path(home), url, arguments.waits, is_shown=which == "on")
                try:
                    figures = bench.run(arguments.seconds)
                    print(figures.row, flush=True)
                    runs.append(figures)
                finally:
                    bench.stop()
    finally:
        server.terminate()
        server.wait()
    print("\n".join(block for figures in runs for block in figures.told_blocks), flush=True)
    return 0


@dataclass(frozen=True)
class Moment:
    """Sums since the start, of CPU seconds and of what PostgreSQL counts."""

    triggerer: float
    loop: float
    postgres: float
    commits: int
    rows: int
    wal: int
    xcoms: int

    def since(self, before: Moment) -> Moment:
        return Moment(*(getattr(self, name) - getattr(before, name) for name in self.__dataclass_fields__))


HEADS = (
    "XCom",
    "CPU of the triggerer",
    "of that, its loop's process",
    "CPU of PostgreSQL",
    "XComs written",
    "waits written",
    "commits",
    "rows written",
    "write-ahead log",
    "delay p50",
    "p99",
    "max",
    "429",
    "blocked-loop warnings",
    "longest",
    "not garbage or want of a core",
    "loop in this provider's code",
)


@dataclass(frozen=True)
class Figures:
    """What a run cost."""

    is_shown: bool
    cost: Moment
    written: int
    delays: list[float]
    refused: int
    began: float
    blocks: list[Any]
    busy: float

    @property
    def told_blocks(self) -> list[str]:
        """When the loop was blocked, counted from when the jobs began to move."""
        name = "on" if self.is_shown else "off"
        return [f"{name}, after {block.at - self.began:.0f} s:{block}" for block in self.blocks]

    @property
    def row(self) -> str:
        cost, last = self.cost, len(self.delays) - 1
        cells = (
            "on" if self.is_shown else "off",
            *(f"{seconds:.1f} s" for seconds in (cost.triggerer, cost.loop, cost.postgres)),
            *(f"{count:,}" for count in (cost.xcoms, self.written, cost.commits, cost.rows)),
            f"{cost.wal / 1e6:.1f} MB",
            *(f"{self.delays[int(part * last)]:.1f} s" for part in (0.5, 0.99, 1)),
            f"{self.refused}",
            f"{len(self.blocks)}",
            f"{max((block.seconds for block in self.blocks), default=0):.2f} s",
            f"{sum(not block.is_explained for block in self.blocks)}",
            f"{self.busy:.2%}",
        )
        return f"| {' | '.join(cells)} |"


class Bench:
    """One run, with a database of its own."""

    def __init__(self, home: Path, url: str, waits: int, *, is_shown: bool) -> None:
        self._home = home
        self._url = url
        self._waits = waits
        self._is_shown = is_shown
        self._postgres = Postgres()
        self._triggerer: subprocess.Popen[bytes] | None = None
        connection = json.dumps({"conn_type": "zilliz", "host": url, "password": "k" * 20})
        self._environment = airflow_process.environment(
            home, HERE / "dags", connection, airflow_process.free_port()
        ) | {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._postgres.url,
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__TRIGGERER__CAPACITY": str(2 * waits),
            "AIRFLOW__ZILLIZ__PROGRESS_XCOM": str(is_shown),
            "BENCH_WAITS": str(waits),
            "PYTHONPATH": f"{HERE / 'watch'}{os.pathsep}{HERE / 'advice'}",
            "WATCH_LOG": str(home / "watch.log"),
        }

    def run(self, seconds: float) -> Figures:
        """Measure all waits while their jobs move, and then while these end.

        :param seconds: for how long they move
        """
        self._plan(10**6, seconds)
        self._postgres.start()
        for words in (("db", "migrate"), ("dags", "reserialize"), ("dags", "trigger", DAG_ID, "--run-id", RUN_ID)):
            self._call(*words)
        self._defer()
        with (self._home / "triggerer.log").open("w") as log:
            command = [sys.executable, "-m", "airflow", "triggerer"]
            self._triggerer = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        self._until("select count(*) from trigger where triggerer_id is not null", self._waits, 300)
        time.sleep(WARM_UP)
        began = time.time()
        ends = self._plan(seconds, seconds)
        before = self._moment()
        time.sleep(seconds)
        cost = self._moment().since(before)
        query = "select count(*) from xcom where key = %s and timestamp > to_timestamp(%s)"
        written = self._postgres.rows(query, PROGRESS_KEY, began)[0][0]
        self._until("select count(*) from task_instance where state = 'scheduled'", self._waits, 600)
        events = self._postgres.rows("select map_index, scheduled_dttm from task_instance")
        delays = sorted(at.timestamp() - ends[f"job-{index}"] for index, at in events)
        refused = requests.get(f"{self._url}/counts", timeout=10).json().get("429", 0)
        samples = [sample for sample in watched(self._home) if sample.at >= began]
        lines = (self._home / "triggerer.log").read_text(errors="replace").splitlines()
        blocks = [block for line in lines if BLOCKED in line and (block := explain(line, samples)).at >= began]
        busy = sum(sample.is_ours for sample in samples) / max(len(samples), 1)
        return Figures(self._is_shown, cost, written, delays, refused, began, blocks, busy)

    def stop(self) -> None:
        """End all processes, and delete the database."""
        if self._triggerer is not None:
            airflow_process.end_tree(self._triggerer)
        self._postgres.stop()

    def _plan(self, moves_for: float, seconds: float) -> dict[str, float]:
        begin = time.time() + moves_for
        body = {"number": self._waits, "begin": begin, "spread": SPREAD, "moves": seconds + SPREAD}
        ends: dict[str, float] = requests.post(f"{self._url}/plan", json=body, timeout=10).json()
        return ends

    def _call(self, *words: str) -> None:
        with (self._home / "commands.log").open("a") as log:
            command = [sys.executable, "-m", "airflow", *words]
            subprocess.run(command, env=self._environment, check=True, stdout=log, stderr=log)

    def _defer(self) -> None:
        """Leave each task as its worker does that has seen the job and deferred."""
        import psycopg2
        from psycopg2.extras import Json

        now = time.time()
        seen = Checkpoint(
            "Importing", "books", now, state="Importing", percent=0, rows=0, total_rows=1000, moved_at=now
        )
        connection = psycopg2.connect(self._postgres.url.replace("+psycopg2", ""))
        with connection, connection.cursor() as cursor:
            for index in range(self._waits):
                job_id = f"job-{index}"
                arguments = {
                    "job_id": job_id,
                    "zilliz_conn_id": "zilliz_default",
                    "cluster_id": "in01-bench",
                    "started_at": now,
                    "seen": json.dumps(seen.as_json()),
                }
                cursor.execute(
                    "insert into trigger (classpath, kwargs, created_date) values (%s, %s, now()) returning id",
                    (TRIGGER, json.dumps(arguments)),
                )
                cursor.execute(
                    "update task_instance set state = 'deferred', trigger_id = %s, next_method = 'execute_complete' "
                    "where dag_id = %s and run_id = %s and task_id = %s and map_index = %s",
                    (*cursor.fetchone(), DAG_ID, RUN_ID, TASK_ID, index),
                )
                assert cursor.rowcount == 1, f"{DAG_ID} has no instance {index}"
                if self._is_shown:
                    cursor.execute(
                        "insert into xcom (dag_run_id, dag_id, run_id, task_id, map_index, key, value, timestamp) "
                        "select id, dag_id, run_id, %s, %s, %s, %s, now() from dag_run where run_id = %s",
                        (TASK_ID, index, PROGRESS_KEY, Json(snapshot_json(Snapshot.begin(job_id, now, seen))), RUN_ID),
                    )
        connection.close()

    def _moment(self) -> Moment:
        assert self._triggerer is not None
        here = psutil.Process(self._triggerer.pid)
        children = [_cpu(child) for child in here.children(recursive=True)]
        pid = int((self._postgres.home / "data" / "postmaster.pid").read_text().split()[0])
        server = psutil.Process(pid)
        query = (
            "select xact_commit, tup_inserted + tup_updated + tup_deleted, pg_current_wal_lsn() - '0/0', "
            "(select n_tup_ins from pg_stat_user_tables where relname = 'xcom') "
            "from pg_stat_database where datname = 'airflow'"
        )
        counts = map(int, self._postgres.rows(query)[0])
        # backends that have ended are in the server's own times
        times = server.cpu_times()
        postgres = _cpu(server) + times.children_user + times.children_system + sum(map(_cpu, server.children()))
        return Moment(_cpu(here) + sum(children), max(children), postgres, *counts)

    def _until(self, query: str, count: int, within: float) -> None:
        _until(lambda: self._postgres.rows(query)[0][0] == count, query, within, self._home / "triggerer.log")


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _until(happened: Callable[[], bool], what: str, within: float, log: Path) -> None:
    end = time.monotonic() + within
    while not happened():
        if time.monotonic() > end:
            raise SystemExit(
                f"after {within:g} s it is still not so: {what}\n{log.read_text(errors='replace')[-3000:]}"
            )
        time.sleep(2)


if __name__ == "__main__":
    raise SystemExit(main())
