"""Runs a sensor the way Airflow does in each mode, over real sockets and in real time, without a metadata database."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from importlib import metadata
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_zilliz import triggers
from airflow_zilliz._tasks.errors import reschedule_exception
from airflow_zilliz.sensors import ZillizImportSensor

AIRFLOW_3 = not metadata.version("apache-airflow").startswith("2.")
#: "reschedule+memory" is Airflow 3.3 with its task state store; "reschedule" is every Airflow before.
MODES = ("poke", "reschedule", "reschedule+memory", "deferrable")

MakeSensor = Callable[[], ZillizImportSensor]


@dataclass
class Outcome:
    """How a task ended, and how often it left the worker."""

    xcom: Any = None
    error: BaseException | None = None
    left: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    kwargs: list[dict[str, Any]] = field(default_factory=list)
    xcoms: dict[str, Any] = field(default_factory=dict)


def run_task(mode: str, limit: float = 30.0, **arguments: Any) -> Outcome:
    """Run a sensor to its end; a fresh sensor for each stretch on a worker, as in a fresh process."""

    def make() -> ZillizImportSensor:
        return ZillizImportSensor(
            task_id="wait", mode=mode.partition("+")[0] if mode != "deferrable" else "poke", **arguments
        )

    arguments["deferrable"] = mode == "deferrable"
    outcome = Outcome()
    try:
        if mode == "deferrable":
            outcome.xcom = _deferrable(make, outcome, limit)
        else:
            outcome.xcom = _on_workers(make, outcome, limit, store={} if mode.endswith("memory") else None)
    except BaseException as err:
        if isinstance(err, (KeyboardInterrupt, AssertionError)):
            raise
        outcome.error = err
    return outcome


class _Store:
    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self._values[key] = json.loads(json.dumps(value))


def _context(outcome: Outcome, first: datetime | None = None, store: dict[str, Any] | None = None) -> Any:
    ti = SimpleNamespace(
        try_number=1,
        start_date=first or datetime.now(timezone.utc),
        dag_id="dag",
        run_id="manual__1",
        task_id="wait",
        map_index=-1,
        xcom_push=lambda key, value: outcome.xcoms.__setitem__(key, json.loads(json.dumps(value))),
        xcom_pull=lambda key, **_: outcome.xcoms.get(key),
    )
    if AIRFLOW_3:
        ti.get_first_reschedule_date = lambda context: first
    return {"ti": ti} if store is None else {"ti": ti, "task_state_store": _Store(store)}


def _on_workers(make: MakeSensor, outcome: Outcome, limit: float, store: dict[str, Any] | None) -> Any:
    first: datetime | None = None
    until = time.monotonic() + limit
    while True:
        assert time.monotonic() < until, "the task does not end"
        began = datetime.now(timezone.utc)
        try:
            outcome.xcoms.clear()  # as Airflow does before each poll
            return make().execute(_context(outcome, first, store))
        except reschedule_exception() as later:
            first = first or began
            outcome.left += 1
            pause = later.reschedule_date - datetime.now(timezone.utc)  # type: ignore[attr-defined] # Airflow's own
            time.sleep(max(0.0, pause.total_seconds()))


def _deferrable(make: MakeSensor, outcome: Outcome, limit: float) -> Any:
    until = time.monotonic() + limit
    resume: Callable[[], Any] = lambda: make().execute(_context(outcome))  # noqa: E731 - replaced at each deferral
    while True:
        assert time.monotonic() < until, "the task does not end"
        try:
            return resume()
        except TaskDeferred as deferred:
            outcome.left += 1
            path, kwargs = deferred.trigger.serialize()
            kwargs = json.loads(json.dumps(kwargs))
            outcome.kwargs.append(kwargs)
            timeout = _seconds(deferred.timeout)
            try:
                event = asyncio.run(asyncio.wait_for(first_event(path, kwargs), timeout))
            except asyncio.TimeoutError:
                resume = lambda: make().resume_execution("__fail__", {"error": "Trigger timeout"}, _context(outcome))  # noqa: E731
                continue
            payload = json.loads(json.dumps(event))
            outcome.events.append(payload)
            next_kwargs = {**json.loads(json.dumps(deferred.kwargs or {})), "event": payload}
            method = deferred.method_name
            resume = lambda m=method, k=next_kwargs: make().resume_execution(m, k, _context(outcome))  # type: ignore[misc] # noqa: E731 - both are bound now


def _seconds(timeout: timedelta | None) -> float:
    assert timeout is not None, "a deferral has a timeout, for a wait without a triggerer"
    return timeout.total_seconds()


async def first_event(path: str, kwargs: dict[str, Any]) -> Any:
    """Return the payload of the one event of a trigger, which Airflow makes of what it stored."""
    module, _, name = path.rpartition(".")
    assert module == "airflow_zilliz.triggers", "Airflow imports it from there"
    events = [event async for event in getattr(triggers, name)(**kwargs).run()]
    assert len(events) == 1, "a trigger fires once"
    return events[0].payload
