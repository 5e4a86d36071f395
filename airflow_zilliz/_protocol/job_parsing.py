"""Reads a job from decoded JSON, in every shape that servers or their documentation have used. No I/O."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState, is_cancelled
from airflow_zilliz._protocol.times import time_of


def parse_job(data: Mapping[str, Any], job_id: str | None = None) -> ImportProgress | None:
    """Return the job that one ``data`` object or list record describes, or None when it describes none.

    :param data: the object, of today's API, of v1, or of the SDK page's example
    :param job_id: the requested id, for responses that do not repeat it
    """
    found_id = job_id_of(data) or job_id
    state = _state(data)
    if found_id is None or state is None:
        return None
    details = data.get("details")
    return ImportProgress(
        job_id=found_id,
        state=state,
        progress=_percent(data, state),
        reason=_reason(data) or _cancellation(data, state),
        collection_name=_text(data.get("collectionName")),
        imported_rows=_count(_first(data, "importedRows", "importRows")),
        total_rows=_count(data.get("totalRows")),
        file_size=_count(data.get("fileSize")),
        complete_time=time_of(data.get("completeTime")),
        details=tuple(_file(part) for part in details if isinstance(part, Mapping))
        if isinstance(details, list)
        else (),
        raw=dict(data),
    )


def job_id_of(data: Mapping[str, Any]) -> str | None:
    """Return the id of the job that an object or record describes."""
    value = data.get("jobId")
    if isinstance(value, str) and value.isascii() and value.isprintable() and (value := value.strip()):
        return value  # nearly always, and needed for each record of each page of a list
    return _text(_first(data, "jobId", "jobID"))


def _file(data: Mapping[str, Any]) -> FileProgress:
    state = _state(data) or ImportState.UNKNOWN
    return FileProgress(
        file_name=_text(data.get("fileName")),
        state=state,
        progress=_percent(data, state),
        reason=_reason(data),
        imported_rows=_count(_first(data, "importedRows", "importRows")),
        total_rows=_count(data.get("totalRows")),
        file_size=_count(data.get("fileSize")),
        complete_time=time_of(data.get("completeTime")),
    )


def _state(data: Mapping[str, Any]) -> ImportState | None:
    """Return the state, derived from percentage and error where the old shape has no word for it."""
    if word := _text(data.get("state")):
        return ImportState.from_word(word)
    ready = _number(data.get("readyPercentage"))
    if _reason(data) is not None and "errorMessage" in data:
        return ImportState.FAILED
    if ready is None:
        return None
    if ready >= 1:
        # v1 counts from 0 to 1; a server that counted to 100 is done at 100 only
        return ImportState.COMPLETED if ready == 1 or ready >= 100 else ImportState.IMPORTING
    return ImportState.IMPORTING if ready > 0 else ImportState.PENDING


def _percent(data: Mapping[str, Any], state: ImportState) -> int:
    if state is ImportState.COMPLETED:
        return 100
    ready = _number(data.get("readyPercentage"))
    value = _number(data.get("progress"))
    if value is None:
        value = ready
    if value is None:
        return 0
    # the SDK page's 0..1; a whole 1 is one percent, since a job at 1.0 of it is Completed and left above
    percent = value * 100 if 0 < value < 1 else value
    return max(0, min(100, int(percent + 1e-9)))


def _reason(data: Mapping[str, Any]) -> str | None:
    return _text(data.get("reason")) or _text(data.get("errorMessage"))


def _cancellation(data: Mapping[str, Any], state: ImportState) -> str | None:
    word = _text(data.get("state")) if state is ImportState.FAILED else None
    return f"cancelled on the server, which says {word[:100]!r}" if word and is_cancelled(word) else None


def _first(data: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if (value := data.get(name)) not in (None, ""):
            return value
    return None


def _text(value: object) -> str | None:
    if value is None or value == "" or isinstance(value, bool):
        return None
    if isinstance(value, str):
        if value.isascii() and value.isprintable():
            return value.strip() or None
        # neither a NUL nor half a surrogate pair can be stored by every metadata database
        return value.replace("\x00", "").encode("utf-8", "replace").decode().strip() or None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, (int, float)) else json.dumps(value, default=str)


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value.strip().removesuffix("%"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # an int beyond a double's range is neither a count nor a size nor a percentage
    return None if (isinstance(value, int) and abs(value) >= 2**1000) or not math.isfinite(value) else value


def _count(value: object) -> int | None:
    if value is None:
        return None  # a list's record has no count, and there are thousands of them
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value.strip(), re.ASCII):
        value = int(value)
    number = _number(value)
    # a number beyond 64 bits is not a count, and Airflow could not store it
    return None if number is None or not 0 <= number < 2**63 else int(number)
