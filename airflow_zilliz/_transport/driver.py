"""Plays a flow of requests over a carrier, paced: the same flow on a worker and on the triggerer's event loop."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from airflow_zilliz._protocol import calls
from airflow_zilliz._protocol.constants import THROTTLING_CODES
from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._protocol.request import Exchange, Request
from airflow_zilliz._protocol.responses import BIG_BYTES, Response
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._transport.rate_limiter import limiter_of
from airflow_zilliz.exceptions import ZillizError

S = TypeVar("S")
T = TypeVar("T")
_CARRIER = "airflow_zilliz._transport.aio"
_LONGEST_ERROR = 2000

# Which route describes a job on a server, learnt from its answers: it changes with the server's release only.
_describe_paths: dict[str, str] = {}


def describe(endpoint: Endpoint, job_id: str, target: Target) -> Exchange[ImportProgress]:
    """Describe a job by the route that the server is known to have, and remember the one that answered."""
    url = endpoint.base_url
    job, _describe_paths[url] = yield from calls.describe(job_id, target, known_path=_describe_paths.get(url))
    return job


def run_sync(flow: Generator[S, Response, T], exchange: Callable[[S], Response]) -> T:
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


async def run_async(flow: Exchange[T], exchange: Callable[[Request], Awaitable[Response]]) -> T:
    """Do as `play`, on the triggerer's event loop."""
    try:
        request = next(flow)
        while True:
            answer = await exchange(request)
            if len(answer.body) > BIG_BYTES:
                following = await asyncio.to_thread(_read, flow, answer)
                if isinstance(following, _Value):
                    return following.value
                request = following
            else:
                request = flow.send(answer)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # StopIteration carries the generator's T untyped


@dataclass(frozen=True)
class _Value(Generic[T]):
    """What a flow came to."""

    value: T


def _read(flow: Exchange[T], answer: Response) -> Request | _Value[T]:
    """Let a flow read its answer; no thread can hand on a StopIteration."""
    try:
        return flow.send(answer)
    except StopIteration as done:
        return _Value(done.value)


def send(walk: Generator[Any, Any, None], answer: Response) -> Any:
    """Give a walk its answer and return what it yields next, None at its end."""
    try:
        return walk.send(answer)
    except StopIteration:
        return None


def is_refused(answer: Response) -> bool:
    """Whether the server is well and asks for fewer requests."""
    if answer.status == 429:
        return True
    # no page of a list is so short, and none has such a code
    body = answer.json_object() if len(answer.body) < _LONGEST_ERROR else None
    return body is not None and body.get("code") in THROTTLING_CODES


def exchange(endpoint: Endpoint, request: Request, carry: Callable[[Endpoint, Request], Response]) -> Response:
    """Send a request in its turn and return the answer."""
    limiter = limiter_of(endpoint, request.path)
    time.sleep(limiter.reserve(time.monotonic(), endpoint.max_requests_per_second))
    sent_at = time.monotonic()
    answer = carry(endpoint, request)
    _note(endpoint, request, answer, sent_at, time.monotonic())
    return answer


async def acarry(endpoint: Endpoint, request: Request) -> Response:
    """Send a request at once, let its path's rate follow from what became of it, and return the answer."""
    clock = asyncio.get_running_loop().time
    sent_at = clock()
    answer = await asend(endpoint, request)
    _note(endpoint, request, answer, sent_at, clock())
    return answer


async def asend(endpoint: Endpoint, request: Request) -> Response:
    """Send a request and return the answer."""
    # here, since a worker needs no aiohttp; in a thread, since the import takes longer than a loop may stand still
    if _CARRIER not in sys.modules:
        await asyncio.to_thread(importlib.import_module, _CARRIER)
    answer: Response = await importlib.import_module(_CARRIER).exchange(endpoint, request)
    return answer


async def aexchange(endpoint: Endpoint, request: Request) -> Response:
    """Send a request in its turn and return the answer."""
    limiter = limiter_of(endpoint, request.path)
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(limiter.reserve(now, endpoint.max_requests_per_second))
    return await acarry(endpoint, request)


def _note(endpoint: Endpoint, request: Request, answer: Response, sent_at: float, now: float) -> None:
    """Let the rate of the path follow from what became of a request."""
    limiter = limiter_of(endpoint, request.path)
    if is_refused(answer):
        limiter.on_refusal(now, sent_at, endpoint.max_requests_per_second, answer.retry_after)
    elif answer.status < 500:
        limiter.on_answer(now)
