"""Checks the arguments from templates, XComs and DAG files, and normalises them to the form that tasks work with.

Without ``render_template_as_native_obj`` a template's structures arrive as text and its None as ``"None"``; with it,
text that looks like a number arrives as one. The collected output of a mapped task is a lazy sequence.
"""

from __future__ import annotations

import ast
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, TypeGuard
from uuid import UUID

from airflow_zilliz._protocol.scrubbing import mask_patterns
from airflow_zilliz.exceptions import ZillizConfigError

GROUPS_WANTED = "a list of lists of paths, such as [['a.parquet'], ['b.parquet']], or its JSON text"
OPTIONS_WANTED = "a dict of plain values, such as {'timeout': '300s'}, or its JSON text"
JOB_ID_WANTED = "a job id, a dict with job_id as the import operators return it, or a list of either"
TEXT_WANTED = "text"
_NEEDED = ("zilliz_conn_id", "collection_name")
_TEXTS = (
    "collection_name",
    "volume_name",
    "source",
    "partition_name",
    "idempotency_key",
    "storage_conn_id",
    "zilliz_conn_id",
    "cluster_id",
    "project_id",
    "region_id",
    "db_name",
)
_ABSENT = ("", "None")
_JOB_ID_KEYS = ("job_id", "jobId", "jobID")
_MAX_EXCERPT = 200


class _Wrong(Exception):
    """A value has the wrong form; the text adds details where that helps."""


def normalise_arguments(task: Any) -> None:
    """Normalise the rendered template fields of a task in place; repeating it changes nothing.

    Any sequence becomes a list, JSON text its value, a number its text, an ``ObjectStoragePath`` its URL, a dict with
    ``job_id`` that job's id, and ``None``, ``""`` and ``"None"`` become None.

    :raises ZillizConfigError: a value has another form; names the argument, the task, the value and the expected form
    """
    for name in _fields_of(task):
        value = normalised(name, getattr(task, name), task.task_id)
        if value is None and name in _NEEDED:
            raise ZillizConfigError(f"{name} of task {task.task_id!r} is empty")
        setattr(task, name, value)


def check_literals(task: Any) -> None:
    """Check the literal arguments of a DAG file, but not those with a template or an XCom.

    :raises ZillizConfigError: which is a ValueError, so that the DAG cannot be parsed
    """
    for name in _fields_of(task):
        value = getattr(task, name)
        if not is_templated(value):
            normalised(name, value, task.task_id)


def _fields_of(task: Any) -> list[str]:
    """Return the names of the template fields that are this provider's: a subclass may have others of any kind."""
    return [name for name in task.template_fields if name in _KINDS]


def normalised(name: str, value: object, task_id: str) -> Any:
    """Return an argument's normalised value.

    :raises ZillizConfigError: it cannot be used
    """
    read, wanted = _KINDS[name]
    try:
        return read(value)
    except _Wrong as wrong:
        more = f" ({wrong})" if str(wrong) else ""
        raise ZillizConfigError(
            f"{name} of task {task_id!r} must be {wanted}, not {type(value).__name__}: {_excerpt(value)}{more}"
        ) from None


def _groups(value: object) -> list[list[str]] | None:
    if (value := _structure(value)) is None:
        return None
    if not _is_sequence(value):
        raise _Wrong
    groups = [_group(_structure(group)) for group in value]
    if not groups or not all(groups):
        raise _Wrong("it names no file")
    return groups


def _group(value: object) -> list[str]:
    if not _is_sequence(value):
        raise _Wrong("a list of paths alone does not say which files belong together: give each a list of its own")
    return [_path(path) for path in value]


def _options(value: object) -> dict[str, Any] | None:
    if (value := _structure(value)) is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _Wrong
    options = {}
    for name, option in value.items():
        plain = option.value if isinstance(option, Enum) else option
        if isinstance(plain, (Mapping, set, frozenset)) or _is_sequence(plain):
            raise _Wrong(f"{name!r} is of type {type(option).__name__}")
        if not _is_absent(plain):
            options[name] = plain
    return options


