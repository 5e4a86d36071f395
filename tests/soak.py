"""Hundreds of waits that come and go in a real Airflow, for as long as you like, while the server misbehaves at random.

`make soak` runs it for half an hour. It ends with a report: what the triggerer held in memory and in file descriptors,
what Airflow warned of, and whether every task ended as its job did.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from airflow_zilliz.local.testing import LocalServer
from dev.demo import say
from tests.e2e.deployment import BAD_WORDS, Deployment

DAG_ID, TASK_ID = "waits", "wait"
BATCH = 50
ENDED = frozenset({"success", "failed"})
#: Seconds that a job takes. Two cores start or resume a wait a second, so shorter jobs would never be 500 at once.
SHORTEST, LONGEST = 30.0, 2400.0
#: The last responses of a misbehaving server; none of them is the job's fault, and no wait may end for one of them.
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "status", "status": 429, "retry_after": 2},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503, "retry_after": 5},
    {"kind": "status", "status": 504},
    {"kind": "slow", "seconds": 3},
    {"kind": "cut"},
    {"kind": "html"},
    {"kind": "reset"},
    {"kind": "huge"},
)
#: Seconds that only a loop that hangs stands still for. Beside three busy processes on two cores a healthy one was seen
#: to stand still for 1.4, and what our own code takes of that is a benchmark's business (`bench_triggerer.py`).
LONGEST_BLOCK = 5.0
#: What every triggerer says when it starts, whatever it runs.
HARMLESS = ("ASGI app factory", "Skipping masking for a secret", "[uvicorn.error]")


@dataclass(frozen=True)
class Sample:
    """What was seen of the triggerer at a moment."""

    at: float
    waits: int
    memory: float
    files: int


@dataclass
class Soak:
    """The run, and what it has seen."""

    airflow: Deployment
    server: LocalServer
    chance: random.Random
    jobs: dict[str, list[str]] = field(default_factory=dict)
    fails: set[str] = field(default_factory=set)
    samples: list[Sample] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)

    @property
    def total(self) -> int:
        """How many waits there were so far."""
        return sum(map(len, self.jobs.values()))

    def add_waits(self) -> None:
        """Start a run of the DAG, of jobs that end at random moments."""
        run_id = f"run-{len(self.jobs)}"
        self.jobs[run_id] = []
        for _ in range(BATCH):
            seconds = self.chance.uniform(SHORTEST, LONGEST)
            fails = self.chance.random() < 0.1
            end = {"state": "Failed", "reason": "row 8: too long"} if fails else {"state": "Completed"}
            half = {"state": "Importing", "seconds": seconds / 2}
            job_id = self.server.add_job({**half, "progress": 20}, {**half, "progress": 70}, end, totalRows=BATCH)
            self.jobs[run_id].append(job_id)
            if fails:
                self.fails.add(job_id)
        self.airflow.api.start(DAG_ID, run_id, jobs=self.jobs[run_id])

    def misbehave(self) -> None:
        """Let the server do something wrong."""
        if self.chance.random() < 0.1:
            self.faults["unreachable"] += 1
            self.server.kill()
            time.sleep(self.chance.uniform(1, 15))
            self.server.start()
            return
        fault = self.chance.choice(FAULTS)
        self.faults[f"{fault['kind']} {fault.get('status', '')}".strip()] += 1
        self.server.add_fault(**fault, times=self.chance.randint(1, 10))

    def sample(self) -> None:
        """Note what the triggerer holds; its waits run in one of its processes."""
        open_waits = Counter(self.states().values())["deferred"]
        processes = self.airflow.processes("triggerer-1")
        memory = max(process.memory_full_info().uss for process in processes) / 2**20
        files = sum(process.num_fds() for process in processes)
        self.samples.append(Sample(time.monotonic() - self.began, open_waits, memory, files))

    def states(self) -> dict[tuple[str, int], str]:
        """Return the state of each wait's task."""
        return self.airflow.states(DAG_ID, TASK_ID)

    def end_all(self) -> None:
        """Let every job end now, those of tasks that Airflow has yet to make as well."""
        self.server.clear("faults")
        states = self.states()
        for run_id, jobs in self.jobs.items():
            for index, job_id in enumerate(jobs):
                if states.get((run_id, index)) not in ENDED:
                    end = {"state": "Failed", "reason": "the end"} if job_id in self.fails else {"state": "Completed"}
                    self.server.set_job(job_id, end, totalRows=BATCH)

    def has_ended(self) -> bool:
        """Whether every task has ended; Airflow makes those of a new run only after a while."""
        states = self.states().values()
        return len(states) == self.total and ENDED.issuperset(states)

    def wrong(self) -> Iterator[str]:
        """Say which tasks did not end as their jobs did."""
        returned, states = self.airflow.returned(DAG_ID, TASK_ID), self.states()
        for run_id, jobs in self.jobs.items():
            for index, job_id in enumerate(jobs):
                at = (run_id, index)
                expected = "failed" if job_id in self.fails else "success"
                if states.get(at) != expected:
                    yield f"{run_id}, {index}: {states.get(at)}, and its job was to be {expected}"
                elif expected == "success" and returned[at]["imported_rows"] != BATCH:
                    yield f"{run_id}, {index}: returned {returned[at]}"


