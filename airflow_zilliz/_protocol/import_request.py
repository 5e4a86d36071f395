"""The body of an import request, checked before anything is sent, and the errors that refuse it for certain. No I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_zilliz._protocol.constants import (
    CREATE,
    CREATE_REFUSAL_CODES,
    CREATE_REFUSAL_STATUSES,
    JOB_LIMIT_CODES,
    JOB_LIMIT_TEXT,
    MAX_IDEMPOTENCY_KEY,
    is_idempotency_key,
)
from airflow_zilliz._protocol.object_path import identity_of
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.target import Target, database_header
from airflow_zilliz.exceptions import ZillizApiError, ZillizConfigError, ZillizError, ZillizUnavailable

Groups = Sequence[Sequence[str]]

#: Options that change nothing about what is imported, so that a retry may have others.
_OTHER_OPTIONS = frozenset({"timeout"})


def create_request(
    collection_name: str,
    target: Target,
    *,
    files: Groups | None = None,
    object_urls: Groups | None = None,
    volume_name: str | None = None,
    data_paths: Groups | None = None,
    partition_name: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    token: str | None = None,
    options: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Request:
    """Return the request that starts an import; the HTTP layer must never repeat it (wire 1.3, 1.4, 1.7).

    :raises ZillizConfigError: not exactly one kind of source, one of the wrong shape, or a key that no server accepts
    """
    if not collection_name:
        raise ZillizConfigError("collection_name is empty")
    if (volume_name is None) != (data_paths is None):
        raise ZillizConfigError("volume_name and data_paths go together")
    sources = {"files": files, "objectUrls": object_urls, "dataPaths": data_paths}
    given = {name: value for name, value in sources.items() if value is not None}
    if len(given) != 1:
        raise ZillizConfigError(
            f"exactly one of files, object_urls, or volume_name with data_paths must be given, not {len(given)}"
        )
    ((name, groups),) = given.items()
    body = {
        "collectionName": collection_name,
        "dbName": target.db_name,
        "partitionName": partition_name,
        name: _groups(name, groups),
        **target.ids(),
        "accessKey": access_key,
        "secretKey": secret_key,
        "token": token,
        "volumeName": volume_name,
        "options": _options(options or {}),
    }
    headers = database_header(target)
    if idempotency_key is not None:
        if not is_idempotency_key(idempotency_key):
            raise ZillizConfigError(f"idempotency_key must be 1 to {MAX_IDEMPOTENCY_KEY} characters of printable ASCII")
        headers = {**headers, "Idempotency-Key": idempotency_key}
    return Request(CREATE, {key: value for key, value in body.items() if value}, headers, repeatable=False)


def digest_of(request: Request) -> str:
    """Return a digest of what a request imports, and where.

    It is equal for two tries, whatever their keys and signatures, the order of their files, and their timeouts.
    """
    secret = ("accessKey", "secretKey", "token")
    body = {name: value for name, value in (request.body or {}).items() if name not in secret}
    for name in ("files", "objectUrls", "dataPaths"):
        if name in body:
            body[name] = sorted(sorted(map(identity_of, group)) for group in body[name])
    options = {name: value for name, value in body.pop("options", {}).items() if name not in _OTHER_OPTIONS}
    body |= {"options": options} if options else {}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:20]


def is_certain_refusal(err: ZillizError) -> bool:
    """Whether a create request that failed with this error cannot have started a job.

    True for a connection that was never made, rate limiting, a server without such a route, and the codes that Milvus
    and Zilliz Cloud return before they make a job (wire 4.10). Any other error may come after the request took effect.
    """
    if isinstance(err, ZillizConfigError) or (isinstance(err, ZillizUnavailable) and err.was_not_taken):
        return True
    if isinstance(err, ZillizApiError) and not err.from_api:
        return True  # a redirect, the wrong protocol, or Go's own page for a route that does not exist
    code = getattr(err, "code", None)
    if code is None:
        return False
    return (
        code in CREATE_REFUSAL_CODES
        or 80000 <= code < 100000
        or getattr(err, "http_status", None) in CREATE_REFUSAL_STATUSES
        or is_job_limit(err)
    )


def is_job_limit(err: ZillizError) -> bool:
    """Whether the server refused because it runs as many jobs as it may (wire 4.2)."""
    return getattr(err, "code", None) in JOB_LIMIT_CODES and JOB_LIMIT_TEXT in str(err).lower()


def _groups(name: str, groups: object) -> list[list[str]]:
    def is_list(value: object) -> bool:
        return isinstance(value, (list, tuple)) and len(value) > 0

    if not is_list(groups) or not all(
        is_list(group) and all(isinstance(path, str) and path for path in group)
        for group in groups  # type: ignore[attr-defined] # is_list has just seen that it is one
    ):
        raise ZillizConfigError(f"{name} must be a list of lists of paths, such as [['a.parquet'], ['b.parquet']]")
    return [list(group) for group in groups]  # type: ignore[attr-defined] # likewise


def _options(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the options as the text values that the API insists on: True is "true", 300 is "300"."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if value is not None
    }


def commits_by_itself(options: object) -> bool:
    """Whether an import is an ordinary one, which no known server can stop (wire 1.1)."""
    value = options.get("auto_commit") if isinstance(options, Mapping) else None
    return str(value).strip().lower() != "false"
