"""Runs a flow of requests under the rate limit: the same flow on a worker and on the triggerer's event loop."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

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
_TRANSPORT = "airflow_zilliz._transport.aio"
_LONGEST_ERROR = 2000

# Which route describes a job on a server, learnt from its responses: it changes only with the server's release.
_describe_paths: dict[str, str] = {}


def describe(endpoint: Endpoint, job_id: str, target: Target) -> Exchange[ImportProgress]:
    """Describe a job by the route that the server is known to have, and remember the route that it has."""
    url = endpoint.base_url
    job, _describe_paths[url] = yield from calls.describe(job_id, target, known_path=_describe_paths.get(url))
    return job


def run_sync(flow: Generator[S, Response, T], exchange: Callable[[S], Response]) -> T:
    """Send a flow's requests one after the other and return its value; a request's error is thrown into the flow."""
    try:
        request = next(flow)
        while True:
            try:
                response = exchange(request)
            except ZillizError as err:
                request = flow.throw(err)
            else:
                request = flow.send(response)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # StopIteration carries the generator's T untyped


async def run_async(flow: Exchange[T], exchange: Callable[[Request], Awaitable[Response]]) -> T:
    """Async version of `run_sync`; a big response is read in a thread."""
    try:
        request = next(flow)
        while True:
            response = await exchange(request)
            if len(response.body) > BIG_BYTES:
                following = await asyncio.to_thread(_read, flow, response)
                if isinstance(following, _Value):
                    return following.value
                request = following
            else:
                request = flow.send(response)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # StopIteration carries the generator's T untyped


@dataclass(frozen=True)
class _Value(Generic[T]):
    """The value that a flow returned."""

    value: T


def _read(flow: Exchange[T], response: Response) -> Request | _Value[T]:
    """Let a flow read its response; a StopIteration cannot cross threads."""
    try:
        return flow.send(response)
    except StopIteration as done:
        return _Value(done.value)


def is_refused(response: Response) -> bool:
    """Whether the server is healthy but asks for fewer requests."""
    if response.status == 429:
        return True
    # longer bodies are pages of a list, which have no such code
    body = response.json_object() if len(response.body) < _LONGEST_ERROR else None
    return body is not None and body.get("code") in THROTTLING_CODES


def exchange(endpoint: Endpoint, request: Request, send_now: Callable[[Endpoint, Request], Response]) -> Response:
    """Send a request in its turn and return the response."""
    limiter = limiter_of(endpoint, request.path)
    time.sleep(limiter.reserve(time.monotonic(), endpoint.max_requests_per_second))
    sent_at = time.monotonic()
    response = send_now(endpoint, request)
    _note(endpoint, request, response, sent_at, time.monotonic())
    return response


async def asend_noted(endpoint: Endpoint, request: Request) -> Response:
    """Send a request at once, adjust the rate of its path, and return the response."""
    clock = asyncio.get_running_loop().time
    sent_at = clock()
    response = await asend(endpoint, request)
    _note(endpoint, request, response, sent_at, clock())
    return response


async def asend(endpoint: Endpoint, request: Request) -> Response:
    """Send a request and return the response."""
    # here, since a worker needs no aiohttp; in a thread, since the import takes longer than a loop may be blocked
    if _TRANSPORT not in sys.modules:
        await asyncio.to_thread(importlib.import_module, _TRANSPORT)
    response: Response = await importlib.import_module(_TRANSPORT).exchange(endpoint, request)
    return response


async def aexchange(endpoint: Endpoint, request: Request) -> Response:
    """Send a request in its turn and return the response."""
    limiter = limiter_of(endpoint, request.path)
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(limiter.reserve(now, endpoint.max_requests_per_second))
    return await asend_noted(endpoint, request)


def _note(endpoint: Endpoint, request: Request, response: Response, sent_at: float, now: float) -> None:
    """Adjust the rate of a path to the response."""
    limiter = limiter_of(endpoint, request.path)
    if is_refused(response):
        limiter.on_refusal(now, sent_at, endpoint.max_requests_per_second, response.retry_after)
    elif response.status < 500:
        limiter.on_response(now)
