"""Several processes that share a key, in virtual time: each has limiters, queues and polls of its own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import pytest

from airflow_zilliz._poller import page_walker, poller
from airflow_zilliz._protocol.constants import DESCRIBE, LIST
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport import rate_limiter
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._wait.policy import WaitPolicy, spread_of
from airflow_zilliz._wait.state_machine import NOT_POLLED, ImportWait
from airflow_zilliz.hooks import ZillizHook
from tests.helpers import virtual
from tests.helpers.virtual import EPOCH, Job, Server

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
    rate_limiter.forget_limits()


def endpoint(name: str, rate: float = 10.0) -> Endpoint:
    return Endpoint(name, f"http://{name}.test", "k" * 20, max_requests_per_second=rate)


async def wait_for(server: Server, process: str, job: Job, target: Target, texts: list[str]) -> float:
    """Wait for a job, and return how late its end was seen: an end before the wait began counts from there."""
    loop = server.loop
    began = loop.now
    started = EPOCH + began
    policy = WaitPolicy(poke_interval=30.0)
    wait = ImportWait(job.id, process, target, policy, started, started, spread=spread_of(job.id, started))
    step = NOT_POLLED
    watch = poller.join(process, wait, loop.now + 7.0, 0.0)
    try:
        while not step.is_last:
            await watch.changes()
            for step in watch.take():
                texts.extend(text for _, text in step.notes)
    finally:
        poller.leave(watch)
    assert step.end is not None
    assert step.end.job_has_ended, step.end.message
    return loop.now - max(job.end, began)


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


@pytest.mark.parametrize(
    ("stagger", "runs"), [(0.0, 1), (0.05, 1), (0.2, 1), (0.5, 1), pytest.param(1.5, 3, marks=pytest.mark.full)]
)
def test_ten_processes_share_a_rate_fairly(monkeypatch: pytest.MonkeyPatch, stagger: float, runs: int) -> None:
    """Where they come one after the other it is luck who is refused first, and so the median of some runs counts."""
    late, unfair, refused, shown = [], [], [], []
    for seed in range(runs):
        rate_limiter.forget_limits()
        found = run_fleet(monkeypatch, processes=10, waits=1000, seed=seed, stagger=stagger)
        halves = [median(delays) for delays in found.delays]
        late.append(found.percentile(0.99))
        unfair.append(max(halves) / min(halves))
        refused.append(found.refused)
        shown.append(show(found))
        assert not any("Could not poll" in text or "cannot be used" in text for text in found.texts)
    assert median(late) <= 75, shown
    assert median(unfair) <= 2, shown
    assert median(refused) <= (0.02 if stagger < 0.1 else 0.025), shown


def test_two_processes_are_not_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_fleet(monkeypatch, processes=2, waits=1000)
    assert found.refused == 0, show(found)
    assert found.percentile(0.99) <= 10, show(found)


@dataclass
class ClusterServer(Server):
    """A server on which each cluster has a list of its own."""

    clusters: dict[str, list[Job]] = field(default_factory=lambda: defaultdict(list))

    def add(self, job: Job, cluster: str) -> None:
        """Start a job."""
        self.jobs[job.id] = job
        self.clusters[cluster].append(job)

    def listed(self, body: dict[str, Any]) -> list[Job]:
        """Return the jobs of the list that is asked for."""
        return self.clusters[str(body["clusterId"])]


async def clusters(server: ClusterServer, number: int, waits: int) -> tuple[float, float]:
    """Hold so many clusters' waits, then let a new one come, and return how late its end and all ends were seen."""
    texts: list[str] = []

    async def hold(cluster: int, index: int) -> float:
        await asyncio.sleep(server.random.uniform(0, 60))
        job = Job(f"job-{cluster}-{index}", 1300.0 + server.random.uniform(0, 60))
        server.add(job, f"in01-{cluster}")
        return await wait_for(server, "p0", job, Target(cluster_id=f"in01-{cluster}"), texts)

    held = [asyncio.create_task(hold(cluster, index)) for cluster in range(number) for index in range(waits)]
    await asyncio.sleep(150)
    new = Job("new", server.loop.now + 40)
    server.add(new, "in01-7")
    late = await wait_for(server, "p0", new, Target(cluster_id="in01-7"), texts)
    delays = await asyncio.gather(*held)
    assert not any("Could not poll" in text or "cannot be used" in text for text in texts)
    return late, max(delays)


def test_a_new_wait_is_polled_in_time_among_a_thousand_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(hook: ZillizHook) -> Endpoint:
        return endpoint(hook.zilliz_conn_id)

    monkeypatch.setattr(ZillizHook, "aendpoint", look_up)
    server = ClusterServer(per_second=LIMIT)
    late, latest = virtual.run(clusters(server, 1000, 10), server, monkeypatch)
    assert late <= 60, "two intervals"
    assert latest <= 250, "1,000 lists at 10 a second take 100 s, and each end is in one of them"
    assert not server.refused
    for times in server.sent.values():
        assert all(later - earlier > 0.099 for earlier, later in pairwise(times)), "the rate belongs to the key"


def run_alone(monkeypatch: pytest.MonkeyPatch, server: Server, jobs: list[Job]) -> list[float]:
    """Wait for jobs in one process and return how late each end was seen."""

    async def look_up(hook: ZillizHook) -> Endpoint:
        return endpoint(hook.zilliz_conn_id)

    async def main() -> list[float]:
        server.jobs = {job.id: job for job in jobs}
        return list(await asyncio.gather(*(wait_for(server, "p0", job, Target(), []) for job in jobs)))

    monkeypatch.setattr(ZillizHook, "aendpoint", look_up)
    return virtual.run(main(), server, monkeypatch)


def few_among(others: int, monkeypatch: pytest.MonkeyPatch, **kind: Any) -> Server:
    server = Server(others=others, **kind)
    delays = run_alone(monkeypatch, server, [Job(f"job-{number}", 1600.0) for number in range(50)])
    assert max(delays) < 40
    return server


def test_few_collections_are_asked_for_by_name_where_the_server_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    filtering = few_among(3000, monkeypatch, order="random")
    rate_limiter.forget_limits()
    ignoring = few_among(3000, monkeypatch, order="random", filters=False)
    assert len(filtering.sent[LIST]) + len(filtering.sent[DESCRIBE]) < 200
    assert len(ignoring.sent[LIST]) + len(ignoring.sent[DESCRIBE]) > 500


def test_waits_that_no_walk_reaches_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_walker, "MAX_LIST_PAGES", 3)
    server = Server(order="newest first", others=100_000)
    server.jobs = {}
    delays = run_alone(monkeypatch, server, [Job(f"job-{number}", 1300.0 + number) for number in range(40)])
    assert max(delays) < 60


def test_a_refused_page_alone_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(per_second=3)
    run_alone(monkeypatch, server, [Job(f"job-{number}", 1000.0) for number in range(1500)])
    refused = server.refused[LIST]
    assert refused
    assert len(server.sent[LIST]) - len(refused) == 15, "each of 15 pages came once"
    assert not server.sent[DESCRIBE]
