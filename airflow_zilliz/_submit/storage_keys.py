"""The keys of an object storage, from an Airflow connection for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_zilliz._protocol.scrubbing import mask_patterns
from airflow_zilliz.exceptions import ZillizConfigError

#: Where connections of type aws and generic keep the token of short-lived keys.
_TOKEN_EXTRAS = ("session_token", "aws_session_token", "token")


@dataclass(frozen=True)
class StorageKeys:
    """The credentials with which Zilliz Cloud reads an object storage.

    :param token: of short-lived keys
    """

    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no log may show."""
        return tuple(filter(None, (self.access_key, self.secret_key, self.token)))


NO_STORAGE = StorageKeys()


def keys_of(conn_id: str, get_connection: Callable[[str], Any]) -> StorageKeys:
    """Return the keys of a connection: login, password, and a token among the extras.

    :raises ZillizConfigError: it has no access key or no secret key, or cannot be looked up
    """
    try:
        conn = get_connection(conn_id)
    except Exception as err:  # noqa: BLE001 - a look-up fails in as many ways as there are secrets backends
        raise ZillizConfigError(f"storage_conn_id {conn_id!r} cannot be looked up: {mask_patterns(str(err))}") from None
    try:
        extra = json.loads(conn.extra or "{}")
    except ValueError:
        extra = {}
    extra = extra if isinstance(extra, dict) else {}
    # connections of type aws may keep all of it in the extras
    access_key = conn.login or extra.get("aws_access_key_id")
    secret_key = conn.password or extra.get("aws_secret_access_key")
    if not access_key or not secret_key:
        missing = "access key (login)" if not access_key else "secret key (password)"
        raise ZillizConfigError(f"storage_conn_id {conn_id!r} has no {missing}")
    token = next((str(extra[name]) for name in _TOKEN_EXTRAS if extra.get(name)), None)
    return StorageKeys(str(access_key), str(secret_key), token)
