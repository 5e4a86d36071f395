"""JSON as Go decodes it: no NaN or Infinity, the last of equal keys, and no lone surrogates."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from airflow_zilliz.local.import_errors import BadValue, shown

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(parse_constant=_no_constant)


def parse_json(text: str) -> Any:
    """Return the value of a JSON text; raise BadValue for invalid text."""
    try:
        return without_lone_surrogates(DECODER.decode(text.strip(" \t\r\n")), text)
    except (ValueError, RecursionError) as err:
        raise BadValue(f"is not valid JSON ({_reason(err)}), got {shown(text)}") from None


def without_lone_surrogates(value: Any, text: str) -> Any:
    """Return a decoded value with U+FFFD for each lone surrogate, if its text can have one."""
    return _replaced(value) if _SURROGATE.search(text) else value


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE.sub(_REPLACEMENT, value)
    if isinstance(value, list):
        return [_replaced(item) for item in value]
    if isinstance(value, dict):
        return {_replaced(key): _replaced(item) for key, item in value.items()}
    return value


def json_text(value: object) -> str:
    """Return a value as JSON text; raise BadValue for numbers beyond a DOUBLE, and for too many levels."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as err:
        raise BadValue(f"cannot be kept as JSON: {_reason(err)}") from None


def _reason(err: Exception) -> str:
    return "nested too deeply" if isinstance(err, RecursionError) else str(err)
