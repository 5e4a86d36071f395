"""Idempotency keys: how they are made, and the chain of keys that one import may use. No I/O."""

from __future__ import annotations

import hashlib

from airflow_zilliz._protocol.constants import MAX_IDEMPOTENCY_KEY, is_idempotency_key

#: The most keys of one chain; each except the last stands for a Failed job.
MAX_KEYS = 50
_LONGEST_KEY = 200


def key_of(*names: object, digest: str) -> str:
    """Return an idempotency key made of names and a digest, or of their hash if no server would accept that."""
    return former_key_of(*names, digest)


def former_key_of(*names: object) -> str:
    """Return the key that version 0.1 made, for its records from before an upgrade."""
    text = "/".join(["airflow", *map(str, names)])
    if is_idempotency_key(text) and len(text) <= _LONGEST_KEY:
        return text
    return "airflow/" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def chained_key(key: str, turn: int) -> str:
    """Return a key of the chain that begins with ``key``, counted from 1; all are different and short enough."""
    if turn == 1:
        return key
    end = f"~{turn}"
    if len(key) + len(end) > MAX_IDEMPOTENCY_KEY:
        key = f"{key[:180]}~{hashlib.sha256(key.encode()).hexdigest()}"
    return key + end
