"""The values that a collection's fields accept, for all file formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_zilliz.local.import_errors import BadValue, ImportFileError, shown
from airflow_zilliz.local.json_text import json_text, parse_json

#: The dynamic field's name in a file.
META = "$meta"
INT_BITS = {"INT8": 8, "INT16": 16, "INT32": 32, "INT64": 64}
FLOATS = ("FLOAT", "DOUBLE")
# from here on, halfway between the largest float32 and 2**128, a number is rounded to infinity
_FLOAT32_END = 3.4028235677973366e38
_SPARSE_END = 2**32 - 1
# of vectors, as Python holds them: 32 bytes each
_NUMBERS_AT_ONCE = 2**18

Row = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """A field of a collection.

    :param kind: name of pymilvus's DataType
    :param element: the same for an ARRAY's elements
    :param generated: whether the server makes its values: an auto id, or a function's output
    :param optional: whether it may be missing or null
    :param timezone: of a TIMESTAMPTZ without one
    """

    name: str
    kind: str
    dim: int = 0
    max_length: int = 0
    max_capacity: int = 0
    element: str = ""
    generated: bool = False
    optional: bool = False
    timezone: str = "UTC"

    @property
    def element_field(self) -> Field:
        """The field for the checks of an ARRAY's elements."""
        return Field(self.name, self.element, max_length=self.max_length)


