"""The control route of the local server: scripted jobs and faults, for tests."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from airflow_zilliz.local.jobs import FileEntry, Job, Phase

KINDS = ("status", "slow", "cut", "html", "reset", "huge", "redirect", "page")
KEPT_REQUESTS = 10_000


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the next answers.

    :param kind: ``status`` (an error answer), ``slow``, ``cut`` (the body ends early), ``html`` (a page with status
        200), ``page`` (``message`` as it is, under ``status``, as load balancers, proxies and firewalls answer),
        ``reset`` (the connection breaks), ``huge`` (a body of 11 MiB) or ``redirect`` (to another host)
    :param times: for how many answers; None until the faults are cleared
    :param path: only for routes that end like this, such as ``describe``
    :param after: how many answers stay whole before
    :param status: HTTP status of a ``status`` or ``page`` fault; ``status`` has Milvus's own body for it unless
        ``code`` or ``message`` is given
    :param retry_after: value of its ``Retry-After`` header
    :param seconds: how long a ``slow`` answer takes; it is then a true one
    :param done: carry out what the request asks for first, so that the answer alone is lost
    """

    kind: str
    times: int | None = 1
    path: str = ""
    after: int = 0
    status: int = 500
    code: int | None = None
    message: str = ""
    retry_after: float | None = None
    seconds: float = 0.0
    done: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Fault:
        """Return the fault behind a JSON object; raises ValueError or TypeError for one that is none."""
        fault = cls(**value)
        if fault.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        return fault


@dataclass(frozen=True)
class Settings:
    """How the server differs from today's.

    :param describe_routed: False for a Milvus before 2.4.14, which has get_progress alone
    :param success_code: 200 for Milvus 2.4.0 to 2.4.5
    :param old_shape: answer a description in the shape of the SDK page's example
    :param requests_per_second: the most for each path, else 429 with Retry-After; None for no limit
    :param idempotency: heed the Idempotency-Key header
    :param api_key: another key than the server was started with; a rotated one
    :param clusters: the clusters that the Cloud face knows; None for all
    """

    describe_routed: bool = True
    success_code: int = 0
    old_shape: bool = False
    requests_per_second: float | None = None
    idempotency: bool = True
    api_key: str | None = None
    clusters: list[str] | None = None

    def changed(self, value: Mapping[str, Any]) -> Settings:
        """Return the settings with some changed; raises TypeError for an unknown one."""
        return replace(self, **value)


@dataclass
class Control:
    """What the control route was told, and which requests came."""

    settings: Settings = field(default_factory=Settings)
    faults: list[Fault] = field(default_factory=list)
    script: Job | None = None
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))
    _sent: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def next_fault(self, path: str) -> Fault | None:
        """Take the fault that the next answer of a path has, None for a whole one."""
        for index, fault in enumerate(self.faults):
            if not path.endswith(fault.path):
                continue
            if fault.after > 0:
                self.faults[index] = replace(fault, after=fault.after - 1)
                continue
            if fault.times is None:
                return fault
            if fault.times > 1:
                self.faults[index] = replace(fault, times=fault.times - 1)
            else:
                del self.faults[index]
            return fault
        return None

    def over_limit(self, path: str) -> bool:
        """Count a request, and return whether it is one too many for this second."""
        limit = self.settings.requests_per_second
        if limit is None:
            return False
        now, sent = time.monotonic(), self._sent[path]
        while sent and sent[0] <= now - 1:
            sent.popleft()
        if len(sent) >= limit:
            return True
        sent.append(now)
        return False

    def record(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> dict[str, Any]:
        """Keep a request for tests; of its key only a digest, so that no log of ours can leak it."""
        shown = {name.lower(): value for name, value in headers.items() if name.lower() != "authorization"}
        if (key := headers.get("Authorization")) is not None:
            shown["authorization-sha256"] = hashlib.sha256(key.encode()).hexdigest()
        hidden = {"accessKey", "secretKey", "token", "apiKey"}
        if isinstance(body, dict):
            body = {name: "***" if name in hidden and value else value for name, value in body.items()}
        record = {"method": method, "path": path, "headers": shown, "body": body, "status": None, "at": time.time()}
        self.requests.append(record)
        return record


def scripted_job(job_id: str, value: Mapping[str, Any]) -> Job:
    """Return the scripted job that a JSON object describes.

    Its keys are ``phases`` (a list, see `Phase`), and optionally ``jobId``, ``collectionName``, ``totalRows``,
    ``files`` (a list, see `FileEntry`) and ``place`` (of the Cloud face).

    :raises ValueError: for what is no such object; TypeError for an unknown key inside
    """
    known = {"jobId", "collectionName", "totalRows", "phases", "files", "place"}
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
        total_rows=int(value.get("totalRows") or 0),
        phases=phases,
        files=tuple(FileEntry(**entry) for entry in value.get("files") or ()),
        place=dict(value.get("place") or {}),
    )
