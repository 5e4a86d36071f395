"""One process of a fleet: `python fleet.py ROLE URL` reads a JSON plan from standard input and prints a JSON result.

ROLE is `ours` (a triggerer with this provider's triggers), `session` (one describe a wait and poll over one aiohttp
session) or `resumes` (tasks that resume on workers). A process prints `ready` once everything is imported.

What stands for what: in a deployment each resuming task is a process of its own, of which a worker runs 32 at a time.
Here a `resumes` process runs them in as many threads, since 320 real processes would measure this machine's two cores.
Each has a hook, a session and a rate limiter of its own, as separate processes have; only the start of the process is
missing, which spreads the tasks of a real fleet and so makes this harder for the server, not easier.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import os
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

HERE = Path(__file__).parent
INTERVAL = 30.0
#: Where there are clusters, the last wait comes so many seconds after all others, into a process that is busy.
NEW_AFTER = 150.0
#: What a task's first poll, on its worker, saw before it deferred.
FIRST_POLL = json.dumps({"summary": "Importing 40 %", "state": "Importing", "percent": 40, "rows": 400})
#: How many tasks one worker runs at a time (Celery's default is 16, Airflow's ``core.parallelism`` 32).
SLOTS = 32


def main(role: str, url: str) -> dict[str, Any]:
    os.environ["AIRFLOW_CONN_BENCH"] = json.dumps({"conn_type": "zilliz", "host": url, "password": "k" * 20})
    if role == "resumes":
        return resumes()
    return asyncio.run(triggerer(role, url))


# -- a triggerer ---------------------------------------------------------------------------------------------------


@dataclass
class Triggerer:
    """One triggerer process and what its waits come to."""

    plan: dict[str, Any]
    url: str
    worker: Worker | None
    seen: dict[str, float] = field(default_factory=dict)
    useless: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def on_notes(self, job_id: str, texts: list[str]) -> None:
        if any("cannot be used" in text for text in texts):
            self.useless.add(job_id)

    async def ours(self, job_id: str) -> None:
        clusters, place = self.plan["clusters"], int(job_id.removeprefix("job-"))
        if clusters and job_id == self.plan["jobs"][-1]:
            await asyncio.sleep(NEW_AFTER)
        cluster_id = f"in01-{place % clusters}" if clusters else "in01-bench"
        async for event in trigger_of(self, job_id, cluster_id).run():
            self.seen[job_id] = time.time()
            if event.payload["ending"] not in ("reached", "job_failed"):
                self.wrong.append(f"{job_id}: {event.payload['message']}")
            if self.worker is not None:
                self.worker.resume(job_id, event.payload)

    async def session(self, job_id: str, client: aiohttp.ClientSession) -> None:
        from pollers import PeerTrigger

        async for _ in PeerTrigger(self.url, job_id, client).run():
            self.seen[job_id] = time.time()


@functools.cache
def trigger_class() -> type[Any]:
    from airflow_zilliz.triggers import ZillizImportTrigger

    class Trigger(ZillizImportTrigger):
        triggerer: Triggerer

        def log_notes(self, step: Any) -> None:
            self.triggerer.on_notes(self.job_id, [text for _, text in step.notes])

    return Trigger


def trigger_of(triggerer: Triggerer, job_id: str, cluster_id: str) -> Any:
    """Return this provider's trigger, with what its task's first poll on a worker saw."""
    trigger = trigger_class()(job_id, "bench", cluster_id=cluster_id, poke_interval=INTERVAL, seen=FIRST_POLL)
    trigger.triggerer = triggerer
    return trigger


async def triggerer(role: str, url: str) -> dict[str, Any]:
    from pollers import load_a_triggerer

    load_a_triggerer()
    if role == "ours":
        trigger_class()
    plan = await asyncio.to_thread(read_plan)
    one = Triggerer(plan, url, Worker(url, SLOTS) if plan["resume"] else None)
    async with aiohttp.ClientSession() as client:
        await asyncio.sleep(plan["begin"] - time.time())
        lags: list[float] = []
        watchdog = asyncio.create_task(watch_loop(lags))
        cpu = time.process_time()
        waits = (one.ours(job_id) if role == "ours" else one.session(job_id, client) for job_id in plan["jobs"])
        tasks = [asyncio.create_task(wait) for wait in waits]
        steps = Steps()  # from here on, since so many tasks at once are this benchmark's doing
        done, left = await asyncio.wait(tasks, timeout=plan["begin"] + plan["patience"] - time.time())
        cpu = time.process_time() - cpu
        watchdog.cancel()
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
    for task in done:
        task.result()
    result = {"seen": one.seen, "cpu": cpu, "useless": len(one.useless), "wrong": one.wrong, "lag": max(lags)}
    result |= {"longest step": steps.longest, "longest collection": steps.longest_collection}
    if one.worker is not None:
        result["resumed"] = await asyncio.to_thread(one.worker.results)
    return result


async def watch_loop(lags: list[float]) -> None:
    """Note how much later than asked for the loop wakes up, once its start is over."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.05)
        lags.append(time.monotonic() - began - 0.05)


