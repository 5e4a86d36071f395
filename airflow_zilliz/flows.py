"""Plays a flow of requests over a carrier, paced: the same flow on a worker and on the triggerer's event loop."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from airflow_zilliz import api
from airflow_zilliz.api import Answer, Exchange, ImportProgress, Request, Target
from airflow_zilliz.connection import Endpoint
from airflow_zilliz.exceptions import ZillizError
from airflow_zilliz.pacing import pacer_of

S = TypeVar("S")
T = TypeVar("T")
_CARRIER = "airflow_zilliz.asynchronous"

# Which route describes a job on a server, learnt from its answers: it changes with the server's release only.
_describe_paths: dict[str, str] = {}


def describe(endpoint: Endpoint, job_id: str, target: Target) -> Exchange[ImportProgress]:
    """Describe a job by the route that the server is known to have, and remember the one that answered."""
    url = endpoint.base_url
    job, _describe_paths[url] = yield from api.describe(job_id, target, known_path=_describe_paths.get(url))
    return job


def play(flow: Generator[S, Answer, T], exchange: Callable[[S], Answer]) -> T:
    """Send a flow's requests one after the other and return its value; a request's error is thrown into the flow."""
    try:
        request = next(flow)
        while True:
            try:
                answer = exchange(request)
            except ZillizError as err:
                request = flow.throw(err)
            else:
                request = flow.send(answer)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # StopIteration carries the generator's T untyped


async def aplay(flow: Exchange[T], exchange: Callable[[Request], Awaitable[Answer]]) -> T:
    """Do as `play`, on the triggerer's event loop."""
    try:
        request = next(flow)
        while True:
            request = flow.send(await exchange(request))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # StopIteration carries the generator's T untyped


def send(walk: Generator[Any, Any, None], answer: Answer) -> Any:
    """Give a walk its answer and return what it yields next, None at its end."""
    try:
        return walk.send(answer)
    except StopIteration:
        return None


def pause_before(endpoint: Endpoint, path: str, now: float, together: float = 1) -> float:
    """Take the place of one or more requests in the line of their path and return the seconds until their turn."""
    return pacer_of(endpoint, path).reserve(now, endpoint.max_requests_per_second, together)


async def acarry(endpoint: Endpoint, request: Request) -> Answer:
    """Send a request and return the answer."""
    # here, since a worker needs no aiohttp; in a thread, since the import takes longer than a loop may stand still
    if _CARRIER not in sys.modules:
        await asyncio.to_thread(importlib.import_module, _CARRIER)
    answer: Answer = await importlib.import_module(_CARRIER).exchange(endpoint, request)
    if answer.status == 429:
        pacer_of(endpoint, request.path).slow_down(asyncio.get_running_loop().time())
    return answer


async def aexchange(endpoint: Endpoint, request: Request) -> Answer:
    """Send a request in its turn and return the answer."""
    await asyncio.sleep(pause_before(endpoint, request.path, asyncio.get_running_loop().time()))
    return await acarry(endpoint, request)
