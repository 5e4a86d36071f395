"""Parquet: a column's type is checked before its values; only whole numbers and floats widen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from airflow_zilliz.local.file_readers import json_files
from airflow_zilliz.local.import_errors import BadValue, ImportFileError
from airflow_zilliz.local.json_text import parse_json
from airflow_zilliz.local.row_validation import (
    FLOATS,
    INT_BITS,
    META,
    Field,
    Row,
    Schema,
    checked_float,
    checked_length,
    checked_text,
    json_value,
    missing_value,
)

_ROWS_AT_ONCE = 1000
_READ_AHEAD = 2**20
_INTS = ("int8", "int16", "int32", "int64")
_INDICES = ("int32", "uint32", "int64", "uint64")
_WIDENING = {
    **{kind: _INTS[: index + 1] for index, kind in enumerate(INT_BITS)},
    **dict.fromkeys(FLOATS, (*_INTS, "float", "double")),
    "BOOL": ("bool",),
    **dict.fromkeys(("VARCHAR", "JSON", "GEOMETRY", "TIMESTAMPTZ"), ("string",)),
}


def read(path: Path, schema: Schema, *, fixed_size_lists: bool = True) -> Iterator[Row]:
    """Yield the rows of a ``.parquet`` file; raise ImportFileError.

    :param fixed_size_lists: whether vectors and ARRAYs may be a ``fixed_size_list``
    """
    import pyarrow
    import pyarrow.parquet

    try:
        # a row group is not read as a whole, since it may be as large as the file
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_READ_AHEAD) as file:
            arrow = file.schema_arrow
            names = arrow.names
            schema.check_names(names, path.name)
            fields = [field for field in schema.fields if field.name in names]
            for field in fields:
                _check_type(field, arrow.field(field.name).type, path.name, fixed_size_lists=fixed_size_lists)
            meta = [META] if schema.dynamic and META in names else []
            if meta and str(arrow.field(META).type) != "string":
                raise ImportFileError(f"{path.name}: field {META!r} must be a column of type string")
            done = 0
            columns = [*(field.name for field in fields), *meta]
            for batch in file.iter_batches(batch_size=schema.rows_at_once(_ROWS_AT_ONCE), columns=columns):
                yield from _rows(schema, fields, batch, path.name, done)
                done += batch.num_rows
    except (pyarrow.ArrowException, UnicodeDecodeError) as err:
        raise ImportFileError(f"{path.name} is not a readable Parquet file: {err}") from None


def _rows(schema: Schema, fields: list[Field], batch: Any, name: str, done: int) -> Iterator[Row]:
    columns = {field.name: _values(field, batch.column(field.name), name, done) for field in fields}
    metas = batch.column(META).to_pylist() if META in batch.schema.names else None
    for index in range(batch.num_rows):
        row = {column: values[index] for column, values in columns.items()}
        if metas is not None:
            row |= schema.dynamic_values({META: metas[index]}, f"{name} row {done + index + 1}")
        yield row


# -- types --------------------------------------------------------------------------------------------------------


def _check_type(field: Field, arrow: Any, name: str, *, fixed_size_lists: bool) -> None:
    from pyarrow import types

    if types.is_null(arrow) and field.optional:  # what pandas writes for a column of None
        return
    if not _takes(field, arrow) or (types.is_fixed_size_list(arrow) and not fixed_size_lists):
        kind = f"ARRAY of {field.element}" if field.kind == "ARRAY" else field.kind
        wanted = " or ".join(_WIDENING.get(field.kind, ()))
        instead = f"; it accepts {wanted}" if wanted else ""
        text = f"{name}: field {field.name!r} of type {kind} does not accept a column of type {arrow}{instead}"
        raise ImportFileError(text)


def _takes(field: Field, arrow: Any) -> bool:
    from pyarrow import types

    if field.kind in ("ARRAY", "FLOAT_VECTOR"):
        is_list = types.is_list(arrow) or types.is_fixed_size_list(arrow)
        element = "FLOAT" if field.kind == "FLOAT_VECTOR" else field.element
        return is_list and str(arrow.value_type) in _WIDENING.get(element, ())
    if field.kind == "SPARSE_FLOAT_VECTOR":
        return types.is_string(arrow) or (types.is_struct(arrow) and _has_indices_and_values(arrow))
    return str(arrow) in _WIDENING.get(field.kind, ())


def _has_indices_and_values(arrow: Any) -> bool:
    from pyarrow import types

    by_name = {arrow.field(index).name: arrow.field(index).type for index in range(arrow.num_fields)}
    lists = by_name.keys() >= {"indices", "values"} and all(types.is_list(by_name[n]) for n in ("indices", "values"))
    return (
        lists
        and str(by_name["indices"].value_type) in _INDICES
        and str(by_name["values"].value_type) in ("float", "double")
    )


# -- values -------------------------------------------------------------------------------------------------------


def _values(field: Field, array: Any, name: str, done: int) -> list[Any]:
    if array.null_count and not field.optional:
        raise missing_value(field, f"{name} row {done + array.is_null().to_pylist().index(True) + 1}")
    if field.kind == "FLOAT_VECTOR" and (vectors := _whole_vectors(field, array)) is not None:
        return vectors
    values: list[Any] = array.to_pylist()
    convert = _converter(field)
    if convert is None:
        return values
    for index, value in enumerate(values):
        if value is not None:
            try:
                values[index] = convert(value)
            except BadValue as err:
                raise ImportFileError(f"{name} row {done + index + 1}: field {field.name!r} {err}") from None
    return values


def _whole_vectors(field: Field, array: Any) -> list[Any] | None:
    """Return a batch's vectors, checked all at once; None if one of them is null or bad and has to be found."""
    import numpy as np
    import pyarrow as pa

    if array.null_count:
        return None
    flat = array.flatten()
    lengths = {field.dim}
    if pa.types.is_list(array.type):
        lengths = set(np.diff(array.offsets.to_numpy()).tolist())
    elif array.type.list_size != field.dim:
        return None
    if flat.null_count or lengths != {field.dim}:
        return None
    with np.errstate(over="ignore"):
        numbers = flat.to_numpy(zero_copy_only=False).astype(np.float32)
    if not np.isfinite(numbers).all():
        return None
    vectors: list[Any] = numbers.reshape(len(array), field.dim).tolist()
    return vectors


def _converter(field: Field) -> Callable[[Any], Any] | None:
    """Return the check of a value whose column has the right type; None if the type is enough."""
    if field.kind in INT_BITS or field.kind == "BOOL":
        return None
    if field.kind in FLOATS:
        return lambda value: checked_float(field.kind, value)
    if field.kind == "JSON":
        return json_value
    if field.kind == "ARRAY":
        return _array_converter(field)
    if field.kind == "FLOAT_VECTOR":
        return lambda value: json_files.convert(field, value)
    if field.kind == "SPARSE_FLOAT_VECTOR":
        return lambda value: json_files.convert(field, parse_json(value) if isinstance(value, str) else value)
    return lambda value: checked_text(field, value)


def _array_converter(field: Field) -> Callable[[Any], Any]:
    convert = _converter(field.element_field)

    def array(value: list[Any]) -> list[Any]:
        checked_length(field, len(value))
        if None in value:
            raise BadValue("holds a null, which an array's elements cannot be")
        return [convert(item) for item in value] if convert else value

    return array