class Steps:
    """Notes the processor time of the loop's longest step, and of the longest garbage collection, which no step counts.

    Unlike the loop's lateness that says nothing of the other processes on this machine.
    """

    def __init__(self) -> None:
        self.longest = self.longest_collection = 0.0
        self._collecting = self._began = 0.0
        gc.callbacks.append(self._on_collection)
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            collecting, began = self._collecting, time.thread_time()
            run(handle)
            took = time.thread_time() - began - (self._collecting - collecting)
            if took > self.longest:
                self.longest = took

        asyncio.Handle._run = timed  # type: ignore[method-assign,assignment] # there is no other way to see each step

    def _on_collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
            return
        took = time.thread_time() - self._began
        self._collecting += took
        self.longest_collection = max(self.longest_collection, took)


class Worker:
    """The workers of one triggerer's tasks, as a process beside it."""

    def __init__(self, url: str, slots: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, HERE / "fleet.py", "resumes", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"slots": slots}) + "\n")
        self.process.stdin.flush()

    def resume(self, job_id: str, payload: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([job_id, payload]) + "\n")
        self.process.stdin.flush()

    def results(self) -> list[dict[str, Any]]:
        out, _ = self.process.communicate()
        return list(json.loads(next(line for line in out.splitlines() if line.startswith("{")))["resumed"])


# -- workers -------------------------------------------------------------------------------------------------------


def resumes() -> dict[str, Any]:
    """Resume a task for each line of standard input, and say what each came to."""
    from airflow_zilliz._transport import rate_limiter
    from airflow_zilliz.sensors import ZillizImportSensor

    own = rate_limiter._limiters, rate_limiter._siblings = OfThread(), OfThread()
    print("ready", flush=True)
    plan = json.loads(sys.stdin.readline())
    started = time.time()

    def resume(job_id: str, payload: dict[str, Any]) -> dict[str, Any]:
        for registry in own:
            registry.renew()
        began = time.time()
        ids = {"zilliz_conn_id": "bench", "cluster_id": "in01-bench"}
        task = ZillizImportSensor(task_id=f"wait-{job_id}", job_id=job_id, deferrable=True, **ids)
        rows = reason = None
        try:
            result = task.execute_complete({}, payload, started_at=started)
            rows = result["imported_rows"]
        except Exception as err:  # noqa: BLE001 - whatever it is, it is what the task ended with
            reason = f"{type(err).__name__}: {err}"
        return {"job": job_id, "began": began, "done": time.time(), "rows": rows, "reason": reason}

    with ThreadPoolExecutor(plan["slots"]) as pool:
        pending = [pool.submit(resume, *json.loads(line)) for line in sys.stdin]
        return {"resumed": [one.result() for one in pending]}


class OfThread(dict[Any, Any]):
    """What the thread that asks knows of limits, as if it were a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.own = threading.local()

    def renew(self) -> None:
        self.own.known = {}

    def setdefault(self, key: Any, default: Any = None) -> Any:
        return self.own.known.setdefault(key, default)

    def get(self, key: Any, default: Any = None) -> Any:
        return self.own.known.get(key, default)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.own.known[key] = value


def read_plan() -> dict[str, Any]:
    print("ready", flush=True)
    plan: dict[str, Any] = json.loads(sys.stdin.readline())
    return plan


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    result = main(*sys.argv[1:])
    print(json.dumps(result))
