"""What the local server's file readers take: rows a second and peak memory, for each format.

Each format is read in a process of its own, so that its peak memory is its own; what reading ten rows needs, the
interpreter and the libraries, is printed beside it. ``--import`` imports the Parquet file as well: by our half of the
server alone (``ours``), which reads, checks, counts and drops the rows; by Milvus Lite alone (``engine``), of rows that
were made for it; and by the whole server.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_zilliz.local.engine import Engine
from airflow_zilliz.local.file_readers import read_rows
from airflow_zilliz.local.importing import BATCH_ROWS, Importer
from airflow_zilliz.local.jobs import Job, JobStore
from airflow_zilliz.local.row_validation import Field, Row, Schema

DIM = 8
SCHEMA = Schema(
    "bench",
    (Field("id", "INT64"), Field("title", "VARCHAR", max_length=100), Field("vector", "FLOAT_VECTOR", dim=DIM)),
    primary="id",
)
FORMATS = ("parquet", "json", "jsonl", "csv", "npy")
_CHUNK = 50_000


def chunks(rows: int) -> Any:
    """Yield the columns of some rows at a time, so that writing needs little memory too."""
    random = np.random.default_rng(7)
    for first in range(0, rows, _CHUNK):
        ids = np.arange(first, min(first + _CHUNK, rows))
        yield ids, [f"article {number}" for number in ids], random.random((len(ids), DIM), dtype=np.float32)


def write(kind: str, folder: Path, rows: int) -> list[Path]:
    path = folder / f"rows.{kind}"
    if kind == "npy":
        paths = [folder / f"{name}.npy" for name in ("id", "title", "vector")]
        columns = [np.concatenate(column) for column in zip(*chunks(rows), strict=True)]
        for path, column in zip(paths, columns, strict=True):
            np.save(path, column)
        return paths
    if kind == "parquet":
        schema = pa.schema([("id", pa.int64()), ("title", pa.string()), ("vector", pa.list_(pa.float32()))])
        with pq.ParquetWriter(path, schema) as writer:
            for ids, titles, vectors in chunks(rows):
                writer.write_table(pa.table([pa.array(ids), pa.array(titles), pa.array(list(vectors))], schema))
        return [path]
    line: Callable[..., str] = _csv_line if kind == "csv" else _json_line
    with path.open("w") as file:
        file.write({"json": "[", "csv": "id,title,vector\n"}.get(kind, ""))
        comma = ""
        for ids, titles, vectors in chunks(rows):
            for number, title, vector in zip(ids, titles, vectors, strict=True):
                file.write(f"{comma}{line(int(number), title, vector.tolist())}\n")
                comma = "," if kind == "json" else ""
        file.write("]" if kind == "json" else "")
    return [path]


def _json_line(number: int, title: str, vector: list[float]) -> str:
    return json.dumps({"id": number, "title": title, "vector": vector})


def _csv_line(number: int, title: str, vector: list[float]) -> str:
    return f'{number},{title},"{vector}"'


def read(paths: list[Path]) -> None:
    """Read the files in this process, and print the result as JSON."""
    started = time.monotonic()
    rows = sum(1 for _ in read_rows(paths, SCHEMA, {}))
    report(rows, started)


def report(rows: int, started: float) -> None:
    """Print what this process did since it started, and the most memory that it ever had, as JSON."""
    print(json.dumps({"rows": rows, "seconds": time.monotonic() - started, "peak": peak_of("self")}))


def peak_of(pid: int | str) -> float:
    """Return the most memory that a process ever had, in MB; what getrusage knows is also that of its parent."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def measured(what: str, *words: Path | int) -> dict[str, float]:
    """Do one of the three things in a process of its own."""
    command = [sys.executable, __file__, f"--{what}", *map(str, words)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


class Dropping(Engine):
    """An engine that counts rows and drops them."""

    rows = 0

    def schema(self, collection: str, database: str = "") -> Schema:
        return SCHEMA

    def is_loaded(self, collection: str, database: str = "") -> bool:
        return True

    def known_keys(self, keys: Sequence[Any], collection: str, database: str = "") -> int:
        return 0

    def insert(self, collection: str, rows: Sequence[Row], partition: str, database: str = "") -> int:
        self.rows += len(rows)
        return len(rows)


def import_into_nothing(path: Path) -> None:
    """Import a file with everything that the server does, except for the engine."""
    started = time.monotonic()
    store, engine = JobStore(), Dropping(path.parent)
    importer = Importer(store, engine, path.parent, path.parent / "staged")
    importer.submit(store.add(Job("1", "bench", groups=((path.name,),))))
    while (job := store.get("1")) and not job.is_final:
        time.sleep(0.05)
    importer.close()
    assert job is not None
    assert job.state == "Completed", job
    report(engine.rows, started)


def fill_engine(folder: Path, rows: int) -> None:
    """Insert rows that were made for it into Milvus Lite, in an import's batches."""
    engine = Engine(folder / "milvus.db")
    make_collection(engine.start())
    started = time.monotonic()
    for ids, titles, vectors in chunks(rows):
        made = [
            {"id": int(number), "title": title, "vector": vector.tolist()}
            for number, title, vector in zip(ids, titles, vectors, strict=True)
        ]
        for first in range(0, len(made), BATCH_ROWS):
            engine.insert("bench", made[first : first + BATCH_ROWS], "")
    report(rows, started)
    engine.close()


def make_collection(client: Any) -> None:
    from pymilvus import DataType

    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("title", DataType.VARCHAR, max_length=100)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection("bench", schema=schema)


def halves(rows: int) -> None:
    """Print what an import needs without the engine, and what the engine needs without an import."""
    with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
        for name, few, many in (
            (
                "ours",
                measured("ours", *write("parquet", Path(small), 10)),
                measured("ours", *write("parquet", Path(large), rows)),
            ),
            ("engine", measured("engine", Path(small), 10), measured("engine", Path(large), rows)),
        ):
            speed = many["rows"] / many["seconds"]
            print(f"{name:8} {speed:9,.0f} {'':8} {many['peak']:8.0f} {few['peak']:12.0f}", flush=True)


def import_parquet(folder: Path, rows: int) -> None:
    """Import one Parquet file through the real server, and print how long it took and what the server needed."""
    import psutil
    import requests
    from pymilvus import MilvusClient

    from airflow_zilliz.local.testing import LocalServer

    (data := folder / "data").mkdir()
    write("parquet", data, rows)
    with LocalServer(data) as server:
        make_collection(MilvusClient(server.url))
        body = {"collectionName": "bench", "files": [["rows.parquet"]]}
        started = time.monotonic()
        response = requests.post(f"{server.url}/v2/vectordb/jobs/import/create", json=body, timeout=60).json()
        process = next(p for p in psutil.Process().children(recursive=True) if "airflow_zilliz.local" in p.cmdline())
        seen, state = set(), ""
        while state not in ("Completed", "Failed"):
            url = f"{server.url}/v2/vectordb/jobs/import/describe"
            job = requests.post(url, json=response["data"], timeout=60).json()["data"]
            state = job["state"]
            seen.add(job["progress"])
            time.sleep(0.2)
        seconds = time.monotonic() - started
        print(f"{'server':8} {rows / seconds:9,.0f} {'':8} {peak_of(process.pid):8.0f}")
        print(f"{state}, {job['importedRows']:,} rows, {len(seen)} different values of progress")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--import", dest="imports", action="store_true")
    arguments.add_argument("--read", nargs="+", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--engine", nargs=2, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.read:
        read(options.read)
    elif options.ours:
        import_into_nothing(options.ours)
    elif options.engine:
        fill_engine(Path(options.engine[0]), int(options.engine[1]))
    else:
        measure(options.rows, imports=options.imports)


def measure(rows: int, *, imports: bool) -> None:
    """Print the table."""
    print(f"{'':8} {'rows/s':>9} {'file MB':>8} {'peak MB':>8} {'of ten rows':>12}")
    for kind in FORMATS:
        with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
            base = measured("read", *write(kind, Path(small), 10))
            paths = write(kind, Path(large), rows)
            result = measured("read", *paths)
            size = sum(path.stat().st_size for path in paths) / 2**20
            speed = result["rows"] / result["seconds"]
            print(f"{kind:8} {speed:9,.0f} {size:8.0f} {result['peak']:8.0f} {base['peak']:12.0f}", flush=True)
    if imports:
        halves(rows)
        with tempfile.TemporaryDirectory() as folder:
            import_parquet(Path(folder), rows)


if __name__ == "__main__":
    main()
