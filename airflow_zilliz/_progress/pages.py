"""Serves the pages: static files, which read Airflow's REST API with the rights of their user."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "static"
#: The pages show XComs, which users can edit: nothing in them may become a script, a style or a request.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    # revalidated each time, so that an upgrade shows
    "Cache-Control": "no-cache",
}

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


class Pages:
    """An ASGI application. It imports what it needs at its first request, since every process of Airflow makes one."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Respond to a request; a WebSocket is refused."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await _files()(scope, receive, send_with_headers)


@functools.cache
def _files() -> Any:
    from starlette.staticfiles import StaticFiles

    return StaticFiles(directory=FOLDER)
