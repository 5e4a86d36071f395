"""The local server's jobs, and the store in which they survive a restart."""

from __future__ import annotations

import json
import math
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz.local.clock import Clock
from airflow_zilliz.local.versions import NEWEST

DIED = "the import server was stopped while the job was running"


class Flavor(str, Enum):
    """Whose API the server speaks."""

    MILVUS = "milvus"
    CLOUD = "cloud"

    def new_job_id(self) -> str:
        """Return a new id in the form of this flavor (wire 1.3, 1.4)."""
        if self is Flavor.CLOUD:
            return f"job-{secrets.token_hex(11)}"
        return str(450_000_000_000_000_000 + secrets.randbelow(10_000_000_000_000_000))


@dataclass(frozen=True)
class Phase:
    """A phase of a scripted job. The last one lasts forever.

    :param state: any word, even one that no server uses
    :param seconds: how long it lasts
    """

    state: str
    seconds: float = 0.0
    progress: int = 0
    reason: str = ""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Phase:
        """Return the phase in a JSON object; raises ValueError or TypeError for an invalid one."""
        phase = cls(**value)
        if not isinstance(phase.state, str) or not phase.seconds >= 0:
            raise ValueError("a phase has a state (text) and seconds (a number, not negative)")
        return phase


@dataclass(frozen=True)
class FileEntry:
    """One file, or one set of NumPy files, of a job.

    :param completed: when it was read and imported, in epoch seconds
    """

    name: str
    size: int = 0
    rows: int = 0
    imported: int = 0
    reason: str = ""
    state: str = "Pending"
    completed: float | None = None


@dataclass(frozen=True)
class Job:
    """One import job. Times are epoch seconds.

    :param place: the cluster or project and region that it was created for; empty on Milvus
    :param phases: set for a scripted job, which follows the clock and touches no data
    :param version: the Milvus version that it was created on, by whose rules its files are read
    :param ended: when it was Completed or Failed; its retention counts from here
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
    version: str = NEWEST.name
    ended: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether the job is Completed or Failed."""
        return self.state in (ImportState.COMPLETED.value, ImportState.FAILED.value)

    @property
    def commits_itself(self) -> bool:
        """Whether the job commits by itself, as jobs do by default."""
        return self.options.get("auto_commit", "true") != "false"

    def at(self, now: float) -> Job:
        """Return the job at ``now``: a scripted one follows its script."""
        if not self.phases or self.is_final:
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
            ended=begun if done or phase.state == ImportState.FAILED.value else None,
        )

    def failed(self, reason: str) -> Job:
        """Return the job as Failed, with its progress and rows reset as Milvus does (wire 3.1)."""
        return replace(self, state="Failed", reason=reason, progress=0, imported_rows=0, total_rows=0)


class JobStore:
    """Jobs and idempotency keys, in memory and in an SQLite file, so that they survive a restart.

    :param path: the file; None keeps them in memory only
    :param clock: the clock of scripted jobs and retention
    """

    def __init__(self, path: Path | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        #: Seconds that an ended job is kept.
        self.retention: Callable[[], float] = lambda: math.inf
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, body TEXT NOT NULL)")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS keys (collection TEXT, key TEXT, job_id TEXT, PRIMARY KEY (collection, key))"
        )
        self._jobs = {job.id: job for job in self._read()}

    def _read(self) -> Iterator[Job]:
        for (body,) in self._db.execute("SELECT body FROM jobs"):
            values = json.loads(body)
            values["groups"] = tuple(map(tuple, values["groups"]))
            values["files"] = tuple(FileEntry(**entry) for entry in values["files"])
            values["phases"] = tuple(Phase(**phase) for phase in values["phases"])
            yield Job(**values)

    def fail_broken_off(self) -> None:
        """Fail the jobs that an earlier server was running; only if no other server uses the same data."""
        for job in self.all():
            if not job.phases and job.state in (ImportState.IMPORTING.value, ImportState.COMMITTING.value):
                self.put(job.failed(DIED))

    def add(self, job: Job) -> Job:
        """Store a job, new or with a known id, and return it with the times of the states it reached."""
        with self._lock:
            job = self._stamped(job)
            self._jobs[job.id] = job
            self._db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?)", (job.id, json.dumps(asdict(job))))
        return job

    def put(self, job: Job) -> Job:
        """Store a known job as it is now; one that was lost meanwhile stays lost."""
        with self._lock:
            return self.add(job) if job.id in self._jobs else job

    def _stamped(self, job: Job) -> Job:
        now = self.clock.now()
        imported = job.state == ImportState.UNCOMMITTED.value
        files = tuple(
            replace(entry, completed=now)
            if entry.completed is None and (imported or entry.state == ImportState.COMPLETED.value)
            else entry
            for entry in job.files
        )
        if job.is_final and job.ended is None:
            completed = now if job.state == ImportState.COMPLETED.value else None
            return replace(job, files=files, ended=now, completed=completed)
        return job if files == job.files else replace(job, files=files)

    def get(self, job_id: str) -> Job | None:
        """Return a job as it is now, None for an unknown id, or one whose retention is over."""
        with self._lock:
            job = self._jobs.get(job_id)
        return next(iter(self._alive([job])), None) if job else None

    def all(self) -> list[Job]:
        """Return every job as it is now."""
        with self._lock:
            jobs = list(self._jobs.values())
        return self._alive(jobs)

    def _alive(self, jobs: list[Job]) -> list[Job]:
        now, retention = self.clock.now(), self.retention()
        alive = []
        for job in jobs:
            current = job.at(now)
            if current.ended is not None and current.ended + retention <= now:
                self.forget(job.id)
            else:
                alive.append(current)
        return alive

    def forget(self, job_id: str) -> bool:
        """Lose a job, as retention does; return whether it was there. Its idempotency key stays (wire 1.7)."""
        with self._lock:
            self._db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            return self._jobs.pop(job_id, None) is not None

    def by_key(self, scope: str, key: str) -> str | None:
        """Return the job of an idempotency key in its scope."""
        with self._lock:
            found = self._db.execute("SELECT job_id FROM keys WHERE collection = ? AND key = ?", (scope, key))
            row = found.fetchone()
        return row[0] if row else None

    def bind_key(self, scope: str, key: str, job_id: str) -> None:
        """Store the job of an idempotency key in its scope."""
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", (scope, key, job_id))

    def lose_jobs(self) -> None:
        """Lose all jobs; their idempotency keys stay."""
        with self._lock:
            self._jobs.clear()
            self._db.execute("DELETE FROM jobs")

    def clear(self) -> None:
        """Lose everything."""
        with self._lock:
            self.lose_jobs()
            self._db.execute("DELETE FROM keys")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
