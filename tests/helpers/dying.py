"""Lets a process that runs an import operator die as a crash does, at one step of submitting and waiting."""

from __future__ import annotations

import os
import signal
from typing import Any

POINTS = ("before the request", "before the response", "before XCom", "while waiting")


def arm(point: str | None, ti: Any) -> None:
    """Let this process be killed at one of the points; None lets it live.

    :param ti: the task instance that the operator pushes XComs with
    """
    from airflow_zilliz._transport.sync import SyncTransport

    exchange = SyncTransport.exchange
    described = 0

    def die(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    def exchange_or_die(transport: SyncTransport, endpoint: Any, request: Any) -> Any:
        nonlocal described
        creates = request.path.endswith("/create")
        if creates and point == "before the request":
            die()
        response = exchange(transport, endpoint, request)
        described += request.path.endswith("/describe")
        if (creates and point == "before the response") or (described and point == "while waiting"):
            die()
        return response

    SyncTransport.exchange = exchange_or_die  # type: ignore[method-assign,assignment] # this process is made to be killed

    push = type(ti).xcom_push

    def push_or_die(ti: Any, key: str, value: Any) -> Any:
        return die() if key == "job_id" else push(ti, key=key, value=value)

    if point == "before XCom":
        type(ti).xcom_push = push_or_die
