"""What an import task lives in: Airflow's tries and stores, other tasks, and a server, all in one virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any
from unittest import mock

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_zilliz import hooks, operators
from airflow_zilliz._protocol.constants import ABORT, COMMIT, CREATE, LIST
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.responses import Response
from airflow_zilliz._tasks import base, job_wait, room_pause, task_state
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz.exceptions import ZillizUnavailable
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.operators import ZillizImportOperator
from tests.exploration.choices import Choices

EPOCH = 1_800_000_000.0
HOUR = 3600.0
RETENTION = 3 * HOUR
JOB_SECONDS = 45.0
COMMIT_SECONDS = 5.0
FILES = (("8ca4/1.parquet",), ("8ca4/2.parquet",))
#: What a sibling imports: BulkWriter gave its files the same names, in another folder.
SIBLING_FILES = (("5c0d/1.parquet",), ("5c0d/2.parquet",))
#: What the task imports after a user has corrected it.
CORRECTED_FILES = (("8ca4/1.parquet",), ("8ca4/3.parquet",))
OWN_KEY = "books"


class WorkerDied(BaseException):
    """A worker was killed: nothing of it continues, not even an except clause of an Exception."""


@dataclass(frozen=True)
class Setting:
    """What is the same in all runs of one exploration.

    :param heeds_keys: the server returns the first job of an Idempotency-Key
    :param remembers: the task state store of Airflow 3.3 is there
    :param lists: the server's job list can be used
    :param shows: how a job shows its files: their paths, at once or late; their names alone; never
    :param shows_times: whether a job shows when it was created
    :param clock_offset: seconds by which the server's clock is ahead
    :param own_key: the user set idempotency_key
    :param neighbour: who else imports into the collection: nobody; a sibling with other files, at the same time; a
        twin with the same files; the run of yesterday with the same files; a sibling with the same own key
    :param retry_delay: the task's, seconds
    """

    heeds_keys: bool = False
    remembers: bool = True
    lists: bool = True
    shows: str = "paths"
    shows_times: bool = True
    clock_offset: float = 0.0
    own_key: bool = False
    neighbour: str = "nobody"
    retry_delay: float = 300.0

    def __str__(self) -> str:
        changed = [f"{name}={value!r}" for name, value in vars(self).items() if value != getattr(Setting, name)]
        return ", ".join(changed) or "as on Airflow 3.3 with a Milvus before 2.6.24"


@dataclass
class Job:
    """A job of the server.

    :param fate: how it ends, or would end if it were committed
    :param flips: it is Failed later all the same; its rows are there, except if it fails while it is committed
    :param in_two_phases: it is Uncommitted until it is committed
    """

    id: str
    files: tuple[tuple[str, ...], ...]
    owner: str
    created: float
    fate: str = "Completed"
    flips: bool = False
    in_two_phases: bool = False
    committed: float | None = None
    is_aborted: bool = False

    def ended(self, now: float) -> bool:
        return now >= self.created + JOB_SECONDS

    def state(self, now: float) -> str:
        if self.is_aborted:
            return "Failed"
        if not self.ended(now):
            return "Importing"
        if self.in_two_phases and self.fate == "Completed":
            if self.committed is None:
                return "Uncommitted"
            if now < self.committed + COMMIT_SECONDS:
                return "Committing"
            return "Failed" if self.flips else "Completed"
        return "Failed" if self.flips and now >= self.created + JOB_SECONDS + 50 else self.fate

    @property
    def loads_rows(self) -> bool:
        """Whether its rows are visible in the end."""
        if self.fate != "Completed" or self.is_aborted:
            return False
        return not self.in_two_phases or (self.committed is not None and not self.flips)


@dataclass
class Outcome:
    """How a run ended.

    :param problems: which of the promises were broken
    """

    problems: list[str]
    events: list[str]
    in_doubt: bool = False


class TaskInstance:
    dag_id, run_id, task_id, map_index = "dag", "manual__1", "import", -1

    def __init__(self, world: World) -> None:
        self.world = world
        self.try_number, self.max_tries = 1, 0
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value
        if key == "job_id":
            self.world.may_die("after XCom job_id")

    def xcom_pull(self, **_: Any) -> Any:
        return None


class Store:
    def __init__(self, world: World) -> None:
        self.world = world
        self.text = "{}"

    def get(self, key: str) -> Any:
        return json.loads(self.text).get(key)

    def set(self, key: str, value: Any) -> None:
        self.text = json.dumps({**json.loads(self.text), key: value})
        self.world.may_die(f"after writing {'that it sends' if value.get('sending') else 'what came of it'}")


@dataclass
class World:
    """One run. Everything that may go wrong is asked of ``choices``."""

    setting: Setting
    choices: Choices
    now: float = EPOCH
    jobs: dict[str, Job] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    wanted: tuple[tuple[str, ...], ...] = FILES
    asked_for: int = 1
    is_waiting: bool = False
    has_waited: bool = False
    has_neighbour: bool = False
    capacity: int | None = None

    def note(self, text: str) -> None:
        self.events.append(f"{self.now - EPOCH:8.1f} {text}")

    def sleep(self, seconds: float) -> None:
        end = self.now + max(0.0, seconds)
        while self.later and (due := min(self.later, key=lambda item: item[0]))[0] <= end:
            self.later.remove(due)
            self.now = max(self.now, due[0])
            due[1]()
        self.now = end

    def may_die(self, where: str) -> None:
        if self.choices.choose("the worker dies", ("no", where)) != "no":
            self.note(f"the worker dies {where}")
            raise WorkerDied(where)

    # -- the server -----------------------------------------------------------------------------------------------

    def make_job(
        self,
        files: tuple[tuple[str, ...], ...],
        owner: str,
        key: str | None = None,
        at: float = 0.0,
        *,
        in_two_phases: bool = False,
    ) -> Job:
        if self.setting.heeds_keys and key in self.keys:
            return self.jobs[self.keys[key]]
        job = Job(f"job-{len(self.jobs) + 1:03}", files, owner, at or self.now, in_two_phases=in_two_phases)
        if owner == "us":
            job.fate = self.choices.choose("the job", ("Completed", "Failed", "Completed and later Failed"))
            job.flips, job.fate = job.fate.endswith("later Failed"), job.fate.split()[0]
        self.jobs[job.id] = job
        if key is not None:
            self.keys[key] = job.id
        self.note(f"{job.id} is made, for {owner}")
        return job

    def exchange(self, hook: ZillizHook, endpoint: Endpoint, request: Request) -> Response:
        self.sleep(0.05)
        assert request.body is not None
        if request.path == CREATE:
            return self._create(request)
        if request.path == LIST:
            return self._list()
        if request.path in (COMMIT, ABORT):
            return self._decide(request.path.rpartition("/")[2], request.body["jobId"])
        return self._describe(request.body["jobId"])

    CREATED = (
        "ok",
        "lost, nothing made",
        "lost, made",
        "lost, made 60 s later",
        "lost, made 2 h later",
        "code 65535, made",
        "code 65535, nothing made",
        "code 2101, made",
        "refused",
        "throttled",
        "full",
        "dies before it is sent",
        "dies, made",
        "dies, made 60 s later",
        "dies, frozen and sent 10 min later",
    )

    def _create(self, request: Request) -> Response:
        assert request.body is not None
        key = request.headers.get("Idempotency-Key")
        files = tuple(map(tuple, request.body["files"]))
        if self.setting.neighbour in ("sibling", "twin") and not self.has_neighbour:
            self.has_neighbour = True
            self.make_job(FILES if self.setting.neighbour == "twin" else SIBLING_FILES, "sibling")
        running = sum(job.state(self.now) in ("Importing", "Committing") for job in self.jobs.values())
        if self.capacity is not None and running >= self.capacity:
            self.note("create: there is no room")
            return self.response({"code": 2100, "message": "number of jobs has reached the limit"})
        course = self.choices.choose("create", self.CREATED)
        self.note(f"create with key {key}: {course}")
        two_phases = (request.body.get("options") or {}).get("auto_commit") == "false"
        make = lambda: self.make_job(files, "us", key, in_two_phases=two_phases)  # noqa: E731 - later or now
        for delay, word in ((60.0, "60 s later"), (2 * HOUR, "2 h later"), (600.0, "10 min later")):
            if course.endswith(word):
                self.later.append((self.now + delay, lambda: (make(), None)[1]))
        job = make() if course == "ok" or course.endswith(", made") else None
        if course.startswith("dies"):
            raise WorkerDied(course)
        if course.startswith("lost"):
            raise ZillizUnavailable("the connection was lost")
        if course == "throttled":
            return self.response({"message": "slow down"}, 429)
        if course != "ok":
            code = {"refused": 100, "full": 2100}.get(course) or int(course.split()[1].rstrip(","))
            return self.response({"code": code, "message": "number of jobs has reached the limit" * (course == "full")})
        assert job is not None
        return self.response({"code": 0, "data": {"jobId": job.id}})

    DECIDED = (
        "ok",
        "lost, nothing done",
        "lost, done",
        "unavailable",
        "throttled",
        "refused",
        "dies before it is sent",
        "dies, done",
    )

    def _decide(self, what: str, job_id: str) -> Response:
        course = self.choices.choose(what, self.DECIDED)
        self.note(f"{what} of {job_id}: {course}")
        job, is_refused = self.jobs[job_id], False
        if course in ("ok", "lost, done", "dies, done"):
            is_refused = not self._is_done(what, job)
        if course.startswith("dies"):
            raise WorkerDied(course)
        if course.startswith("lost"):
            raise ZillizUnavailable("the connection was lost")
        if course in ("unavailable", "throttled"):
            return self.response({"message": course}, 503 if course == "unavailable" else 429)
        if is_refused or course == "refused":
            return self.response({"code": 1100, "message": f"the job is {job.state(self.now)}"})
        return self.response({"code": 0, "data": {}})

    def _is_done(self, what: str, job: Job) -> bool:
        """Commit or abort a job; return whether it may be, as often as it is asked for."""
        state = job.state(self.now)
        if what == "abort":
            if state in ("Importing", "Uncommitted"):
                job.is_aborted = True
            return job.is_aborted
        if state == "Uncommitted":
            job.committed = self.now
            self.on_commit()
        return job.committed is not None

    def on_commit(self) -> None:
        """Note what must not be when a job is committed."""

    def _listed(self) -> Iterator[Job]:
        for job in self.jobs.values():
            is_forgotten = self.now > job.created + JOB_SECONDS + RETENTION
            if not is_forgotten:
                yield job

    def _list(self) -> Response:
        if not self.setting.lists:
            return self.response({"code": 1100, "message": "no list here"})
        course = self.choices.choose("list", ("ok", "unavailable", "lags by 30 s"))
        if course == "unavailable":
            return self.response({"message": "down"}, 503)
        since = self.now - 30 if course != "ok" else self.now
        records = [
            {"jobId": job.id, "collectionName": "books", "state": job.state(self.now)}
            for job in self._listed()
            if job.created <= since
        ]
        return self.response({"code": 0, "data": {"records": records}})

    def _describe(self, job_id: str) -> Response:
        course = "ok"
        if not self.is_waiting:
            course = self.choices.choose("describe", ("ok", "unavailable", "refused", "unknown for a moment"))
        elif not self.has_waited:  # what a wait does with trouble has tests of its own
            self.has_waited = True
            self.may_die("while it waits")
        if course == "unavailable":
            return self.response({"message": "down"}, 503)
        if course == "refused":
            return self.response({"code": 65535, "message": "PermissionDenied"}, 403)
        job = next((job for job in self._listed() if job.id == job_id), None)
        if job is None or course == "unknown for a moment":
            return self.response({"code": 2100, "message": "import job does not exist"})
        data: dict[str, Any] = {"jobId": job.id, "collectionName": "books", "state": job.state(self.now)}
        if self.setting.shows_times:
            data["createTime"] = self._time(job.created)
        if job.loads_rows and job.state(self.now) in ("Completed", "Failed"):
            data["completeTime"] = self._time(job.created + JOB_SECONDS)
        return self.response({"code": 0, "data": {**data, "details": self._details(job)}})

    def _details(self, job: Job) -> list[dict[str, Any]]:
        shows = self.setting.shows
        if shows == "never" or (shows == "paths late" and self.now < job.created + 20):
            return []
        state = "Completed" if job.ended(self.now) else "InProgress"
        names = [path.rpartition("/")[2] if shows == "names" else f"[{path}]" for (path,) in job.files]
        return [{"fileName": name, "state": state} for name in names]

    def response(self, body: Any, status: int = 200) -> Response:
        headers = {"date": formatdate(self.now + self.setting.clock_offset, usegmt=True)}
        return Response(status, json.dumps(body).encode(), headers, "http://milvus/v2")

    def _time(self, moment: float) -> str:
        when = datetime.fromtimestamp(moment + self.setting.clock_offset, timezone.utc)
        return when.strftime("%Y-%m-%dT%H:%M:%SZ")


_get_import_progress = ZillizHook.get_import_progress


def _poll(world: World, hook: ZillizHook, *arguments: Any, **named: Any) -> Any:
    world.is_waiting = True
    try:
        return _get_import_progress(hook, *arguments, **named)
    finally:
        world.is_waiting = False


ENDPOINT = Endpoint("zilliz_default", "http://milvus:19530", max_requests_per_second=86400)


@contextmanager
def virtual_time() -> Iterator[Callable[[World], None]]:
    """Let the provider live in the time of a world, and talk to its server."""
    current: list[World] = []
    clock = SimpleNamespace(
        time=lambda: current[-1].now,
        monotonic=lambda: current[-1].now,
        sleep=lambda seconds: current[-1].sleep(seconds),
    )
    with mock.patch.multiple(
        ZillizHook,
        endpoint=lambda self: ENDPOINT,
        get_import_progress=lambda self, *arguments, **named: _poll(current[-1], self, *arguments, **named),
        _exchange=lambda self, endpoint, request: current[-1].exchange(self, endpoint, request),
    ):
        timed = (base, hooks, job_wait, operators, room_pause, task_state)
        patches = [mock.patch.object(module, "time", clock) for module in timed]
        patches.append(mock.patch.object(ZillizImportOperator, "log", mock.NonCallableMagicMock(), create=True))
        patches.append(mock.patch.object(ZillizHook, "log", mock.NonCallableMagicMock(), create=True))
        patches.append(mock.patch.object(room_pause, "random", SimpleNamespace(uniform=lambda low, high: 1.0)))
        for patch in patches:
            patch.start()
        try:
            yield current.append
        finally:
            for patch in patches:
                patch.stop()


def an_operator(world: World) -> ZillizImportOperator:
    setting = world.setting
    return ZillizImportOperator(
        task_id="import",
        collection_name="books",
        files=[list(group) for group in world.wanted],
        idempotency_key=OWN_KEY if setting.own_key else None,
        poke_interval=30,
        timeout=6 * HOUR,
        retries=2,
        retry_delay=timedelta(seconds=setting.retry_delay),
        deferrable=False,
        retry_on_failure=True,
    )


def is_final(error: BaseException) -> bool:
    return isinstance(error, (AirflowFailException, AirflowSensorTimeout))
