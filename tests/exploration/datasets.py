"""Runs the operator for datasets through all that may go wrong with one of its jobs, its worker or its store.

``python -m tests.exploration.datasets`` explores every case; ``--faults N`` sets how many faults a run may have.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from unittest import mock

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred

from airflow_zilliz import triggers
from airflow_zilliz._tasks import (
    dataset,
    dataset_account,
    dataset_run,
    dataset_state,
    dataset_wait,
    many_requests,
    room_pause,
    waiting_task,
)
from airflow_zilliz._triggers import job_list
from airflow_zilliz._wait.list_outcome import ListOutcome
from airflow_zilliz._wait.list_wait import ListWait
from airflow_zilliz.exceptions import ZillizError, ZillizSubmissionUnknown
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.operators import ZillizImportDatasetOperator
from tests.exploration.choices import Choices, enumerate_runs
from tests.exploration.explorer import LIMITS
from tests.exploration.world import (
    EPOCH,
    HOUR,
    SIBLING_FILES,
    Setting,
    TaskInstance,
    WorkerDied,
    World,
    is_final,
    virtual_time,
)

RETRIES = 6
MAX_TRIES = 12
MAX_DEFERRALS = 30
FILES = tuple((f"8ca4/{number}.parquet",) for number in range(3))


@dataclass(frozen=True)
class Case:
    """What is the same in all runs of one exploration.

    :param active: how many jobs may run at once
    :param clears: a user may clear the task while it runs or is deferred, and once it has ended
    :param is_full: the server runs one job at once, and another task's at first
    """

    setting: Setting = field(default_factory=Setting)
    active: int = 1
    deferrable: bool = False
    atomic: bool = False
    clears: bool = False
    is_full: bool = False

    def __str__(self) -> str:
        words = [name for name in ("deferrable", "atomic", "clears", "is_full") if getattr(self, name)]
        return ", ".join([str(self.setting), f"{self.active} at once", *words])


@dataclass
class DatasetWorld(World):
    """A world with a dataset's import.

    :param wanted_times: how often a file may be loaded: a user who is told that it is not known may import it again
    """

    case: Case = field(default_factory=Case)
    problems: list[str] = field(default_factory=list)
    wanted_times: int = 1
    was_cleared: bool = False

    def __post_init__(self) -> None:
        if self.case.is_full:
            self.capacity = 1
            self.make_job(SIBLING_FILES, "sibling")

    def may_die(self, where: str) -> None:
        if not self.case.clears or where != "while it waits":
            super().may_die(where)
            return
        course = self.choices.choose("meanwhile", ("nothing", "the worker dies", "a user clears the task"))
        if course != "nothing":
            self.was_cleared = course == "a user clears the task"
            self.note(f"{course} {where}")
            raise WorkerDied(course)

    def on_commit(self) -> None:
        # a job that the server fails while it commits it keeps the others committed
        jobs = [job for job in self.jobs.values() if job.state(self.now) in LOADED or job.committed is not None]
        loaded = {group for job in jobs for group in job.files}
        if missing := set(FILES) - loaded:
            self.problems.append(f"a job is committed before {sorted(missing)} are loaded")


LOADED = ("Uncommitted", "Committing", "Completed")


class DatasetTaskInstance(TaskInstance):
    """XComs last for a try, deferrals included."""

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))
        if key.startswith("zilliz_dataset"):
            self.world.may_die(f"after XCom {key.rstrip('0123456789_')}")

    def xcom_pull(self, **wanted: Any) -> Any:
        return self.xcoms.get(wanted["key"])


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


def poll(world: World, wait: ListWait, hook: ZillizHook, within: float | None = None) -> ListOutcome | None:
    """Poll as the worker and the trigger do, in virtual time.

    :param within: None to poll until the wait ends or pauses, and not only once
    """
    while True:
        for one in list(wait.begin()):
            try:
                progress = hook.get_import_progress(one.job_id)
            except ZillizError as err:
                step = one.on_error(err, world.now)
            else:
                step = one.on_progress(progress, world.now)
            wait.on_decision(one.job_id, step, world.now)
        if (outcome := wait.outcome(world.now)) is not None or within is not None:
            return outcome
        world.sleep(30)


def an_operator(world: DatasetWorld) -> ZillizImportDatasetOperator:
    return ZillizImportDatasetOperator(
        task_id="import",
        collection_name="books",
        files=[list(group) for group in FILES],
        max_files_per_job=1,
        max_active_jobs=world.case.active,
        atomic=world.case.atomic,
        poke_interval=30,
        timeout=6 * HOUR,
        retries=RETRIES,
        retry_delay=timedelta(seconds=world.setting.retry_delay),
        deferrable=world.case.deferrable,
        retry_on_failure=True,
    )


# -- a try ----------------------------------------------------------------------------------------------------------

DEFERRED = (
    "the trigger fires",
    "another triggerer begins again",
    "the trigger fires early",
    "its event cannot be read",
    "Airflow ends the deferral",
)


def execute(world: DatasetWorld, context: Any) -> Any:
    """Run a try to its end, deferrals included; a fresh operator for each stretch on a worker."""
    operator = an_operator(world)
    # Airflow wraps it in a check of who calls
    method = getattr(type(operator).execute, "__wrapped__", type(operator).execute)
    resume = lambda: method(operator, context)  # noqa: E731 - replaced at each deferral
    for _ in range(MAX_DEFERRALS):
        try:
            return resume()
        except TaskDeferred as deferred:
            name, kwargs = fire(world, deferred)
            resume = lambda n=name, k=kwargs: an_operator(world).resume_execution(n, k, context)  # type: ignore[misc] # noqa: E731 - both are bound now
    world.problems.append("the task defers again and again")
    raise WorkerDied("by the exploration")


def fire(world: DatasetWorld, deferred: TaskDeferred) -> tuple[str, dict[str, Any]]:
    """Return with which method and arguments Airflow resumes a deferred task."""
    _, arguments = json.loads(json.dumps(deferred.trigger.serialize()))
    kwargs = json.loads(json.dumps(deferred.kwargs or {}))
    if isinstance(deferred.trigger, triggers.ZillizPauseTrigger):
        world.sleep(arguments["until"] - world.now)
        return deferred.method_name, {**kwargs, "event": {"until": arguments["until"]}}
    options = (*DEFERRED, "a user clears the task") if world.case.clears else DEFERRED
    course = world.choices.choose("while it is deferred", options)
    world.note(f"deferred: {course}")
    if course == "a user clears the task":
        world.was_cleared = True
        raise WorkerDied(course)
    if course == "another triggerer begins again":
        world.sleep(20)
    wait = triggers.ZillizImportListTrigger(**arguments)._wait()
    if course == "Airflow ends the deferral":
        world.sleep(7 * HOUR)
        return "__fail__", {"error": "Trigger/execution timeout"}
    is_early = course == "the trigger fires early"
    outcome = poll(world, wait, ZillizHook(), within=0 if is_early else None) or wait.pause()
    event = json.loads(json.dumps(outcome.as_event()))
    return deferred.method_name, {**kwargs, "event": None if course == "its event cannot be read" else event}


# -- its life -------------------------------------------------------------------------------------------------------

ACTS = ("nothing", "the user clears the task", "the user clears the task hours later")


@dataclass
class Life:
    """A task's tries, and what its user does between them and after them."""

    world: DatasetWorld
    ti: DatasetTaskInstance
    store: Store
    user_acts: int

    def try_once(self) -> BaseException | None:
        """Run a try to its end, and return what it failed with."""
        world, ti = self.world, self.ti
        due = datetime.fromtimestamp(self.run_due, timezone.utc)
        context: Any = {"ti": ti, "dag_run": SimpleNamespace(run_after=due)}
        if world.setting.remembers:
            context["task_state_store"] = self.store
        ti.xcoms.clear()
        try:
            result = execute(world, context)
        except (Exception, WorkerDied) as err:  # noqa: BLE001 - as Airflow does
            world.note(f"try {ti.try_number} ends: {type(err).__name__}: {err}")
            if not isinstance(err, WorkerDied):
                world.problems += _unnamed(world, ti, err)
            return err
        world.note(f"try {ti.try_number} ends well: {result}")
        return None

    def goes_on(self, error: BaseException | None) -> bool:
        """Prepare the next try, if there is one."""
        world, ti = self.world, self.ti
        if world.problems:
            return False
        if world.was_cleared:
            world.was_cleared = False
            self._clear(5)
            return True
        if error is not None and not is_final(error) and ti.try_number <= ti.max_tries:
            world.sleep(world.setting.retry_delay)
            ti.try_number += 1
            return True
        if not self.user_acts:
            return False
        self.user_acts -= 1
        act = world.choices.choose("then", ACTS)
        world.note(act)
        if act == "nothing":
            return False
        if isinstance(error, ZillizSubmissionUnknown) and "is unknown to the server" in str(error):
            world.wanted_times += 1  # the message says that a clear imports again
        self._clear(5 * HOUR if "hours later" in act else 60)
        return True

    def _clear(self, after: float) -> None:
        self.world.sleep(after)
        self.ti.max_tries = self.ti.try_number + RETRIES
        self.ti.try_number += 1

    @property
    def run_due(self) -> float:
        return EPOCH - 5


