"""Turns an Airflow connection into an endpoint."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_zilliz._protocol.constants import is_printable_ascii
from airflow_zilliz._protocol.scrubbing import Scrubber
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport.connection_fields import CONN_FIELDS, CONN_TYPE
from airflow_zilliz.exceptions import ZillizConfigError

CLOUD_URL = "https://api.cloud.zilliz.com"
#: Zilliz Cloud's control plane: one host for all regions, and the regions' own (wire 1.2).
_CLOUD_HOST = re.compile(r"api\.cloud\.zilliz\.com(\.cn)?|api\.[a-z0-9-]+\.zillizcloud\.com")
#: The hosts of the first API's control plane, which the new one replaced (wire 1.2).
_V1_HOST = re.compile(r"controller\.[a-z0-9.-]+\.(zillizcloud\.com|(cloud\.)?zilliz\.com(?P<cn>\.cn)?)")
_CONSOLE_HOST = re.compile(r"cloud\.zilliz\.com(?P<cn>\.cn)?")
DEFAULT_REQUEST_TIMEOUT = 20.0
DEFAULT_MAX_REQUESTS_PER_SECOND = 10.0


class ConnectionFields(Protocol):
    """The fields of an Airflow connection that are used; ``extra`` is JSON text."""

    host: str | None
    port: int | None
    schema: str | None
    login: str | None
    password: str | None

    @property
    def extra(self) -> str | None:
        """The extras as JSON text."""


@dataclass(frozen=True)
class Endpoint:
    """Where requests go, and with what. Values that an argument may override are in ``target``.

    :param base_url: scheme, host and port, without a slash at the end
    :param token: what follows ``Bearer``; empty for a Milvus without authentication
    :param verify: check the TLS certificate: true, false, or the path of a CA bundle
    :param request_timeout: seconds for one request
    :param max_requests_per_second: for one process and one endpoint path
    :param other_secrets: more secrets that must never be shown: an object storage's keys
    """

    conn_id: str
    base_url: str
    token: str = field(default="", repr=False)
    target: Target = field(default_factory=Target)
    verify: bool | str = True
    request_timeout: float = DEFAULT_REQUEST_TIMEOUT
    max_requests_per_second: float = DEFAULT_MAX_REQUESTS_PER_SECOND
    console_url: str | None = None
    other_secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_cloud(self) -> bool:
        """Whether this is Zilliz Cloud's control plane."""
        return _CLOUD_HOST.fullmatch(urlsplit(self.base_url).hostname or "") is not None

    @property
    def scrubber(self) -> Scrubber:
        """Masks secrets in texts before they are shown: a server may echo the token in a message."""
        return Scrubber((self.token, *self.other_secrets))


def endpoint_of(conn_id: str, conn: ConnectionFields) -> Endpoint:
    """Return the endpoint that a connection means.

    :raises ZillizConfigError: naming the field that cannot be used, never the key
    """
    try:
        return _endpoint(conn_id, conn)
    except ZillizConfigError as err:
        raise ZillizConfigError(f"Connection {conn_id!r}: {err}") from None


def _endpoint(conn_id: str, conn: ConnectionFields) -> Endpoint:
    extra = _extras(conn.extra)
    target = Target(*(_text(extra, name) for name in ("cluster_id", "project_id", "region_id", "db_name")))
    return Endpoint(
        conn_id=conn_id,
        base_url=_base_url(conn.host, conn.port, conn.schema),
        token=_token(conn.login, conn.password),
        target=target,
        verify=_verify(extra.get("verify")),
        request_timeout=_positive(extra, "request_timeout", DEFAULT_REQUEST_TIMEOUT),
        max_requests_per_second=_positive(extra, "max_requests_per_second", DEFAULT_MAX_REQUESTS_PER_SECOND),
        console_url=_console_url(extra),
    )


def _extras(text: str | None) -> dict[str, Any]:
    """Return the extras that are set; a null or an empty text is unset, since the form saves those."""
    if not text or not text.strip():
        return {}
    try:
        extra = json.loads(text)
    except ValueError:
        raise ZillizConfigError("extra is not valid JSON") from None
    if not isinstance(extra, Mapping):
        raise ZillizConfigError("extra must be a JSON object of names and values")
    prefix = f"extra__{CONN_TYPE}__"  # how Airflow names a form's fields inside
    extra = {str(name).removeprefix(prefix): value for name, value in extra.items()}
    if unknown := sorted(extra.keys() - CONN_FIELDS.keys()):
        raise ZillizConfigError(
            f"extra {', '.join(map(repr, unknown))} is not known; the known ones are {', '.join(CONN_FIELDS)}"
        )
    return {name: value for name, value in extra.items() if value is not None and value != ""}


