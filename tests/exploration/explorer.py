"""Runs the real operator through all that may go wrong, and checks what it promises.

``python -m tests.exploration.explorer`` explores every setting; ``--faults N`` sets how many faults a run may have.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

from airflow_zilliz.exceptions import ZillizSubmissionUnknown
from tests.exploration.choices import Choices, enumerate_runs
from tests.exploration.world import (
    CORRECTED_FILES,
    FILES,
    HOUR,
    JOB_SECONDS,
    OWN_KEY,
    RETENTION,
    SIBLING_FILES,
    Outcome,
    Setting,
    Store,
    TaskInstance,
    WorkerDied,
    World,
    an_operator,
    is_final,
    virtual_time,
)

#: What no client can close; docs/operators.md names the same. By a part of the fault's or the neighbour's name.
LIMITS = {
    "made 2 h later": "a request that takes effect hours later",
    "frozen and sent 10 min later": "a worker that is frozen between its last write and the request",
    "late by": "before Airflow 3.3, a retry that starts more than three hours later than its retry_delay",
    "twin": "two tasks that import the same files into the same collection at the same time",
}
MAX_TRIES = 5


@dataclass
class Life:
    """A task's life: its tries, and what its user does between and after them."""

    world: World
    ti: TaskInstance
    store: Store
    run_due: float
    problems: list[str] = field(default_factory=list)
    in_doubt: bool = False
    user_acts: int = 2

    def try_once(self) -> BaseException | None:
        """Run a try to its end, and return what it failed with."""
        run = SimpleNamespace(run_after=datetime.fromtimestamp(self.run_due, timezone.utc))
        context: Any = {"ti": self.ti, "dag_run": run}
        if self.world.setting.remembers:
            context["task_state_store"] = self.store
        self.ti.xcoms.clear()
        try:
            result = _execute(an_operator(self.world), context)
        except (Exception, WorkerDied) as err:  # noqa: BLE001 - as Airflow does
            self.world.note(f"try {self.ti.try_number} ends: {type(err).__name__}: {err}")
            self.in_doubt = self.in_doubt or isinstance(err, ZillizSubmissionUnknown)
            return err
        self.world.note(f"try {self.ti.try_number} ends well: {result['job_id']}")
        self.problems += _check_success(self.world, result["job_id"])
        return None

    def goes_on(self, error: BaseException | None) -> bool:
        """Prepare the next try, if there is one."""
        world, ti = self.world, self.ti
        if error is not None and not is_final(error) and ti.try_number <= ti.max_tries + 2:
            world.sleep(world.setting.retry_delay + world.choices.choose("the retry is late by", (0.0, 4 * HOUR)))
            ti.try_number += 1
            return True
        if not self.user_acts:
            return False
        self.user_acts -= 1
        act = world.choices.choose("then", _user_acts(error))
        world.note(act)
        if act == "nothing":
            return False
        world.sleep(5 * HOUR if "hours later" in act else 60)
        self._act(act, error)
        return True

    def _act(self, act: str, error: BaseException | None) -> None:
        world, ti = self.world, self.ti
        if "corrects" in act:
            world.wanted, world.asked_for = CORRECTED_FILES, world.asked_for + 1
        if "again under its old name" in act:
            self.store, self.run_due = Store(world), world.now
            ti.try_number = ti.max_tries = 0
            world.asked_for += 1
        elif "fails after execute" not in act:
            ti.max_tries = ti.try_number + 2
        if isinstance(error, ZillizSubmissionUnknown) and "is unknown to the server" in str(error):
            world.asked_for += 1  # the message says that a clear imports again
        ti.try_number += 1


def run(setting: Setting, choices: Choices, enter: Callable[[World], None]) -> Outcome:
    """Live through a task's life, and check what was promised."""
    world = World(setting, choices)
    enter(world)
    _neighbours(world)
    life = Life(world, TaskInstance(world), Store(world), world.now - 5)
    for _ in range(MAX_TRIES):
        if not life.goes_on(life.try_once()):
            break
    world.sleep(3 * HOUR)
    return Outcome([*life.problems, *_check_once(world)], world.events, life.in_doubt)


def _execute(operator: Any, context: Any) -> Any:
    # Airflow wraps it in a check of who calls
    method = getattr(type(operator).execute, "__wrapped__", type(operator).execute)
    return method(operator, context)


def _user_acts(error: BaseException | None) -> tuple[str, ...]:
    if error is None:
        return (
            "nothing",
            "the task fails after execute and is retried",
            "the user clears the task",
            "the user clears the task hours later",
            "the user corrects the files and clears the task",
            "the user deletes the run and makes it again under its old name",
        )
    return ("nothing", "the user clears the task", "the user clears the task hours later")


def _neighbours(world: World) -> None:
    if world.setting.neighbour == "yesterday":
        # it ran late, so that the server still knows its job
        world.make_job(FILES, "yesterday", at=world.now - JOB_SECONDS - RETENTION + 600)
    if world.setting.neighbour == "same key":
        world.make_job(SIBLING_FILES, "sibling", OWN_KEY, at=world.now - 600)


def _check_success(world: World, job_id: str) -> Iterator[str]:
    job = world.jobs.get(job_id)
    if job is None:
        yield f"the task succeeded with {job_id}, which never was"
    elif job.files != world.wanted or job.owner != "us":
        yield f"the task succeeded with {job_id}, which is {job.owner}'s, and its files were not loaded"
    elif job.fate != "Completed":
        yield f"the task succeeded with {job_id}, which failed"


