"""An import server as small as can be, with Zilliz Cloud's limit of 20 requests a second for each path.

`python limited_server.py` prints its address. `POST /plan` makes jobs, `GET /counts` returns how many requests came.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

from aiohttp import web

PAGE_SIZE = 100


class Jobs:
    """Jobs that end one after the other, in an order of their own, within ``spread`` seconds of ``begin``.

    :param failing: every so many-th job fails, 0 for none
    :param clusters: over how many clusters they lie, each with a list of its own; 0 for one list of all
    :param moves: seconds for which each moves before its end, and its percentage is in lists, too, as in Milvus's;
        0 for one that stays and is in none
    """

    def __init__(
        self,
        number: int = 0,
        begin: float = 0.0,
        spread: float = 1.0,
        failing: int = 0,
        clusters: int = 0,
        moves: float = 0.0,
    ) -> None:
        ends = [begin + spread * (place + 1) / number for place in range(number)]
        random.Random(7).shuffle(ends)
        self.ends = {f"job-{place}": end for place, end in enumerate(ends)}
        self.ids = list(self.ends)
        self.clusters = clusters
        self.failing = failing
        self.moves = moves

    def percent(self, job_id: str) -> int:
        """Return the percentage of a job that has not ended."""
        if not self.moves:
            return 40
        return max(0, min(99, int(100 * (1 - (self.ends[job_id] - time.time()) / self.moves))))

    def state(self, job_id: str) -> str:
        if time.time() < self.ends[job_id]:
            return "Importing"
        return "Failed" if self.fails(job_id) else "Completed"

    def of_cluster(self, cluster_id: str) -> list[str]:
        """Return a list's job ids, in the list's order."""
        if not self.clusters:
            return self.ids
        return self.ids[int(cluster_id.removeprefix("in01-")) :: self.clusters]

    def fails(self, job_id: str) -> bool:
        return bool(self.failing) and int(job_id.removeprefix("job-")) % self.failing == 0


class Limit:
    """At most so many requests in any second."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self.times: list[float] = []

    def allows(self) -> bool:
        now = time.monotonic()
        while self.times and self.times[0] <= now - 1:
            self.times.pop(0)
        if len(self.times) >= self.per_second:
            return False
        self.times.append(now)
        return True


class Server:
    def __init__(self, per_second: int = 20) -> None:
        self.per_second = per_second
        self.reset(Jobs())

    def reset(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.limits: dict[str, Limit] = {}
        self.counts: Counter[str] = Counter()

    async def plan(self, request: web.Request) -> web.Response:
        self.reset(Jobs(**await request.json()))
        return web.json_response(self.jobs.ends)

    async def show_counts(self, request: web.Request) -> web.Response:
        return web.json_response(self.counts)

    async def response(self, request: web.Request) -> web.Response:
        verb = request.match_info["verb"]
        self.counts[verb] += 1
        if not self.limits.setdefault(verb, Limit(self.per_second)).allows():
            self.counts["429"] += 1
            return web.json_response({"code": 8, "message": "rate limit exceeded"}, status=429)
        body = await request.json()
        data = self.list(body) if verb == "list" else self.describe(body["jobId"])
        return web.json_response({"code": 0, "data": data})

    def describe(self, job_id: str) -> dict[str, Any]:
        state = self.jobs.state(job_id)
        if state == "Failed":
            return {"jobId": job_id, "collectionName": "books", "state": state, "reason": f"row 8 of {job_id} is bad"}
        percent = 100 if state == "Completed" else self.jobs.percent(job_id)
        return {
            "jobId": job_id,
            "collectionName": "books",
            "state": state,
            "progress": percent,
            "importedRows": 10 * percent,
            "totalRows": 1000,
        }

    def list(self, body: dict[str, Any]) -> dict[str, Any]:
        page = body.get("currentPage", 1)
        listed = self.jobs.of_cluster(body["clusterId"])
        ids = listed[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
        moves = self.jobs.moves
        words = {} if moves else {"Importing": "InProgress"}
        states = ((job_id, self.jobs.state(job_id)) for job_id in ids)
        records = [
            {
                "collectionName": "books",
                "jobId": job_id,
                "state": words.get(state, state),
                **({"progress": self.jobs.percent(job_id)} if moves else {}),
            }
            for job_id, state in states
        ]
        return {"count": len(listed), "currentPage": page, "pageSize": PAGE_SIZE, "records": records}


async def main() -> None:
    server = Server()
    app = web.Application()
    app.router.add_post("/plan", server.plan)
    app.router.add_get("/counts", server.show_counts)
    app.router.add_post("/v2/vectordb/jobs/import/{verb}", server.response)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=16384)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
