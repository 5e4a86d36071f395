"""Responses of the import API: their data, and the error that an unsuccessful one means. No I/O.

"wire N" points at a paragraph of docs/wire.md, which says where the fact was read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from airflow_zilliz._protocol.constants import (
    AUTH_CODES,
    MAX_RETRY_AFTER,
    REFUSAL_CODES,
    SUCCESS_CODES,
    TRANSIENT_CODES,
    TRANSIENT_STATUSES,
    UNKNOWN_JOB_CODES,
    UNKNOWN_PLACE_CODES,
)
from airflow_zilliz._protocol.scrubbing import PATTERNS_ONLY, Scrubber
from airflow_zilliz.exceptions import ZillizApiError, ZillizAuthError, ZillizJobNotFound, ZillizUnavailable

#: Longer bodies are read in a thread, element by element.
BIG_BYTES = 256 * 1024
#: What Milvus, as every server that is written in Go, says of a path that it does not have (wire 1.1).
_NO_SUCH_ROUTE = b"404 page not found"
#: What Go's servers and nginx say to an http:// request where they speak TLS.
_TLS_WANTED = re.compile(rb"HTTP request (to an HTTPS server|was sent to HTTPS port)", re.IGNORECASE)
_MAX_SCRUBBED = 20_000
_UNKNOWN_JOB_TEXT = re.compile(r"\bjob\b.*(does not exist|not found|doesn't exist)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Response:
    """One HTTP response, completely read.

    :param url: the requested address, for error texts
    :param proxy: the address of the proxy that it came through
    :param scrub: masks secrets in the texts that are shown; the body stays as the server sent it
    """

    status: int
    body: bytes
    headers: Mapping[str, str]
    url: str = ""
    proxy: str | None = None
    scrub: Scrubber = PATTERNS_ONLY

    @property
    def source(self) -> str:
        """Where it came from, for error texts."""
        return f"{self.url} (through the proxy {self.proxy})" if self.proxy else self.url

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
    def code(self) -> int | None:
        """The code of this API's own JSON; None for anything else, such as a proxy's page."""
        return number_of((self.json_object() or {}).get("code"))

    @property
    def is_unrouted(self) -> bool:
        """Whether the route may be missing: a 404 or 405 without this API's JSON, in which it reports missing jobs.

        A gateway's JSON that repeats the status as its code counts, too. The page may also come from a load balancer
        that has no server available now (wire 1.1, 4.1, 4.8).
        """
        if self.status not in (404, 405):
            return False
        body = self.json_object() or {}
        code = number_of(body.get("code"))
        return code is None or (code == self.status and not _UNKNOWN_JOB_TEXT.search(str(body.get("message"))))

    @property
    def is_server_without_route(self) -> bool:
        """Whether the server itself says that it has no such route."""
        return self.status == 404 and self.body.strip() == _NO_SUCH_ROUTE


def _loads_big(body: bytes) -> Any:
    from airflow_zilliz._protocol.big_json import loads  # here, since hardly any response needs it

    return loads(body)


def payload(response: Response) -> Any:
    """Return the ``data`` of a successful response: an object, a list or text.

    :raises ZillizError: one of its subclasses, see `raise_for_error`
    """
    data = _successful(response).get("data")
    if not data and not isinstance(data, (dict, list)):
        _raise_without_data(response)
    return data


def acknowledgement(response: Response) -> None:
    """Read the response to a request that needs no data in return.

    :raises ZillizError: one of its subclasses, see `raise_for_error`
    """
    body = _successful(response)
    if body.get("data") is None and str(body.get("message") or "").lower() not in ("", "success", "ok"):
        _raise_without_data(response)


def _successful(response: Response) -> dict[str, Any]:
    body = response.json_object()
    if body is None:
        raise_for_error(response, None, "")
    code = number_of(body.get("code"))
    message = body.get("message")
    if response.status >= 300 or (code not in SUCCESS_CODES and not (code is None and body.get("data") is not None)):
        raise_for_error(response, code, str(message) if message else "")
    return body


def _raise_without_data(response: Response) -> NoReturn:
    # Zilliz Cloud's pages show failures with code 0 (wire 4.4), so only a response with data is a success
    raise ZillizUnavailable(f"{response.source} responded without data: {excerpt(response)}", code=response.code)


def raise_for_error(response: Response, code: int | None, message: str) -> NoReturn:
    """Raise what an unsuccessful response means; the body's code takes precedence over the HTTP status (wire 4.6).

    :param code: the body's code, None if the body is not this API's own JSON
    :raises ZillizAuthError: key refused, or no right to the cluster, in the API's own JSON
    :raises ZillizJobNotFound: unknown or expired job id
    :raises ZillizApiError: the request can never succeed: a known refusal, a permanent redirect, a
        server without such a route
    :raises ZillizUnavailable: anything else: 408, 429, 5xx, internal and unknown codes, and a body that is not a
        response of this API, whatever its status
    """
    status = response.status
    if code is None:
        _raise_for_page(response)
    said = response.scrub(" ".join(message.split())[:_MAX_SCRUBBED])[:2000] or excerpt(response)
    text = f"{response.source} returned code {code} (HTTP {status}): {said}"
    facts: dict[str, Any] = {"code": code, "http_status": status, "request_id": response.request_id}
    if response.request_id:
        text += f" (request id {response.request_id[:100]})"
    if status in (401, 403) or code in AUTH_CODES or "PermissionDenied" in message:
        raise ZillizAuthError(text, **facts)
    if code in UNKNOWN_JOB_CODES or (code not in UNKNOWN_PLACE_CODES and _UNKNOWN_JOB_TEXT.search(message)):
        raise ZillizJobNotFound(text, **facts)
    passes = status in TRANSIENT_STATUSES or status >= 500 or code in TRANSIENT_CODES
    if not passes and (status == 400 or code in REFUSAL_CODES):
        raise ZillizApiError(text, **facts)
    raise ZillizUnavailable(text, retry_after=response.retry_after, code=code, http_status=status)


def _raise_for_page(response: Response) -> NoReturn:
    """Raise what a response other than this API's own JSON means; whatever its status, it says nothing of the key."""
    if response.is_unrouted:
        raise_unrouted(response)
    if 300 <= response.status < 400:
        _raise_redirect(response)
    if response.status == 400 and _TLS_WANTED.search(response.body[:_MAX_SCRUBBED]):
        text = f"{response.source} speaks https: start the connection's host with https://, or empty its scheme"
        raise ZillizApiError(text, http_status=response.status, request_id=response.request_id, from_api=False)
    text = f"{response.source} returned HTTP {response.status} with something other than this API's JSON"
    if response.status in (401, 403, 407) or response.status < 300:
        text += " (a proxy or a login page?)"
    raise ZillizUnavailable(
        f"{text}: {excerpt(response)}", retry_after=response.retry_after, http_status=response.status, from_api=False
    )


