from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field

import pytest

from airflow_zilliz._poller.task_log import log_notes
from airflow_zilliz._wait.state_machine import Decision

whose: ContextVar[str] = ContextVar("whose")


@dataclass
class Log:
    """A log whose pipe is full until `reader` is set."""

    reader: threading.Event = field(default_factory=threading.Event)
    lines: list[tuple[str, float]] = field(default_factory=list)

    def log_notes(self, step: Decision) -> None:
        assert self.reader.wait(30)
        self.lines.append((whose.get("nobody"), step.delay))


async def test_a_full_log_leaves_the_loop_alone() -> None:
    log = Log()
    writing = asyncio.ensure_future(log_notes(log, Decision(delay=1.0)))
    await asyncio.sleep(0.01)
    assert not writing.done(), "a step counts as logged when it is in the log"
    log.reader.set()
    await writing
    assert log.lines == [("nobody", 1.0)]


async def test_each_step_is_logged_in_its_task_s_context_and_in_order() -> None:
    log = Log()
    log.reader.set()

    async def live(name: str) -> None:
        whose.set(name)
        for delay in (1.0, 2.0):
            await log_notes(log, Decision(delay=delay))

    await asyncio.gather(*(live(name) for name in "abc"))
    assert sorted(log.lines) == [(name, delay) for name in "abc" for delay in (1.0, 2.0)]
    assert [delay for name, delay in log.lines if name == "b"] == [1.0, 2.0]


async def test_a_log_that_fails_fails_its_own_wait_alone() -> None:
    class Broken:
        def log_notes(self, step: Decision) -> None:
            raise ValueError("no log")

    log = Log()
    log.reader.set()
    others = asyncio.gather(log_notes(log, Decision(delay=1.0)), log_notes(log, Decision(delay=2.0)))
    with pytest.raises(ValueError, match="no log"):
        await log_notes(Broken(), Decision(delay=0.0))
    await others
    assert len(log.lines) == 2
