"""Reads the rows of an import: one module for each format, since each has its own rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from airflow_zilliz.local.file_readers import csv_files, json_files, numpy_files, parquet_files
from airflow_zilliz.local.import_errors import ImportFileError
from airflow_zilliz.local.row_validation import Row, Schema
from airflow_zilliz.local.versions import NEWEST, MilvusVersion


def read_rows(
    files: Sequence[Path], schema: Schema, options: Mapping[str, str], version: MilvusVersion = NEWEST
) -> Iterator[Row]:
    """Yield the rows of one file, or of one set of NumPy files (one file a field, named after it).

    At most a few thousand rows are in memory at a time. Each row is in the form that the collection accepts.

    :param options: ``sep`` and ``nullkey`` for CSV
    :param version: decides what an unknown field means
    :raises ImportFileError: naming the file, the row, the field, and what is wrong
    """
    path = files[0]
    try:
        match path.suffix:
            case ".npy":
                yield from numpy_files.read(files, schema)
            case ".parquet":
                yield from parquet_files.read(path, schema, fixed_size_lists=version.fixed_size_lists)
            case ".csv":
                yield from csv_files.read(path, schema, options, skips_unknown=version.skips_unknown_fields)
            case ".json":
                yield from json_files.read(path, schema, skips_unknown=version.skips_unknown_fields)
            case _:
                yield from json_files.read_lines(path, schema, skips_unknown=version.skips_unknown_fields)
    except OSError as err:
        raise ImportFileError(f"{path.name} cannot be read: {err}") from None
