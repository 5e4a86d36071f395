"""Pytest fixtures for users' DAG tests, available wherever this package is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from airflow_zilliz.local.loopback import around_proxy

if TYPE_CHECKING:
    from airflow_zilliz.local.testing import LocalServer

_MARKER = (
    "zilliz_server(flavor='milvus', **settings): whose API the fixture zilliz_server speaks, milvus or cloud, and how "
    "it behaves: milvus='2.5' for a version, max_jobs=2 for a limit, or any other setting of LocalServer.set"
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def zilliz_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Run one local import server of the Milvus flavor for the whole session."""
    from airflow_zilliz.local.testing import LocalServer  # here, since every pytest run loads this module

    with LocalServer(tmp_path_factory.mktemp("zilliz")) as server:
        yield server


@pytest.fixture(scope="session")
def zilliz_cloud_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Run one local import server of the Cloud flavor for the whole session."""
    from airflow_zilliz.local.testing import LocalServer

    with LocalServer(tmp_path_factory.mktemp("zilliz-cloud"), flavor="cloud") as server:
        yield server


@pytest.fixture
def zilliz_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    """Return a local import server without jobs or faults; connection ``zilliz_default`` points to it.

    The marker ``zilliz_server`` chooses its flavor, its Milvus version and its settings. Indirect parametrization
    chooses a Milvus version, too: ``@pytest.mark.parametrize("zilliz_server", ["2.5", "3.0"], indirect=True)``.
    """
    marker = request.node.get_closest_marker("zilliz_server")
    settings = dict(marker.kwargs) if marker else {}
    if hasattr(request, "param"):
        settings["milvus"] = request.param
    flavors = {"milvus": "zilliz_server_process", "cloud": "zilliz_cloud_process"}
    flavor = settings.pop("flavor", "milvus")
    if flavor not in flavors:
        raise pytest.UsageError(f"the marker zilliz_server takes the flavors {', '.join(flavors)}, not {flavor!r}")
    server: LocalServer = request.getfixturevalue(flavors[flavor])
    server.clear()
    if settings:
        server.set(**settings)
    for name, hosts in around_proxy(os.environ).items():
        monkeypatch.setenv(name, hosts)
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", server.connection())
    return server
