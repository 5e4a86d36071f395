from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

from airflow_zilliz.local.testing import LocalServer

#: A trigger's first poll in a fresh process, connection and imports included, under a loop that logs what blocks it.
FIRST_POLL = """
import asyncio, importlib, logging, sys
import airflow.jobs.triggerer_job_runner  # what a triggerer has imported before
from airflow_zilliz import triggers
from airflow_zilliz._triggers import base
from tests.helpers.loops import DebugLoop
logging.getLogger("asyncio").addHandler(logging.StreamHandler(sys.stdout))
base.SHORTEST_FIRST_DELAY = 0.1
async def first():
    trigger = triggers.ZillizImportTrigger(sys.argv[1], "zilliz_default", poke_interval=0.1)
    return [event async for event in trigger.run()]
loop = DebugLoop()
print(loop.run_until_complete(first()))
"""


def test_a_blocked_loop_is_noticed(no_blocked_loop: list[str]) -> None:
    """The guard that every other test runs under can fail."""

    async def block() -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.1  # by the guard's own clock, which stands still on a crowded machine
        while loop.time() < until:
            time.sleep(0.05)  # noqa: ASYNC251 - the very thing that must not be

    asyncio.run(block())
    assert len(no_blocked_loop) == 1
    assert "took 0." in no_blocked_loop.pop()


def test_the_first_poll_of_a_process_does_not_block_its_loop(zilliz_server: LocalServer) -> None:
    job_id = zilliz_server.add_job({"state": "Completed"})
    outputs = []
    for _ in range(6):  # a machine that is busy with something else blocks it too, but not each time
        command = [sys.executable, "-c", FIRST_POLL, job_id]
        done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=120)
        assert "reached" in done.stdout, done.stdout + done.stderr
        outputs.append(done.stdout)
        if "took" not in done.stdout:
            return
    raise AssertionError("\n".join(outputs))
