"""Deliberately faulty responses."""

from __future__ import annotations

import asyncio
import socket
import struct

from aiohttp import web

from airflow_zilliz._protocol.constants import MAX_BODY_BYTES
from airflow_zilliz.local.control import Fault

# What Milvus says under each status (wire 4.1); that of 429 is this server's own choice, since no source has one.
_STATUS_BODIES = {
    401: (1800, "user hasn't authenticated"),
    403: (65535, "rpc error: code = PermissionDenied desc = PrivilegeImport: permission deny to user in the database"),
    408: (10001, "request timeout"),
    429: (8, "rate limit exceeded"),
}
# What Milvus says with each code (wire 4.3).
_CODE_MESSAGES = {
    1: "service not ready[mixcoord=1]: Initializing",
    5: "service internal error: transport is closing",
    8: "rate limit exceeded",
    901: "node not found",
    1807: "request is rejected by limiter",
    2100: "The number of jobs has reached the limit, please try again later.: importing data failed",
    2101: "import request to datacoord failed: importing data failed",
    10000: "context canceled",
    10001: "request timeout",
    65535: "find no available mixcoord, check mixcoord state",
}
_NGINX = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"  # noqa: E501
_NGINX_TITLES = {
    401: "401 Authorization Required",
    403: "403 Forbidden",
    502: "502 Bad Gateway",
    503: "503 Service Temporarily Unavailable",
    504: "504 Gateway Time-out",
}


async def respond_with(fault: Fault, request: web.Request) -> web.StreamResponse:
    """Respond as a fault says; not for ``slow``, whose response is a true one."""
    match fault.kind:
        case "status" | "code":
            return _error(fault)
        case "proxy":
            return _proxy_page(fault)
        case "html":
            return web.Response(text="<html><body>Please log in</body></html>", content_type="text/html")
        case "page":
            return web.Response(status=fault.status or 500, text=fault.message, headers=_retry_after(fault))
        case "redirect":
            status = fault.status if fault.status is not None and 300 <= fault.status < 400 else 302
            return web.Response(status=status, headers={"Location": fault.message})
        case "huge":
            return web.Response(body=b'{"code": 0, "data": "' + b"x" * (MAX_BODY_BYTES + 2**20) + b'"}')
        case "cut":
            return await _cut(request)
        case _:
            return await break_off(request)


def _error(fault: Fault) -> web.Response:
    default = 200 if fault.kind == "code" else 500
    status = default if fault.status is None else fault.status
    code, message = _STATUS_BODIES.get(status, (status, "scripted fault"))
    if fault.code is not None:
        code, message = fault.code, _CODE_MESSAGES.get(fault.code, message)
    return web.json_response(
        {"code": code, "message": fault.message or message}, status=status, headers=_retry_after(fault)
    )


def _proxy_page(fault: Fault) -> web.Response:
    """Return the page of something in front of the server; none of them is JSON."""
    status = 404 if fault.status is None else fault.status
    headers = _retry_after(fault)
    if status == 404:
        return web.Response(status=status, text=fault.message or "default backend - 404", headers=headers)
    if status == 407:
        headers |= {"Proxy-Authenticate": 'Basic realm="proxy"', "X-Squid-Error": "ERR_CACHE_ACCESS_DENIED 0"}
        title = "ERR_CACHE_ACCESS_DENIED: Cache Access Denied"
        return web.Response(
            status=status, text=f"<html><body>{title}</body></html>", content_type="text/html", headers=headers
        )
    title = _NGINX_TITLES.get(status, f"{status} Error")
    page = fault.message or _NGINX.format(title)
    return web.Response(status=status, text=page, content_type="text/html", headers=headers)


def _retry_after(fault: Fault) -> dict[str, str]:
    return {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}


async def _cut(request: web.Request) -> web.StreamResponse:
    """Close the connection in the middle of a body."""
    response = web.StreamResponse()
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b'{"code": 0, "data": {"jobId": "')
    await asyncio.sleep(0.05)
    if request.transport is not None:
        request.transport.abort()
    return response


async def break_off(request: web.Request) -> web.StreamResponse:
    """Reset the connection before any response."""
    if (transport := request.transport) is not None:
        if raw := transport.get_extra_info("socket"):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.StreamResponse()
