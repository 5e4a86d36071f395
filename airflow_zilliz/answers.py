"""The answers of the import API: what they carry, and what an unsuccessful one means. No I/O.

"wire N" points at a paragraph of docs/wire.md, which says where the fact was read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from airflow_zilliz.exceptions import ZillizApiError, ZillizAuthError, ZillizJobNotFound, ZillizUnavailable
from airflow_zilliz.wire import (
    AUTH_CODES,
    MAX_RETRY_AFTER,
    SUCCESS_CODES,
    TRANSIENT_CODES,
    TRANSIENT_STATUSES,
    UNKNOWN_JOB_CODES,
)

#: Longer bodies are read in a thread, element by element.
BIG_BYTES = 256 * 1024

_UNKNOWN_JOB_TEXT = re.compile(r"\bjob\b.*(does not exist|not found|doesn't exist)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, read to its end. ``url`` is where it came from, for error texts."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    url: str = ""

    @property
    def request_id(self) -> str | None:
        """The server's id of the request (Zilliz Cloud), for its support."""
        return self.headers.get("requestid") or None

    @property
    def retry_after(self) -> float | None:
        """Seconds of the ``Retry-After`` header, at most an hour; None for none, or for its date form."""
        text = (self.headers.get("retry-after") or "").strip()
        if not re.fullmatch(r"\d{1,9}(\.\d+)?", text, re.ASCII):
            return None
        return min(float(text), MAX_RETRY_AFTER)

    def json_object(self) -> dict[str, Any] | None:
        """Return the body where it is a JSON object, else None."""
        try:
            value = json.loads(self.body) if len(self.body) <= BIG_BYTES else _loads_big(self.body)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def is_unrouted(self) -> bool:
        """Whether the server has no such route: 404 in plain text, where a missing job is JSON (wire 1.1, 4.1)."""
        return self.status in (404, 405) and self.json_object() is None


def _loads_big(body: bytes) -> Any:
    from airflow_zilliz.big_json import loads  # here, since next to no answer needs it

    return loads(body)


def payload(answer: Answer) -> Any:
    """Return the ``data`` of a successful answer.

    :raises ZillizError: one of its subclasses, see `raise_for_error`
    """
    body = answer.json_object()
    if body is None:
        raise_for_error(answer, None, "")
    code = number_of(body.get("code"))
    message = body.get("message")
    if answer.status >= 300 or (code not in SUCCESS_CODES and not (code is None and "data" in body)):
        raise_for_error(answer, code, str(message) if message else "")
    data = body.get("data")
    if not isinstance(data, (dict, list)):
        # the Cloud pages print failures with code 0 (wire 4.4), so a success is what carries data
        raise ZillizUnavailable(f"{answer.url} answered without data: {excerpt(answer)}", code=code)
    return data


def raise_for_error(answer: Answer, code: int | None, message: str) -> NoReturn:
    """Raise what an unsuccessful answer means; the body's code counts before the HTTP status (wire 4.6).

    :raises ZillizAuthError: key refused, or no right to the cluster
    :raises ZillizJobNotFound: unknown or expired job id
    :raises ZillizUnavailable: 408, 429, 5xx, a transient code, or a body that is no answer of this API
    :raises ZillizApiError: any other error of the server, a permanent redirect, a route that does not exist
    """
    status = answer.status
    said = " ".join(message.split())[:2000] or excerpt(answer)
    text = f"{answer.url} answered {_numbers(status, code)}: {said}"
    facts: dict[str, Any] = {"code": code, "http_status": status, "request_id": answer.request_id}
    if answer.request_id:
        text += f" (request id {answer.request_id[:100]})"
    if status in (401, 403) or code in AUTH_CODES or "PermissionDenied" in message:
        raise ZillizAuthError(text, **facts)
    if code in UNKNOWN_JOB_CODES or (code is not None and _UNKNOWN_JOB_TEXT.search(message)):
        raise ZillizJobNotFound(text, **facts)
    if status in TRANSIENT_STATUSES or status >= 500 or code in TRANSIENT_CODES:
        raise ZillizUnavailable(text, retry_after=answer.retry_after, code=code, http_status=status)
    if answer.is_unrouted:
        raise_unrouted(answer)
    if 300 <= status < 400:
        _raise_redirect(answer)
    if code is None and status < 300:
        raise ZillizUnavailable(
            f"{answer.url} answered with something else than this API's JSON (a proxy or a login page?): {said}",
            http_status=status,
        )
    raise ZillizApiError(text, **facts)


def raise_unrouted(answer: Answer) -> NoReturn:
    """Raise what the answer of a server without this route means."""
    raise ZillizApiError(
        f"{answer.url} does not exist on this server (HTTP {answer.status}, {excerpt(answer)}): the endpoint is no "
        "import API. It should be https://api.cloud.zilliz.com, or the address of a Milvus such as "
        "http://localhost:19530, without a path",
        http_status=answer.status,
        request_id=answer.request_id,
    )


def _raise_redirect(answer: Answer) -> NoReturn:
    where = urlsplit(answer.headers.get("location", ""))
    text = (
        f"{answer.url} redirects (HTTP {answer.status}) to {where.scheme or 'the same scheme'}://"
        f"{where.hostname or 'the same host'}, which is not followed, since the key would go there: "
        "set the connection's host to the address that answers"
    )
    if answer.status in (301, 308):
        raise ZillizApiError(text, http_status=answer.status, request_id=answer.request_id)
    raise ZillizUnavailable(text, http_status=answer.status)


def number_of(value: object) -> int | None:
    """Return a code or a count, which servers also send as text; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value.strip(), re.ASCII):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if -(2**53) < value < 2**53 and value == int(value) else None


def _numbers(status: int, code: int | None) -> str:
    return f"HTTP {status}" if code is None else f"code {code} (HTTP {status})"


def excerpt(answer: Answer) -> str:
    """Return the begin of a body, for error texts."""
    text = " ".join(answer.body[:400].decode("utf-8", "replace").replace("\x00", "").split())
    return repr(text[:200]) if text else "an empty body"
