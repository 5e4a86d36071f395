"""Turns a snapshot into its XCom, bounded and without secrets, and reads parts from one. No I/O."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._protocol.scrubbing import mask_patterns
from airflow_zilliz._wait.snapshot import Part, Snapshot

SNAPSHOT_VERSION = 1
#: The most files or jobs that are listed one by one.
MAX_PARTS = 100
MAX_NAME, MAX_PART_REASON, MAX_REASON = 200, 300, 2_000
#: The longest JSON of a snapshot, in ASCII as XComs have it.
MAX_JSON = 48_000

_ORDER = {ImportState.FAILED.value: 0, ImportState.IMPORTING.value: 1, ImportState.COMPLETED.value: 3}
_KINDS = {"state": str, "reason": str, "percent": int, "rows": int, "total_rows": int, "bytes": int}


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return the XCom: failed parts first, as many as fit. Times are in UTC, with whole seconds."""
    whole = _part_json(snapshot.whole, MAX_REASON)
    job_id = whole.pop("name")
    shown = sorted(snapshot.parts, key=lambda part: _ORDER.get(part.state or "", 2))[:MAX_PARTS]
    listed = [_known(_part_json(part, MAX_PART_REASON)) for part in shown]
    counts = dict(snapshot.counts or Counter(part.state or ImportState.UNKNOWN.value for part in snapshot.parts))
    value = {
        "version": SNAPSHOT_VERSION,
        "job_id": job_id if snapshot.parts_are == "files" else None,
        "collection_name": _shown(snapshot.collection_name, MAX_NAME),
        **whole,
        "started_at": _iso(snapshot.started_at),
        "moved_at": _iso(snapshot.moved_at),
        "trouble_since": _iso(snapshot.trouble_since),
        "counts": counts,
    }
    room = MAX_JSON - len(json.dumps(value))
    kept = 0
    for part in listed:
        room -= len(json.dumps(part)) + 2
        if room < 0:
            break
        kept += 1
    return {**value, snapshot.parts_are: listed[:kept], "more": sum(counts.values()) - kept}


def parts_of(value: object) -> tuple[Part, ...]:
    """Return the files in an XCom, none if it is invalid, since a user may have edited it."""
    listed = value.get("files") if isinstance(value, Mapping) else None
    found = [_part(part) for part in listed[:MAX_PARTS]] if isinstance(listed, (list, tuple)) else []
    return tuple(part for part in found if part is not None)


def _part_json(part: Part, max_reason: int) -> dict[str, Any]:
    return {
        "name": _shown(part.name, MAX_NAME),
        "state": _shown(part.state, MAX_NAME),
        "percent": part.percent,
        "rows": part.rows,
        "total_rows": part.total_rows,
        "bytes": part.size,
        "rows_per_second": _rounded(part.rows_per_second),
        "seconds_left": _rounded(part.seconds_left),
        "reason": _shown(part.reason, max_reason),
        "seen_at": _iso(part.seen_at),
    }


def _part(value: object) -> Part | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return None
    known = {name: value[name] for name, kind in _KINDS.items() if type(value.get(name)) is kind}
    size = known.pop("bytes", None)
    return Part(value["name"][:MAX_NAME], **known, size=size)


def _known(value: dict[str, Any]) -> dict[str, Any]:
    return {name: held for name, held in value.items() if held is not None}


def _shown(text: str | None, limit: int) -> str | None:
    if text is None:
        return None
    text = mask_patterns(text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _iso(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1) if value < 100 else float(round(value))
