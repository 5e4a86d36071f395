"""Parses JSON of any size without blocking other threads."""

from __future__ import annotations

import json
from json.decoder import JSONArray  # type: ignore[attr-defined] # typeshed leaves it out; CPython has it since 2.6
from json.scanner import py_make_scanner  # type: ignore[attr-defined] # as above
from typing import Any


class _SteppingDecoder(json.JSONDecoder):
    """Reads each element of an outer array by itself: json's own reader lets no other thread run until it is done."""

    def __init__(self) -> None:
        super().__init__()
        at_once: Any = self.scan_once  # type: ignore[has-type] # typeshed leaves it out
        self.parse_array: Any = lambda start, _: JSONArray(start, at_once)
        self.scan_once = py_make_scanner(self)


def loads(body: bytes) -> Any:
    """Return the value of a JSON text.

    :raises ValueError: it is not JSON
    :raises RecursionError: it is nested too deeply
    """
    return _SteppingDecoder().decode(body.decode(json.detect_encoding(body), "surrogatepass"))
