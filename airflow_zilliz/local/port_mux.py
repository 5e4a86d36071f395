"""One port for REST and gRPC, as a real Milvus has: a connection's first bytes show which it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

_HTTP2 = b"PRI "


class PortMux(asyncio.Protocol):
    """Passes a new connection to the HTTP server, or pipes it to Milvus Lite's gRPC port.

    :param http: makes the HTTP server's protocol
    :param grpc_port: starts Milvus Lite if needed, and returns its port
    """

    def __init__(self, http: Callable[[], asyncio.Protocol], grpc_port: Callable[[], Awaitable[int]]) -> None:
        self._http = http
        self._grpc_port = grpc_port
        self._first = b""
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first bytes."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Decide by the first four bytes."""
        assert self._transport is not None  # noqa: S101 - asyncio connects before it delivers
        self._first += data
        if self._task is not None or len(self._first) < len(_HTTP2):
            return
        if self._first.startswith(_HTTP2):
            self._transport.pause_reading()
            self._task = asyncio.ensure_future(self._pipe(self._transport))
        else:
            protocol = self._http()
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            protocol.data_received(self._first)

    async def _pipe(self, client: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        try:
            port = await self._grpc_port()
            server, _ = await loop.create_connection(lambda: _Pipe(client), "127.0.0.1", port)
        except Exception:
            client.abort()
            raise
        server.write(self._first)
        client.set_protocol(_Pipe(server))
        client.resume_reading()


class _Pipe(asyncio.Protocol):
    def __init__(self, other: asyncio.Transport) -> None:
        self._other = other

    def data_received(self, data: bytes) -> None:
        self._other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._other.close()

    def pause_writing(self) -> None:
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if not self._other.is_closing():
            self._other.resume_reading()
