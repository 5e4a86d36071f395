from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from airflow_zilliz import submission as module
from airflow_zilliz.api import Answer, Request, Target
from airflow_zilliz.exceptions import ZillizApiError, ZillizAuthError, ZillizSubmissionUnknown, ZillizUnavailable
from airflow_zilliz.flows import play
from airflow_zilliz.submission import Earlier, Pause, Submission, Submitted, key_of, submit
from airflow_zilliz.submitting import create_request
from airflow_zilliz.wire import CREATE, LIST
from tests.unit.answers import answer

NOW = 1_800_000_000.0
CREATED = "2027-01-15T08:00:00Z"  # NOW
PATHS = ("day/a.parquet", "day/b.json")
NO_LIST = answer({"code": 1100, "message": "no list here"})
LOST = ZillizUnavailable("the connection was lost")


@dataclass
class Server:
    """The import API as far as starting an import goes. ``lost`` are the turns of create whose answer is lost."""

    heeds_keys: bool = False
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    lose: dict[int, str] = field(default_factory=dict)
    list_error: Answer | None = None
    shows: tuple[str, ...] = PATHS
    created: int = 0
    paused: float = 0.0
    on_pause: Callable[[], None] = lambda: None

    def add(self, job_id: str, state: str = "Importing", names: tuple[str, ...] = PATHS, **more: Any) -> None:
        details = [{"fileName": f"[{name}]", "state": state} for name in names]
        self.jobs[job_id] = {"jobId": job_id, "collectionName": "books", "state": state, "details": details, **more}

    def carry(self, step: Request | Pause) -> Answer:
        if isinstance(step, Pause):
            self.paused += step.seconds
            self.on_pause()
            return answer()
        assert step.body is not None
        if step.path == CREATE:
            return self._create(step)
        if step.path == LIST:
            return self.list_error or answer({"code": 0, "data": {"records": list(self.jobs.values())}})
        job = self.jobs.get(step.body["jobId"])
        return answer({"code": 0, "data": job} if job else {"code": 2100, "message": "import job does not exist"})

    def _create(self, request: Request) -> Answer:
        self.created += 1
        loss = self.lose.get(self.created, "")
        if loss == "before":
            raise LOST
        key = request.headers["Idempotency-Key"]
        job_id = self.keys.get(key) if self.heeds_keys else None
        if job_id is None:
            job_id = self.keys[key] = f"new-{self.created}"
            self.add(job_id, names=self.shows, createTime=CREATED)
        if loss == "after":
            raise LOST
        return answer({"code": 0, "data": {"jobId": job_id}})


def a_submission(**changes: Any) -> Submission:
    def request(target: Target, key: str) -> Request:
        return create_request("books", target, files=[[path] for path in PATHS], idempotency_key=key)

    return replace(Submission("books", Target(), request, "k", PATHS), **changes)


def started(server: Server, **changes: Any) -> Submitted:
    return play(submit(a_submission(**changes)), server.carry)


AGAIN = Earlier(may_have_sent=True, not_before=NOW - 600)


@pytest.mark.parametrize("heeds_keys", [True, False])
def test_an_import_is_sent_once(heeds_keys: bool) -> None:
    server = Server(heeds_keys)
    server.add("other", "Completed")
    assert started(server) == Submitted("new-1", was_there=False)
    assert server.created == 1


@pytest.mark.parametrize("heeds_keys", [True, False])
def test_a_retry_finds_the_job_of_a_lost_try(heeds_keys: bool) -> None:
    server = Server(heeds_keys)
    started(server)
    assert started(server, earlier=AGAIN) == Submitted("new-1", was_there=True)
    assert len(server.jobs) == 1


def test_a_retry_after_a_try_that_never_sent_sends() -> None:
    server = Server()
    server.add("other", "Completed", names=("else.parquet",))
    assert started(server, earlier=AGAIN).job_id == "new-1"


def test_a_job_that_was_there_before_the_run_was_due_is_not_the_retry_s() -> None:
    server = Server()
    server.add("yesterday", "Completed", createTime="2027-01-14T08:00:00Z")
    assert started(server, earlier=AGAIN).job_id == "new-1"


@pytest.mark.parametrize(
    "job",
    [
        {},  # the same files, and nobody knows since when
        {"names": ("day/a.parquet",), "createTime": CREATED},  # one of the files
        {"names": (), "createTime": CREATED},  # its files are never shown
    ],
)
def test_a_job_that_may_be_it_is_told_and_nothing_is_sent(job: dict[str, Any]) -> None:
    server = Server()
    server.add("perhaps", **job)
    with pytest.raises(ZillizSubmissionUnknown, match=r"perhaps \(Importing\).*not retried.*ZillizImportSensor"):
        started(server, earlier=AGAIN)
    assert server.created == 0


def test_two_jobs_that_may_be_it_are_told() -> None:
    server = Server()
    server.add("one", createTime=CREATED)
    server.add("two", createTime=CREATED)
    with pytest.raises(ZillizSubmissionUnknown, match=r"one.*two"):
        started(server, earlier=AGAIN)


def test_with_the_ids_from_before_a_job_of_the_files_is_it_whatever_its_time() -> None:
    server = Server()
    server.add("old")
    server.add("mine")
    earlier = Earlier(may_have_sent=True, known=frozenset({"old"}))
    assert started(server, earlier=earlier) == Submitted("mine", was_there=True)


