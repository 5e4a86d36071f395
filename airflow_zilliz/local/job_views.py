"""The representation of a job in responses, on both flavors."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow_zilliz.local.jobs import FileEntry, Flavor, Job
from airflow_zilliz.local.versions import MilvusVersion

_IMPORTED = ("Uncommitted", "Committing", "Completed")
# of GET /v2/jobs/{id}, which has its own words (wire 1.10)
_CLOUD_STATUS = {"Pending": "PENDING", "Completed": "SUCCESSFUL", "Failed": "FAILED"}


def describe(job: Job, flavor: Flavor, version: MilvusVersion) -> dict[str, Any]:
    """Return the ``data`` of a description (wire 2.1, 2.2)."""
    shown = job.progress >= 40 or job.state == "Failed"
    cloud = flavor is Flavor.CLOUD
    data: dict[str, Any] = {
        "collectionName": job.collection,
        "completeTime": _stamp(job.completed),
        "details": [_detail(job, index, cloud=cloud) for index in range(len(job.files))] if shown else [],
        "fileSize": sum(entry.size for entry in job.files),
        "importedRows": job.imported_rows,
        "jobId": job.id,
        "progress": job.progress,
        "state": job.state,
        "totalRows": job.total_rows,
    }
    if version.has_create_time:
        data["createTime"] = _stamp(job.created)
    if job.reason or cloud:
        data["reason"] = job.reason
    if cloud:
        data["fileName"] = _base_name(job.files[0]) if job.files else ""
    return dict(sorted(data.items()))  # as Go prints a map


def _detail(job: Job, index: int, *, cloud: bool) -> dict[str, Any]:
    entry = job.files[index]
    imported = entry.rows if job.state in _IMPORTED else entry.imported
    state = "Completed" if job.state in _IMPORTED else entry.state
    progress = 100 * imported // entry.rows if entry.rows else 100 * (state == "Completed")
    stamp = _stamp(entry.completed if entry.completed is not None else job.completed)
    return {
        "completeTime": stamp if state == "Completed" else "",
        "fileName": _base_name(entry) if cloud else _printed_paths(job, index),
        "fileSize": entry.size,
        "importedRows": imported,
        "progress": progress,
        "state": state,
        "totalRows": entry.rows,
        **({"reason": entry.reason} if entry.reason or cloud else {}),
    }


def _printed_paths(job: Job, index: int) -> str:
    """Return a task's paths as Go prints a list: unchanged from the request, one entry for each group."""
    requested = not job.phases and len(job.groups) == len(job.files)
    return f"[{' '.join(job.groups[index])}]" if requested else f"[{job.files[index].name}]"


def _base_name(entry: FileEntry) -> str:
    return entry.name.rpartition("/")[2]


def describe_old(job: Job) -> dict[str, Any]:
    """Return the ``data`` in the shape of the SDK page's example: percentage 0..1, an error text, no state."""
    error = (job.reason or "unknown error") if job.state == "Failed" else None
    common = {"readyPercentage": job.progress / 100, "completeTime": _stamp(job.completed) or None}
    files = [{"fileName": f.name, "fileSize": f.size, **common, "errorMessage": f.reason or None} for f in job.files]
    return {
        "collectionName": job.collection,
        "fileName": files[0]["fileName"] if files else "",
        "fileSize": sum(entry.size for entry in job.files),
        **common,
        "errorMessage": error,
        "jobId": job.id,
        "details": files,
    }


def cloud_job(job: Job) -> dict[str, Any]:
    """Return the ``data`` of the Cloud's ``GET /v2/jobs/{id}`` (wire 1.10)."""
    return {
        "jobId": job.id,
        "type": "IMPORT",
        "status": _CLOUD_STATUS.get(job.state, "IN_PROGRESS"),
        "progress": str(job.progress),
        "startTime": _stamp(job.created),
        "endTime": _stamp(job.ended),
        "reason": job.reason,
    }


def list_record(job: Job, flavor: Flavor) -> dict[str, Any]:
    """Return a job's record in a list: Cloud's has few fields, and says InProgress (wire 5)."""
    if flavor is Flavor.CLOUD:
        state = "InProgress" if job.state == "Importing" else job.state
        return {"collectionName": job.collection, "jobId": job.id, "state": state}
    record = {"collectionName": job.collection, "jobId": job.id, "progress": job.progress, "state": job.state}
    return record | ({"reason": job.reason} if job.reason else {})


def _stamp(moment: float | None) -> str:
    return "" if moment is None else datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
