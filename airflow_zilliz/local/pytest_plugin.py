"""Pytest fixtures for the DAG tests of users, there by name wherever this package is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_zilliz.local.testing import LocalServer


@pytest.fixture(scope="session")
def zilliz_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Run one local import server for the whole session."""
    from airflow_zilliz.local.testing import LocalServer  # here, since every pytest run loads this module

    with LocalServer(tmp_path_factory.mktemp("zilliz")) as server:
        yield server


@pytest.fixture
def zilliz_server(zilliz_server_process: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    """Return a local import server without jobs or faults, which connection ``zilliz_default`` points at."""
    zilliz_server_process.clear()
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", zilliz_server_process.connection())
    return zilliz_server_process
