"""Runs the operator for datasets through all that may go wrong with one of its jobs, its worker or its store.

``python -m tests.exploration.datasets`` explores every setting; ``--faults N`` sets how many faults a run may have.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from unittest import mock

from airflow_zilliz._tasks import dataset_account, dataset_run, dataset_state, dataset_wait, room_pause
from airflow_zilliz._wait.list_outcome import ListOutcome
from airflow_zilliz._wait.list_wait import ListWait
from airflow_zilliz.exceptions import ZillizError, ZillizSubmissionUnknown
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.operators import ZillizImportDatasetOperator
from tests.exploration.choices import Choices, enumerate_runs
from tests.exploration.explorer import LIMITS
from tests.exploration.world import HOUR, Setting, TaskInstance, WorkerDied, World, is_final, virtual_time

MAX_TRIES = 6
FILES = tuple((f"8ca4/{number}.parquet",) for number in range(3))


class Store:
    """Airflow's task state store; the worker may die after each write."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._values: dict[str, str] = {}

    def get(self, key: str) -> Any:
        return json.loads(self._values[key]) if key in self._values else None

    def set(self, key: str, value: Any) -> None:
        self._values[key] = json.dumps(value)
        self._world.may_die(f"after writing {key.rstrip('0123456789_')}")


@dataclass
class Report:
    runs: int = 0
    findings: list[str] = field(default_factory=list)
    limited: Counter[str] = field(default_factory=Counter)
    in_doubt: int = 0


def poll(world: World, wait: ListWait, hook: ZillizHook) -> ListOutcome:
    """Poll as the worker does, in virtual time."""
    while True:
        for one in list(wait.begin()):
            try:
                progress = hook.get_import_progress(one.job_id)
            except ZillizError as err:
                step = one.on_error(err, world.now)
            else:
                step = one.on_progress(progress, world.now)
            wait.on_decision(one.job_id, step, world.now)
        if (outcome := wait.outcome(world.now)) is not None:
            return outcome
        world.sleep(30)


def an_operator(world: World, active: int) -> ZillizImportDatasetOperator:
    return ZillizImportDatasetOperator(
        task_id="import",
        collection_name="books",
        files=[list(group) for group in FILES],
        max_files_per_job=1,
        max_active_jobs=active,
        poke_interval=30,
        timeout=6 * HOUR,
        retries=MAX_TRIES,
        retry_delay=timedelta(seconds=world.setting.retry_delay),
        deferrable=False,
        retry_on_failure=True,
    )


def run(
    setting: Setting, active: int, choices: Choices, enter: Callable[[World], None]
) -> tuple[World, list[str], bool]:
    """Let the task try until it succeeds or is not retried; return what was broken, and whether it was in doubt."""
    world = World(setting, choices)
    enter(world)
    ti, store = TaskInstance(world), Store(world)
    ti.max_tries = MAX_TRIES
    run_due = datetime.fromtimestamp(world.now - 5, timezone.utc)
    error: BaseException | None = None
    for _ in range(MAX_TRIES):
        context: Any = {"ti": ti, "dag_run": SimpleNamespace(run_after=run_due)}
        if setting.remembers:
            context["task_state_store"] = store
        ti.xcoms.clear()
        operator = an_operator(world, active)
        try:
            with mock.patch.object(
                dataset_wait, "poll_on_worker", lambda wait, hook, log, within: poll(world, wait, hook)
            ):
                # Airflow wraps it in a check of who calls
                getattr(type(operator).execute, "__wrapped__", type(operator).execute)(operator, context)
        except (Exception, WorkerDied) as err:  # noqa: BLE001 - as Airflow does
            world.note(f"try {ti.try_number} ends: {type(err).__name__}: {err}")
            error = err
            if is_final(err):
                break
            world.sleep(setting.retry_delay)
            ti.try_number += 1
        else:
            error = None
            break
    world.sleep(3 * HOUR)
    return world, list(_problems(world, error)), isinstance(error, ZillizSubmissionUnknown)


def _problems(world: World, error: BaseException | None) -> Iterator[str]:
    loaded = Counter(group for job in world.jobs.values() if job.fate == "Completed" for group in job.files)
    for group, times in loaded.items():
        if times > 1:
            yield f"{group} was loaded {times} times"
    if error is None:
        yield from (f"the task succeeded without {group}" for group in FILES if not loaded[group])
    elif not isinstance(error, ZillizSubmissionUnknown) and not any(job.flips for job in world.jobs.values()):
        yield f"the task does not succeed with all its retries: {error}"


def settings() -> Iterator[tuple[Setting, int]]:
    """Yield what differs in what can happen, and how many jobs run at once."""
    for remembers, heeds_keys, active, delay in itertools.product((True, False), (False, True), (1, 3), (300.0, 0.0)):
        yield Setting(remembers=remembers, heeds_keys=heeds_keys, retry_delay=delay), active


def explore(setting: Setting, active: int, most_faults: int) -> Report:
    """Explore one setting."""
    report = Report()
    logging.disable(logging.CRITICAL)
    try:
        with virtual_time() as enter, virtual_modules(enter) as enter_all:
            scenario = lambda choices: run(setting, active, choices, enter_all)  # noqa: E731 - one line
            for choices, (world, problems, in_doubt) in enumerate_runs(scenario, most_faults):
                report.runs += 1
                report.in_doubt += in_doubt
                if not problems:
                    continue
                limit = next(
                    (what for part, what in LIMITS.items() if any(part in one for one in choices.faults)), None
                )
                if limit is not None:
                    report.limited[limit] += 1
                else:
                    text = "\n  ".join([f"{setting}, {active} at once; {choices.faults}", *world.events, *problems])
                    report.findings.append(text)
    finally:
        logging.disable(logging.NOTSET)
    return report


class virtual_modules:  # noqa: N801 - used as a context manager is
    """Lets the operator's own modules live in a world's time."""

    def __init__(self, enter: Callable[[World], None]) -> None:
        self._enter = enter
        self._world: list[World] = []
        clock = SimpleNamespace(
            time=lambda: self._world[-1].now,
            monotonic=lambda: self._world[-1].now,
            sleep=lambda seconds: self._world[-1].sleep(seconds),
        )
        modules = (dataset_run, dataset_wait, dataset_state, room_pause)
        self._patches: list[Any] = [mock.patch.object(module, "time", clock) for module in modules]
        self._patches.append(mock.patch.object(room_pause, "random", SimpleNamespace(uniform=lambda low, high: 1.0)))
        log = mock.NonCallableMagicMock()
        self._patches.append(mock.patch.object(ZillizImportDatasetOperator, "log", log, create=True))
        self._patches.append(mock.patch.object(dataset_account, "duration", lambda seconds: f"{seconds:.0f} s"))

    def __enter__(self) -> Callable[[World], None]:
        for patch in self._patches:
            patch.start()

        def enter(world: World) -> None:
            self._world.append(world)
            self._enter(world)

        return enter

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--faults", type=int, default=1, help="the most faults in one run")
    options = parser.parse_args()
    reports = [explore(setting, active, options.faults) for setting, active in settings()]
    for finding in [finding for report in reports for finding in report.findings][:5]:
        print(finding, end="\n\n")
    findings = sum(len(report.findings) for report in reports)
    limited = sum((report.limited for report in reports), Counter[str]())
    print(f"{sum(report.runs for report in reports):,} runs of {len(reports)} settings: {findings} findings")
    print(f"in doubt: {sum(report.in_doubt for report in reports):,}; within limits: {dict(limited)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
