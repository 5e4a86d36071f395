"""Responses without a server, for the tests of the code that decides."""

from __future__ import annotations

import json
from typing import Any

from airflow_zilliz._protocol.request import Exchange, Request
from airflow_zilliz._protocol.responses import Response

URL = "https://zilliz.test/v2/vectordb/jobs/import/describe"


def response_of(body: Any = None, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, raw, headers or {}, URL)


def run(flow: Exchange[Any], *responses: Response) -> tuple[Any, list[Request]]:
    """Run a flow with given responses, repeating the last one; return its value and the requests that it sent."""
    requests, left = [next(flow)], list(responses)
    while True:
        try:
            requests.append(flow.send(left.pop(0) if len(left) > 1 else left[0]))
        except StopIteration as done:
            return done.value, requests
