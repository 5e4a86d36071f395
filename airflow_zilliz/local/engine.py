"""The embedded Milvus Lite behind the local server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_zilliz.local.import_errors import ImportFileError
from airflow_zilliz.local.row_validation import Row, Schema

DEFAULT_DATABASE = "default"
_DEFAULT_PARTITION = "_default"
_LARGEST_MESSAGE = 256 * 2**20  # as Milvus accepts
_CALLS_AT_ONCE = 10


class EngineMissing(Exception):
    """Milvus Lite is not installed, so that only scripted jobs can run."""


class DatabaseRefused(Exception):
    """Milvus Lite refused to make or drop a database; the text says why."""


class Engine:
    """Milvus Lite on a database file, started on first use.

    :param path: the database; Milvus Lite makes a folder there
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._insert_lock = threading.Lock()  # Milvus Lite allows one writer for each collection
        self._writing: dict[tuple[str, str], threading.Lock] = {}
        self._client: Any = None
        self._clients: dict[str, Any] = {}
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

    def client_of(self, database: str = "") -> Any:
        """Return pymilvus's client of one of the databases.

        :raises EngineMissing: the packages of the extra ``local`` are not installed
        """
        client = self.start()
        if database in ("", DEFAULT_DATABASE):
            return client
        from pymilvus import MilvusClient

        with self._lock:
            if database not in self._clients:
                self._clients[database] = MilvusClient(f"http://127.0.0.1:{self.port}", db_name=database)
            return self._clients[database]

    def databases(self) -> list[str]:
        """Return the names of the databases."""
        self.start()
        return sorted(self._db.list_databases())

    def has_database(self, database: str) -> bool:
        """Return whether the database exists."""
        return database in self.databases()  # Milvus Lite makes a path of any name

    def create_database(self, database: str) -> None:
        """Make a database.

        :raises DatabaseRefused: it exists, or cannot have that name
        """
        self.start()
        with _database_errors():
            self._db.create_database(database)

    def drop_database(self, database: str) -> None:
        """Drop a database.

        :raises DatabaseRefused: it has collections, or is the default one
        """
        self.start()
        with self._lock, _database_errors():
            self._db.drop_database(database)
            if (client := self._clients.pop(database, None)) is not None:
                client.close()

    def database_properties(self, database: str) -> dict[str, Any]:
        """Return the properties of a database."""
        self.start()
        return dict(self._db.describe_database(database)["properties"])

    def collections(self, database: str) -> list[str]:
        """Return the names of a database's collections."""
        self.start()
        return sorted(self._db.list_collections(database_name=database))

    def has_collection(self, collection: str, database: str = "") -> bool:
        """Return whether the collection exists."""
        database = database or DEFAULT_DATABASE
        if not self.has_database(database):
            return False
        name = self._db.resolve_collection_name(collection, database_name=database)
        return name in self.collections(database)

    def has_partition(self, collection: str, partition: str, database: str = "") -> bool:
        """Return whether the collection has the partition."""
        return bool(self.client_of(database).has_partition(collection, partition))

    def has_partition_key(self, collection: str, database: str = "") -> bool:
        """Return whether the collection spreads its rows over partitions by a field."""
        fields = self.client_of(database).describe_collection(collection)["fields"]
        return any(field.get("is_partition_key") for field in fields)

    def schema(self, collection: str, database: str = "") -> Schema:
        """Return a collection's schema.

        :raises ImportFileError: the collection is gone
        """
        if not self.has_collection(collection, database):
            raise ImportFileError(f"collection {collection} dropped")
        return Schema.of(self.client_of(database).describe_collection(collection))

    def insert(self, collection: str, rows: Sequence[Row], partition: str, database: str = "") -> int:
        """Insert rows and return how many Milvus Lite accepted.

        They go directly to the engine, since pymilvus refuses a key such as ``$meta`` and turns every float into
        float32.

        :raises ImportFileError: with Milvus Lite's own words
        """
        from milvus_lite.exceptions import MilvusLiteError

        try:
            with self._insert_lock:
                found = self._collection(collection, database)
                return len(found.insert(list(rows), partition_name=partition or _DEFAULT_PARTITION))
        except MilvusLiteError as err:
            raise ImportFileError(f"Milvus Lite refused the rows: {err}") from None

    @contextmanager
    def writing(self, collection: str, database: str = "") -> Iterator[None]:
        """Exclude other imports from a collection while one writes to it."""
        with self._lock:
            lock = self._writing.setdefault((database or DEFAULT_DATABASE, collection), threading.Lock())
        with lock:
            yield

    def is_loaded(self, collection: str, database: str = "") -> bool:
        """Return whether rows of the collection can be looked up.

        :raises ImportFileError: the collection is gone
        """
        from milvus_lite.exceptions import MilvusLiteError

        try:
            return bool(self._collection(collection, database).load_state == "loaded")
        except MilvusLiteError as err:
            raise ImportFileError(f"Milvus Lite has no such collection: {err}") from None

    def known_keys(self, keys: Sequence[Any], collection: str, database: str = "") -> int:
        """Return how many of these primary keys, each of them once, have a row."""
        from milvus_lite.exceptions import MilvusLiteError

        try:
            found = self._collection(collection, database)
            return len(found.get(list(keys), output_fields=[found.pk_field]))
        except MilvusLiteError:  # not loaded any more, or gone, which the insert reports
            return 0

    def row_count(self, collection: str, database: str = "") -> int:
        """Return how many rows a collection has, counting each primary key once; it takes memory for all keys.

        :raises ImportFileError: the collection is gone
        """
        from milvus_lite.exceptions import MilvusLiteError

        try:
            return int(self._collection(collection, database).num_entities)
        except MilvusLiteError as err:
            raise ImportFileError(f"Milvus Lite does not count the rows: {err}") from None

    def _collection(self, collection: str, database: str) -> Any:
        self.start()
        return self._db.get_collection(collection, database_name=database or DEFAULT_DATABASE)

    def close(self) -> None:
        """Stop Milvus Lite."""
        with self._lock:
            if self._client is not None:
                for client in (self._client, *self._clients.values()):
                    client.close()
                self._clients.clear()
                self._server.stop(grace=2).wait()
                self._db.close()
                self._client = None


@contextmanager
def _database_errors() -> Iterator[None]:
    from milvus_lite.exceptions import MilvusLiteError

    try:
        yield
    except (MilvusLiteError, ValueError, OSError) as err:
        raise DatabaseRefused(str(err)) from None


def _serve(path: Path) -> tuple[Any, Any, int]:
    """Start Milvus Lite's gRPC server; return it, its database and its port.

    Its own start uses gRPC's defaults, which disconnect an idle client that pings, as pymilvus does every 10 s.

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