def _job_ids(value: object) -> str | list[str] | None:
    """Return one id for one job, and for a list its ids, each once and in their order."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        value = _structure(value)
    if isinstance(value, (set, frozenset)):
        raise _Wrong("a set has no order")
    if not _is_sequence(value):
        return _job_id(value)
    ids = []
    for number, part in enumerate(_parts(value)):
        if (job_id := _job_id(part)) is None:
            raise _Wrong(f"its item {number} is empty: did that task return a job's id?")
        ids.append(job_id)
    return list(dict.fromkeys(ids))


def _parts(value: Sequence[Any]) -> Sequence[Any]:
    """Return a sequence's items. A slice of a mapped task's output is one query, an iteration is one for each item."""
    try:
        return value[:]
    except (TypeError, NotImplementedError):  # not every Airflow's can be sliced
        return list(value)


def _job_id(value: object) -> str | None:
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        value = _structure(value)
    if isinstance(value, Mapping):
        value = next((value[key] for key in _JOB_ID_KEYS if key in value), value)
    if _is_sequence(value):
        raise _Wrong("a list within a list")
    if isinstance(value, float):
        raise _Wrong("a float cannot have all digits of an id")
    return _text(value)


def _text(value: object) -> str | None:
    if isinstance(value, Enum):
        value = value.value
    if _is_absent(value):
        return None
    if isinstance(value, str):
        return str(value).strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (int, float, Decimal, UUID, date)):
        return str(value)
    raise _Wrong


def _path(value: object) -> str:
    if isinstance(value, str) and value:
        return str(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    url = _url_of(value)
    if url is None:
        raise _Wrong(f"a path of type {type(value).__name__}")
    return url


def _url_of(value: object) -> str | None:
    """Return the URL of an ``ObjectStoragePath`` or the text of another path, None for anything else."""
    if hasattr(value, "protocol"):
        url = str(value)
        scheme, _, rest = url.partition("://")
        conn_id = getattr(value, "conn_id", None) or dict(getattr(value, "storage_options", {})).get("conn_id")
        return f"{scheme}://{rest.removeprefix(f'{conn_id}@')}" if conn_id else url
    return str(os.fspath(value)) if isinstance(value, os.PathLike) else None


def _structure(value: object) -> object:
    """Return the value of a text, as JSON or as Python prints it, since a template renders a list so."""
    if not isinstance(value, str):
        return None if _is_absent(value) else value
    text = value.strip()
    if text in _ABSENT:
        return None
    readers: tuple[Callable[[str], object], ...] = (json.loads, ast.literal_eval)
    for read in readers:
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return value


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in _ABSENT)


def _is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def seconds_of(name: str, value: object) -> float:
    """Return the seconds of a time span, as a task's constructor takes it.

    :raises ValueError: it is no time span
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise ValueError(f"{name} must be a timedelta or a number of seconds, and not negative: {value!r}")
    return float(seconds)


def is_templated(value: object) -> bool:
    """Whether Airflow has yet to render an argument."""
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, Mapping):
        return any(is_templated(part) for part in (*value, *value.values()))
    if _is_sequence(value) or isinstance(value, (set, frozenset)):
        return any(map(is_templated, value))
    # XComArg, MappedArgument, and anything else that Airflow resolves before it renders
    return hasattr(value, "resolve")


def _excerpt(value: object) -> str:
    try:
        text = mask_patterns(repr(value))
    except Exception as err:  # noqa: BLE001 - an object's repr may fail in any way, which belongs in an error
        text = f"(its repr raises {type(err).__name__})"
    return text if len(text) <= _MAX_EXCERPT else f"{text[:_MAX_EXCERPT]}..."


_KINDS: dict[str, tuple[Callable[[object], Any], str]] = {
    "files": (_groups, GROUPS_WANTED),
    "object_urls": (_groups, GROUPS_WANTED),
    "data_paths": (_groups, GROUPS_WANTED),
    "options": (_options, OPTIONS_WANTED),
    "job_id": (_job_ids, JOB_ID_WANTED),
    **dict.fromkeys(_TEXTS, (_text, TEXT_WANTED)),
}