def raise_unrouted(*responses: Response) -> NoReturn:
    """Raise the error for a server that has none of several routes.

    :param responses: one for each route
    :raises ZillizApiError: the server itself says so of each route
    :raises ZillizUnavailable: the page may come from a proxy that has no server available now
    """
    page = next((response for response in responses if not response.is_server_without_route), None)
    response = page or responses[0]
    facts: dict[str, Any] = {"http_status": response.status, "from_api": False}
    text = f"{response.source} does not exist on this server (HTTP {response.status}, {excerpt(response)})"
    advice = (
        "the endpoint is not an import API. It should be https://api.cloud.zilliz.com, or the address of a Milvus such "
        "as http://localhost:19530 (2.4 or newer), without a path"
    )
    if page is None:
        raise ZillizApiError(f"{text}: {advice}", request_id=response.request_id, **facts)
    raise ZillizUnavailable(
        f"{text}: a load balancer or proxy in front of it has no server available now, or {advice}",
        retry_after=response.retry_after,
        **facts,
    )


def _raise_redirect(response: Response) -> NoReturn:
    where = urlsplit(response.headers.get("location", ""))
    text = (
        f"{response.source} redirects (HTTP {response.status}) to {where.scheme or 'the same scheme'}://"
        f"{where.hostname or 'the same host'}, which is not followed, since the key would go there: "
        "set the connection's host to the address that responds"
    )
    if response.status in (301, 308):
        raise ZillizApiError(text, http_status=response.status, request_id=response.request_id, from_api=False)
    raise ZillizUnavailable(text, http_status=response.status, from_api=False)


def number_of(value: object) -> int | None:
    """Return a code or a count, which some servers send as text; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value.strip(), re.ASCII):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if -(2**53) < value < 2**53 and value == int(value) else None


def excerpt(response: Response) -> str:
    """Return the beginning of a body, for error texts."""
    # scrubbed first, since the cut may be in the middle of a secret
    text = response.scrub(response.body[:_MAX_SCRUBBED].decode("utf-8", "replace").replace("\x00", ""))
    text = " ".join(text.split())
    return repr(text[:200]) if text else "an empty body"
