"""Runs an import operator as Airflow does: here, or, to be killed, by `python -m tests.airflow.submitting`."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_zilliz import operators
from airflow_zilliz._submit.record import Patience
from airflow_zilliz.operators import ZillizImportOperator
from tests.helpers.dying import arm

#: A server of the tests shows in a moment what it has to show.
QUICK = Patience(pauses=(0.1, 0.1, 0.1), settle=0.3)
RUN_AFTER = datetime.now(timezone.utc) - timedelta(minutes=5)


class FileStore:
    """Stands for Airflow 3.3's task state store, and outlives a process as that does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str, default: Any = None) -> Any:
        values = json.loads(self._path.read_text()) if self._path.exists() else {}
        return values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        values = json.loads(self._path.read_text()) if self._path.exists() else {}
        # whole or not at all, as in a database
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps({**values, key: value}))
        part.replace(self._path)


class TaskInstance:
    dag_id = "dag"
    run_id = "manual__1"
    task_id = "import"
    map_index = -1

    def __init__(self, try_number: int = 1) -> None:
        self.try_number = try_number
        self.max_tries = 0
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)


def context_of(ti: TaskInstance, store: Path | None = None) -> Any:
    context: dict[str, Any] = {"ti": ti, "dag_run": SimpleNamespace(run_after=RUN_AFTER, logical_date=RUN_AFTER)}
    return context if store is None else {**context, "task_state_store": FileStore(store)}


def run_operator(
    make: Callable[[], Any],
    ti: TaskInstance,
    store: Path | None = None,
    events: Any = None,
    on_event: Callable[[Any], None] = lambda _: None,
) -> Any:
    """Run an operator to its end, deferrals included; a fresh one for each stretch on a worker.

    :param events: the outlets' events
    :param on_event: called with each trigger's event
    """
    context = {**context_of(ti, store), "outlet_events": events}
    resume = lambda: make().execute(context)  # noqa: E731 - replaced at each deferral
    while True:
        try:
            return resume()
        except TaskDeferred as deferred:
            _, kwargs = deferred.trigger.serialize()
            event = asyncio.run(_event(type(deferred.trigger), json.loads(json.dumps(kwargs))))
            on_event(event)
            next_kwargs = {**json.loads(json.dumps(deferred.kwargs or {})), "event": event}
            method = deferred.method_name
            resume = lambda m=method, k=next_kwargs: make().resume_execution(m, k, context)  # type: ignore[misc] # noqa: E731 - both are bound now


async def _event(trigger: Any, kwargs: dict[str, Any]) -> Any:
    (event,) = [event async for event in trigger(**kwargs).run()]
    return json.loads(json.dumps(event.payload))


def run_in_process(kill: str | None, try_number: int, store: Path | None, **arguments: Any) -> dict[str, Any] | None:
    """Run a try in a process of its own; return what came of it, None where it was killed."""
    order = {"kill": kill, "try_number": try_number, "store": store and str(store), "arguments": arguments}
    done = subprocess.run(
        [sys.executable, "-m", "tests.airflow.submitting", json.dumps(order)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if kill is not None:
        assert done.returncode == -signal.SIGKILL, done.stderr
        return None
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _main(order: dict[str, Any]) -> None:
    operators.PATIENCE = QUICK
    ti = TaskInstance(order["try_number"])
    arm(order["kill"], ti)
    operator = ZillizImportOperator(task_id="import", **order["arguments"])
    print(json.dumps({"xcom": operator.execute(context_of(ti, Path(order["store"]) if order["store"] else None))}))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
