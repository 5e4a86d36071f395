"""An event loop whose clock jumps to the next timer, and a server of import jobs that lives in its time."""

from __future__ import annotations

import asyncio
import json
import random
import selectors
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from airflow_zilliz._poller import poller
from airflow_zilliz._protocol.constants import LIST
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.responses import Response
from airflow_zilliz._transport import driver
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._transport.rate_limiter import RateLimiter
from airflow_zilliz.exceptions import ZillizUnavailable

T = TypeVar("T")
EPOCH = 1_790_000_000.0


class _JumpingSelector(selectors.SelectSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will happen again, and something waits for it"
        self.loop.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which a sleep takes no time."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(  # type: ignore[override] # no thread, and so no executor
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call at once: time would jump while a thread works."""
        done = self.create_future()
        done.set_result(func(*args))
        return done


def run(main: Coroutine[Any, Any, T], server: Server, monkeypatch: pytest.MonkeyPatch) -> T:
    """Run a coroutine in virtual time, against a simulated server."""
    loop = VirtualLoop()
    server.loop = loop
    # of its own, since threads that other tests left draw from the one that all share
    draw = random.Random(server.seed).random
    with monkeypatch.context() as patch:
        patch.setattr(RateLimiter.__init__, "__defaults__", (draw, ()))
        patch.setattr(poller, "time", SimpleNamespace(time=lambda: EPOCH + loop.now + server.asleep))
        patch.setattr(driver, "asend", server.exchange)
        try:
            return loop.run_until_complete(main)
        finally:
            loop.close()


@dataclass
class Job:
    """A job that runs until ``end`` (the loop's time) and then is in ``outcome``."""

    id: str
    end: float
    outcome: str = "Completed"
    listed: bool = True
    known: bool = True
    collection: str = "c"


@dataclass
class Trouble:
    """Between two times requests whose path ends like ``path`` go wrong."""

    start: float
    seconds: float
    kind: str
    path: str = ""


@dataclass
class Server:
    """The import API in virtual time. ``order`` is "stable", "random" or "newest first"."""

    jobs: dict[str, Job] = field(default_factory=dict)
    others: int = 0
    order: str = "stable"
    pages: bool = True
    percents: bool = False
    list_response: bytes | None = None
    troubles: list[Trouble] = field(default_factory=list)
    seed: int = 0
    #: requests that it accepts in any second for a path; it refuses all others
    per_second: int | None = None
    filters: bool = True
    refused: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    #: by how many seconds the clock of this machine is ahead of its loop's: it slept, or was set
    asleep: float = 0.0
    sent: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    polls: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    loop: VirtualLoop = None  # type: ignore[assignment] # `run` sets it

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._others = [Job(f"other-{number}", 0.0, collection="other") for number in range(self.others)]
        self._taken: dict[str, deque[float]] = defaultdict(deque)

    async def exchange(self, endpoint: Endpoint, request: Request) -> Response:
        now = self.loop.now
        self.sent[request.path].append(now)
        is_taken = self._takes(request.path, now)
        await asyncio.sleep(self.random.uniform(0.01, 0.2))
        for trouble in self.troubles:
            if trouble.start <= now < trouble.start + trouble.seconds and request.path.endswith(trouble.path):
                return self._trouble(trouble)
        if not is_taken:
            self.refused[request.path].append(now)
            return _response({"code": 8, "message": "rate limit exceeded"}, 429)
        assert request.body is not None
        if request.path == LIST:
            return self._list(request.body)
        return self._describe(str(request.body["jobId"]))

    def _takes(self, path: str, now: float) -> bool:
        if self.per_second is None:
            return True
        taken = self._taken[path]
        while taken and taken[0] <= now - 1:
            taken.popleft()
        if len(taken) < self.per_second:
            taken.append(now)
            return True
        return False

    def _trouble(self, trouble: Trouble) -> Response:
        if trouble.kind == "lost":
            raise ZillizUnavailable("the connection was lost")
        if trouble.kind == "429":
            return _response({"code": 8, "message": "rate limit exceeded"}, 429)
        if trouble.kind == "429 with Retry-After":
            return Response(429, b"{}", {"retry-after": "7"}, "u")
        return _response({"message": "down"}, 503)

    def state(self, job: Job) -> str:
        return job.outcome if self.loop.now >= job.end else "Importing"

    def listed(self, body: dict[str, Any]) -> list[Job]:
        """Return the jobs of the list that is asked for."""
        jobs = [job for job in self.jobs.values() if job.listed and job.known] + self._others
        if self.filters and (name := body.get("collectionName")) is not None:
            jobs = [job for job in jobs if job.collection == name]
        return jobs

    def _list(self, body: dict[str, Any]) -> Response:
        if self.list_response is not None:
            return Response(200, self.list_response, {}, "u")
        jobs = self.listed(body)
        if self.order == "random":
            self.random.shuffle(jobs)
        elif self.order == "newest first":
            jobs.reverse()
        if self.pages:
            size, page = body["pageSize"], body["currentPage"]
            shown = jobs[(page - 1) * size : page * size]
        else:
            shown = jobs
        for job in shown:
            self.polls[job.id].append(self.loop.now)
        return _response({"code": 0, "data": {"count": len(jobs), "records": [self._record(job) for job in shown]}})

    def _record(self, job: Job) -> dict[str, Any]:
        state = self.state(job)
        if self.percents:
            return {"jobId": job.id, "collectionName": job.collection, "state": state, "progress": 40}
        return {
            "jobId": job.id,
            "collectionName": job.collection,
            "state": {"Importing": "InProgress"}.get(state, state),
        }

    def _describe(self, job_id: str) -> Response:
        self.polls[job_id].append(self.loop.now)
        job = self.jobs.get(job_id)
        if job is None or not job.known:
            return _response({"code": 2100, "message": f"import job does not exist, jobID={job_id}"})
        data = {"jobId": job_id, "collectionName": job.collection, "state": self.state(job), "progress": 40}
        return _response({"code": 0, "data": data})


def _response(body: object, status: int = 200) -> Response:
    return Response(status, json.dumps(body).encode(), {}, "u")
