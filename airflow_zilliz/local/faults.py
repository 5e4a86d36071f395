"""Answers that went wrong on purpose."""

from __future__ import annotations

import asyncio
import socket
import struct

from aiohttp import web

from airflow_zilliz.local.control import Fault
from airflow_zilliz.wire import MAX_BODY_BYTES

# What Milvus says under each status (wire 4.1); the last is this server's own choice, for no source has one.
_MILVUS_BODIES = {
    401: (1800, "user hasn't authenticated"),
    403: (65535, "rpc error: code = PermissionDenied desc = PrivilegeImport: permission deny to user in the database"),
    408: (10001, "request timeout"),
    429: (8, "rate limit exceeded"),
}


async def answer_with(fault: Fault, request: web.Request) -> web.StreamResponse:
    """Answer as a fault says; ``slow`` is none of these, since its answer is a true one."""
    match fault.kind:
        case "status":
            return _error(fault)
        case "html":
            return web.Response(text="<html><body>Please log in</body></html>", content_type="text/html")
        case "page":
            return web.Response(status=fault.status, text=fault.message, headers=_pause(fault))
        case "redirect":
            status = fault.status if 300 <= fault.status < 400 else 302
            return web.Response(status=status, headers={"Location": fault.message})
        case "huge":
            return web.Response(body=b'{"code": 0, "data": "' + b"x" * (MAX_BODY_BYTES + 2**20) + b'"}')
        case _:
            return await _broken(fault, request)


def _error(fault: Fault) -> web.Response:
    code, message = _MILVUS_BODIES.get(fault.status, (fault.status, "scripted fault"))
    body = {"code": code if fault.code is None else fault.code, "message": fault.message or message}
    return web.json_response(body, status=fault.status, headers=_pause(fault))


def _pause(fault: Fault) -> dict[str, str]:
    return {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}


async def _broken(fault: Fault, request: web.Request) -> web.StreamResponse:
    """End the connection: in the middle of a body, or with a reset before it."""
    response = web.StreamResponse()
    response.content_length = 1000
    if fault.kind == "cut":
        await response.prepare(request)
        await response.write(b'{"code": 0, "data": {"jobId": "')
        await asyncio.sleep(0.05)
    if (transport := request.transport) is not None:
        if fault.kind == "reset" and (raw := transport.get_extra_info("socket")):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return response
