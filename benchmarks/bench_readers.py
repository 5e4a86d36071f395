"""What the local server's file readers take: rows a second and peak memory, for each format.

Each format is read in a process of its own, so that its peak memory is its own; what reading ten rows needs, the
interpreter and the libraries, is printed beside it. ``--import`` imports the Parquet file as well, through the real
server into Milvus Lite.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_zilliz.local.file_readers import read_rows
from airflow_zilliz.local.row_validation import Field, Schema

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
    seconds = time.monotonic() - started
    # the peak that getrusage knows is also that of the process which started this one
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found is not None
    peak = int(found[1]) / 1024
    print(json.dumps({"rows": rows, "seconds": seconds, "peak": peak}))


def measured(paths: list[Path]) -> dict[str, float]:
    command = [sys.executable, __file__, "--read", *map(str, paths)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def import_parquet(folder: Path, rows: int) -> None:
    """Import one Parquet file through the real server, and print how long it took and what the server needed."""
    import psutil
    import requests
    from pymilvus import DataType, MilvusClient

    from airflow_zilliz.local.testing import LocalServer

    (data := folder / "data").mkdir()
    write("parquet", data, rows)
    with LocalServer(data) as server:
        client = MilvusClient(server.url)
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("title", DataType.VARCHAR, max_length=100)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
        client.create_collection("bench", schema=schema)
        body = {"collectionName": "bench", "files": [["rows.parquet"]]}
        started = time.monotonic()
        answer = requests.post(f"{server.url}/v2/vectordb/jobs/import/create", json=body, timeout=60).json()
        process = next(p for p in psutil.Process().children(recursive=True) if "airflow_zilliz.local" in p.cmdline())
        peak, seen, state = 0.0, set(), ""
        while state not in ("Completed", "Failed"):
            url = f"{server.url}/v2/vectordb/jobs/import/describe"
            job = requests.post(url, json=answer["data"], timeout=60).json()["data"]
            state = job["state"]
            seen.add(job["progress"])
            peak = max(peak, process.memory_info().rss / 2**20)
            time.sleep(0.2)
        seconds = time.monotonic() - started
        print(
            f"import   {state}, {job['importedRows']:,} rows, {rows / seconds:,.0f} rows/s, server {peak:.0f} MB",
            end="",
        )
        print(f", {len(seen)} different values of progress")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--import", dest="imports", action="store_true")
    arguments.add_argument("--read", nargs="+", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.read:
        read(options.read)
        return
    print(f"{'format':8} {'rows/s':>9} {'file MB':>8} {'peak MB':>8} {'of ten rows':>12}")
    for kind in FORMATS:
        with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
            base = measured(write(kind, Path(small), 10))
            paths = write(kind, Path(large), options.rows)
            result = measured(paths)
            size = sum(path.stat().st_size for path in paths) / 2**20
            speed = result["rows"] / result["seconds"]
            print(f"{kind:8} {speed:9,.0f} {size:8.0f} {result['peak']:8.0f} {base['peak']:12.0f}", flush=True)
    if options.imports:
        with tempfile.TemporaryDirectory() as folder:
            import_parquet(Path(folder), options.rows)


if __name__ == "__main__":
    main()
