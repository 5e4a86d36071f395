"""NumPy: one file for each field, named after it; a file's dtype is checked before its values, and nothing widens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_zilliz.local.import_errors import BadValue, ImportFileError
from airflow_zilliz.local.row_validation import (
    FLOATS,
    META,
    Field,
    Row,
    Schema,
    checked_float,
    checked_length,
    checked_text,
    json_value,
)

_ROWS_AT_ONCE = 1000
_TEXT = "U or S"
_SMALL = 2**20
_FORMATS = (1, 2)
_DTYPES = {
    "BOOL": ("bool",),
    "INT8": ("int8",),
    "INT16": ("int16",),
    "INT32": ("int32",),
    "INT64": ("int64",),
    "FLOAT": ("float32",),
    "DOUBLE": ("float64",),
    "FLOAT_VECTOR": ("float32", "float64"),
    **dict.fromkeys(("VARCHAR", "JSON", "GEOMETRY", "TIMESTAMPTZ"), (_TEXT,)),
}
_META_FIELD = Field(META, "JSON")


def read(files: Sequence[Path], schema: Schema) -> Iterator[Row]:
    """Yield the rows of one set of files; raise ImportFileError."""
    where = " ".join(path.name for path in files)
    schema.check_names([path.stem for path in files], where)
    paths = {path.stem: path for path in files}
    fields = [field for field in schema.fields if field.name in paths]
    if schema.dynamic and META in paths:
        fields.append(_META_FIELD)
    columns = {field.name: _column(field, paths[field.name]) for field in fields}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ImportFileError(f"the NumPy files of one set differ in rows: {lengths}")
    step = schema.rows_at_once(_ROWS_AT_ONCE)
    for first in range(0, next(iter(lengths.values()), 0), step):
        yield from _rows(schema, fields, columns, paths, slice(first, first + step))


def _rows(
    schema: Schema, fields: Sequence[Field], columns: Mapping[str, Any], paths: Mapping[str, Path], part: slice
) -> Iterator[Row]:
    first = part.start
    chunks = {field.name: _values(field, columns[field.name][part], paths[field.name].name, first) for field in fields}
    metas = chunks.pop(META, None)
    for index in range(len(next(iter(chunks.values())))):
        row = {name: values[index] for name, values in chunks.items()}
        if metas is not None:
            row |= schema.dynamic_values({META: metas[index]}, f"{paths[META].name} row {first + index + 1}")
        yield row


def _load(path: Path) -> Any:
    import numpy as np

    mode = "r" if path.stat().st_size > _SMALL else None
    try:
        with path.open("rb") as file:
            major, _ = np.lib.format.read_magic(file)
        column = np.load(path, mmap_mode=mode, allow_pickle=False)  # type: ignore[arg-type] # None is a mode too
    except (ValueError, EOFError, SyntaxError, MemoryError) as err:
        raise ImportFileError(f"{path.name} is not a readable NumPy file: {err}") from None
    if major not in _FORMATS:
        raise ImportFileError(f"{path.name} has NumPy's file format {major}, of which Milvus reads 1 and 2")
    return column


def _column(field: Field, path: Path) -> Any:
    column = _load(path)
    dtype = _TEXT if column.dtype.kind in "US" else column.dtype.name
    wanted = _DTYPES.get(field.kind, ())
    if dtype not in wanted:
        kinds = " or ".join(wanted) or "no NumPy file"
        raise ImportFileError(
            f"{path.name}: field {field.name!r} of type {field.kind} accepts {kinds}, the file has {column.dtype}"
        )
    dimensions = 2 if field.kind == "FLOAT_VECTOR" else 1
    if column.ndim != dimensions:
        raise ImportFileError(
            f"{path.name}: field {field.name!r} must have the shape of a {field.kind}, got {column.shape}"
        )
    if dimensions == 2:
        if not column.flags.c_contiguous:
            raise ImportFileError(
                f"{path.name}: field {field.name!r} is in Fortran order, in which Milvus reads wrong vectors without an"
                " error; write numpy.ascontiguousarray of it"
            )
        try:
            checked_length(field, column.shape[1])
        except BadValue as err:
            raise ImportFileError(f"{path.name} row 1: field {field.name!r} {err}") from None
    return column


def _values(field: Field, column: Any, name: str, first: int) -> list[Any]:
    values: list[Any] = column.tolist()
    if column.dtype.kind in "US":
        values = [_text(value, column.dtype.itemsize) for value in values]
    for index, value in enumerate(values):
        try:
            values[index] = _value(field, value)
        except BadValue as err:
            raise ImportFileError(f"{name} row {first + index + 1}: field {field.name!r} {err}") from None
    return values


def _text(value: str | bytes, size: int) -> str:
    """Return a text as Milvus reads it.

    It drops the NULs of a ``U``, and ends an ``S`` at its first NUL, unless it begins with that one.

    :param size: bytes that the file has for each value
    """
    if isinstance(value, str):
        return value.replace("\0", "")
    padded = value.ljust(size, b"\0")
    return (padded.partition(b"\0")[0] or padded).decode("utf-8", "surrogateescape")


def _value(field: Field, value: Any) -> Any:
    if field.kind in FLOATS:
        return checked_float(field.kind, value)
    if field.kind == "FLOAT_VECTOR":
        return [checked_float("FLOAT", number) for number in value]
    if field.kind == "JSON":
        return json_value(value)
    return checked_text(field, value) if isinstance(value, str) else value
