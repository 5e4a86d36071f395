"""Identifies objects by the paths and URLs of an import."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from airflow_zilliz._protocol.scrubbing import signing_values

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
#: The only query parameters that identify an object, on S3 and Azure, GCS, and Azure; others sign its URL.
_NAMING_PARAMETERS = frozenset({"versionid", "generation", "snapshot"})
#: Hadoop's names of a scheme.
_SAME_SCHEMES = {"s3a": "s3", "s3n": "s3"}


def object_of(path: str) -> str:
    """Return what identifies an object: a presigned URL without its signature, any other path or URL unchanged."""
    found = _URL.match(path)
    if found is None:
        return path
    if found[1].lower() not in ("http", "https") and not signing_values(path):
        return path  # ``s3://bucket/a#1.parquet``: the rest is the object's key, whatever characters it has
    url = urlsplit(path)
    naming = [pair for pair in parse_qsl(url.query) if pair[0].lower() in _NAMING_PARAMETERS]
    return urlunsplit((url.scheme, url.netloc, url.path, urlencode(naming), ""))


def identity_of(path: str) -> str:
    """Return a text that is equal for all paths and URLs of one object that differ only in their notation."""
    name = object_of(path)
    found = _URL.match(name)
    if found is None:
        return name.lstrip("/")
    scheme = found[1].lower()
    return f"{_SAME_SCHEMES.get(scheme, scheme)}{name[found.end(1) :]}"
