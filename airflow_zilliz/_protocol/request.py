"""A request to send, and a flow of requests that ends in a value."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from airflow_zilliz._protocol.responses import Response

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One HTTP request below the endpoint.

    :param body: what to POST as JSON; None makes it a GET
    :param repeatable: whether the transport may send it again after a lost response
    """

    path: str
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    repeatable: bool = True


#: Yields requests, is sent their responses, returns a value: one flow for a blocking and an asynchronous driver.
Exchange = Generator[Request, Response, T]