def run(case: Case, choices: Choices, enter: Callable[[World], None]) -> tuple[DatasetWorld, bool]:
    """Let the task live until nothing goes on; return whether it ended in doubt."""
    world = DatasetWorld(case.setting, choices, case=case)
    enter(world)
    life = Life(world, DatasetTaskInstance(world), Store(world), user_acts=int(case.clears))
    life.ti.max_tries = RETRIES
    for _ in range(MAX_TRIES):
        error = life.try_once()
        if not life.goes_on(error):
            break
    world.sleep(3 * HOUR)
    world.problems += _problems(world, error)
    return world, isinstance(error, ZillizSubmissionUnknown)


def _loaded(world: World) -> Counter[tuple[str, ...]]:
    ours = [job for job in world.jobs.values() if job.owner == "us" and job.loads_rows]
    return Counter(group for job in ours for group in job.files)


def _unnamed(world: DatasetWorld, ti: DatasetTaskInstance, error: BaseException) -> Iterator[str]:
    """Yield which files are neither loaded nor named by a failure."""
    named = ti.xcoms.get("missing")
    if named is None:
        if is_final(error):
            yield f"the task fails for good without an account: {error}"
        return
    loaded = _loaded(world)
    yield from (f"{group} is not in, and not named" for group in FILES if not loaded[group] and group[0] not in named)


