"""The embedded Milvus Lite behind the local server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_zilliz.local.reading import ImportFileError, Row
from airflow_zilliz.local.rows import Schema


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
        self.port = 0

    def start(self) -> Any:
        """Return pymilvus's client of the database, starting both at the first call.

        :raises EngineMissing: the packages of the extra ``local`` are not installed
        """
        with self._lock:
            if self._client is None:
                try:
                    from milvus_lite.server_manager import server_manager_instance
                    from pymilvus import MilvusClient
                except ImportError as err:
                    raise EngineMissing(
                        f"importing files needs Milvus Lite ({err}): pip install 'airflow-provider-zilliz[local]'"
                    ) from None
                for name in ("pymilvus", "grpc"):  # they log what they raise, or do not implement, with a traceback
                    logging.getLogger(name).setLevel(logging.CRITICAL)
                uri = server_manager_instance.start_and_get_uri(str(self._path))
                if uri is None:
                    raise EngineMissing(f"Milvus Lite did not start on {self._path}: is another process using it?")
                self.port = urlsplit(uri).port or 0
                self._client = MilvusClient(uri)
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
                from milvus_lite.server_manager import server_manager_instance

                self._client.close()
                server_manager_instance.release_server(str(self._path))
                self._client = None
