"""What an import holds in memory, and what it says of its progress, without an engine that keeps the rows."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_zilliz.local.engine import Engine
from airflow_zilliz.local.importing import Importer
from airflow_zilliz.local.jobs import Job, JobStore
from airflow_zilliz.local.row_validation import Field, Row, Schema

MB = 2**20
ROWS = 100_000


class Counting(Engine):
    """An engine that counts rows and drops them."""

    def __init__(self, schema: Schema, inserted: Callable[[int], None]) -> None:
        super().__init__(Path("nowhere"))
        self._schema = schema
        self._inserted = inserted
        self.rows = self.batch = 0

    def schema(self, collection: str, database: str = "") -> Schema:
        return self._schema

    def is_loaded(self, collection: str, database: str = "") -> bool:
        return True

    def known_keys(self, keys: Sequence[Any], collection: str, database: str = "") -> int:
        return 0

    def insert(self, collection: str, rows: Sequence[Row], partition: str, database: str = "") -> int:
        self._inserted(self.rows)
        self.rows += len(rows)
        self.batch = max(self.batch, len(rows))
        return len(rows)


def books(dim: int = 8) -> Schema:
    fields = (Field("id", "INT64"), Field("title", "VARCHAR", max_length=200), Field("vector", "FLOAT_VECTOR", dim=dim))
    return Schema("books", fields, primary="id")


def write(folder: Path, kind: str, rows: int, dim: int = 8) -> tuple[str, ...]:
    """Write rows of which Parquet has one row group; return the files' names."""
    folder.mkdir()
    ids, titles = np.arange(rows), [f"book {number:0100}" for number in range(rows)]
    vectors = np.ones((rows, dim), np.float32)
    if kind == "npy":
        for name, column in (("id", ids), ("title", np.array(titles)), ("vector", vectors)):
            np.save(folder / f"{name}.npy", column)
        return ("id.npy", "title.npy", "vector.npy")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim)
    table = pa.table([pa.array(ids), pa.array(titles), lists], ["id", "title", "vector"])
    pq.write_table(table, folder / "a.parquet", row_group_size=rows)
    return ("a.parquet",)


class Import:
    """One import by a real importer into an engine that keeps nothing.

    :ivar seen: progress and imported rows of the job before each batch, and how many rows the engine had
    """

    def __init__(self, folder: Path, files: tuple[str, ...], schema: Schema) -> None:
        self.store = JobStore()
        self.seen: list[tuple[int, int, int]] = []
        self.engine = Counting(schema, self._look)
        importer = Importer(self.store, self.engine, folder, folder / "staged")
        importer.submit(self.store.add(Job("1", "books", groups=(files,))))
        until = time.monotonic() + 250
        while not self.job.is_final and time.monotonic() < until:
            time.sleep(0.02)
        importer.close()

    @property
    def job(self) -> Job:
        job = self.store.get("1")
        assert job is not None
        return job

    def _look(self, rows: int) -> None:
        self.seen.append((self.job.progress, self.job.imported_rows, rows))


def peak(folder: Path, kind: str, rows: int, dim: int = 8) -> tuple[int, int]:
    """Return the most that an import held, in bytes: of Python's own and NumPy's memory, and of Arrow's."""
    files = write(folder, kind, rows, dim)
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        done = Import(folder, files, books(dim))
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    assert (done.job.state, done.engine.rows) == ("Completed", rows)
    return held, pool.max_memory() or 0


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_what_an_import_holds_does_not_grow_with_its_rows(tmp_path: Path, kind: str) -> None:
    few, many = (peak(tmp_path / str(rows), kind, rows) for rows in (ROWS // 5, ROWS))
    assert many[0] < 8 * MB
    assert many[0] < 1.2 * few[0]
    assert many[1] < 16 * MB


def test_long_vectors_are_held_in_smaller_batches(tmp_path: Path) -> None:
    held, _ = peak(tmp_path / "long", "parquet", 2000, dim=1536)
    assert held < 40 * MB, "2,000 of them are 98 MB of Python's floats"


def test_progress_is_that_of_the_rows(tmp_path: Path) -> None:
    done = Import(tmp_path / "a", write(tmp_path / "a", "parquet", ROWS), books())
    assert done.job.progress == 100
    assert [imported for _, imported, _ in done.seen] == [rows for _, _, rows in done.seen]
    assert [progress for progress, _, _ in done.seen] == [40 + 30 * rows // ROWS for _, _, rows in done.seen]
    assert len({progress for progress, _, _ in done.seen}) == 30