def _problems(world: DatasetWorld, error: BaseException | None) -> Iterator[str]:
    loaded = _loaded(world)
    for group, times in loaded.items():
        if times > world.wanted_times:
            yield f"{group} was loaded {times} times"
    if error is None:
        yield from (f"the task succeeded without {group}" for group in FILES if not loaded[group])
        return
    excuses = (ZillizSubmissionUnknown, AirflowSensorTimeout)
    if not isinstance(error, excuses) and not any(job.flips for job in world.jobs.values()):
        yield f"the task does not succeed with all its retries: {error}"


def cases() -> Iterator[Case]:
    """Yield all cases that differ in what can happen."""
    for remembers, heeds_keys, active, delay in itertools.product((True, False), (False, True), (1, 3), (300.0, 0.0)):
        setting = Setting(remembers=remembers, heeds_keys=heeds_keys, retry_delay=delay)
        yield Case(setting, active)
    for remembers, deferrable in itertools.product((True, False), (True, False)):
        setting = Setting(remembers=remembers)
        if deferrable:
            yield Case(setting, 2, deferrable=True)
        yield Case(setting, 2, deferrable, atomic=True)
        yield Case(setting, 2, deferrable, clears=True)
        yield Case(setting, 2, deferrable, is_full=True)
        yield Case(setting, 2, deferrable, atomic=True, clears=True)


def explore(case: Case, most_faults: int, stop_at: int = 3) -> Report:
    """Explore one case; the first findings have the fewest faults."""
    report = Report()
    logging.disable(logging.CRITICAL)
    try:
        with virtual_time() as enter, virtual_modules(enter) as enter_all:
            scenario = lambda choices: run(case, choices, enter_all)  # noqa: E731 - one line
            for choices, (world, in_doubt) in enumerate_runs(scenario, most_faults):
                report.runs += 1
                report.in_doubt += in_doubt
                if not world.problems:
                    continue
                limit = next(
                    (what for part, what in LIMITS.items() if any(part in one for one in choices.faults)), None
                )
                if limit is not None:
                    report.limited[limit] += 1
                else:
                    problems = [f"VIOLATION: {problem}" for problem in world.problems]
                    text = "\n  ".join([f"{case}; {choices.faults}", *world.events, *problems])
                    report.findings.append(text)
                    if len(report.findings) >= stop_at:
                        break
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
        modules = (
            dataset,
            dataset_run,
            dataset_wait,
            dataset_state,
            room_pause,
            many_requests,
            waiting_task,
            job_list,
        )
        self._patches: list[Any] = [mock.patch.object(module, "time", clock) for module in modules]
        self._patches.append(mock.patch.object(room_pause, "random", SimpleNamespace(uniform=lambda low, high: 1.0)))
        log = mock.NonCallableMagicMock()
        self._patches.append(mock.patch.object(ZillizImportDatasetOperator, "log", log, create=True))
        self._patches.append(mock.patch.object(dataset_account, "duration", lambda seconds: f"{seconds:.0f} s"))
        self._patches.append(
            mock.patch.object(
                dataset_wait,
                "poll_on_worker",
                lambda wait, hook, log, within: poll(self._world[-1], wait, hook, within),
            )
        )

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
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes) as pool:
        reports = list(pool.map(explore, every := list(cases()), [options.faults] * len(every)))
    for finding in [finding for report in reports for finding in report.findings][:5]:
        print(finding, end="\n\n")
    findings = sum(len(report.findings) for report in reports)
    limited = sum((report.limited for report in reports), Counter[str]())
    print(f"{sum(report.runs for report in reports):,} runs of {len(reports)} cases: {findings} findings")
    print(f"in doubt: {sum(report.in_doubt for report in reports):,}; within limits: {dict(limited)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
