"""Several processes that share a key, in virtual time: each has limiters, queues and polls of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from statistics import median

import pytest

from airflow_zilliz import pacing, polling
from airflow_zilliz.api import Target
from airflow_zilliz.connection import Endpoint
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.policy import WaitPolicy, spread_of
from airflow_zilliz.waiting import NOT_LOOKED, ImportWait
from airflow_zilliz.wire import DESCRIBE, LIST
from tests import virtual
from tests.virtual import EPOCH, Job, Server

LIMIT = 20


@dataclass
class Fleet:
    """What became of processes with waits."""

    server: Server
    delays: list[list[float]]
    texts: list[str]

    @property
    def refused(self) -> float:
        sent = sum(map(len, self.server.sent.values()))
        return sum(map(len, self.server.refused.values())) / sent

    def percentile(self, part: float) -> float:
        delays = sorted(delay for of_process in self.delays for delay in of_process)
        return delays[min(len(delays) - 1, int(part * len(delays)))]


@pytest.fixture(autouse=True)
def no_limits_yet() -> None:
    pacing.forget_limits()


def endpoint(name: str, rate: float = 10.0) -> Endpoint:
    return Endpoint(name, f"http://{name}.test", "k" * 20, max_requests_per_second=rate)


async def wait_for(server: Server, process: str, job: Job, target: Target, texts: list[str]) -> float:
    loop = server.loop
    started = EPOCH + loop.now
    policy = WaitPolicy(poke_interval=30.0)
    wait = ImportWait(job.id, process, target, policy, started, started, spread=spread_of(job.id, started))
    step = NOT_LOOKED
    watch = polling.join(process, wait, loop.now + 7.0, 0.0)
    try:
        while not step.is_last:
            await polling.news_of(watch)
            for step in watch.take():
                texts.extend(text for _, text in step.notes)
    finally:
        polling.leave(watch)
    assert step.end is not None
    assert step.end.tells_of_the_job, step.end.message
    return loop.now - job.end


async def fleet(server: Server, processes: int, waits: int, stagger: float, spread: float) -> Fleet:
    found = Fleet(server, [[] for _ in range(processes)], [])

    async def one(process: int, job: Job) -> None:
        await asyncio.sleep(process * stagger)
        found.delays[process].append(await wait_for(server, f"p{process}", job, Target(), found.texts))

    number = processes * waits
    places = list(range(number))
    server.random.shuffle(places)
    jobs = [Job(f"job-{index}", server.loop.now + spread * place / number) for index, place in enumerate(places)]
    server.jobs = {job.id: job for job in jobs}
    await asyncio.gather(*(one(index % processes, job) for index, job in enumerate(jobs)))
    return found


def run_fleet(
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
    waits: int,
    seed: int = 0,
    stagger: float = 0.05,
    spread: float = 40.0,
    server: Server | None = None,
) -> Fleet:
    async def look_up(hook: ZillizHook) -> Endpoint:
        return endpoint(hook.zilliz_conn_id)

    monkeypatch.setattr(ZillizHook, "aendpoint", look_up)
    server = server or Server(per_second=LIMIT, seed=seed)
    return virtual.run(fleet(server, processes, waits, stagger, spread), server, monkeypatch)


def show(found: Fleet) -> str:
    halves = sorted(median(delays) for delays in found.delays)
    end = max(max(times) for times in found.server.sent.values()) - 1000
    lists, describes = (len(found.server.sent[path]) for path in (LIST, DESCRIBE))
    return (
        f"refused {found.refused:.1%} p50 {found.percentile(0.5):.1f} p99 {found.percentile(0.99):.1f} "
        f"halves {halves[0]:.1f}..{halves[-1]:.1f} lists {lists} describes {describes} until {end:.0f} s"
    )
