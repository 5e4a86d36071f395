from __future__ import annotations

import pytest

from airflow_zilliz._poller import list_poll, server_health
from airflow_zilliz._transport import driver
from airflow_zilliz._triggers import base
from airflow_zilliz._wait import policy, state_machine
from airflow_zilliz.local.testing import LocalServer
from tests.helpers.servers import ServerPool


@pytest.fixture(autouse=True)
def unknown_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget which route describes a job: a server that another test has used may have another route."""
    monkeypatch.setattr(driver, "_describe_paths", {})


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make waits as short as tests: polls every 0.1 s, pauses of half a second, unknown jobs tolerated for a second."""
    monkeypatch.setattr(server_health, "LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(policy, "SHORTEST_YOUNG_DELAY", 0.1)
    monkeypatch.setattr(state_machine, "UNKNOWN_JOB_GRACE", 1.0)
    monkeypatch.setattr(base, "SHORTEST_FIRST_DELAY", 0.05)
    monkeypatch.setattr(list_poll, "DESCRIPTION_DELAY", 0.05)


@pytest.fixture(scope="module")
def server_process(server_pool: ServerPool) -> LocalServer:
    """Return a server that imports nothing; a module with files or another flavor has its own."""
    return server_pool.take(api_key="k3y-0123456789abcdef")


@pytest.fixture
def server(server_process: LocalServer, monkeypatch: pytest.MonkeyPatch, fast: None) -> LocalServer:
    """Return the module's server without jobs, faults and requests, to which the default connection points."""
    server_process.clear()
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", server_process.connection(max_requests_per_second=1000))
    return server_process
