"""What both transports share: addresses, headers, compressed bodies, and error texts for a lost response."""

from __future__ import annotations

import os
import socket
import ssl
import zlib
from urllib.parse import urlsplit

from airflow_zilliz import __version__
from airflow_zilliz._protocol.constants import MAX_BODY_BYTES
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._transport.proxies import Proxy
from airflow_zilliz.exceptions import ZillizUnavailable

#: The beginning of an error's text that is searched for secrets: HTTP clients put all that was sent into some errors.
_MAX_SCRUBBED = 8_000


def url_of(endpoint: Endpoint, request: Request) -> str:
    """Return the address of a request."""
    return endpoint.base_url + request.path


def headers_of(request: Request) -> dict[str, str]:
    """Return a request's headers, all but the token's."""
    return {
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # a compressed body may expand to a thousand times its size
        "User-Agent": f"airflow-provider-zilliz/{__version__}",
        **request.headers,
    }


def ca_bundle(verify: bool | str) -> bool | str:
    """Return the CA bundle that certificates are checked against, or False for no check.

    The order is that of requests, so that worker and triggerer trust the same servers.
    """
    if verify is not True:
        return verify
    import certifi

    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()


def body_too_long(url: str) -> ZillizUnavailable:
    """Return the error for a body that no import API would send."""
    return ZillizUnavailable(f"{url} sent more than {MAX_BODY_BYTES // 2**20} MiB, the most that is read of a response")


def unpacked(url: str, body: bytes | bytearray, encoding: str) -> bytes:
    """Decompress a body up to the size limit: a server may compress it although no request asks for that.

    :param encoding: the response's ``Content-Encoding``
    :raises ZillizUnavailable: it is too long, or compressed in an unknown or broken way
    """
    content = bytes(body)
    for name in reversed(encoding.lower().split(",")):
        name = name.strip()
        if name in ("", "identity"):
            continue
        if name not in _UNPACKED_BY:
            raise ZillizUnavailable(f"{url} sent its response compressed as {encoding[:100]!r}, which is not supported")
        try:
            content = _UNPACKED_BY[name](content)
        except (zlib.error, EOFError) as err:
            raise ZillizUnavailable(f"{url} sent a response that cannot be decompressed ({err})") from None
        if len(content) > MAX_BODY_BYTES:
            raise body_too_long(url)
    return content


def _gunzip(body: bytes) -> bytes:
    """Return the content of all members; anything after the last one is padding."""
    content = b""
    while body and (not content or body.startswith(b"\x1f\x8b")):
        part, body = _inflated(body, zlib.MAX_WBITS | 16, MAX_BODY_BYTES + 1 - len(content))
        content += part
        if len(content) > MAX_BODY_BYTES:
            break
    return content


def _inflate(body: bytes) -> bytes:
    """Return the content of a deflate body, with zlib's header, as it should be, or without."""
    try:
        return _inflated(body, zlib.MAX_WBITS, MAX_BODY_BYTES + 1)[0]
    except zlib.error:
        return _inflated(body, -zlib.MAX_WBITS, MAX_BODY_BYTES + 1)[0]


def _inflated(body: bytes, wbits: int, at_most: int) -> tuple[bytes, bytes]:
    """Return the content of one stream, and what follows it."""
    stream = zlib.decompressobj(wbits)
    content = stream.decompress(body, at_most)
    if not stream.eof and len(content) < at_most:
        raise EOFError("it ends too early")
    return content, stream.unused_data


_UNPACKED_BY = {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _inflate}


def describe_failure(url: str, err: BaseException, endpoint: Endpoint, proxy: Proxy | None = None) -> str:
    """Return the error text for a request without a response, from its most telling cause.

    :param proxy: the proxy that it went through
    """
    chain = _causes(err)
    host, whose, where = urlsplit(url).netloc, "the connection's host", url
    if proxy is not None:
        host, whose = urlsplit(proxy.name).netloc, "the environment's proxy"
        where = f"{url} (through the proxy {proxy.name})"
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        text = next(str(cause) for cause in chain if isinstance(cause, ssl.SSLError))
        advice = "does the endpoint speak https, and is extra 'verify' the CA that signed its certificate?"
        return f"{where}: TLS failed ({_clean(text, endpoint, proxy)}): {advice}"
    if any(isinstance(cause, socket.gaierror) or "Name" in type(cause).__name__ for cause in chain):
        return f"{where}: the name {host!r} cannot be resolved: is {whose} right?"
    if any(isinstance(cause, ConnectionRefusedError) for cause in chain):
        return f"{where}: connection refused (is {'a server' if proxy is None else 'the proxy'} listening at {host}?)"
    if any(isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__ for cause in chain):
        return f"{where}: no response within {endpoint.request_timeout:g} s"
    if refusal := next((cause for cause in chain if _is_tunnel_refusal(cause)), None):
        return f"{where}: the proxy refused to connect ({_clean(str(refusal), endpoint, proxy)})"
    deepest = chain[-1]
    return f"{where}: the connection was lost ({type(deepest).__name__}: {_clean(str(deepest), endpoint, proxy)})"


def was_sent(err: BaseException) -> bool:
    """Whether a request without a response may have reached the server."""
    before_it = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)
    return not any(
        isinstance(cause, before_it) or "ConnectTimeout" in type(cause).__name__ or _is_tunnel_refusal(cause)
        for cause in _causes(err)
    )


def _is_tunnel_refusal(err: BaseException) -> bool:
    """Whether a proxy refused to connect: aiohttp has an exception for it, http.client a text."""
    return type(err).__name__ == "ClientHttpProxyError" or "Tunnel connection failed" in str(err)


def _causes(err: BaseException) -> list[BaseException]:
    """Return the error and what lies behind it, the way requests, urllib3 and aiohttp nest it."""
    chain: list[BaseException] = []
    pending: list[object] = [err]
    while pending and len(chain) < 20:
        cause = pending.pop(0)
        if isinstance(cause, BaseException) and cause not in chain:
            chain.append(cause)
            inner = (getattr(cause, name, None) for name in ("reason", "os_error", "certificate_error"))
            pending += [*inner, *cause.args, cause.__cause__, cause.__context__]
    return chain


def _clean(text: str, endpoint: Endpoint, proxy: Proxy | None) -> str:
    text = text[:_MAX_SCRUBBED]
    if proxy is not None and proxy.credentials:
        text = text.replace(proxy.credentials, "***")
    return endpoint.scrubber(text)[:500]
