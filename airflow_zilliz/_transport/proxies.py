"""The environment's proxy for a request, read as requests reads it, for workers and triggerers alike.

aiohttp and urllib support neither networks nor ``host:port`` in ``NO_PROXY``, nor a proxy without a scheme.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies

from requests.utils import get_environ_proxies, select_proxy

from airflow_zilliz.exceptions import ZillizConfigError

#: Protocols of proxies: aiohttp supports the first two, requests the others as well if PySocks is installed.
HTTP_SCHEMES = frozenset({"http", "https"})
SOCKS_SCHEMES = frozenset({"socks4", "socks4a", "socks5", "socks5h"})


@dataclass(frozen=True)
class Proxy:
    """A proxy, with the user and password that its address may hold."""

    url: str = field(repr=False)

    @property
    def name(self) -> str:
        """The address without user and password, for texts."""
        return f"{self.scheme}://{urlsplit(self.url).netloc.rpartition('@')[2]}"

    @property
    def scheme(self) -> str:
        """The protocol to use with it."""
        return self.url.partition("://")[0].lower()

    @property
    def is_address(self) -> bool:
        """Whether it has a host, and a valid port or none."""
        try:
            parts = urlsplit(self.url)
            return bool(parts.hostname) and parts.port != 0
        except ValueError:
            return False

    @property
    def credentials(self) -> str:
        """User and password as the address has them, empty for none."""
        return urlsplit(self.url).netloc.rpartition("@")[0]


def proxy_for(url: str, *, in_triggerer: bool) -> Proxy | None:
    """Return the proxy that the environment names for an address, None for none.

    :param in_triggerer: whether aiohttp is to use it, instead of requests
    :raises ZillizConfigError: the proxy cannot be used there
    """
    found = None if _is_excepted(url) else select_proxy(url, get_environ_proxies(url, no_proxy=None))
    if not found:
        return None
    proxy = Proxy(found if "://" in found else f"http://{found.lstrip('/')}")
    if not proxy.is_address:
        raise _unusable(url, proxy, "which is not the address of a proxy")
    if proxy.scheme in HTTP_SCHEMES:
        return proxy
    if proxy.scheme not in SOCKS_SCHEMES:
        raise _unusable(url, proxy, f"and {proxy.scheme}:// is not a protocol of proxies")
    if in_triggerer:
        raise _unusable(url, proxy, "and a triggerer cannot use SOCKS; a worker can, with deferrable=False")
    if importlib.util.find_spec("socks") is None:
        raise _unusable(url, proxy, "and SOCKS needs the package PySocks (pip install 'requests[socks]')")
    return proxy


def _is_excepted(url: str) -> bool:
    """Whether ``NO_PROXY`` has host and port; requests honours the port only after a name, not after an address."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    entries = [entry.strip().lower() for entry in getproxies().get("no", "").split(",")]
    return f"{parts.hostname}:{port}" in entries or f"[{parts.hostname}]:{port}" in entries


def _unusable(url: str, proxy: Proxy, why: str) -> ZillizConfigError:
    host = urlsplit(url).hostname
    return ZillizConfigError(
        f"The environment sends requests to {url} through the proxy {proxy.name}, {why}. Set HTTPS_PROXY (HTTP_PROXY, "
        f"ALL_PROXY) to an http:// proxy, or name {host} in NO_PROXY"
    )
