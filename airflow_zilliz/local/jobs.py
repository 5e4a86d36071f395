"""The local server's jobs: what is known of each, how each face shows it, and where they outlive the process."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_zilliz.progress import ImportState

DIED = "the import server was stopped while the job was running"


class Face(str, Enum):
    """Whose API the server speaks."""

    MILVUS = "milvus"
    CLOUD = "cloud"

    def new_job_id(self) -> str:
        """Return an id of the kind that this face gives out (wire 1.3, 1.4)."""
        if self is Face.CLOUD:
            return f"job-{secrets.token_hex(11)}"
        return str(450_000_000_000_000_000 + secrets.randbelow(10_000_000_000_000_000))


@dataclass(frozen=True)
class Phase:
    """A stretch of a scripted job's life. The last one lasts for ever.

    :param state: any word, also one that no server uses
    :param seconds: how long it lasts
    """

    state: str
    seconds: float = 0.0
    progress: int = 0
    reason: str = ""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Phase:
        """Return the phase behind a JSON object; raises ValueError or TypeError for one that is none."""
        phase = cls(**value)
        if not isinstance(phase.state, str) or not phase.seconds >= 0:
            raise ValueError("a phase has a state (text) and seconds (a number, not negative)")
        return phase


@dataclass(frozen=True)
class FileEntry:
    """One file, or one set of NumPy files, of a job."""

    name: str
    size: int = 0
    rows: int = 0
    imported: int = 0
    reason: str = ""
    state: str = "Pending"


@dataclass(frozen=True)
class Job:
    """One import job. Times are epoch seconds.

    :param place: the cluster or project and region that it was created for; empty on Milvus
    :param phases: set for a scripted job, which follows the clock and touches no data
    """

    id: str
    collection: str = ""
    db_name: str = ""
    partition: str = ""
    groups: tuple[tuple[str, ...], ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    place: dict[str, str] = field(default_factory=dict)
    state: str = "Pending"
    progress: int = 0
    reason: str = ""
    imported_rows: int = 0
    total_rows: int = 0
    files: tuple[FileEntry, ...] = ()
    created: float = field(default_factory=time.time)
    completed: float | None = None
    phases: tuple[Phase, ...] = ()

    @property
    def commits_itself(self) -> bool:
        """Whether the job goes on past Uncommitted by itself, as jobs do by default."""
        return self.options.get("auto_commit", "true") != "false"

    def at(self, now: float) -> Job:
        """Return the job as it stands at ``now``: a scripted one follows its script."""
        if not self.phases or self.state in ("Completed", "Failed"):
            return self
        elapsed, begun = now - self.created, self.created
        for phase in self.phases:
            if elapsed < phase.seconds or phase is self.phases[-1]:
                break
            elapsed -= phase.seconds
            begun += phase.seconds
        done = phase.state == "Completed"
        imported = self.total_rows if done else self.total_rows * max(0, phase.progress - 40) // 60
        return replace(
            self,
            state=phase.state,
            progress=100 if done else phase.progress,
            reason=phase.reason,
            imported_rows=0 if phase.state == "Failed" else imported,
            completed=begun if done else None,
        )

    def failed(self, reason: str) -> Job:
        """Return the job as Failed, with its progress and rows reset as Milvus does (wire 3.1)."""
        return replace(self, state="Failed", reason=reason, progress=0, imported_rows=0, total_rows=0)


def describe(job: Job, face: Face) -> dict[str, Any]:
    """Return the ``data`` of a describe answer (wire 2.1, 2.2)."""
    stamp = _stamp(job.completed)
    details = [
        {
            "completeTime": stamp,
            "fileName": entry.name if face is Face.CLOUD else f"[{entry.name}]",
            "fileSize": entry.size,
            "importedRows": entry.imported,
            "progress": 100 * entry.imported // entry.rows if entry.rows else 0,
            "state": entry.state,
            "totalRows": entry.rows,
            **({"reason": entry.reason} if entry.reason or face is Face.CLOUD else {}),
        }
        for entry in job.files
    ]
    data: dict[str, Any] = {
        "collectionName": job.collection,
        "completeTime": stamp,
        "createTime": _stamp(job.created),
        "details": details if job.progress >= 40 or job.state == "Failed" else [],
        "fileSize": sum(entry.size for entry in job.files),
        "importedRows": job.imported_rows,
        "jobId": job.id,
        "progress": job.progress,
        "state": job.state,
        "totalRows": job.total_rows,
    }
    if job.reason or face is Face.CLOUD:
        data["reason"] = job.reason
    if face is Face.CLOUD:
        data["fileName"] = job.files[0].name if job.files else ""
    return data


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


def list_record(job: Job, face: Face) -> dict[str, Any]:
    """Return a job's record in a list: Cloud's knows little, and says InProgress (wire 5)."""
    if face is Face.CLOUD:
        state = "InProgress" if job.state == "Importing" else job.state
        return {"collectionName": job.collection, "jobId": job.id, "state": state}
    record = {"collectionName": job.collection, "jobId": job.id, "progress": job.progress, "state": job.state}
    return record | ({"reason": job.reason} if job.reason else {})


def _stamp(moment: float | None) -> str:
    return "" if moment is None else datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class JobStore:
    """Jobs and idempotency keys, in memory and in an SQLite file, so that they survive a restart.

    :param path: the file; None keeps them in memory alone
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, body TEXT NOT NULL)")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS keys (collection TEXT, key TEXT, job_id TEXT, PRIMARY KEY (collection, key))"
        )
        self._jobs = {job.id: job for job in self._read()}
        for job in list(self._jobs.values()):
            if not job.phases and job.state in (ImportState.IMPORTING.value, ImportState.COMMITTING.value):
                self.put(job.failed(DIED))

    def _read(self) -> Iterator[Job]:
        for (body,) in self._db.execute("SELECT body FROM jobs"):
            values = json.loads(body)
            values["groups"] = tuple(map(tuple, values["groups"]))
            values["files"] = tuple(FileEntry(**entry) for entry in values["files"])
            values["phases"] = tuple(Phase(**phase) for phase in values["phases"])
            yield Job(**values)

    def put(self, job: Job) -> Job:
        """Keep a job as it is now."""
        with self._lock:
            self._jobs[job.id] = job
            self._db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?)", (job.id, json.dumps(asdict(job))))
        return job

    def get(self, job_id: str) -> Job | None:
        """Return a job as it stands now, None for an unknown id."""
        with self._lock:
            job = self._jobs.get(job_id)
        return job.at(time.time()) if job else None

    def all(self) -> list[Job]:
        """Return every job as it stands now."""
        with self._lock:
            jobs = list(self._jobs.values())
        return [job.at(time.time()) for job in jobs]

    def forget(self, job_id: str) -> bool:
        """Lose a job, as retention does; return whether it was there. Its idempotency key stays (wire 1.7)."""
        with self._lock:
            self._db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            return self._jobs.pop(job_id, None) is not None

    def by_key(self, collection: str, key: str) -> str | None:
        """Return the job that an idempotency key stands for."""
        with self._lock:
            found = self._db.execute("SELECT job_id FROM keys WHERE collection = ? AND key = ?", (collection, key))
            row = found.fetchone()
        return row[0] if row else None

    def bind_key(self, collection: str, key: str, job_id: str) -> None:
        """Let an idempotency key stand for a job."""
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", (collection, key, job_id))

    def clear(self) -> None:
        """Lose everything."""
        with self._lock:
            self._jobs.clear()
            self._db.execute("DELETE FROM jobs")
            self._db.execute("DELETE FROM keys")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
