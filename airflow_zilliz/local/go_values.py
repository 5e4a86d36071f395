"""Text that Milvus, a Go program, parses: durations and job ids."""

from __future__ import annotations

import re

_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_DURATION = re.compile(rf"[-+]?(?:0|(?:{_NUMBER}(?:ns|us|µs|μs|ms|s|m|h))+)")
_INTEGER = re.compile("[-+]?[0-9]+")


def is_duration(text: str) -> bool:
    """Return whether Go's ``time.ParseDuration`` accepts a text, such as ``1.5h`` or ``1h30m``."""
    return _DURATION.fullmatch(text) is not None


def int64(text: str) -> int | None:
    """Return the number that Go's ``ParseInt`` makes of a text in base 10, None where it fails."""
    if _INTEGER.fullmatch(text) is None or len(text) > 100:
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def extension(path: str) -> str:
    """Return what Go's ``filepath.Ext`` returns: the last dot of the last element, and what follows it."""
    name = path.rpartition("/")[2]
    return name[name.rindex(".") :] if "." in name else ""
