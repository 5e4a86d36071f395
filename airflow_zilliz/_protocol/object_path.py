"""Identifies objects by the paths and URLs of an import."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: The only query parameters that identify an object; others sign its URL.
_NAMING_PARAMETERS = frozenset({"versionId", "generation"})


def object_of(path: str) -> str:
    """Return what identifies an object: a presigned URL without its signature, any other path or URL unchanged."""
    if not _URL.match(path):
        return path
    url = urlsplit(path)
    naming = [pair for pair in parse_qsl(url.query) if pair[0] in _NAMING_PARAMETERS]
    return urlunsplit((url.scheme, url.netloc, url.path, urlencode(naming), ""))
