"""Sends requests with aiohttp, for the triggerer: one session per event loop, closed together with it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import aiohttp

from airflow_zilliz._protocol.constants import MAX_BODY_BYTES
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.responses import Response
from airflow_zilliz._transport.common import body_too_long, ca_bundle, describe_failure, headers_of, unpacked, url_of
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._transport.proxies import Proxy, proxy_for
from airflow_zilliz.exceptions import ZillizUnavailable

_CHUNK_BYTES = 64 * 1024
_MAX_CONNECTIONS = 100


@dataclass(frozen=True)
class _Client:
    """The HTTP session of one event loop, and the environment's proxies, read once since that takes a while."""

    session: aiohttp.ClientSession
    proxies: dict[str, Proxy | None] = field(default_factory=dict)

    def proxy_for(self, url: str) -> Proxy | None:
        """Return the environment's proxy; aiohttp's own look-up would also use a netrc password."""
        if url not in self.proxies:
            self.proxies[url] = proxy_for(url, in_triggerer=True)
        return self.proxies[url]


_SessionHolder = AsyncGenerator[_Client, None]
_holders: dict[asyncio.AbstractEventLoop, tuple[_SessionHolder, _Client]] = {}
_contexts: dict[bool | str, ssl.SSLContext] = {}


async def exchange(endpoint: Endpoint, request: Request) -> Response:
    """Send a request and read the whole response.

    :raises ZillizUnavailable: no response, or one that is cut, too slow or too long
    :raises ZillizConfigError: the environment's proxy cannot be used
    """
    url = url_of(endpoint, request)
    client = await _client()
    proxy = client.proxy_for(endpoint.base_url)
    for may_repeat in (request.repeatable, False):
        connection = SimpleNamespace(is_pooled=False)
        try:
            return await _exchange(client.session, endpoint, request, url, proxy, connection)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as err:
            # the server may have closed a pooled connection at that moment; aiohttp itself repeats no POST
            if may_repeat and connection.is_pooled and isinstance(err, _CLOSED):
                continue
            raise ZillizUnavailable(describe_failure(url, err, endpoint, proxy)) from None
    raise AssertionError("the second attempt returns or raises")


_CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


async def _exchange(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    request: Request,
    url: str,
    proxy: Proxy | None,
    connection: SimpleNamespace,
) -> Response:
    headers = headers_of(request)
    if endpoint.token:
        headers["Authorization"] = f"Bearer {endpoint.token}"
    context = await _ssl_context(ca_bundle(endpoint.verify)) if url.startswith("https:") else False
    async with session.request(
        "GET" if request.body is None else "POST",
        url,
        json=request.body,
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=endpoint.request_timeout),
        ssl=context,
        proxy=proxy.url if proxy else None,
        allow_redirects=False,
        trace_request_ctx=connection,
    ) as response:
        body = await _read(response, url)
        response_headers = {name.lower(): value for name, value in response.headers.items()}
        return Response(
            response.status, body, response_headers, url, proxy=proxy.name if proxy else None, scrub=endpoint.scrubber
        )


async def _note_pooled(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.is_pooled = True


async def _read(response: aiohttp.ClientResponse, url: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            response.close()
            raise body_too_long(url)
    encoding = response.headers.get("Content-Encoding", "")
    return await asyncio.to_thread(unpacked, url, body, encoding) if encoding else bytes(body)


async def _client() -> _Client:
    loop = asyncio.get_running_loop()
    if loop not in _holders:
        for ended in [other for other in _holders if other.is_closed()]:
            del _holders[ended]
        holder = _keep_session(loop)
        _holders[loop] = holder, await anext(holder)
    return _holders[loop][1]


async def _keep_session(loop: asyncio.AbstractEventLoop) -> _SessionHolder:
    """Hold a session open until the loop ends: a loop closes its unfinished generators before itself."""
    connector = aiohttp.TCPConnector(limit=_MAX_CONNECTIONS)
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_pooled)
    session = aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trace_configs=[trace]
    )
    try:
        yield _Client(session)
    finally:
        _holders.pop(loop, None)
        await session.close()


async def _ssl_context(bundle: bool | str) -> ssl.SSLContext:
    if bundle not in _contexts:
        # reading a CA bundle takes about 30 ms, too long for the loop that all triggers share
        _contexts[bundle] = await asyncio.to_thread(_make_ssl_context, bundle)
    return _contexts[bundle]


def _make_ssl_context(bundle: bool | str) -> ssl.SSLContext:
    if bundle is False:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    path = str(bundle)
    return ssl.create_default_context(capath=path) if Path(path).is_dir() else ssl.create_default_context(cafile=path)
