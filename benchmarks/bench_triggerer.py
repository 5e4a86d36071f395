"""A thousand deferred sensors of one mapped task in a real Airflow: from a job's completion to its task's success.

Scheduler, workers, triggerer and API server of the newest Airflow, on SQLite, against a server with Zilliz Cloud's
limit. The jobs begin to end once every task is deferred. Most of a task's delay is its worker's: a task that resumes
takes a process of its own. The triggerer is set up as docs/scaling.md recommends, and the other processes give way to
it as if they were on another machine. --plain does neither. --control runs Airflow's own FileSensor instead, to
show what Airflow itself causes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import requests

from dev import airflow_process

HERE = Path(__file__).parent
DAG_ID = "many_waits"
SPREAD = 40.0
MARKS = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
#: What Airflow prints when it fails a task whose state it did not expect, and when a trigger blocks its loop.
BAD_WORDS = ("state attribute is", "state mismatch", "database is locked")
BLOCKED = "async thread was blocked"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--waits", type=int, default=1000)
    parser.add_argument("--within", type=float, default=3600, help="seconds for deferring, and again for finishing")
    parser.add_argument("--control", action="store_true", help="Airflow's own FileSensor instead of this provider's")
    parser.add_argument("--plain", action="store_true", help="without the settings that docs/scaling.md recommends")
    parser.add_argument("--list", action="store_true", help="one task for all jobs beside as many tasks: bench_list.py")
    arguments = parser.parse_args()
    if arguments.list:
        import bench_list

        return int(bench_list.compare(arguments.waits, arguments.waits, bench_list.SPREAD, arguments.within))
    server = subprocess.Popen([sys.executable, HERE / "limited_server.py"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            return run(Path(home), url, arguments.waits, arguments.within, arguments.control, arguments.plain)
    finally:
        server.terminate()
        server.wait()


def run(home: Path, url: str, waits: int, within: float, is_control: bool, is_plain: bool) -> int:
    plan(url, waits, time.time() + 10**6)
    connection = json.dumps({"conn_type": "zilliz", "host": url, "password": "k" * 20})
    settings = {
        "BENCH_WAITS": str(waits),
        # with one worker for each core, starting and resuming takes twice as long: a worker mostly waits
        "AIRFLOW__CORE__PARALLELISM": str(2 * (os.cpu_count() or 1)),
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(waits),
        "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "0",
        "PYTHONPATH": str(HERE / "watch") if is_plain else f"{HERE / 'watch'}{os.pathsep}{HERE / 'advice'}",
        "WATCH_LOG": str(home / "watch.log"),
    }
    file = home / "ended"
    if is_control:
        settings |= {"BENCH_FILE": str(file), "AIRFLOW_CONN_FS_DEFAULT": "fs://"}
    with airflow_process.airflow(home, HERE / "dags", connection, settings) as api:
        sensor = "FileSensor" if is_control else "ZillizImportSensor"
        print(f"Airflow {api.version}, {waits:,} x {sensor} of one mapped task", flush=True)
        api.wait_for_dag(DAG_ID)
        if not is_plain:
            put_triggerer_first()
        began = time.monotonic()
        api.start(DAG_ID, "bench")
        until(lambda: count(home, "deferred") == waits, "all are deferred", home, within)
        print(f"all deferred after {time.monotonic() - began:.0f} s", flush=True)
        ends = plan(url, waits, time.time() + 5)
        if is_control:
            file.touch()
            ends = dict.fromkeys(ends, time.time())
        began = time.monotonic()
        until(lambda: count(home, "success", "failed") == waits, "all have ended", home, within)
        print(f"all ended after {time.monotonic() - began:.0f} s", flush=True)
        report(home, ends, requests.get(f"{url}/counts", timeout=10).json())
    return verdict(home, waits)


def put_triggerer_first() -> None:
    """Let Airflow's other processes give way to the triggerer; what they start meanwhile does so too."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if not any(name in " ".join(process.cmdline()) for name in ("triggerer", "limited_server")):
                process.nice(10)


