"""Compresses text about many jobs: a trigger's arguments and its event have to fit into 64 KB on MySQL."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Any

#: The largest unpacked text, in bytes: 10,000 jobs take 3 MB.
MAX_UNPACKED = 64_000_000


def pack(value: Any) -> str:
    """Return a JSON value as short ASCII text.

    :raises TypeError: it is not made of JSON types
    """
    return base64.b64encode(zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 6)).decode()


def unpack(text: object) -> Any:
    """Return the value in a packed text, None if it is invalid or too large."""
    if not isinstance(text, str):
        return None
    try:
        unpacker = zlib.decompressobj()
        found = unpacker.decompress(base64.b64decode(text, validate=True), MAX_UNPACKED)
        return json.loads(found) if unpacker.eof else None
    except (ValueError, binascii.Error, zlib.error, RecursionError):
        return None
