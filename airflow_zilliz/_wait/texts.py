"""Texts about a job for the person on call: which job, what happened to it, and what is known."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._wait.checkpoint import Checkpoint
from airflow_zilliz.exceptions import ZillizError

#: Logged with the names of the arguments that a newer version stored before a rollback to this one.
IGNORED = "Arguments that this version of the provider does not know are ignored: %s"


def subject(job_id: str, conn_id: str, target: Target, seen: Checkpoint) -> str:
    """Return the job, its collection if known, and where it lives."""
    collection = f" of collection {seen.collection_name!r}" if seen.collection_name else ""
    place = str(target)
    return f"import job {job_id!r}{collection} (connection {conn_id!r}{place and ', '}{place})"


def failed(subject: str, progress: ImportProgress) -> str:
    """Return the text for a failed job, with its reason and that of each file."""
    text = f"{subject[0].upper()}{subject[1:]} failed: {progress.reason or 'the server gave no reason'}"
    if files := progress.file_reasons:
        reasons = (name if reason == progress.reason else f"{name}: {reason}" for name, reason in files)
        text += f" | files: {'; '.join(reasons)}"
    return text


def forgotten(subject: str, error: ZillizError, last_seen: str) -> str:
    """Return the text for an unknown job, with the likely cause."""
    return (
        f"The server does not know {subject}: {plain(error)}. Most likely the job ended long ago and was "
        "forgotten (Milvus keeps ended jobs 3 hours before 2.6.24 and 3.0.2, 48 hours since); otherwise the job id or "
        f"the cluster is wrong. {last_seen}"
    )


def last_seen(seen: Checkpoint, listed_at: float | None) -> str:
    """Return the text for the job's last known state.

    :param listed_at: when a job list last showed that state, epoch seconds; None for never
    """
    if seen.summary is None or seen.at is None:
        return "The job's state has not been seen in this wait"
    moment = datetime.fromtimestamp(max(seen.at, listed_at or seen.at), timezone.utc)
    return f"The job was {seen.summary} when last seen, {moment:%Y-%m-%d %H:%M:%S} UTC"


def key_advice(conn_id: str) -> str:
    """Return what to do about a refused key."""
    return f"Correct the key of connection {conn_id!r}, or its rights on the cluster, and clear this task"


def plain(error: ZillizError) -> str:
    """Return an error's text without the full stop at its end."""
    return str(error).rstrip(". ")


def plural(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 job`` and ``1,000 jobs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
