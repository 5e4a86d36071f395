"""Checks and converts an import's rows by a collection's schema, before any of them is inserted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_zilliz.local.reading import ImportFileError, Row

_INT_BITS = {"INT8": 8, "INT16": 16, "INT32": 32, "INT64": 64}


@dataclass(frozen=True)
class Field:
    """A field of a collection.

    :param kind: name of pymilvus's DataType
    """

    name: str
    kind: str
    dim: int = 0
    max_length: int = 0
    generated: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Schema:
    """A collection's fields, as far as rows are checked against them."""

    collection: str
    fields: tuple[Field, ...]
    dynamic: bool = False

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Schema:
        """Return the schema behind pymilvus's ``describe_collection``."""
        generated = {name for function in description.get("functions") or () for name in function["output_field_names"]}
        fields = []
        for spec in description["fields"]:
            params = spec.get("params") or {}
            fields.append(
                Field(
                    name=spec["name"],
                    kind=spec["type"].name,
                    dim=int(params.get("dim", 0)),
                    max_length=int(params.get("max_length", 0)),
                    generated=bool(spec.get("auto_id")) or spec["name"] in generated,
                    optional=bool(spec.get("nullable")) or spec.get("default_value") is not None,
                )
            )
        return cls(description["collection_name"], tuple(fields), bool(description.get("enable_dynamic_field")))

    def checked(self, row: Row, where: str) -> Row:
        """Return a row as it is to be inserted.

        :param where: file and row number, for the error
        :raises ImportFileError: naming the field and what is wrong with it
        """
        known = {field.name for field in self.fields}
        if not self.dynamic and (unknown := sorted(row.keys() - known)):
            raise ImportFileError(
                f"{where}: field {unknown[0]!r} is not in the schema of collection {self.collection!r}"
            )
        result = {name: value for name, value in row.items() if name not in known}
        for field in self.fields:
            if field.generated:
                if row.get(field.name) is not None:
                    raise ImportFileError(f"{where}: field {field.name!r} is generated, so no value may be given")
            elif row.get(field.name) is None:
                if not field.optional:
                    raise ImportFileError(f"{where}: value of field {field.name!r} is missing")
                if field.name in row:
                    result[field.name] = None
            else:
                result[field.name] = _value(field, row[field.name], f"{where}: field {field.name!r}")
        return result


def _value(field: Field, value: Any, what: str) -> Any:
    """Return one value as its field wants it; text is read as CSV holds it."""
    if field.kind == "VARCHAR":
        return _text(field, value, what)
    if isinstance(value, str) and field.kind not in ("GEOMETRY", "TIMESTAMPTZ"):
        value = _parsed(value, what)
    check = _CHECKS.get(field.kind)
    return check(field, value, what) if check else value


def _int(field: Field, value: Any, what: str) -> int:
    limit = 2 ** (_INT_BITS[field.kind] - 1)
    if isinstance(value, bool) or not isinstance(value, int) or not -limit <= value < limit:
        raise ImportFileError(f"{what} must be an {field.kind}, got {_short(value)}")
    return value


def _float(field: Field, value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ImportFileError(f"{what} must hold finite numbers, got {_short(value)}")
    return value


def _bool(field: Field, value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise ImportFileError(f"{what} must be true or false, got {_short(value)}")
    return value


def _array(field: Field, value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ImportFileError(f"{what} must be an array, got {_short(value)}")
    return value


def _sparse(field: Field, value: Any, what: str) -> dict[int, float]:
    if not isinstance(value, dict) or not all(str(index).isdecimal() for index in value):
        raise ImportFileError(f"{what} must be an object of index and weight, got {_short(value)}")
    return {int(index): _float(field, weight, what) for index, weight in value.items()}


def _text(field: Field, value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ImportFileError(f"{what} must be text, got {_short(value)}")
    size = len(value.encode("utf-8", "replace"))
    if field.max_length and size > field.max_length:
        raise ImportFileError(f"{what} has {size} bytes, its max_length is {field.max_length}")
    return value


def _vector(field: Field, value: Any, what: str) -> Any:
    binary = field.kind == "BINARY_VECTOR"
    expected = field.dim // 8 if binary else field.dim
    if not isinstance(value, list):
        raise ImportFileError(f"{what} must be a vector, got {_short(value)}")
    if len(value) != expected:
        unit = "bytes" if binary else "dimensions"
        raise ImportFileError(f"{what} has {len(value)} {unit}, its schema says {expected}")
    for number in value:
        _float(field, number, what)
    if binary and not all(isinstance(number, int) and 0 <= number < 256 for number in value):
        raise ImportFileError(f"{what} must be bytes, 0 to 255, got {_short(value)}")
    return bytes(value) if binary else value


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise ImportFileError(f"{what} cannot be read: {_short(text)}") from None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


_CHECKS: dict[str, Callable[[Field, Any, str], Any]] = {
    **dict.fromkeys(_INT_BITS, _int),
    "FLOAT": _float,
    "DOUBLE": _float,
    "BOOL": _bool,
    "ARRAY": _array,
    "SPARSE_FLOAT_VECTOR": _sparse,
    **dict.fromkeys(("FLOAT_VECTOR", "FLOAT16_VECTOR", "BFLOAT16_VECTOR", "INT8_VECTOR", "BINARY_VECTOR"), _vector),
}
