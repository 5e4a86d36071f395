"""Local import servers that the modules of a test process share, since each takes two seconds to start and stop."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

from airflow_zilliz.local.testing import LocalServer


class ServerPool:
    """Starts each kind of server once.

    :param home: where their folders and logs go
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._running: dict[tuple[str, str | None], LocalServer] = {}
        self._stack = ExitStack()

    def take(self, flavor: str = "milvus", api_key: str | None = None) -> LocalServer:
        """Return a server without jobs, collections and files, for one module at a time."""
        kind = (flavor, api_key)
        if kind not in self._running:
            folder = self._home / f"{flavor}-{len(self._running)}"
            folder.mkdir()
            server = LocalServer(folder, flavor=flavor, api_key=api_key, log_path=folder.with_suffix(".log"))
            self._running[kind] = self._stack.enter_context(server)
        server = self._running[kind]
        server.clear()
        _drop_collections(server)
        _remove_files(server)
        return server

    def close(self) -> None:
        """Stop all servers."""
        self._stack.close()


def _drop_collections(server: LocalServer) -> None:
    if "pymilvus" not in sys.modules:
        return  # nobody has made one, and importing it takes a second
    from pymilvus import MilvusClient

    client = MilvusClient(server.url)
    for database in client.list_databases():
        client.use_database(database)
        for name in client.list_collections():
            client.drop_collection(name)
        if database != "default":
            client.use_database("default")
            client.drop_database(database)
    client.close()


def _remove_files(server: LocalServer) -> None:
    for path in server.data_dir.iterdir():
        if path.name == ".zilliz-local":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