@dataclass(frozen=True)
class Schema:
    """A collection's fields, with what the checks of rows need."""

    collection: str
    fields: tuple[Field, ...]
    dynamic: bool = False
    primary: str = ""

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Schema:
        """Return the schema from pymilvus's ``describe_collection``."""
        generated = {name for function in description.get("functions") or () for name in function["output_field_names"]}
        timezone = (description.get("properties") or {}).get("timezone", "UTC")
        fields = []
        for spec in description["fields"]:
            params = spec.get("params") or {}
            element = spec.get("element_type")
            fields.append(
                Field(
                    name=spec["name"],
                    kind=spec["type"].name,
                    dim=int(params.get("dim", 0)),
                    max_length=int(params.get("max_length", 0)),
                    max_capacity=int(params.get("max_capacity", 0)),
                    element=element.name if element else "",
                    generated=bool(spec.get("auto_id")) or spec["name"] in generated,
                    optional=bool(spec.get("nullable")) or spec.get("default_value") is not None,
                    timezone=timezone,
                )
            )
        primary = next((spec["name"] for spec in description["fields"] if spec.get("is_primary")), "")
        dynamic = bool(description.get("enable_dynamic_field"))
        return cls(description["collection_name"], tuple(fields), dynamic, primary)

    @cached_property
    def names(self) -> frozenset[str]:
        """The fields' names."""
        return frozenset(field.name for field in self.fields)

    def rows_at_once(self, limit: int) -> int:
        """Return how many rows may be in memory at a time: ``limit``, or fewer if their vectors are long."""
        width = sum(field.dim for field in self.fields if field.kind == "FLOAT_VECTOR")
        return max(1, min(limit, _NUMBERS_AT_ONCE // max(1, width)))

    def check_names(self, given: Sequence[str], where: str) -> None:
        """Check the columns of a file against the fields.

        :raises ImportFileError: one is missing, is generated, or exists twice
        """
        for field in self.fields:
            count = given.count(field.name)
            if field.generated and count:
                raise generated_value(field, where)
            if count > 1:
                raise ImportFileError(f"{where}: field {field.name!r} occurs {count} times")
            if not count and not field.optional and not field.generated:
                raise missing_value(field, where)

    def row(self, values: Row, convert: Callable[[Field, Any], Any], where: str, *, skips_unknown: bool = True) -> Row:
        """Return a row in the form that the collection accepts, for formats with separate values.

        :param convert: returns a value as its field accepts it, None for null; raises BadValue
        :param where: file and row number, for the error
        :param skips_unknown: whether a field that the collection lacks is skipped
        :raises ImportFileError: naming the field and what is wrong with it
        """
        row = {}
        for field in self.fields:
            if field.name not in values:
                if not field.optional and not field.generated:
                    raise missing_value(field, where)
                continue
            if field.generated:
                raise generated_value(field, where)
            try:
                row[field.name] = convert(field, values[field.name])
            except BadValue as err:
                raise ImportFileError(f"{where}: field {field.name!r} {err}") from None
            if row[field.name] is None and not field.optional:
                raise missing_value(field, where)
        unknown = values.keys() - self.names
        if unknown and self.dynamic:
            row |= self.dynamic_values({name: values[name] for name in values if name in unknown}, where)
        elif unknown and not skips_unknown:
            raise ImportFileError(
                f"{where}: field {min(unknown)!r} is not in the schema of collection {self.collection!r}"
            )
        return row

    def dynamic_values(self, values: Row, where: str) -> Row:
        """Return a row's unknown keys, merged with those of the key ``$meta``.

        :raises ImportFileError: ``$meta`` is not an object, or has a key that exists twice
        """
        if META in values:
            meta = values.pop(META)
            try:
                meta = parse_json(meta) if isinstance(meta, str) else meta
            except BadValue as err:
                raise ImportFileError(f"{where}: field {META!r} {err}") from None
            if not isinstance(meta, dict):
                raise ImportFileError(f"{where}: field {META!r} must be a JSON object, got {shown(meta)}")
            if twice := meta.keys() & (values.keys() | self.names):
                raise ImportFileError(f"{where}: key {min(twice)!r} of field {META!r} occurs twice")
            values |= meta
        try:
            json_text(values)
        except BadValue as err:
            raise ImportFileError(f"{where}: the dynamic field {err}") from None
        return values


def missing_value(field: Field, where: str) -> ImportFileError:
    """Return the error for a missing value of a field."""
    return ImportFileError(f"{where}: value of field {field.name!r} is missing")


def generated_value(field: Field, where: str) -> ImportFileError:
    """Return the error for a value of a field that must not have one."""
    return ImportFileError(f"{where}: field {field.name!r} is generated, so no value may be given")


# -- values that have their type ----------------------------------------------------------------------------------


def checked_int(kind: str, value: int) -> int:
    """Return a whole number in its type's range; raise BadValue for any other value."""
    limit = 2 ** (INT_BITS[kind] - 1)
    if not -limit <= value < limit:
        raise BadValue.must_be(f"an {kind}", value)
    return value


def checked_float(kind: str, value: float) -> float:
    """Return a finite number in its type's range; raise BadValue for any other value."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or (kind != "DOUBLE" and abs(number) >= _FLOAT32_END):
        raise BadValue.must_be(f"a finite {'DOUBLE' if kind == 'DOUBLE' else 'float32'}", value)
    return number


def checked_text(field: Field, value: str) -> Any:
    """Return a text that its field accepts; raise BadValue for any other value."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadValue(f"holds invalid UTF-8, got {shown(value)}") from None
    if field.kind == "VARCHAR" and field.max_length and size > field.max_length:
        raise BadValue(f"has {size} bytes, its max_length is {field.max_length}")
    if field.kind == "GEOMETRY":
        return _geometry(value)
    return _timestamp(field, value) if field.kind == "TIMESTAMPTZ" else value


def checked_length(field: Field, size: int) -> None:
    """Check a vector's dimensions or an ARRAY's elements by their number; raise BadValue."""
    if field.kind == "ARRAY" and field.max_capacity and size > field.max_capacity:
        raise BadValue(f"has {size} elements, its max_capacity is {field.max_capacity}")
    if field.kind != "ARRAY" and size != field.dim:
        raise BadValue(f"has {size} dimensions, its schema says {field.dim}")


def checked_sparse(pairs: Sequence[tuple[int, float]]) -> dict[int, float]:
    """Return a sparse vector; raise BadValue for one that Milvus, or Milvus Lite, does not accept."""
    vector = {}
    for index, weight in pairs:
        if not 0 <= index < _SPARSE_END:
            raise BadValue.must_be(f"a sparse vector of indices below {_SPARSE_END}", index)
        if index in vector:
            raise BadValue(f"has the index {index} twice")
        vector[index] = checked_float("FLOAT", weight)
        if weight < 0:
            raise BadValue.must_be("a sparse vector of weights that are not negative", weight)
    if not any(vector.values()):
        raise BadValue("is an empty sparse vector, which Milvus Lite does not accept")
    return vector


def _geometry(text: str) -> str:
    from milvus_lite.exceptions import MilvusLiteError
    from milvus_lite.schema.geometry import validate_geometry_wkt

    try:
        validate_geometry_wkt(text)
    except MilvusLiteError as err:
        raise BadValue(f"is not WKT that Milvus Lite accepts: {err}") from None
    return text


def _timestamp(field: Field, text: str) -> int:
    from milvus_lite.exceptions import MilvusLiteError
    from milvus_lite.schema.timestamptz import parse_timestamptz

    try:
        return int(parse_timestamptz(text, default_timezone=field.timezone))
    except (MilvusLiteError, ValueError, OverflowError):
        raise BadValue.must_be("an ISO 8601 time", text) from None


def json_value(text: str) -> str:
    """Return the text of a JSON field, which the engine keeps as text; raise BadValue for invalid JSON."""
    return json_text(parse_json(text))