def _check_once(world: World) -> Iterator[str]:
    ours = [job for job in world.jobs.values() if job.owner == "us" and job.fate == "Completed"]
    by_files = Counter(job.files for job in ours)
    if len(ours) > world.asked_for:
        yield f"{len(ours)} jobs loaded the rows, and {world.asked_for} were asked for: {dict(by_files)}"


def is_decidable(setting: Setting, choices: Choices) -> bool:
    """Whether everything that happened can be seen by a client, so that "not known" would be a failure of ours."""
    faults = " ".join(choices.faults)
    if "old name" in faults and not setting.remembers:
        return False  # the job of the deleted run is older than this run by less than what clocks may be apart
    # an ended job may be forgotten, a late effect is seen too late, and what turned Failed loaded rows all the same
    unclear = ["hours later", "late by", "2 h later", "10 min later", "later Failed"]
    return (
        setting.lists
        and setting.shows.startswith("paths")
        and (setting.remembers or setting.shows_times)
        and not setting.own_key
        and setting.neighbour != "twin"
        and not any(word in faults for word in unclear)
    )


def _limit_of(setting: Setting, choices: Choices) -> str | None:
    names = [setting.neighbour, *choices.faults]
    limits = {part: limit for part, limit in LIMITS.items() if part != "late by" or not setting.remembers}
    return next((limit for part, limit in limits.items() if any(part in name for name in names)), None)


@dataclass
class Finding:
    setting: Setting
    faults: list[str]
    problems: list[str]
    events: list[str]

    def __str__(self) -> str:
        lines = [f"Setting: {self.setting}", "Faults: " + ("; ".join(self.faults) or "none"), *self.events]
        return "\n  ".join([*lines, *(f"VIOLATION: {problem}" for problem in self.problems)])


@dataclass
class Report:
    runs: int = 0
    findings: list[Finding] = field(default_factory=list)
    limited: Counter[str] = field(default_factory=Counter)
    in_doubt: int = 0

    def add(self, other: Report) -> None:
        self.runs += other.runs
        self.findings += other.findings
        self.limited += other.limited
        self.in_doubt += other.in_doubt


def explore(setting: Setting, most_faults: int, stop_at: int = 3) -> Report:
    """Explore one setting; the first findings have the fewest faults."""
    logging.disable(logging.CRITICAL)
    report = Report()
    try:
        with virtual_time() as enter:
            for choices, outcome in enumerate_runs(lambda choices: run(setting, choices, enter), most_faults):
                report.runs += 1
                report.in_doubt += outcome.in_doubt
                problems = list(outcome.problems)
                if outcome.in_doubt and is_decidable(setting, choices):
                    problems.append("it was reported as unknown, and it is known")
                if not problems:
                    continue
                limit = _limit_of(setting, choices)
                if limit is not None:
                    report.limited[limit] += 1
                    continue
                report.findings.append(Finding(setting, choices.faults, problems, outcome.events))
                if len(report.findings) >= stop_at:
                    break
    finally:
        logging.disable(logging.NOTSET)
    return report


def settings() -> Iterator[Setting]:
    """Yield all settings that differ in what can happen."""
    for heeds_keys, remembers, lists, shows, neighbour in itertools.product(
        (False, True),
        (True, False),
        (True, False),
        ("paths", "paths late", "names", "never"),
        ("nobody", "sibling", "yesterday"),
    ):
        base = Setting(heeds_keys=heeds_keys, remembers=remembers, lists=lists, shows=shows, neighbour=neighbour)
        yield base
        yield replace(base, retry_delay=0.0)
        if neighbour == "sibling":
            yield replace(base, neighbour="twin")
        if not remembers or heeds_keys:
            yield replace(base, shows_times=False)
            yield replace(base, clock_offset=-2 * HOUR)
            yield replace(base, clock_offset=2 * HOUR)
        if heeds_keys or neighbour == "nobody":  # who ignores keys makes no difference between them
            yield replace(base, own_key=True)
            yield replace(base, own_key=True, neighbour="same key")


def _explore(arguments: tuple[Setting, int]) -> Report:
    return explore(*arguments)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--faults", type=int, default=2, help="the most faults in one run")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--findings", type=int, default=5, help="how many findings to print")
    options = parser.parse_args()
    began = time.monotonic()
    every = list(settings())
    total = Report()
    with ProcessPoolExecutor(options.processes) as pool:
        for report in pool.map(_explore, [(setting, options.faults) for setting in every], chunksize=4):
            total.add(report)
    shortest: dict[str, Finding] = {}
    for finding in sorted(total.findings, key=lambda one: len(one.faults)):
        kind = (re.sub(r"job-\d+", "job", finding.problems[0]), *sorted(finding.faults))
        shortest.setdefault(str(kind), finding)
    for finding in list(shortest.values())[: options.findings]:
        print(finding, end="\n\n")
    print(
        f"{total.runs:,} runs of {len(every)} settings with up to {options.faults} faults in "
        f"{time.monotonic() - began:.0f} s: {len(total.findings)} findings; {total.in_doubt:,} runs in which "
        "the outcome is not known"
    )
    for limit, count in total.limited.items():
        print(f"within the limit of {limit}: {count:,} runs")
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main())
