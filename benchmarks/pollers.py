"""One way of waiting for N jobs, in a process of its own: `python pollers.py WAY URL WAITS`; prints a line of JSON.

WAY is `ours` (N of this provider's triggers), `session` (one describe per wait, one aiohttp session for all, as the
best peers do) or `sessions` (a new aiohttp session for each request, as dbt-cloud's and Snowflake's triggers do).
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from airflow.cli import cli_parser
from airflow.models import import_all_models
from airflow.plugins_manager import ensure_plugins_loaded
from airflow.triggers.base import BaseTrigger, TriggerEvent
from sqlalchemy.orm import configure_mappers
from tenacity import AsyncRetrying, stop_after_attempt

INTERVAL = 30.0
SPREAD = 40.0
PATIENCE = 150.0
DESCRIBE = "/v2/vectordb/jobs/import/describe"

See = Callable[[str], None]
Wait = Callable[[str, See], Awaitable[None]]


async def ours(url: str) -> Wait:
    os.environ["AIRFLOW_CONN_BENCH"] = json.dumps({"conn_type": "zilliz", "host": url, "password": "k" * 20})
    from airflow_zilliz._wait.checkpoint import Checkpoint
    from airflow_zilliz.triggers import ZillizImportTrigger

    # what a task's first poll, on its worker, saw before it deferred
    seen = Checkpoint(summary="Importing 40 %, 400 of 1,000 rows", state="Importing", percent=40, rows=400)
    seen_text = json.dumps(seen.as_json())

    async def wait(job_id: str, see: See) -> None:
        trigger = ZillizImportTrigger(job_id, "bench", cluster_id="in01-bench", poke_interval=INTERVAL, seen=seen_text)
        async for event in trigger.run():
            assert event.payload["ending"] == "reached", event.payload
            see(job_id)

    return wait


class PeerTrigger(BaseTrigger):
    """What the best peers' triggers do, in their own way: a poll is an aiohttp request under tenacity's retry.

    Databricks' trigger keeps a session and logs each unfinished poll, and so does this one with a session. dbt-cloud's
    opens a session for each request, makes one attempt by default, and logs no poll.
    """

    def __init__(self, url: str, job_id: str, client: aiohttp.ClientSession | None) -> None:
        super().__init__()
        self.url = url
        self.job_id = job_id
        self.client = client

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "pollers.PeerTrigger", {"url": self.url, "job_id": self.job_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while not await self.is_done():
            if self.client is not None:
                self.log.info("Job %s is still running. Sleeping for %s seconds", self.job_id, INTERVAL)
            await asyncio.sleep(INTERVAL)
        yield TriggerEvent({"status": "success", "job_id": self.job_id})

    async def is_done(self) -> bool:
        try:
            async for attempt in AsyncRetrying(stop=stop_after_attempt(1), reraise=True):
                with attempt:
                    if self.client is not None:
                        return await self.describe(self.client)
                    async with aiohttp.ClientSession() as client:
                        return await self.describe(client)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
            return False
        raise AssertionError("an attempt returns or raises")

    async def describe(self, client: aiohttp.ClientSession) -> bool:
        body = {"jobId": self.job_id, "clusterId": "in01-bench"}
        async with client.post(self.url + DESCRIBE, json=body, headers={"Authorization": "Bearer k"}) as response:
            response.raise_for_status()
            return bool((await response.json())["data"]["state"] == "Completed")


async def session(url: str) -> Wait:
    shared = aiohttp.ClientSession()

    async def wait(job_id: str, see: See) -> None:
        async for _ in PeerTrigger(url, job_id, shared).run():
            see(job_id)

    return wait


async def sessions(url: str) -> Wait:
    async def wait(job_id: str, see: See) -> None:
        async for _ in PeerTrigger(url, job_id, None).run():
            see(job_id)

    return wait


def memory(statm: int) -> int:
    """Return this process's resident memory in bytes; it is asked for each second, at next to no cost."""
    return int(os.pread(statm, 100, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")


def load_a_triggerer() -> None:
    """Load what `airflow triggerer` has loaded where it runs triggers: garbage collections walk through all that.

    Such a process of Airflow 3.3.2 held 271,000 objects before its first trigger, and this leaves 268,000.
    """
    for name in ("jobs.triggerer_job_runner", "cli.commands.triggerer_command", "utils.serve_logs.core"):
        importlib.import_module(f"airflow.{name}")
    importlib.import_module("alembic.command")
    importlib.import_module("alembic.autogenerate")
    cli_parser.get_parser()
    ensure_plugins_loaded()
    import_all_models()
    configure_mappers()


async def main(way: str, url: str, waits: int) -> dict[str, Any]:
    load_a_triggerer()
    wait = await {"ours": ours, "session": session, "sessions": sessions}[way](url)
    async with aiohttp.ClientSession() as control:
        # what the first wait loads is no cost of the others
        for job_id in await _plan(control, url, 1, time.time() - SPREAD):
            await wait(job_id, lambda _: None)
        gc.collect()
        ends = await _plan(control, url, waits, time.time())
        seen: dict[str, float] = {}
        statm = os.open("/proc/self/statm", os.O_RDONLY)
        peak = before = memory(statm)
        cpu = time.process_time()
        began = time.monotonic()

        def see(job_id: str) -> None:
            seen[job_id] = time.time()

        tasks = [asyncio.ensure_future(wait(job_id, see)) for job_id in ends]
        while len(seen) < waits and time.monotonic() - began < PATIENCE:
            await asyncio.sleep(1.0)
            peak = max(peak, memory(statm))
        cpu = time.process_time() - cpu
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and task.exception() is not None:
                task.result()
        async with control.get(f"{url}/counts") as answer:
            counts = await answer.json()
    delays = sorted(seen[job_id] - ends[job_id] for job_id in seen)
    return {
        "way": way,
        "waits": waits,
        "requests": sum(counts.get(verb, 0) for verb in ("describe", "list")),
        "describes": counts.get("describe", 0),
        "refused": counts.get("429", 0),
        "seen": len(seen),
        "p50": _percentile(delays, 0.5),
        "p99": _percentile(delays, 0.99),
        "max": _percentile(delays, 1.0),
        "cpu": cpu,
        "bytes_a_wait": (peak - before) / waits,
    }


async def _plan(control: aiohttp.ClientSession, url: str, number: int, begin: float) -> dict[str, float]:
    """Make jobs on the server and return when each ends."""
    plan = {"number": number, "begin": begin, "spread": SPREAD}
    async with control.post(f"{url}/plan", json=plan) as answer:
        ends: dict[str, float] = await answer.json()
        return ends


def _percentile(ordered: list[float], part: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else None


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
