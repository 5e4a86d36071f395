"""Sends requests with the requests library, for workers."""

from __future__ import annotations

import time

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from airflow_zilliz._protocol.constants import MAX_BODY_BYTES
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.responses import Response
from airflow_zilliz._transport.common import (
    body_too_long,
    ca_bundle,
    describe_failure,
    headers_of,
    unpacked,
    url_of,
    was_sent,
)
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._transport.proxies import Proxy, proxy_for
from airflow_zilliz.exceptions import ZillizUnavailable

_CHUNK_BYTES = 64 * 1024
#: Pauses before a repeatable request is repeated, in seconds: the server may just have closed a pooled connection.
REPEAT_PAUSES = (0.0, 0.4)
REPEATED_STATUSES = frozenset({502, 503, 504})


class _Bearer(AuthBase):
    """Keeps requests from reading a netrc file, whose password would replace the token."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class SyncTransport:
    """HTTP sessions for blocking calls. Repeatable requests are repeated on a lost connection and on 502, 503 and 504.

    A 429 is not repeated: it has to slow the whole wait down. urllib3 could repeat as well, but logs a warning.
    """

    def __init__(self) -> None:
        self._repeating = requests.Session()
        self._once = requests.Session()
        for session in (self._repeating, self._once):
            session.trust_env = False

    def close(self) -> None:
        """Close the connections."""
        self._repeating.close()
        self._once.close()

    def exchange(self, endpoint: Endpoint, request: Request) -> Response:
        """Send a request and read the whole response.

        :raises ZillizUnavailable: no response, or one that is cut, too slow or too long
        :raises ZillizConfigError: the environment's proxy cannot be used
        """
        url = url_of(endpoint, request)
        proxy = proxy_for(endpoint.base_url, in_triggerer=False)
        give_up_at = time.monotonic() + 3 * endpoint.request_timeout
        try:
            with self._response(endpoint, request, url, proxy) as response:
                body = self._read(response, url, give_up_at)
                headers = {name.lower(): value for name, value in response.headers.items()}
                name = proxy.name if proxy else None
                return Response(response.status_code, body, headers, url, proxy=name, scrub=endpoint.scrubber)
        except (requests.RequestException, HTTPError, OSError) as err:
            raise ZillizUnavailable(describe_failure(url, err, endpoint, proxy), was_sent=was_sent(err)) from None

    def _response(self, endpoint: Endpoint, request: Request, url: str, proxy: Proxy | None) -> requests.Response:
        """Return the last attempt's response, with its body unread."""
        session = self._repeating if request.repeatable else self._once
        pauses = list(REPEAT_PAUSES) if request.repeatable else []
        while True:
            try:
                response = session.request(
                    "GET" if request.body is None else "POST",
                    url,
                    json=request.body,
                    headers=headers_of(request),
                    auth=_Bearer(endpoint.token),
                    timeout=endpoint.request_timeout,
                    verify=ca_bundle(endpoint.verify),
                    proxies={"http": proxy.url, "https": proxy.url} if proxy else {},
                    allow_redirects=False,
                    stream=True,
                )
            except (requests.RequestException, HTTPError, OSError):
                if not pauses:
                    raise
            else:
                if not pauses or response.status_code not in REPEATED_STATUSES:
                    return response
                response.close()
            time.sleep(pauses.pop(0))

    @staticmethod
    def _read(response: requests.Response, url: str, give_up_at: float) -> bytes:
        # each part as it arrives, since a whole body may arrive a few bytes at a time for hours
        read = getattr(response.raw, "read1", response.raw.read)  # urllib3 1 has none
        body = bytearray()
        while part := read(_CHUNK_BYTES, decode_content=False):
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise body_too_long(url)
            if time.monotonic() > give_up_at:
                raise ZillizUnavailable(f"{url} sent its response too slowly, {len(body):,} bytes so far")
        return unpacked(url, body, response.headers.get("Content-Encoding", ""))
