"""JSON: rows as a list, as ``{"rows": [...]}``, or one object a line. No value is converted."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from airflow_zilliz.local.import_errors import BadValue, ImportFileError, shown
from airflow_zilliz.local.json_text import DECODER, json_text, parse_json, without_lone_surrogates
from airflow_zilliz.local.row_validation import (
    FLOATS,
    INT_BITS,
    Field,
    Row,
    Schema,
    checked_float,
    checked_int,
    checked_length,
    checked_sparse,
    checked_text,
)

_CHUNK = 2**20
_NO_ROWS = 'must be a JSON list of rows, or an object with a list "rows"; one row a line needs the extension .jsonl'
_SPACE = re.compile(r"[ \t\r\n]*")
_INDEX = re.compile("[0-9]{1,10}")
# The decoder fails this close to the end of the buffer if only the rest is missing: "-Infinity", or an escape.
_TAIL = 16


def read(path: Path, schema: Schema, *, skips_unknown: bool) -> Iterator[Row]:
    """Yield the rows of a ``.json`` file; raise ImportFileError."""
    with path.open("rb") as file:
        for number, value in enumerate(_values(_Text(file, path.name)), 1):
            yield _row(schema, value, f"{path.name} row {number}", skips_unknown=skips_unknown)


def read_lines(path: Path, schema: Schema, *, skips_unknown: bool) -> Iterator[Row]:
    """Yield the rows of a ``.jsonl`` or ``.ndjson`` file; raise ImportFileError."""
    with path.open("rb") as file:
        text = _Text(file, path.name)
        if not text.peek():
            raise ImportFileError(f"{path.name} is empty")
        number = 0
        while text.peek():
            number += 1
            yield _row(schema, text.value(number), f"{path.name} row {number}", skips_unknown=skips_unknown)


def _values(text: _Text) -> Iterator[Any]:
    if text.peek() == "{":
        text.take("{")
        if text.peek() == "}":
            return
        key = text.value(0)
        if not isinstance(key, str) or key.lower() != "rows":
            raise ImportFileError(f"{text.name} {_NO_ROWS}")
        text.take(":")
    if text.peek() != "[":
        raise ImportFileError(f"{text.name} {_NO_ROWS}")
    text.take("[")
    number = 0
    while text.peek() != "]":
        if number:
            text.take(",")
        number += 1
        yield text.value(number)
    text.take("]")
    if (rest := text.peek()) not in ("", "]", "}"):  # Go's decoder stops at a bracket, and reads all else as rows
        raise ImportFileError(f"{text.name} must end with its list of rows, found {rest!r} behind it")


class _Text:
    """A file's text, of which only the current row and what was read with it are in memory."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode  # as Go does with invalid bytes
        self._text = ""
        self._at = 0
        self._ended = False
        if self.peek() in ("\ufeff", "\ufffd"):
            raise ImportFileError(f"{name} must be JSON in UTF-8, without a byte order mark")

    def peek(self) -> str:
        """Return the next character that is not white space, an empty text at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def take(self, character: str) -> None:
        """Skip a character that must come next."""
        found = self.peek()
        if found != character:
            what = f"{found!r}" if found else "the end of the file"
            raise ImportFileError(f"{self.name} is not valid JSON: expected {character!r}, found {what}")
        self._at += 1

    def value(self, number: int) -> Any:
        """Return the next value, and skip it.

        :param number: of its row, for the error
        """
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as err:
                if self._is_cut_off(err) and self._more():
                    continue
                reason = "nested too deeply" if isinstance(err, RecursionError) else getattr(err, "msg", str(err))
                raise ImportFileError(f"{self.name} row {number} is not valid JSON: {reason}") from None
            if end == len(self._text) and self._more():  # a number may continue
                continue
            text, self._at = self._text[self._at : end], end
            return without_lone_surrogates(value, text)

    def _is_cut_off(self, err: Exception) -> bool:
        if not isinstance(err, json.JSONDecodeError):
            return False
        return err.msg.startswith("Unterminated string") or err.pos >= len(self._text) - _TAIL

    def _more(self) -> bool:
        """Read as much again as is in the buffer, so that a long row is retried less often; return False at the end."""
        if self._ended:
            return False
        data = self._file.read(max(_CHUNK, len(self._text) - self._at))
        self._ended = not data
        self._text = self._text[self._at :] + self._decode(data, final=self._ended)
        self._at = 0
        return not self._ended


def _row(schema: Schema, value: object, where: str, *, skips_unknown: bool) -> Row:
    if not isinstance(value, dict):
        raise ImportFileError(f"{where} is not a JSON object")
    return schema.row(value, convert, where, skips_unknown=skips_unknown)


def convert(field: Field, value: Any) -> Any:
    """Return a JSON value as its field accepts it; raise BadValue for a value of another type.

    CSV uses it for JSON text in a cell.
    """
    if value is None:
        return None
    if field.kind in INT_BITS:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadValue.must_be(f"an {field.kind}", value)
        return checked_int(field.kind, value)
    if field.kind in FLOATS:
        return _number(field.kind, value)
    if field.kind == "BOOL":
        if not isinstance(value, bool):
            raise BadValue.must_be("true or false", value)
        return value
    return _CONVERTERS.get(field.kind, _text)(field, value)


def _number(kind: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadValue.must_be("a number", value)
    return checked_float(kind, value)


def _text(field: Field, value: Any) -> Any:
    if not isinstance(value, str):
        raise BadValue.must_be("text", value)
    return checked_text(field, value)


def _json(field: Field, value: Any) -> str:
    parsed = parse_json(value) if isinstance(value, str) else value
    if not isinstance(parsed, dict):
        raise BadValue.must_be("a JSON object", value)
    return json_text(parsed)


def _array(field: Field, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadValue.must_be("an array", value)
    checked_length(field, len(value))
    if None in value:
        raise BadValue("holds a null, which an array's elements cannot be")
    element = field.element_field
    return [convert(element, item) for item in value]


def _vector(field: Field, value: Any) -> list[float]:
    if not isinstance(value, list):
        raise BadValue.must_be("a vector", value)
    checked_length(field, len(value))
    return [_number("FLOAT", number) for number in value]


def _sparse(field: Field, value: Any) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise BadValue.must_be("an object of index and weight", value)
    if "indices" in value and "values" in value:
        indices, weights = value["indices"], value["values"]
        if not isinstance(indices, list) or not isinstance(weights, list) or len(indices) != len(weights):
            raise BadValue.must_be("two lists of one length, indices and values", value)
        if not all(isinstance(index, int) and not isinstance(index, bool) for index in indices):
            raise BadValue.must_be("a sparse vector of whole numbers as indices", indices)
        return checked_sparse([(i, _number("FLOAT", w)) for i, w in zip(indices, weights, strict=True)])
    if wrong := [index for index in value if not _INDEX.fullmatch(index)]:
        raise BadValue(f"has the index {shown(wrong[0])}, which is no whole number")
    return checked_sparse([(int(index), _number("FLOAT", weight)) for index, weight in value.items()])


_CONVERTERS: dict[str, Callable[[Field, Any], Any]] = {
    "JSON": _json,
    "ARRAY": _array,
    "FLOAT_VECTOR": _vector,
    "SPARSE_FLOAT_VECTOR": _sparse,
}
