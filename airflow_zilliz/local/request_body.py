"""Request bodies as Go decodes them: case-insensitive keys, and no conversion between types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_zilliz.local.refusals import missing, not_json


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


class RequestBody:
    """The JSON object of a request.

    :param value: the object
    """

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._values: dict[str, Any] = {}
        for name, item in value.items():
            folded = name.casefold()
            # a null keeps the value of an earlier spelling of the same key
            if item is not None or folded not in self._values:
                self._values[folded] = item

    @classmethod
    def parse(cls, raw: bytes) -> RequestBody:
        """Return the decoded body.

        :raises Refusal: 1801 if it is not a JSON object
        """
        try:
            value = json.loads(raw.decode("utf-8", "replace"), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise not_json("the body is not JSON") from None
        if not isinstance(value, dict):
            raise not_json("the body is not a JSON object")
        return cls(value)

    def __contains__(self, name: str) -> bool:
        return name.casefold() in self._values

    def get(self, name: str) -> Any:
        """Return a value unchanged, None if it is missing."""
        return self._values.get(name.casefold())

    def text(self, name: str) -> str:
        """Return a text, ``""`` if it is missing.

        :raises Refusal: 1801 for another type
        """
        return _text(self.get(name), name)

    def required_text(self, name: str) -> str:
        """Return a required text, which must not be empty.

        :raises Refusal: 1801 for another type, 1802 if it is missing
        """
        if not (value := self.text(name)):
            raise missing(name)
        return value

    def number(self, name: str, default: int) -> int:
        """Return a whole number.

        :raises Refusal: 1801 for another type
        """
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise not_json(f"{name} must be a number")
        return value

    def lists(self, name: str) -> tuple[tuple[str, ...], ...] | None:
        """Return a list of lists of text, None if it is missing; a null list in it counts as empty.

        :raises Refusal: 1801 for another type
        """
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(item is None or isinstance(item, list) for item in value):
            raise not_json(f"{name} must be a list of lists of text")
        return tuple(tuple(_text(text, name) for text in item or ()) for item in value)

    def options(self, name: str = "options") -> dict[str, str]:
        """Return an object of texts; a null in it counts as an empty text.

        :raises Refusal: 1801 for another type
        """
        value = self.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise not_json(f"{name} must be an object")
        return {_text(key, name): _text(item, f"{name}.{key}") for key, item in value.items()}


def _text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise not_json(f"{name} must be text")
    return writable(value)


def writable(value: str) -> str:
    """Return a text without lone surrogates, which cannot be encoded; Go replaces them as well."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
