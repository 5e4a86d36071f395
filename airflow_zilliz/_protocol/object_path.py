"""What names an object among the paths and URLs of an import."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: The only parts of a query that name an object, and are no signature of it.
_NAMING_PARAMETERS = frozenset({"versionId", "generation"})


def object_of(path: str) -> str:
    """Return what names the object of a path or URL: a presigned URL without its signature, anything else as it is."""
    if not _URL.match(path):
        return path
    url = urlsplit(path)
    naming = [pair for pair in parse_qsl(url.query) if pair[0] in _NAMING_PARAMETERS]
    return urlunsplit((url.scheme, url.netloc, url.path, urlencode(naming), ""))
