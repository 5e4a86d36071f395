"""The embedded Milvus Lite behind the local server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from airflow_zilliz.local.reading import ImportFileError, Row
from airflow_zilliz.local.rows import Schema

_LARGEST_MESSAGE = 256 * 2**20  # as a Milvus takes
_CALLS_AT_ONCE = 10


class EngineMissing(Exception):
    """Milvus Lite is not installed, so that only scripted jobs can run."""


class Engine:
    """Milvus Lite on a database file, started at its first use.

    :param path: the database; Milvus Lite keeps a folder there
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._insert_lock = threading.Lock()  # Milvus Lite takes one writer a collection
        self._client: Any = None
        self._server: Any = None
        self._db: Any = None
        self.port = 0

    def start(self) -> Any:
        """Return pymilvus's client of the database, starting both at the first call.

        :raises EngineMissing: the packages of the extra ``local`` are not installed
        """
        with self._lock:
            if self._client is None:
                try:
                    from pymilvus import MilvusClient

                    self._server, self._db, self.port = _serve(self._path.absolute())
                except ImportError as err:
                    raise EngineMissing(
                        f"importing files needs Milvus Lite ({err}): pip install 'airflow-provider-zilliz[local]'"
                    ) from None
                for name in ("pymilvus", "grpc"):  # they log what they raise, or do not implement, with a traceback
                    logging.getLogger(name).setLevel(logging.CRITICAL)
                self._client = MilvusClient(f"http://127.0.0.1:{self.port}")
            return self._client

    def has_collection(self, collection: str) -> bool:
        """Return whether the collection is there."""
        return bool(self.start().has_collection(collection))

    def has_partition(self, collection: str, partition: str) -> bool:
        """Return whether the collection has the partition."""
        return bool(self.start().has_partition(collection, partition))

    def schema(self, collection: str) -> Schema:
        """Return a collection's schema.

        :raises ImportFileError: the collection is gone
        """
        if not self.has_collection(collection):
            raise ImportFileError(f"collection {collection} dropped")
        return Schema.of(self.start().describe_collection(collection))

    def insert(self, collection: str, rows: Sequence[Row], partition: str) -> int:
        """Insert rows and return how many Milvus says it took.

        :raises ImportFileError: with Milvus's own words
        """
        from pymilvus.exceptions import MilvusException

        try:
            with self._insert_lock:
                result = self.start().insert(collection, list(rows), partition_name=partition)
        except MilvusException as err:
            raise ImportFileError(f"Milvus refused the rows: {err.message}") from None
        return int(result["insert_count"])

    def close(self) -> None:
        """Stop Milvus Lite."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._server.stop(grace=2).wait()
                self._db.close()
                self._client = None


def _serve(path: Path) -> tuple[Any, Any, int]:
    """Start Milvus Lite's gRPC server; return it, its database and its port.

    Its own way of starting has gRPC's defaults, which send a client away that pings while it has nothing else to say,
    and pymilvus does so every 10 s.

    :raises EngineMissing: Milvus Lite does not open the database
    """
    import grpc
    from milvus_lite.adapter.grpc import MilvusServicer
    from milvus_lite.db import MilvusLite
    from pymilvus.grpc_gen import milvus_pb2_grpc

    try:
        database = MilvusLite(str(path))
    except Exception as err:  # noqa: BLE001 - whatever it is, the server goes on without an engine
        raise EngineMissing(f"Milvus Lite did not open {path}: {err}; is another process using it?") from None
    options = {
        "grpc.http2.max_ping_strikes": 0,
        "grpc.max_receive_message_length": _LARGEST_MESSAGE,
        "grpc.max_send_message_length": _LARGEST_MESSAGE,
    }
    server = grpc.server(ThreadPoolExecutor(max_workers=_CALLS_AT_ONCE), options=list(options.items()))
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(database), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, database, int(port)
