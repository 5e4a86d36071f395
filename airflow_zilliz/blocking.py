"""Carries requests with the requests library, for workers."""

from __future__ import annotations

import time

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from airflow_zilliz.api import Answer, Request
from airflow_zilliz.carrying import body_too_long, ca_bundle, describe_failure, headers_of, unpacked, url_of, was_sent
from airflow_zilliz.connection import Endpoint
from airflow_zilliz.exceptions import ZillizUnavailable
from airflow_zilliz.wire import MAX_BODY_BYTES

_CHUNK_BYTES = 64 * 1024


class _Bearer(AuthBase):
    """Keeps requests from reading a netrc file, whose password would replace the token."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class BlockingCarrier:
    """HTTP sessions for blocking calls. What may be repeated is, on a lost connection and on 502, 503 and 504.

    429 is not: it has to slow the whole wait down instead.
    """

    def __init__(self) -> None:
        self._repeating = requests.Session()
        self._once = requests.Session()
        retry = Retry(
            total=2,
            status_forcelist=(502, 503, 504),
            allowed_methods=None,
            backoff_factor=0.2,
            respect_retry_after_header=False,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self._repeating.mount(scheme, HTTPAdapter(max_retries=retry))

    def close(self) -> None:
        """Close the connections."""
        self._repeating.close()
        self._once.close()

    def exchange(self, endpoint: Endpoint, request: Request) -> Answer:
        """Send a request and read its whole answer.

        :raises ZillizUnavailable: there was no answer, or it was cut, too slow or too long
        """
        url = url_of(endpoint, request)
        session = self._repeating if request.repeatable else self._once
        give_up_at = time.monotonic() + 3 * endpoint.request_timeout
        try:
            with session.request(
                "GET" if request.body is None else "POST",
                url,
                json=request.body,
                headers=headers_of(request),
                auth=_Bearer(endpoint.token),
                timeout=endpoint.request_timeout,
                verify=ca_bundle(endpoint.verify),
                allow_redirects=False,
                stream=True,
            ) as response:
                body = self._read(response, url, give_up_at)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, body, headers, url, endpoint.scrubber)
        except (requests.RequestException, HTTPError, OSError) as err:
            raise ZillizUnavailable(describe_failure(url, err, endpoint), was_sent=was_sent(err)) from None

    @staticmethod
    def _read(response: requests.Response, url: str, give_up_at: float) -> bytes:
        # a part as it comes, since one that is waited for whole may come drop by drop for hours
        read = getattr(response.raw, "read1", response.raw.read)  # urllib3 1 has none
        body = bytearray()
        while part := read(_CHUNK_BYTES, decode_content=False):
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise body_too_long(url)
            if time.monotonic() > give_up_at:
                raise ZillizUnavailable(f"{url} sent its answer too slowly, {len(body):,} bytes so far")
        encoding = response.headers.get("Content-Encoding", "identity")
        return bytes(body) if encoding == "identity" else unpacked(url, body, encoding)
