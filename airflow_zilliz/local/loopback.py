"""Exempts this machine's own servers from the environment's proxies."""

from __future__ import annotations

from collections.abc import Mapping

_HOSTS = ("127.0.0.1", "localhost", "::1")


def around_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that exempt this machine from its proxies.

    :param environment: the current variables; hosts that they exempt already are kept
    """
    before = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host for host in before.split(",") if host]
    value = ",".join([*hosts, *(host for host in _HOSTS if host not in hosts)])
    return {"no_proxy": value, "NO_PROXY": value}