def verdict(home: Path, waits: int) -> int:
    """Print what Airflow's log complains of; 0 only if it is nothing of this provider's, and all tasks succeeded."""
    log = (home / "airflow.log").read_text(errors="replace").splitlines()
    bad = [line for line in log if any(word in line.lower() for word in BAD_WORDS)]
    samples = watched(home)
    blocks = [explain(line, samples) for line in log if BLOCKED in line]
    ours = [block for block in blocks if not block.is_explained]
    print(f"succeeded: {count(home, 'success'):,} of {waits:,}; bad lines in Airflow's log: {len(bad)}")
    print(f"blocked-loop warnings: {len(blocks)}, of which {len(ours)} are not explained by garbage or want of a core")
    print("\n".join([*bad[:5], *map(str, blocks)]), flush=True)
    print(f"the longest pause for garbage: {max((sample.garbage for sample in samples), default=0):.2f} s")
    busy = sum(sample.is_ours for sample in samples) / max(len(samples), 1)
    print(f"the loop was in this provider's code at {busy:.1%} of {len(samples):,} samples")
    return 0 if count(home, "success") == waits and not bad and not ours else 1


@dataclass(frozen=True)
class Sample:
    """What blocked the triggerer's loop during an interval: `watch/sitecustomize.py` writes it."""

    at: float
    no_core: float
    garbage: float
    is_ours: float


@dataclass(frozen=True)
class Block:
    """A warning of a blocked loop, and what the process did meanwhile."""

    at: float
    seconds: float
    samples: list[Sample]

    @property
    def is_explained(self) -> bool:
        """Whether most of what the loop came too late by is a pause for garbage, or one without a core."""
        late = self.seconds - 0.1  # Airflow's watchdog sleeps for 0.1 s
        return sum(sample.garbage + sample.no_core for sample in self.samples) > late / 2

    def __str__(self) -> str:
        garbage, no_core = (sum(getattr(sample, name) for sample in self.samples) for name in ("garbage", "no_core"))
        ours = sum(sample.is_ours for sample in self.samples)
        return (
            f"  blocked for {self.seconds} s: {garbage:.2f} s garbage, {no_core:.2f} s without a core; "
            f"in this provider's code at {ours:g} of {len(self.samples)} samples"
        )


def watched(home: Path) -> list[Sample]:
    """Read what was seen of the triggerer."""
    path = home / "watch.log"
    return [Sample(*map(float, row.split())) for row in path.read_text().splitlines()] if path.exists() else []


def explain(line: str, samples: list[Sample]) -> Block:
    """Return what a warning says, with the samples during its time."""
    found = re.search(r"(\d{4}-\d\d-\d\dT[\d:.]+)Z.*blocked for ([\d.]+) seconds", line)
    assert found, line
    at, lasted = seconds(found[1]), float(found[2])
    return Block(at, lasted, [sample for sample in samples if at - lasted - 0.1 < sample.at < at + 0.1])


def report(home: Path, ends: dict[str, float], counts: dict[str, int]) -> None:
    """Print what the poll sent and how long tasks took."""
    delays = sorted(end - ends[f"job-{index}"] for index, end in rows(home, "map_index, end_date"))
    marks = ", ".join(f"{name} {delays[int(part * (len(delays) - 1))]:.1f} s" for name, part in MARKS)
    print(f"from a job's completion to its task's success: {marks}")
    listed, described = counts.get("list", 0), counts.get("describe", 0)
    print(f"requests from then on: {listed:,} lists, {described:,} descriptions (one by each task that resumes)")
    print(f"refused with 429: {counts.get('429', 0):,}", flush=True)


def plan(url: str, number: int, begin: float) -> dict[str, float]:
    body = {"number": number, "begin": begin, "spread": SPREAD}
    ends: dict[str, float] = requests.post(f"{url}/plan", json=body, timeout=10).json()
    return ends


def rows(home: Path, columns: str) -> list[tuple[int, float]]:
    with sqlite3.connect(f"file:{home}/airflow/airflow.db?mode=ro", uri=True, timeout=30) as database:
        found = database.execute(f"select {columns} from task_instance where dag_id = ?", (DAG_ID,)).fetchall()
    return [(index, seconds(end)) for index, end in found]


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=timezone.utc).timestamp()


def count(home: Path, *states: str) -> int:
    marks = ", ".join("?" * len(states))
    query = f"select count(*) from task_instance where dag_id = ? and state in ({marks})"
    with sqlite3.connect(f"file:{home}/airflow/airflow.db?mode=ro", uri=True, timeout=30) as database:
        return int(database.execute(query, (DAG_ID, *states)).fetchone()[0])


def until(happened: Any, what: str, home: Path, within: float) -> None:
    end = time.monotonic() + within
    while not happened():
        if time.monotonic() > end:
            raise SystemExit(
                f"after {within:g} s it is still not so that {what}:\n{(home / 'airflow.log').read_text()[-3000:]}"
            )
        time.sleep(2)


if __name__ == "__main__":
    raise SystemExit(main())
