"""Counts imported rows whose primary key exists already: Milvus keeps both rows, Milvus Lite only the last."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_zilliz.local.engine import Engine
from airflow_zilliz.local.row_validation import Row


class DoubledRows:
    """The count of one import.

    The keys of each batch are looked up before it is inserted. Milvus Lite finds none in a collection that is not
    loaded: its rows are counted before and after the import instead, which needs memory for all of their keys.

    :param primary: name of the primary key's field
    :raises ImportFileError: the collection is gone
    """

    def __init__(self, engine: Engine, collection: str, database: str, primary: str) -> None:
        self._engine = engine
        self._at = (collection, database)
        self._primary = primary
        self._before = None if engine.is_loaded(*self._at) else engine.row_count(*self._at)
        self._rows = self._found = 0

    def add(self, batch: Sequence[Row]) -> None:
        """Count rows that are about to be inserted; the engine generates missing keys."""
        self._rows += len(batch)
        if self._before is None:
            keys = [row[self._primary] for row in batch if self._primary in row]
            unique = set(keys)
            self._found += len(keys) - len(unique) + self._engine.known_keys(list(unique), *self._at)

    def total(self) -> int:
        """Return how many there were, once all rows are inserted.

        :raises ImportFileError: the collection is gone
        """
        if self._before is None:
            return self._found
        return self._before + self._rows - self._engine.row_count(*self._at)
