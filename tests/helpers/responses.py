"""Answers without a server, for the tests of what decides."""

from __future__ import annotations

import json
from typing import Any

from airflow_zilliz._protocol.request import Exchange, Request
from airflow_zilliz._protocol.responses import Response

URL = "https://zilliz.test/v2/vectordb/jobs/import/describe"


def answer(body: Any = None, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, raw, headers or {}, URL)


def run(flow: Exchange[Any], *answers: Response) -> tuple[Any, list[Request]]:
    """Play a flow with given answers, the last one again and again; return its value and the requests that it sent."""
    requests, left = [next(flow)], list(answers)
    while True:
        try:
            requests.append(flow.send(left.pop(0) if len(left) > 1 else left[0]))
        except StopIteration as done:
            return done.value, requests
