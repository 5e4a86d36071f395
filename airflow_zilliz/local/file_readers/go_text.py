"""Text as Go reads it: CSV, numbers and Booleans, as its packages ``encoding/csv`` and ``strconv`` do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from airflow_zilliz.local.import_errors import BadValue

_INTEGER = re.compile("[-+]?[0-9]+")
_DIGITS = "[0-9]+(?:_[0-9]+)*"
_DECIMAL = re.compile(rf"[-+]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][-+]?{_DIGITS})?")
_HEX_DIGITS = "[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*"
_HEX = re.compile(rf"[-+]?0[xX](?:_?{_HEX_DIGITS}(?:\.(?:{_HEX_DIGITS})?)?|\.{_HEX_DIGITS})[pP][-+]?{_DIGITS}")
_INT_DIGITS = 100  # more than any range has; Python refuses to convert thousands
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_NO_SEPARATORS = ("\0", '"', "\r", "\n", "\ufffd")


def parse_int(text: str) -> int | None:
    """Return the number of a text in base 10, None where ``ParseInt`` fails, except for its range."""
    if _INTEGER.fullmatch(text) is None:
        return None
    digits = text.lstrip("+-").lstrip("0") or "0"
    number = int(digits[:_INT_DIGITS])
    return -number if text.startswith("-") else number


def parse_float(text: str) -> float | None:
    """Return the number of a text, infinity for one beyond float64, None where ``ParseFloat`` fails.

    ``Inf`` and ``NaN``, which Go accepts, are None as well, since Milvus accepts neither.
    """
    if _DECIMAL.fullmatch(text):
        return float(text)
    if _HEX.fullmatch(text):
        try:
            return float.fromhex(text.replace("_", ""))
        except OverflowError:
            return float("inf")
    return None


def parse_bool(text: str) -> bool | None:
    """Return the Boolean of a text, None where ``ParseBool`` fails."""
    if text in _TRUE:
        return True
    return False if text in _FALSE else None


def separator(option: str) -> str:
    """Return the character that an option ``sep`` stands for; raise BadValue for one that Go does not accept."""
    character = option[:1] or ","
    if character in _NO_SEPARATORS:
        raise BadValue(f"unsupported csv separator: {option!r}")
    return character


def csv_records(lines: Iterable[str], comma: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record: the number of its first line, and its cells.

    :param lines: with their ends; only a newline ends one
    :raises BadValue: a misplaced quote, or a record of another length than the first
    """
    source = enumerate(map(_with_newline, lines), 1)
    length = 0
    for number, line in source:
        if line == "\n":
            continue
        cells = _quoted(line, comma, number, source) if '"' in line else line.removesuffix("\n").split(comma)
        if length and len(cells) != length:
            raise BadValue(f"line {number} has {len(cells)} values, the header names {length}")
        length = len(cells)
        yield number, cells


def _with_newline(line: str) -> str:
    if line.endswith("\r\n"):
        return f"{line[:-2]}\n"
    return line[:-1] if line.endswith("\r") else line  # the last line


def _quoted(line: str, comma: str, number: int, source: Iterator[tuple[int, str]]) -> list[str]:
    cells: list[str] = []
    while True:
        if not line.startswith('"'):
            cell, found, line = line.partition(comma)
            if not found:
                cell = cell.removesuffix("\n")
            if '"' in cell:
                raise BadValue(f'line {number}: bare " in non-quoted-field')
            cells.append(cell)
            if not found:
                return cells
            continue
        cell, line, number = _in_quotes(line[1:], number, source)
        cells.append(cell)
        if line in ("", "\n"):
            return cells
        if not line.startswith(comma):
            raise BadValue(f'line {number}: extraneous or missing " in quoted-field')
        line = line[1:]


def _in_quotes(line: str, number: int, source: Iterator[tuple[int, str]]) -> tuple[str, str, int]:
    """Return a cell, what follows its closing quote, and the number of the line that it ends in."""
    parts = []
    while True:
        part, quote, line = line.partition('"')
        parts.append(part)
        if not quote:
            number, line = next(source, (number, ""))
            if not line:
                raise BadValue(f'line {number}: extraneous or missing " in quoted-field')
        elif line.startswith('"'):
            parts.append('"')
            line = line[1:]
        else:
            return "".join(parts), line, number