def test_a_failed_job_does_not_keep_a_retry_from_sending() -> None:
    server = Server()
    server.add("failed", "Failed", createTime=CREATED)
    assert started(server, earlier=AGAIN).job_id == "new-1"


def test_a_failed_job_that_is_given_back_makes_the_next_key_be_used() -> None:
    server = Server(heeds_keys=True)
    started(server)
    server.jobs["new-1"]["state"] = "Failed"
    assert started(server, earlier=AGAIN) == Submitted("new-3", was_there=False)
    assert server.keys == {"k": "new-1", "k~2": "new-3"}
    assert started(server, earlier=AGAIN) == Submitted("new-3", was_there=True)


def test_a_completed_job_that_is_given_back_is_taken_and_told() -> None:
    server = Server(heeds_keys=True)
    started(server)
    server.jobs["new-1"]["state"] = "Completed"
    assert started(server) == Submitted("new-1", was_there=True)


def test_a_lost_answer_is_found_out_in_the_list() -> None:
    server = Server(lose={1: "after"})
    server.add("other", "Completed")
    assert started(server) == Submitted("new-1", was_there=False)
    assert server.created == 1


def test_the_files_of_a_job_are_waited_for() -> None:
    server = Server(lose={1: "after"}, shows=())

    def show() -> None:
        if server.paused > 10:
            server.add("new-1")

    server.on_pause = show
    assert started(server).job_id == "new-1"
    assert server.paused > 10


def test_a_list_that_is_refused_later_cannot_tell() -> None:
    server = Server(lose={1: "after"})

    def refuse() -> None:
        server.list_error = NO_LIST

    server.on_pause = refuse
    refused: list[bool] = []
    with pytest.raises(ZillizSubmissionUnknown, match=r"job list is refused: .*no list here"):
        started(server, on_refused=lambda: refused.append(True))
    assert not refused, "what was sent is not forgotten"


def test_a_lost_request_is_not_sent_again() -> None:
    server = Server(lose={1: "before"})
    with pytest.raises(
        ZillizUnavailable, match=r"answer to the import request .*'books' was lost .*A retry looks there"
    ):
        started(server)
    assert server.created == 1
    assert server.paused == sum(module.PAUSES)


def test_a_lost_answer_without_a_list_cannot_be_told() -> None:
    server = Server(lose={1: "after"}, list_error=NO_LIST)
    with pytest.raises(ZillizSubmissionUnknown, match=r"answer was lost .* job list cannot be used"):
        started(server)


def test_a_retry_without_a_list_cannot_be_told() -> None:
    server = Server(list_error=NO_LIST)
    with pytest.raises(ZillizSubmissionUnknown, match="An earlier try may have started it"):
        started(server, earlier=AGAIN)
    assert server.created == 0


def test_a_refused_key_is_no_riddle() -> None:
    server = Server(list_error=answer({"code": 80020, "message": "no right"}))
    with pytest.raises(ZillizAuthError, match="no right"):
        started(server, earlier=AGAIN)
    assert server.created == 0


def test_without_a_list_a_first_try_sends() -> None:
    server = Server(list_error=NO_LIST)
    assert started(server).job_id == "new-1"


def test_a_refusal_says_that_a_retry_is_safe() -> None:
    server = Server()
    server._create = lambda _: answer({"code": 100, "message": "collection not found"})  # type: ignore[method-assign]
    with pytest.raises(ZillizApiError, match=r"collection not found.*no job was started and a retry is safe"):
        started(server)


@pytest.mark.parametrize(
    "error",
    [ZillizUnavailable("connection refused", was_sent=False), ZillizUnavailable("rate limit", http_status=429)],
)
def test_a_request_that_was_not_taken_is_no_riddle(error: ZillizUnavailable) -> None:
    server = Server()
    refused: list[bool] = []

    def refuse(_: Request) -> Answer:
        raise error

    server._create = refuse  # type: ignore[method-assign]
    with pytest.raises(ZillizUnavailable, match="No job was started, and a retry is safe") as raised:
        started(server, on_refused=lambda: refused.append(True))
    assert raised.value.was_not_taken
    assert refused
    assert server.paused == 0


def test_a_server_that_is_down_is_sent_nothing() -> None:
    server = Server(list_error=answer({"message": "down"}, status=503))
    with pytest.raises(ZillizUnavailable, match="No import was sent, and a retry is safe"):
        started(server)
    assert server.created == 0


def test_what_was_there_is_written_down_before_anything_is_sent() -> None:
    server = Server()
    server.add("other", "Completed")
    told: list[Any] = []
    started(server, on_sending=lambda ids: told.append((ids, server.created)))
    assert told == [(frozenset({"other"}), 0)]


def test_keys() -> None:
    assert key_of("dag", "manual__1", "task") == "airflow/dag/manual__1/task"
    assert key_of("dag", "manual__1", "task", 3) == "airflow/dag/manual__1/task/3"
    for names in (("größe",), ("x" * 300,)):
        assert len(key_of(*names)) == len("airflow/") + 64
    assert a_submission().key_at(2) == "k~2"
