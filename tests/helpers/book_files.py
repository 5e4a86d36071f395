"""Files of books for the local server's collections, and the rows that have come of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer

#: The most rows that a Milvus returns at once.
_LONGEST_QUERY = 16_384


def write_json(path: Path, ids: range) -> None:
    """Write the rows of these keys as JSON."""
    path.write_text(json.dumps([{"id": key, "vector": [0.5, key]} for key in ids]))


def write_parquet(path: Path, ids: range) -> None:
    """Write the rows of these keys as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = pa.array([[0.5, float(key)] for key in ids], pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": pa.array(ids, pa.int64()), "vector": vectors}), path)


def write_books(folder: Path, files: int, rows: int, write: Callable[[Path, range], None] = write_json) -> list[Path]:
    """Write files of so many rows each, whose keys go on from file to file; return their paths."""
    folder.mkdir(parents=True)
    suffix = ".parquet" if write is write_parquet else ".json"
    paths = [folder / f"{number:05}{suffix}" for number in range(files)]
    for number, path in enumerate(paths):
        write(path, range(number * rows, (number + 1) * rows))
    return paths


def make_collection(server: LocalServer, name: str = "books") -> None:
    """Make the collection, empty."""
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(server.url, token=server.api_key or "")
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index)


def ids_in(server: LocalServer, name: str = "books") -> list[int]:
    """Return the keys of all rows."""
    from pymilvus import MilvusClient

    client = MilvusClient(server.url, token=server.api_key or "")
    client.load_collection(name)
    # in no order, so that a page could not say where the next one begins
    rows = client.query(name, filter="id >= 0", output_fields=["id"], limit=_LONGEST_QUERY)
    assert len(rows) < _LONGEST_QUERY
    return sorted(row["id"] for row in rows)


def files_of_completed_jobs(name: str = "books") -> Counter[str]:
    """Return in how many Completed jobs of a collection each file is, as the server shows them."""
    hook = ZillizHook()
    jobs = [hook.get_import_progress(job.job_id) for job in hook.list_import_jobs(collection_name=name)]
    completed = [job for job in jobs if job.state.value == "Completed"]
    return Counter(str(file.file_name).strip("[]") for job in completed for file in job.details)