def _text(extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ZillizConfigError(f"extra {name!r} must be text, not {type(value).__name__}")
    value = value.strip()
    if not is_printable_ascii(value):
        raise ZillizConfigError(f"extra {name!r} contains a character that no header or id can have")
    return value or None


def _positive(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name, default)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number <= 86400:
        raise ZillizConfigError(f"extra {name!r} must be a number above 0 and at most 86400, not {value!r}")
    return number


def _verify(value: object) -> bool | str:
    if value is None:
        return True
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        if os.path.exists(text):  # noqa: PTH110 - a user's text, which pathlib would normalise
            return text
        raise ZillizConfigError(
            f"extra 'verify' is {text!r}: neither true nor false, nor a CA bundle that exists on this machine"
        )
    raise ZillizConfigError("extra 'verify' must be true, false or the path of a CA bundle")


def _console_url(extra: Mapping[str, Any]) -> str | None:
    url = _text(extra, "console_url")
    if url is not None and not re.match(r"https?://", url):
        raise ZillizConfigError("extra 'console_url' must begin with https:// or http://")
    return url


def _token(login: str | None, password: str | None) -> str:
    login, password = (login or "").strip(), (password or "").strip()
    if not login:  # pasted with the header's first word, as the vendor's pages show it
        password = re.sub(r"^bearer\s+", "", password, flags=re.IGNORECASE)
    if login and not password:
        raise ZillizConfigError("login is set without a password: Milvus needs both, Zilliz Cloud only the password")
    if not is_printable_ascii(login + password):
        raise ZillizConfigError(
            "the password (or login) contains a line break or a character outside printable ASCII, which cannot be "
            "sent: was more than the key pasted?"
        )
    return f"{login}:{password}" if login else password


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _base_url(host: str | None, port: int | None, schema: str | None) -> str:
    host = (host or "").strip() or CLOUD_URL
    schema = (schema or "").strip().lower()
    if schema not in ("", "http", "https"):
        raise ZillizConfigError(f"schema must be http, https or empty, not {schema!r}")
    given, _, name = host.rpartition("://")
    # Airflow drops the brackets of zilliz://...@[::1]:19530/http
    host = f"{given or schema or 'https'}://{f'[{name}]' if _is_ipv6(name) else name}"
    try:
        parts = urlsplit(host)
        hostname, host_port = parts.hostname, parts.port
    except ValueError as err:
        raise ZillizConfigError(f"host cannot be read as an address ({err})") from None
    if parts.username is not None or parts.password is not None:
        raise ZillizConfigError("host must not contain a user or password: they belong in login and password")
    is_name = hostname and hostname not in ("http", "https") and re.fullmatch(r"[\w.:%-]+", hostname, re.ASCII)
    if parts.scheme not in ("http", "https") or not hostname or not is_name:
        raise ZillizConfigError(f"host must be an address such as {CLOUD_URL} or http://localhost:19530, not {host!r}")
    if parts.query or parts.fragment:
        raise ZillizConfigError("host must not contain a query or a fragment")
    if port and host_port and port != host_port:
        raise ZillizConfigError(f"host contains port {host_port}, but the field port says {port}")
    if cloud_url := _cloud_url(hostname):
        return cloud_url
    number = host_port or port  # the form sends 0 for an empty port
    name = f"[{hostname}]" if ":" in hostname else hostname
    # Zilliz Cloud's own API calls an address that ends in /v2 its base (wire 1.2)
    path = re.sub(r"/v2(/vectordb.*)?$", "", parts.path.rstrip("/"))
    scheme = parts.scheme
    if _CLOUD_HOST.fullmatch(hostname):
        scheme, path = "https", ""  # without TLS, the key would be sent in plain text before any redirect
    return f"{scheme}://{name}{f':{number}' if number else ''}{path}"


def _cloud_url(hostname: str) -> str | None:
    """Return the address to use instead of one of Zilliz Cloud's that has no import API, None for any other host.

    :raises ZillizConfigError: it is the console's
    """
    found = _V1_HOST.fullmatch(hostname) or _CONSOLE_HOST.fullmatch(hostname)
    if found is None:
        return None
    url = CLOUD_URL + (found["cn"] or "")
    if found.re is _CONSOLE_HOST:
        raise ZillizConfigError(f"host {hostname} is the console; the API is at {url}")
    return url
