"""CSV: Go's CSV, numbers and Booleans; vectors, arrays and JSON are JSON text in a cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_zilliz.local.file_readers import json_files
from airflow_zilliz.local.file_readers.go_text import csv_records, parse_bool, parse_float, parse_int, separator
from airflow_zilliz.local.import_errors import BadValue, ImportFileError, shown
from airflow_zilliz.local.json_text import parse_json
from airflow_zilliz.local.row_validation import (
    FLOATS,
    INT_BITS,
    Field,
    Row,
    Schema,
    checked_float,
    checked_int,
    checked_text,
    json_value,
)


def read(path: Path, schema: Schema, options: Mapping[str, str], *, skips_unknown: bool) -> Iterator[Row]:
    """Yield the rows of a ``.csv`` file; raise ImportFileError.

    :param options: ``sep``, whose first character is used, and ``nullkey``
    """
    convert = _converter(options.get("nullkey", ""))
    # bytes that are not UTF-8 are found where a field accepts text
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        try:
            records = csv_records(lines, separator(options.get("sep", "")))
            _, header = next(records, (0, []))
            if not header:
                raise ImportFileError(f"{path.name} has no header line")
            schema.check_names(header, f"{path.name} header {shown(header)}")
            for number, (_, cells) in enumerate(records, 1):
                values = dict(zip(header, cells, strict=True))
                yield schema.row(values, convert, f"{path.name} row {number}", skips_unknown=skips_unknown)
        except BadValue as err:
            raise ImportFileError(f"{path.name} is not valid CSV: {err}") from None


def _converter(null: str) -> Callable[[Field, str], Any]:
    def convert(field: Field, cell: str) -> Any:
        if cell == null and field.optional:
            return None
        return _CONVERTERS.get(field.kind, checked_text)(field, cell)

    return convert


def _int(field: Field, cell: str) -> int:
    number = parse_int(cell)
    if number is None:
        raise BadValue.must_be(f"an {field.kind}", cell)
    return checked_int(field.kind, number)


def _float(field: Field, cell: str) -> float:
    number = parse_float(cell)
    if number is None:
        raise BadValue.must_be("a finite number", cell)
    return checked_float(field.kind, number)


def _bool(field: Field, cell: str) -> bool:
    truth = parse_bool(cell)
    if truth is None:
        raise BadValue.must_be("true or false", cell)
    return truth


def _parsed(field: Field, cell: str) -> Any:
    return json_files.convert(field, parse_json(cell))


_CONVERTERS: dict[str, Callable[[Field, str], Any]] = {
    **dict.fromkeys(INT_BITS, _int),
    **dict.fromkeys(FLOATS, _float),
    "BOOL": _bool,
    "JSON": lambda field, cell: json_value(cell),
    **dict.fromkeys(("ARRAY", "FLOAT_VECTOR", "SPARSE_FLOAT_VECTOR"), _parsed),
}
