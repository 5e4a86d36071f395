"""Faults and settings of the local server, which tests change through its control routes."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from airflow_zilliz.local.jobs import Job
from airflow_zilliz.local.limits import Limits
from airflow_zilliz.local.versions import VERSIONS, MilvusVersion

KINDS = ("status", "code", "proxy", "page", "slow", "cut", "html", "reset", "huge", "redirect", "restart")
KEPT_REQUESTS = 10_000


@dataclass(frozen=True)
class Fault:
    """A fault of the next responses.

    Kinds:

    - ``status``: an error in the API's own JSON, under an HTTP status
    - ``code``: the same under HTTP 200, as Milvus sends most of its errors; ``code`` is needed
    - ``proxy``: the page of something in front of the server: a load balancer without a backend (404, the
      default, 502, 503, 504), a firewall (401, 403) or a proxy that requires a login (407)
    - ``page``: ``message`` as plain text
    - ``slow``: the true response, late
    - ``cut``: a body that ends early
    - ``html``: a page with status 200
    - ``reset``: the connection breaks
    - ``huge``: a body of 11 MiB
    - ``redirect``: to another host
    - ``restart``: the connection breaks, as do all others for ``seconds``; then the server is back, with its
      jobs or, if ``loses_jobs``, without them

    ``done`` and ``done_after`` decide whether the request takes effect; without them it does not, except for
    ``slow``.

    :param kind: one of the above
    :param times: for how many responses; None until the faults are cleared
    :param path: only for routes that end like this, such as ``describe``
    :param job_id: only for requests that name this job
    :param after: how many responses are correct before it
    :param status: HTTP status, 500 unless given
    :param code: the body's ``code``; Milvus's own for the status unless given
    :param message: the body's ``message``; Milvus's own for the code or the status unless given
    :param retry_after: value of a ``Retry-After`` header, in seconds
    :param seconds: how long ``slow`` takes, and how long ``restart`` lasts, by the server's clock
    :param done: the request takes effect before the fault, so that only the response is lost
    :param done_after: the request takes effect so many seconds after the response, by the server's clock: at once
        with 0, otherwise when `LocalServer.advance` has moved the clock that far
    :param loses_jobs: whether a ``restart`` loses all jobs, including those that ``done`` made
    """

    kind: str
    times: int | None = 1
    path: str = ""
    job_id: str = ""
    after: int = 0
    status: int | None = None
    code: int | None = None
    message: str = ""
    retry_after: float | None = None
    seconds: float = 0.0
    done: bool = False
    done_after: float | None = None
    loses_jobs: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        if self.kind == "code" and self.code is None:
            raise ValueError("a fault of kind 'code' needs a code")
        if self.status is not None and not 100 <= self.status <= 599:
            raise ValueError(f"status must be an HTTP status, got {self.status}")
        if self.done and self.done_after is not None:
            raise ValueError("done and done_after exclude each other")
        for name in ("seconds", "done_after", "after", "retry_after"):
            if not (getattr(self, name) or 0) >= 0:
                raise ValueError(f"{name} must not be negative")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times must be at least 1, got {self.times}")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Fault:
        """Return the fault in a JSON object.

        :raises ValueError: the values make no valid fault; TypeError for an unknown name or a wrong type
        """
        return cls(**value)

    def is_for(self, path: str, job_id: object) -> bool:
        """Return whether the fault applies to requests to this path that name this job."""
        return path.endswith(self.path) and self.job_id in ("", job_id)


@dataclass(frozen=True)
class Settings:
    """The settings that tests change while the server runs.

    :param milvus: another version, ``2.4`` to ``3.0``; None as the server was started
    :param describe_routed: False for a Milvus before 2.4.14, which has only get_progress; None as the version says
    :param success_code: 200 for Milvus 2.4.0 to 2.4.5; None as the version says
    :param idempotency: whether the Idempotency-Key header is honoured; None as the version says
    :param retention: seconds that an ended job is kept; None as the version says
    :param old_shape: respond to a description in the shape of the SDK page's example
    :param requests_per_second: the most for each path, else 429 with Retry-After; None for no limit
    :param api_key: a key other than at the start, as after a rotation; None as the server was started
    :param clusters: the clusters that the Cloud flavor knows; None for all
    :param collections: collections that exist besides Milvus Lite's, in every database; a scripted job's own
        collection exists without being named
    :param list_lag: seconds, by the server's clock, until a new job is in the list
    :param unlisted: ids of jobs that are in no list
    :param lists_alternate: what ``list_lag`` and ``unlisted`` leave out is missing only from every second list,
        beginning with the first: two coordinators of which one lags
    :param max_files: inner lists of a request; None as the server was started
    :param max_jobs: jobs that have not ended; None as the server was started
    :param max_file_size: bytes of one file; None as the server was started
    :param max_request_size: bytes of all files of a request; None as the server was started
    """

    milvus: str | None = None
    describe_routed: bool | None = None
    success_code: int | None = None
    idempotency: bool | None = None
    retention: float | None = None
    old_shape: bool = False
    requests_per_second: float | None = None
    api_key: str | None = None
    clusters: list[str] | None = None
    collections: list[str] = field(default_factory=list)
    list_lag: float = 0.0
    unlisted: list[str] = field(default_factory=list)
    lists_alternate: bool = False
    max_files: int | None = None
    max_jobs: int | None = None
    max_file_size: int | None = None
    max_request_size: int | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        if self.milvus is not None and self.milvus not in VERSIONS:
            raise ValueError(f"milvus must be one of {', '.join(VERSIONS)}, got {self.milvus!r}")
        for name in ("retention", "list_lag", "max_files", "max_jobs", "max_file_size", "max_request_size"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value!r}")

    def changed(self, value: Mapping[str, Any]) -> Settings:
        """Return the settings with some changed; raises TypeError for an unknown one, ValueError for a bad value."""
        return replace(self, **value)

    def version(self, started: MilvusVersion) -> MilvusVersion:
        """Return the current version.

        :param started: the version that the server was started as
        """
        base = VERSIONS[self.milvus] if self.milvus is not None else started
        changed = _given(
            describe_routed=self.describe_routed,
            success_code=self.success_code,
            idempotency_keys=self.idempotency,
            retention=self.retention,
        )
        return replace(base, **changed)

    def limits(self, started: Limits) -> Limits:
        """Return the current limits.

        :param started: the limits that the server was started with
        """
        names = [f.name for f in fields(started)]
        return replace(started, **_given(**{name: getattr(self, name) for name in names}))


def _check_types(value: Fault | Settings) -> None:
    """Raise TypeError for a field whose value has another type than its annotation."""
    for name, annotation in get_type_hints(type(value)).items():
        given = getattr(value, name)
        kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
        if not any(_is_of(given, kind) for kind in kinds):
            raise TypeError(f"{name} must be {annotation}, got {given!r}")


def _is_of(value: object, kind: Any) -> bool:
    if get_origin(kind) is list:
        return isinstance(value, list) and all(isinstance(item, get_args(kind)) for item in value)
    if kind is float:
        kind = (int, float)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


@dataclass
class Control:
    """Faults and settings from the control routes, and the requests that came."""

    settings: Settings = field(default_factory=Settings)
    faults: list[Fault] = field(default_factory=list)
    script: Job | None = None
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))
    down_until: float = 0.0
    _lists: int = 0
    _sent: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def next_fault(self, path: str, job_id: object = None) -> Fault | None:
        """Return and count the fault of the next response of a path, None for a correct response."""
        for index, fault in enumerate(self.faults):
            if not fault.is_for(path, job_id):
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

    def clear_faults(self) -> None:
        """Remove the faults, and end an outage."""
        self.faults.clear()
        self.down_until = 0.0

    def listed(self, jobs: list[Job], now: float) -> list[Job]:
        """Return the jobs that the next list shows, and count that list."""
        settings = self.settings
        self._lists += 1
        if settings.lists_alternate and self._lists % 2 == 0:
            return jobs
        return [job for job in jobs if job.id not in settings.unlisted and job.created + settings.list_lag <= now]

    def change(self, settings: Settings) -> None:
        """Change settings; the count of lists starts again."""
        self.settings = settings
        self._lists = 0

    def over_limit(self, path: str) -> bool:
        """Count a request, and return whether it exceeds the limit of this second."""
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
        """Record a request for tests, with only a digest of its key, so that no log can leak the key."""
        shown = {name.lower(): value for name, value in headers.items() if name.lower() != "authorization"}
        if (key := headers.get("Authorization")) is not None:
            shown["authorization-sha256"] = hashlib.sha256(key.encode()).hexdigest()
        hidden = {"accesskey", "secretkey", "token", "apikey"}
        if isinstance(body, dict):
            body = {name: "***" if name.lower() in hidden and value else value for name, value in body.items()}
        record = {"method": method, "path": path, "headers": shown, "body": body, "status": None, "at": time.time()}
        self.requests.append(record)
        return record
