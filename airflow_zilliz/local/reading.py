"""Reads the files of an import: JSON, CSV, Parquet and sets of NumPy files, never outside the data folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".parquet", ".npy")
_ROWS_AT_ONCE = 1000

Row = dict[str, Any]


class ImportFileError(Exception):
    """A file cannot be imported; the text becomes the job's reason."""


def local_path(root: Path, name: str, volume: str = "") -> Path:
    """Return the file below ``root`` that a path or an object URL names.

    ``s3://bucket/a.json`` is ``root/bucket/a.json``, ``https://host/bucket/a.json`` is ``root/bucket/a.json``.

    :raises ImportFileError: for a path that leads out of ``root``
    """
    parts = urlsplit(name) if "://" in name else None
    if parts is not None:
        bucket = "" if parts.scheme in ("http", "https") else parts.netloc
        name = f"{bucket}/{unquote(parts.path)}"
    inside = f"{volume}/{name}".lstrip("/")
    try:
        path = (root / inside).resolve()
    except (OSError, ValueError, RuntimeError) as err:
        raise ImportFileError(f"path {name!r} cannot be read: {err}") from None
    if not path.is_relative_to(root.resolve()):
        raise ImportFileError(f"path {name!r} is outside the server's --data-dir, and is refused")
    return path


def expand(root: Path, group: Sequence[str], volume: str = "") -> list[tuple[Path, ...]]:
    """Return the files of one inner list: single files, or one set of NumPy files; a folder stands for its files.

    :raises ImportFileError: for a file that is missing, outside ``root`` or of an unknown kind
    """
    paths: list[Path] = []
    for name in group:
        path = local_path(root, name, volume)
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        paths += [local_path(root, str(p.relative_to(root.resolve()))) for p in inside]
        if not inside:
            raise ImportFileError(f"folder {name!r} holds no file to import")
    for path in paths:
        if not path.is_file():
            raise ImportFileError(f"file not found: {path.relative_to(root.resolve())}")
        if path.suffix.lower() not in SUFFIXES:
            raise ImportFileError(f"unexpect file type, files=[{path.name}]")
    if all(path.suffix.lower() == ".npy" for path in paths):
        return [tuple(paths)]
    return [(path,) for path in paths]


def read_rows(files: Sequence[Path], options: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of one file, or of one set of NumPy files (one file a field, named after it).

    :param options: ``sep`` and ``nullkey`` for CSV
    :raises ImportFileError: saying what is wrong with the file, and where
    """
    path = files[0]
    try:
        match path.suffix.lower():
            case ".npy":
                yield from _numpy_rows(files)
            case ".parquet":
                yield from _parquet_rows(path)
            case ".csv":
                yield from _csv_rows(path, options)
            case ".json":
                yield from _json_rows(path)
            case _:
                yield from _json_lines(path)
    except (OSError, UnicodeDecodeError) as err:
        raise ImportFileError(f"{path.name} cannot be read: {err}") from None


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, RecursionError) as err:
        raise ImportFileError(f"{path.name} is not valid JSON: {err}") from None
    rows = value.get("rows") if isinstance(value, dict) and "rows" in value else value
    if not isinstance(rows, list):
        raise ImportFileError(f'{path.name} must be a JSON list of rows, or an object with a list "rows"')
    for number, row in enumerate(rows, 1):
        yield _object(row, path, number)


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (json.JSONDecodeError, RecursionError) as err:
                    raise ImportFileError(f"{path.name} line {number} is not valid JSON: {err}") from None
                yield _object(row, path, number)


def _object(row: object, path: Path, number: int) -> Row:
    if not isinstance(row, dict):
        raise ImportFileError(f"{path.name} row {number} is not a JSON object")
    return row


def _csv_rows(path: Path, options: Mapping[str, str]) -> Iterator[Row]:
    null = options.get("nullkey", "")
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=options.get("sep", ","), strict=True)
        try:
            header = next(reader, None)
            if not header:
                raise ImportFileError(f"{path.name} has no header line")
            for values in reader:
                if len(values) != len(header):
                    raise ImportFileError(
                        f"{path.name} line {reader.line_num} has {len(values)} values, the header names {len(header)}"
                    )
                yield {name: None if value == null else value for name, value in zip(header, values, strict=True)}
        except csv.Error as err:
            raise ImportFileError(f"{path.name} line {reader.line_num} is not valid CSV: {err}") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as err:
        raise ImportFileError(f"{path.name} is not a readable Parquet file: {err}") from None


def _numpy_rows(files: Sequence[Path]) -> Iterator[Row]:
    import numpy as np

    columns: dict[str, Any] = {}
    for path in files:
        try:
            columns[path.stem] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as err:
            raise ImportFileError(f"{path.name} is not a readable NumPy file: {err}") from None
    lengths = {name: len(column) if column.ndim else 0 for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ImportFileError(f"the NumPy files of one set differ in rows: {lengths}")
    for number in range(next(iter(lengths.values()))):
        yield {name: column[number].tolist() for name, column in columns.items()}