def main() -> int:
    """Run the soak; 0 only if its report has nothing to complain of."""
    arguments = argparse.ArgumentParser(prog="python tests/soak.py", description=__doc__)
    arguments.add_argument("--minutes", type=float, default=30)
    arguments.add_argument("--waits", type=int, default=500)
    arguments.add_argument("--home", type=Path, required=True, help="where to leave logs; emptied first")
    arguments.add_argument("--seed", type=int, default=7, help="of the random faults")
    options = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of the exits that end what was started
    home = options.home.resolve()
    shutil.rmtree(home, ignore_errors=True)
    (home / "data").mkdir(parents=True)
    shutil.copytree(Path(__file__).parent / "e2e" / "deployed", home / "dags")
    with ExitStack() as stack:
        server = stack.enter_context(LocalServer(home / "data", api_key="the-key-of-this-soak"))
        airflow = stack.enter_context(Deployment(home, home / "dags", triggerers=1))
        airflow.add_connection(server.connection())
        airflow.api.wait_for_dag(DAG_ID)
        soak = Soak(airflow, server, random.Random(options.seed))
        run(soak, options.minutes * 60, options.waits)
        complaints = report(soak)
    say("\n".join(complaints) or "Nothing to complain of.")
    return 1 if complaints else 0


def run(soak: Soak, seconds: float, waits: int) -> None:
    """Keep as many waits deferred as wanted, with a fault every few seconds; then let all of them end."""
    soak.sample()
    say(f"{'minute':>6} {'waits':>6} {'ended':>6} {'memory':>8} {'files':>6}")
    next_fault = next_line = 0.0
    while (now := time.monotonic() - soak.began) < seconds:
        soak.airflow.supervise()
        states = Counter(soak.states().values())
        ended = states["success"] + states["failed"]
        # workers are never idle for want of waits to start, and never far behind
        starting = soak.total - ended - states["deferred"]
        if states["deferred"] + BATCH <= waits and starting < 2 * BATCH:
            soak.add_waits()
        if now >= next_fault:
            soak.misbehave()
            next_fault = now + soak.chance.uniform(5, 20)
        soak.sample()
        if now >= next_line:
            last = soak.samples[-1]
            say(f"{now / 60:6.0f} {last.waits:6,} {ended:6,} {last.memory:5.0f} MB {last.files:6}")
            next_line += 60
        time.sleep(2)
    soak.end_all()
    soak.airflow.until(soak.has_ended, "all tasks have ended", 1200)
    time.sleep(5)
    soak.sample()


def report(soak: Soak) -> list[str]:
    """Print what was seen, and return what is wrong with it."""
    first, last = soak.samples[0], soak.samples[-1]
    early, late = part(soak.samples, 0.4, 0.6), part(soak.samples, 0.8, 1.0)
    most = max(sample.waits for sample in soak.samples)
    say(f"\n{soak.total:,} waits, at most {most:,} at once; the jobs of {len(soak.fails):,} failed")
    say("faults: " + ", ".join(f"{count} x {name}" for name, count in soak.faults.most_common()))
    for name, samples in (("with no wait, before", [first]), ("in the middle", early), ("at the end", late)):
        say(in_words(name, samples))
    say(in_words("with no wait, after", [last]) + "\n")

    complaints = list(soak.wrong())
    growth = middle(late, "memory") - middle(early, "memory")
    # a wait costs Airflow and us some memory, and what the heap once had it keeps
    allowed = 10 + 0.1 * max(0.0, middle(late, "waits") - middle(early, "waits"))
    if growth > allowed:
        complaints.append(f"the triggerer grew by {growth:.0f} MB, and {allowed:.0f} MB were allowed")
    if last.files > first.files + 20:
        complaints.append(f"the triggerer has {last.files} files open, and had {first.files} before")
    if soak.airflow.came_back:
        complaints.append(f"these ended by themselves: {soak.airflow.came_back}")
    blocked = blocked_for(soak.airflow)
    longest = max(blocked, default=0.0)
    say(f"the triggerer's loop stood still for more than 0.2 s {len(blocked)} times, for {longest} s at most\n")
    if longest > LONGEST_BLOCK:
        complaints.append(f"the triggerer's loop stood still for {longest} s")
    return complaints + list(warnings(soak.airflow))


def blocked_for(airflow: Deployment) -> list[float]:
    """Return for how many seconds the triggerer's loop was blocked each time, as far as Airflow reports."""
    text = airflow.log_of("triggerer-1").read_text(errors="replace")
    return [float(seconds) for seconds in re.findall(r"async thread was blocked for ([\d.]+) seconds", text)]


def warnings(airflow: Deployment) -> Iterator[str]:
    """Return what Airflow's triggerer warned of, and what its scheduler found wrong."""
    for line in airflow.log_of("triggerer-1").read_text(errors="replace").splitlines():
        if any(level in line for level in ("[warning", "[error", "[critical")) and not any(w in line for w in HARMLESS):
            yield line
    for line in airflow.log_of("scheduler").read_text(errors="replace").splitlines():
        if any(word in line for word in BAD_WORDS):
            yield line


def in_words(name: str, samples: list[Sample]) -> str:
    """Say what the triggerer held in a part of the run."""
    held = {of: middle(samples, of) for of in ("waits", "memory", "files")}
    return f"{name}: {held['waits']:,.0f} waits, {held['memory']:.0f} MB, {held['files']:.0f} files"


def part(samples: list[Sample], begin: float, end: float) -> list[Sample]:
    """Return the samples of a part of the run, before the last jobs were let end."""
    run_time = samples[-2].at
    return [sample for sample in samples if begin * run_time <= sample.at <= end * run_time]


def middle(samples: list[Sample], name: str) -> float:
    """Return the median of what some samples have."""
    return float(median(getattr(sample, name) for sample in samples))


if __name__ == "__main__":
    sys.exit(main())
