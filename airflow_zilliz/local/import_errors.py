"""Errors of a file, and of one of its values."""

from __future__ import annotations

_SHOWN = 60


class ImportFileError(Exception):
    """A file cannot be imported; the text becomes the job's reason."""


class BadValue(Exception):
    """A field does not accept a value; the text follows the words ``field 'name'``."""

    @classmethod
    def must_be(cls, what: str, value: object) -> BadValue:
        """Return the error for a value that is not ``what``."""
        return cls(f"must be {what}, got {shown(value)}")


def shown(value: object) -> str:
    """Return a value as an error shows it, shortened, since a vector or a text may be long."""
    text = repr(value[:_SHOWN] if isinstance(value, (str, bytes, list)) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
