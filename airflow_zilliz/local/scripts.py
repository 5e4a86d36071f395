"""Scripted jobs, as the control routes receive them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from airflow_zilliz.local.jobs import FileEntry, Job, Phase


def scripted_job(job_id: str, value: Mapping[str, Any], now: float) -> Job:
    """Return the scripted job that a JSON object describes.

    Its keys are ``phases`` (a list, see `Phase`), and optionally ``jobId``, ``collectionName``, ``dbName``,
    ``totalRows``, ``files`` (a list, see `FileEntry`) and ``place`` (of the Cloud flavor).

    :param now: when its first phase begins, in epoch seconds
    :raises ValueError: it is not such an object; TypeError for an unknown key
    """
    known = {"jobId", "collectionName", "dbName", "totalRows", "phases", "files", "place"}
    if unknown := sorted(value.keys() - known):
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    phases = tuple(Phase.from_json(phase) for phase in value.get("phases") or ())
    if not phases:
        raise ValueError("a scripted job needs phases")
    names = [f.name for f in fields(FileEntry)]
    if any(entry.keys() - names for entry in value.get("files") or ()):
        raise ValueError(f"the keys of a file are {', '.join(names)}")
    return Job(
        id=str(value.get("jobId") or job_id),
        collection=str(value.get("collectionName") or "scripted"),
        db_name=str(value.get("dbName") or ""),
        total_rows=int(value.get("totalRows") or 0),
        phases=phases,
        files=tuple(FileEntry(**entry) for entry in value.get("files") or ()),
        place=dict(value.get("place") or {}),
        created=now,
    )
