from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field

import pytest

from airflow_zilliz._poller.task_log import tell
from airflow_zilliz._wait.state_machine import Decision

whose: ContextVar[str] = ContextVar("whose")


@dataclass
class Log:
    """A log whose pipe is full until `reader` is set."""

    reader: threading.Event = field(default_factory=threading.Event)
    told: list[tuple[str, float]] = field(default_factory=list)

    def tell(self, step: Decision) -> None:
        assert self.reader.wait(30)
        self.told.append((whose.get("nobody"), step.delay))


async def test_a_full_log_leaves_the_loop_alone() -> None:
    log = Log()
    telling = asyncio.ensure_future(tell(log, Decision(delay=1.0)))
    await asyncio.sleep(0.01)
    assert not telling.done(), "a step counts as told when it is in the log"
    log.reader.set()
    await telling
    assert log.told == [("nobody", 1.0)]


async def test_each_step_is_told_in_its_task_s_context_and_in_order() -> None:
    log = Log()
    log.reader.set()

    async def live(name: str) -> None:
        whose.set(name)
        for delay in (1.0, 2.0):
            await tell(log, Decision(delay=delay))

    await asyncio.gather(*(live(name) for name in "abc"))
    assert sorted(log.told) == [(name, delay) for name in "abc" for delay in (1.0, 2.0)]
    assert [delay for name, delay in log.told if name == "b"] == [1.0, 2.0]


async def test_a_log_that_fails_fails_its_own_wait_alone() -> None:
    class Broken:
        def tell(self, step: Decision) -> None:
            raise ValueError("no log")

    log = Log()
    log.reader.set()
    others = asyncio.gather(tell(log, Decision(delay=1.0)), tell(log, Decision(delay=2.0)))
    with pytest.raises(ValueError, match="no log"):
        await tell(Broken(), Decision(delay=0.0))
    await others
    assert len(log.told) == 2
