from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from email.utils import formatdate
from typing import Any

import pytest

from airflow_zilliz._protocol.constants import CREATE, LIST
from airflow_zilliz._protocol.import_request import create_request, digest_of
from airflow_zilliz._protocol.job_parsing import parse_job
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.responses import Response
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._submit.idempotency_keys import MAX_KEYS
from airflow_zilliz._submit.job_search import MAX_CANDIDATES, Clock, Log, Pause
from airflow_zilliz._submit.record import PATIENCE, Record, TaskTry
from airflow_zilliz._submit.returned_job import Origin, check_key
from airflow_zilliz._submit.submit_once import Remember, Submitted, submit
from airflow_zilliz._submit.values import Submission
from airflow_zilliz._transport.driver import run_sync
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizError,
    ZillizIdempotencyKeyReused,
    ZillizJobNotFound,
    ZillizSubmissionUnknown,
    ZillizTooManyJobs,
    ZillizUnavailable,
)
from tests.helpers.responses import response_of

NOW = 1_800_000_000.0
CREATED = "2027-01-15T08:00:00Z"  # NOW
PATHS = ("day/a.parquet", "day/b.json")
NO_LIST = response_of({"code": 1100, "message": "no list here"})
LOST = ZillizUnavailable("the connection was lost")


DIGEST = digest_of(create_request("books", Target(), files=[[path] for path in PATHS]))
STARTED, RESUMED, FOUND, RETURNED = Origin.STARTED, Origin.RESUMED, Origin.FOUND, Origin.RETURNED


@dataclass
class Server:
    """The import API as far as starting an import goes. ``lose`` are the turns of create whose response is lost."""

    heeds_keys: bool = False
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    lose: dict[int, str] = field(default_factory=dict)
    refuse: dict[int, Response] = field(default_factory=dict)
    list_error: Response | None = None
    describe_error: Response | None = None
    shows: tuple[str, ...] = PATHS
    created: int = 0
    described: int = 0
    now: float = NOW
    clock_offset: float = 0.0
    sends_date: bool = True
    on_pause: Callable[[], None] = lambda: None
    records: list[Record] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def paused(self) -> float:
        return self.now - NOW

    def time(self, ago: float = 0.0) -> str:
        """Return the server's clock, or what it was."""
        moment = datetime.fromtimestamp(self.now + self.clock_offset - ago, timezone.utc)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def add(self, job_id: str, state: str = "Importing", names: tuple[str, ...] = PATHS, **more: Any) -> None:
        details = [{"fileName": f"[{name}]", "state": state} for name in names]
        self.jobs[job_id] = {"jobId": job_id, "collectionName": "books", "state": state, "details": details, **more}

    def perform(self, step: Any) -> Any:
        if isinstance(step, Pause):
            self.now += step.seconds
            return self.on_pause()
        if isinstance(step, Clock):
            return self.now
        if isinstance(step, Remember):
            return self.records.append(step.record)
        if isinstance(step, Log):
            return self.lines.append(step.text)
        answered = self._answer(step)
        date = formatdate(self.now + self.clock_offset, usegmt=True)
        return replace(answered, headers={"date": date}) if self.sends_date else answered

    def _answer(self, request: Request) -> Response:
        assert request.body is not None
        if request.path == CREATE:
            return self._create(request)
        if request.path == LIST:
            brief = ("jobId", "collectionName", "state")
            records = [{name: job[name] for name in brief} for job in self.jobs.values()]
            return self.list_error or response_of({"code": 0, "data": {"records": records}})
        self.described += 1
        job = self.jobs.get(request.body["jobId"])
        unknown = {"code": 2100, "message": "import job does not exist"}
        return self.describe_error or response_of({"code": 0, "data": job} if job else unknown)

    def _create(self, request: Request) -> Response:
        self.created += 1
        if self.created in self.refuse:
            return self.refuse[self.created]
        loss = self.lose.get(self.created, "")
        if loss == "before":
            raise LOST
        key = request.headers["Idempotency-Key"]
        job_id = self.keys.get(key) if self.heeds_keys else None
        if job_id is None:
            job_id = self.keys[key] = f"new-{self.created}"
            self.add(job_id, names=self.shows, createTime=self.time())
        if loss == "after":
            raise LOST
        return response_of({"code": 0, "data": {"jobId": job_id}})


def a_submission(**changes: Any) -> Submission:
    def request(key: str) -> Request:
        return create_request("books", Target(), files=[[path] for path in PATHS], idempotency_key=key)

    return replace(Submission("books", Target(), request, "k", DIGEST, [[path] for path in PATHS]), **changes)


def started(server: Server, this: TaskTry | None = None, **changes: Any) -> tuple[str, Origin]:
    submitted: Submitted = run_sync(submit(a_submission(**changes), this or first()), server.perform)
    return submitted.job_id, submitted.origin


def first(**changes: Any) -> TaskTry:
    """Return a first try on Airflow 3.3."""
    return replace(TaskTry(NOW, remembers=True, run_due=NOW - 600), **changes)


#: A retry before Airflow 3.3, long enough after the try before it.
BLIND = TaskTry(NOW, number=2, run_due=NOW - 600, least_pause=300)
KEPT = Record("k", DIGEST)
SENT = replace(KEPT, sending=True, sent_at=NOW - 600, first_sent_at=NOW - 600, known=frozenset())


def retry(record: Record | None, **changes: Any) -> TaskTry:
    """Return a second try on Airflow 3.3."""
    return first(number=2, record=record, **changes)


# -- sending ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heeds_keys", [True, False])
@pytest.mark.parametrize("remembers", [True, False])
def test_an_import_is_sent_once(heeds_keys: bool, remembers: bool) -> None:
    server = Server(heeds_keys)
    server.add("other", "Completed")
    assert started(server, first(remembers=remembers)) == ("new-1", STARTED)
    assert server.created == 1


def test_what_was_listed_is_written_down_before_anything_is_sent() -> None:
    server = Server()
    server.add("other", "Completed")
    created: list[int] = []
    flow = submit(a_submission(), first())

    def perform(step: Any) -> Any:
        if isinstance(step, Remember):
            created.append(server.created)
        return server.perform(step)

    run_sync(flow, perform)
    assert created == [0, 1]
    sending, job = server.records
    fields = {"sending": True, "sent_at": NOW, "first_sent_at": NOW, "known": frozenset({"other"}), "cleared": 0}
    assert sending == replace(KEPT, **fields)
    assert job == replace(KEPT, job_id="new-1", cleared=0)


def test_without_a_list_a_first_try_sends() -> None:
    server = Server(list_error=NO_LIST)
    assert started(server) == ("new-1", STARTED)
    assert server.records[0].known is None


def test_a_server_that_is_down_is_sent_nothing() -> None:
    server = Server(list_error=response_of({"message": "down"}, status=503))
    with pytest.raises(ZillizUnavailable, match="No import was sent, and a retry is safe"):
        started(server)
    assert (server.created, server.records) == (0, [])


def test_a_refused_key_is_no_riddle() -> None:
    server = Server(list_error=response_of({"code": 80020, "message": "no right"}))
    with pytest.raises(ZillizAuthError, match="no right"):
        started(server, BLIND)
    assert server.created == 0


def test_a_list_that_is_refused_to_some_who_may_import_is_done_without() -> None:
    denied = {"code": 65535, "message": "rpc error: code = PermissionDenied desc = permission deny to u"}
    assert started(Server(list_error=response_of(denied, status=403))) == ("new-1", STARTED)


# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [None, SENT])
def test_a_refusal_says_that_a_retry_is_safe_and_restores_what_was_known(record: Record | None) -> None:
    server = Server(refuse={1: response_of({"code": 100, "message": "collection not found"})})
    with pytest.raises(ZillizApiError, match=r"collection not found.*no job was started and a retry is safe"):
        started(server, retry(record))
    assert server.records[-1] == (record or KEPT)
    assert server.records[-2].sending


@pytest.mark.parametrize(
    "error", [ZillizUnavailable("connection refused", was_sent=False), ZillizUnavailable("rate limit", http_status=429)]
)
def test_a_request_that_was_not_taken_is_refused(error: ZillizUnavailable) -> None:
    server = Server()

    def refuse(_: Request) -> Response:
        raise error

    server._create = refuse  # type: ignore[method-assign,assignment] # one server that refuses
    with pytest.raises(ZillizUnavailable, match="no job was started and a retry is safe"):
        started(server)
    assert server.records[-1] == KEPT
    assert server.paused == 0


@pytest.mark.parametrize(
    ("page", "status"),
    [
        (b"404 page not found", 404),  # Milvus before 2.4, or another of its ports
        (b"Client sent an HTTP request to an HTTPS server.", 400),
        (b"", 308),
    ],
)
def test_a_server_that_is_no_import_api_started_nothing(page: bytes, status: int) -> None:
    wrong = response_of(page, status=status)
    server = Server(list_error=wrong, refuse={1: wrong})
    with pytest.raises(ZillizApiError, match="no job was started and a retry is safe"):
        started(server)
    assert server.records[-1] == KEPT


@pytest.mark.parametrize(
    "body",
    [
        {"code": 65535, "message": "find no available mixcoord"},
        {"code": 10000, "message": "canceled"},
        {"code": 5, "message": "internal"},
        {"code": 2101, "message": "import failed"},
        {"code": 901, "message": "node not match"},
        {"code": 4711, "message": "what nobody knows"},
        b'{"code":65535,"message":"PermissionDenied"}{"code":200,"data":{}}',  # a handler that went on (wire 4.1)
    ],
)
@pytest.mark.parametrize("was_made", [True, False])
def test_an_ambiguous_code_is_a_lost_response(body: dict[str, Any] | bytes, was_made: bool) -> None:
    server = Server(refuse={1: response_of(body)})
    if was_made:
        server.on_pause = lambda: server.add("new-1", createTime=server.time())
        assert started(server) == ("new-1", STARTED)
    else:
        with pytest.raises(ZillizUnavailable, match="A retry checks it again before it sends"):
            started(server)
        assert server.records[-1].sending, "what may be out is not forgotten"


def test_a_server_that_is_full_started_nothing() -> None:
    full = {"code": 2100, "message": "The number of jobs has reached the limit, please try again later."}
    server = Server(refuse={1: response_of(full)})
    with pytest.raises(ZillizTooManyJobs):
        started(server)
    assert server.records[-1] == KEPT
    assert started(server) == ("new-2", STARTED)


# -- lost responses -----------------------------------------------------------------------------------------------


def test_a_lost_response_is_found_out_in_the_list() -> None:
    server = Server(lose={1: "after"})
    server.add("old", "Completed")
    assert started(server) == ("new-1", STARTED)
    assert server.created == 1


def test_a_sibling_s_job_is_not_mistaken_for_a_lost_one() -> None:
    server = Server(lose={1: "before"})
    server.on_pause = lambda: server.add("sibling", names=("night/a.parquet", "night/b.json"))
    with pytest.raises(ZillizUnavailable, match="A retry checks it again before it sends"):
        started(server)
    assert server.created == 1


def test_on_a_server_that_shows_only_names_a_new_job_is_undecided() -> None:
    server = Server(lose={1: "before"})
    server.on_pause = lambda: server.jobs.update(
        sibling={"jobId": "sibling", "collectionName": "books", "state": "Importing"}
        | {"details": [{"fileName": "a.parquet"}, {"fileName": "b.json"}]}
    )
    with pytest.raises(ZillizSubmissionUnknown, match="sibling"):
        started(server, whole_paths=False)


def test_the_files_of_a_job_are_waited_for() -> None:
    server = Server(lose={1: "after"}, shows=())

    def show() -> None:
        if server.paused > 10:
            server.add("new-1")

    server.on_pause = show
    assert started(server)[0] == "new-1"
    assert server.paused > 10


def test_a_job_that_is_certain_is_taken_though_another_hides_its_files() -> None:
    server = Server(lose={1: "after"})
    server.on_pause = lambda: server.add("sibling", "Pending", names=())
    assert started(server)[0] == "new-1"


def test_a_list_that_is_refused_later_decides_nothing() -> None:
    server = Server(lose={1: "after"})

    def refuse() -> None:
        server.list_error = NO_LIST

    server.on_pause = refuse
    with pytest.raises(ZillizSubmissionUnknown, match=r"job list is refused: .*no list here"):
        started(server)
    assert server.records[-1].sending, "what was sent is not forgotten"


def test_a_list_that_is_down_for_a_while_is_waited_for() -> None:
    server = Server(lose={1: "after"})

    def trouble() -> None:
        server.list_error = response_of({"message": "down"}, status=503) if server.paused < 20 else None

    server.on_pause = trouble
    assert started(server)[0] == "new-1"


def test_a_lost_request_is_not_sent_again() -> None:
    server = Server(lose={1: "before"})
    with pytest.raises(
        ZillizUnavailable, match=r"response to the import request .*'books' was lost .*A retry checks it"
    ):
        started(server)
    assert server.created == 1
    assert server.paused == sum(PATIENCE.pauses)


def test_a_lost_response_without_a_list_is_undecided() -> None:
    server = Server(lose={1: "after"}, list_error=NO_LIST)
    with pytest.raises(ZillizSubmissionUnknown, match=r"response was lost .* job list cannot be used"):
        started(server)


# -- retries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heeds_keys", [True, False])
@pytest.mark.parametrize("this", [BLIND, retry(SENT)])
def test_a_retry_finds_the_job_of_a_lost_try(heeds_keys: bool, this: TaskTry) -> None:
    server = Server(heeds_keys)
    started(server)
    assert started(server, this) == ("new-1", FOUND)
    assert len(server.jobs) == 1


@pytest.mark.parametrize("this", [BLIND, retry(SENT)])
def test_a_retry_after_a_try_that_never_sent_sends(this: TaskTry) -> None:
    server = Server()
    server.add("other", "Completed", names=("else.parquet",))
    assert started(server, this)[0] == "new-1"


def test_a_retry_without_a_record_sends_at_once_where_records_are_kept() -> None:
    server = Server(list_error=NO_LIST)
    assert started(server, retry(None)) == ("new-1", STARTED)


@pytest.mark.parametrize(("quiet", "waits"), [(0, 90), (60, 90), (61, 89), (149, 1), (150, 0), (1000, 0), (-30, 90)])
def test_a_retry_searches_until_the_request_would_have_shown_its_effect(quiet: float, waits: float) -> None:
    server = Server()
    assert started(server, retry(replace(SENT, sent_at=NOW - quiet)))[0] == "new-1"
    assert server.paused == waits


def test_a_job_that_appears_while_a_retry_searches_is_taken() -> None:
    server = Server()

    def appear() -> None:
        if server.paused > 60:
            server.add("late")

    server.on_pause = appear
    assert started(server, retry(replace(SENT, sent_at=NOW))) == ("late", FOUND)


def test_a_retry_that_was_cleared_searches_for_long_before_airflow_3_3() -> None:
    server = Server()
    assert started(server, replace(BLIND, was_cleared=True))[0] == "new-1"
    assert server.paused == 90


HOURS = 3600.0


@pytest.mark.parametrize(
    "this",
    [
        retry(replace(SENT, sent_at=NOW - 3 * HOURS)),
        replace(BLIND, was_cleared=True, run_due=NOW - 3 * HOURS),
        replace(BLIND, least_pause=3 * HOURS),
    ],
)
def test_a_retry_after_what_servers_remember_sends_nothing(this: TaskTry) -> None:
    server = Server()
    with pytest.raises(ZillizSubmissionUnknown, match="so long ago that the server may have forgotten"):
        started(server, this)
    assert server.created == 0


@pytest.mark.parametrize(
    "this",
    [
        retry(replace(SENT, sent_at=NOW - 2.9 * HOURS)),
        replace(BLIND, run_due=NOW - 9 * HOURS),
        replace(BLIND, was_cleared=True, run_due=NOW - 2.9 * HOURS),
    ],
)
def test_a_retry_within_what_servers_remember_sends(this: TaskTry) -> None:
    assert started(Server(), this)[0] == "new-1"


def test_with_the_ids_from_before_a_job_of_the_files_is_it_whatever_its_time() -> None:
    server = Server()
    server.add("old")
    server.add("mine", createTime=server.time(ago=9 * HOURS))
    assert started(server, retry(replace(SENT, known=frozenset({"old"})))) == ("mine", FOUND)


@pytest.mark.parametrize("ago", [4201.0, 9 * HOURS])
@pytest.mark.parametrize("field_name", ["createTime", "completeTime"])
def test_a_job_that_is_older_than_the_run_by_an_hour_is_not_the_retry_s(ago: float, field_name: str) -> None:
    server = Server()
    server.add("yesterday", "Completed", **{field_name: server.time(ago)})
    assert started(server, BLIND)[0] == "new-1"


@pytest.mark.parametrize(
    "job",
    [
        {},  # the same files, and nobody knows since when
        {"names": ("day/a.parquet",), "createTime": "2027-01-15T08:00:00Z"},  # one of the files
        {"names": (), "createTime": "2027-01-15T08:00:00Z"},  # its files are never shown
        {"createTime": "2027-01-15T07:48:59Z"},  # older than the run by 61 s: clocks may be apart
        {"createTime": "2027-01-15T06:50:00Z"},  # likewise, by an hour
        {"completeTime": "2027-01-15T06:50:00Z", "state": "Completed"},
        {"state": "Failed", "completeTime": "2027-01-15T08:00:00Z"},  # it was Completed once
    ],
)
def test_a_job_that_may_be_it_is_named_and_nothing_is_sent(job: dict[str, Any]) -> None:
    server = Server()
    server.add("perhaps", **job)
    with pytest.raises(ZillizSubmissionUnknown, match=r"perhaps \(\w+\).*not retried.*ZillizImportSensor"):
        started(server, BLIND)
    assert server.created == 0


@pytest.mark.parametrize("sends_date", [True, False])
def test_a_job_that_is_older_than_the_run_by_what_clocks_may_be_apart_is_it(sends_date: bool) -> None:
    server = Server(sends_date=sends_date)
    server.add("mine", createTime=server.time(ago=660))
    assert started(server, BLIND) == ("mine", FOUND)


@pytest.mark.parametrize("offset", [-9 * HOURS, 9 * HOURS])
def test_ages_are_measured_by_the_server_s_own_clock(offset: float) -> None:
    server = Server(clock_offset=offset)
    server.add("yesterday", "Completed", createTime=server.time(ago=24 * HOURS))
    server.add("mine", createTime=server.time(ago=300))
    assert started(server, BLIND) == ("mine", FOUND)


def test_jobs_are_described_from_the_newest_on_for_ids_of_milvus_grow() -> None:
    server = Server()
    for job_id in ("99", "101", "100"):
        server.add(job_id, names=("else.parquet",))
    asked: list[str] = []
    flow = submit(a_submission(), BLIND)

    def perform(step: Any) -> Any:
        if isinstance(step, Request) and "jobId" in (step.body or {}):
            asked.append(str(step.body and step.body["jobId"]))
        return server.perform(step)

    run_sync(flow, perform)
    assert asked == ["101", "100", "99"]


@pytest.mark.parametrize(
    ("job", "whole_paths", "waits"),
    [
        ({"state": "Completed", "names": ()}, True, 0),  # a job that has ended shows no more
        ({"state": "Importing", "names": ("day/a.parquet",)}, True, 52),  # some of its files
        ({"state": "Importing", "names": ()}, False, 52),
        ({"state": "Importing"}, False, 0),  # names alone will not become paths
    ],
)
def test_only_a_job_that_may_show_more_is_waited_for(job: dict[str, Any], whole_paths: bool, waits: float) -> None:
    server = Server()
    server.add("perhaps", **job)
    with pytest.raises(ZillizSubmissionUnknown, match="perhaps"):
        started(server, BLIND, whole_paths=whole_paths)
    assert server.paused == waits


def test_jobs_of_other_collections_are_none_of_it() -> None:
    server = Server()
    server.add("elsewhere", createTime=server.time())
    server.jobs["elsewhere"]["collectionName"] = "films"
    assert started(server, BLIND)[0] == "new-1"


def test_jobs_whose_collection_is_not_shown_may_be_it() -> None:
    server = Server()
    server.add("mine", createTime=server.time())
    server.jobs["mine"]["collectionName"] = ""
    assert started(server, BLIND) == ("mine", FOUND)


def test_a_list_of_many_pages_is_read_to_its_end() -> None:
    server = Server()
    for number in range(250):
        server.add(f"old-{number:03}", names=("else.parquet",), createTime=server.time(ago=24 * HOURS))
    server.add("mine", createTime=server.time())
    assert started(server, BLIND) == ("mine", FOUND)


def test_a_server_that_is_down_while_a_retry_searches_is_searched_by_the_next_one() -> None:
    server = Server()
    server.on_pause = lambda: setattr(server, "list_error", response_of({"message": "down"}, status=503))
    with pytest.raises(ZillizUnavailable, match="a retry searches for its job again before it sends"):
        started(server, retry(replace(SENT, sent_at=NOW)))
    assert server.created == 0


def test_a_list_that_is_refused_while_a_retry_searches_decides_nothing() -> None:
    server = Server()
    server.on_pause = lambda: setattr(server, "list_error", NO_LIST)
    with pytest.raises(ZillizSubmissionUnknown, match="the list is refused"):
        started(server, retry(replace(SENT, sent_at=NOW)))
    assert server.created == 0


def test_the_error_of_a_lost_response_has_what_is_known_of_it() -> None:
    lost = ZillizUnavailable("busy", retry_after=7, code=2, http_status=503)
    server = Server()

    def lose(_: Request) -> Response:
        raise lost

    server._create = lose  # type: ignore[method-assign,assignment] # one server that loses
    with pytest.raises(ZillizUnavailable) as raised:
        started(server)
    assert (raised.value.retry_after, raised.value.code, raised.value.http_status) == (7, 2, 503)
    server.refuse = {}
    server._create = lambda _: response_of({"code": 65535, "message": "x"})  # type: ignore[method-assign,assignment] # likewise
    with pytest.raises(ZillizUnavailable) as raised:
        started(server)
    assert (raised.value.retry_after, raised.value.code, raised.value.http_status) == (None, 65535, 200)


def test_the_chain_of_keys_ends() -> None:
    server = Server(heeds_keys=True)
    for turn in range(1, 60):
        server.add(f"old-{turn}", "Failed")
        server.keys["k" if turn == 1 else f"k~{turn}"] = f"old-{turn}"
    assert started(server) == (f"old-{MAX_KEYS}", RETURNED)
    assert started(server, retry(replace(KEPT, turn=MAX_KEYS + 3))) == (f"old-{MAX_KEYS + 3}", RETURNED)


def test_a_long_list_of_files_is_not_printed_whole() -> None:
    server = Server(lose={1: "after"}, list_error=NO_LIST)
    groups = [[f"{number}.parquet"] for number in range(7)]
    with pytest.raises(ZillizSubmissionUnknown, match=r"0\.parquet, .*4\.parquet, \.\.\. exists"):
        started(server, groups=groups)


def test_two_jobs_that_may_be_it_are_named() -> None:
    server = Server()
    server.add("one", createTime=CREATED)
    server.add("two", createTime=CREATED)
    with pytest.raises(ZillizSubmissionUnknown, match=r"two.*one|one.*two"):
        started(server, BLIND)


def test_a_failed_job_does_not_keep_a_retry_from_sending() -> None:
    server = Server()
    server.add("failed", "Failed", createTime=CREATED)
    assert started(server, BLIND)[0] == "new-1"


def test_many_old_jobs_do_not_keep_a_retry_from_sending() -> None:
    server = Server()
    for number in range(MAX_CANDIDATES):
        server.add(f"old-{number}", "Completed", createTime=server.time(ago=24 * HOURS))
    assert started(server, BLIND)[0] == "new-1"


def test_more_jobs_than_can_be_described_are_undecided() -> None:
    server = Server()
    for number in range(MAX_CANDIDATES + 1):
        server.add(f"old-{number}", "Completed", createTime=server.time(ago=24 * HOURS))
    with pytest.raises(ZillizSubmissionUnknown, match="lists 301 jobs"):
        started(server, BLIND)
    assert server.described == 0


@pytest.mark.parametrize("error", [{"code": 65535, "message": "PermissionDenied"}, {"code": 1100, "message": "no"}])
def test_a_job_that_the_list_shows_and_whose_description_is_refused_is_not_gone(error: dict[str, Any]) -> None:
    server = Server(describe_error=response_of(error, status=403 if error["code"] == 65535 else 200))
    server.add("hidden")
    with pytest.raises(ZillizSubmissionUnknown, match="hidden"):
        started(server, retry(SENT))
    assert server.created == 0


def test_a_job_whose_description_is_down_is_searched_for_by_the_next_try() -> None:
    server = Server(describe_error=response_of({"message": "down"}, status=503))
    server.add("hidden")
    with pytest.raises(ZillizUnavailable, match="a retry searches for its job again before it sends"):
        started(server, retry(SENT))
    assert server.created == 0


def test_a_job_that_the_list_shows_is_not_gone_because_a_fail_over_does_not_know_it() -> None:
    server = Server()
    server.add("mine")
    server.describe_error = response_of({"code": 2100, "message": "import job does not exist"})

    def recover() -> None:
        server.describe_error = None

    server.on_pause = recover
    assert started(server, retry(SENT)) == ("mine", FOUND)


@pytest.mark.parametrize(
    "error",
    [
        ZillizUnavailable("down"),
        ZillizApiError("refused", code=1100, http_status=200),
        ZillizJobNotFound("unknown for a moment", code=2100, http_status=200),
    ],
)
def test_a_job_that_cannot_be_described_does_not_hide_the_one_that_is_ours(error: ZillizError) -> None:
    server = Server()
    server.add("2")
    server.add("1")
    described = server._answer

    def answer_for(request: Request) -> Response:
        if (request.body or {}).get("jobId") == "2":
            raise error
        return described(request)

    server._answer = answer_for  # type: ignore[method-assign] # one job that cannot be described
    assert started(server, retry(SENT)) == ("1", FOUND)


def test_a_new_job_of_the_files_that_was_completed_once_and_is_failed_now_is_undecided() -> None:
    server = Server()
    server.add("mine", "Failed", completeTime=CREATED)
    with pytest.raises(ZillizSubmissionUnknown, match=r"mine \(Failed\)$|mine \(Failed\)\."):
        started(server, retry(SENT))


def test_a_run_without_a_date_excludes_no_job() -> None:
    server = Server()
    server.add("perhaps", createTime=server.time(ago=24 * HOURS))
    with pytest.raises(ZillizSubmissionUnknown, match="perhaps"):
        started(server, replace(BLIND, run_due=None))


def test_the_list_is_read_again_and_again_while_a_request_settles() -> None:
    server = Server()
    pauses: list[float] = []
    flow = submit(a_submission(), retry(replace(SENT, sent_at=NOW - 70)))

    def perform(step: Any) -> Any:
        if isinstance(step, Pause):
            pauses.append(step.seconds)
        return server.perform(step)

    run_sync(flow, perform)
    assert pauses == [15, 15, 15, 15, 15, 5]


def test_a_job_that_is_gone_from_the_list_as_well_is_gone() -> None:
    server = Server()
    server.add("passing")
    server.describe_error = response_of({"code": 2100, "message": "import job does not exist"})

    def forget() -> None:
        server.jobs.pop("passing", None)

    server.on_pause = forget
    assert started(server, retry(SENT))[0] == "new-1"


def test_a_retry_without_a_list_is_undecided() -> None:
    server = Server(list_error=NO_LIST)
    with pytest.raises(ZillizSubmissionUnknown, match="An earlier try may have started it"):
        started(server, BLIND)
    assert server.created == 0


def test_a_second_lost_request_keeps_what_was_known_before_the_first() -> None:
    server = Server(lose={1: "before"})
    server.add("between", names=("else.parquet",))
    with pytest.raises(ZillizUnavailable):
        started(server, retry(SENT))
    (sending,) = server.records
    assert (sending.known, sending.first_sent_at, sending.sent_at) == (frozenset(), NOW - 600, NOW)


# -- what was written down ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["Pending", "Importing", "Completed", "Uncommitted"])
def test_a_job_that_was_written_down_is_gone_on_with(state: str) -> None:
    server = Server(list_error=NO_LIST)
    server.add("mine", state)
    assert started(server, retry(replace(KEPT, job_id="mine"))) == ("mine", RESUMED)
    assert server.created == 0


@pytest.mark.parametrize(
    "response", [{"message": "down"}, {"code": 65535, "message": "PermissionDenied"}, {"code": 2100, "message": "gone"}]
)
def test_a_job_that_cannot_be_described_is_gone_on_with(response: dict[str, Any]) -> None:
    server = Server(describe_error=response_of(response, status=503 if "code" not in response else 200))
    assert started(server, retry(replace(KEPT, job_id="mine"))) == ("mine", RESUMED)


@pytest.mark.parametrize("heeds_keys", [True, False])
@pytest.mark.parametrize("list_error", [None, NO_LIST])
def test_another_job_follows_a_failed_one_under_the_next_key(heeds_keys: bool, list_error: Response | None) -> None:
    server = Server(heeds_keys, list_error=list_error)
    started(server)
    server.jobs["new-1"]["state"] = "Failed"
    assert started(server, retry(server.records[-1])) == ("new-2", STARTED)
    assert server.keys == {"k": "new-1", "k~2": "new-2"}
    assert server.records[-1] == replace(KEPT, turn=2, job_id="new-2", cleared=0)
    assert "starting another" in server.lines[0]


def test_a_job_that_was_seen_completed_is_never_followed_by_another() -> None:
    server = Server()
    record = replace(KEPT, job_id="mine", result={"state": "Completed"})
    server.add("mine", "Failed")
    assert started(server, retry(record)) == ("mine", Origin.REMEMBERED)
    server.add("mine", "Completed")
    assert started(server, retry(record)) == ("mine", RESUMED)
    server.jobs.clear()
    assert started(server, retry(record)) == ("mine", Origin.REMEMBERED)
    assert server.created == 0


def test_a_failed_job_that_was_completed_once_is_not_followed_by_another() -> None:
    server = Server()
    server.add("mine", "Failed", completeTime=CREATED)
    assert started(server, retry(replace(KEPT, job_id="mine"))) == ("mine", RESUMED)


def test_only_a_clear_starts_another_job_after_one_that_the_server_forgot() -> None:
    server = Server()
    record = replace(KEPT, job_id="mine", given_up=3)
    with pytest.raises(ZillizSubmissionUnknown, match=r"mine.*is unknown to the server.*clear it"):
        started(server, retry(record, clears=3))
    assert server.created == 0
    assert started(server, retry(record, clears=4)) == ("new-1", STARTED)
    assert list(server.keys) == ["k~2"]
    assert "was cleared since: starting another" in server.lines[0]


@pytest.mark.parametrize("response", [{"code": 65535, "message": "PermissionDenied"}, {"code": 1100, "message": "no"}])
def test_a_job_whose_description_is_refused_is_not_forgotten(response: dict[str, Any]) -> None:
    server = Server(describe_error=response_of(response))
    record = replace(KEPT, job_id="mine", given_up=3)
    assert started(server, retry(record, clears=4)) == ("mine", RESUMED)


def test_a_job_that_is_known_again_is_gone_on_with() -> None:
    server = Server()
    server.add("mine")
    assert started(server, retry(replace(KEPT, job_id="mine", given_up=3), clears=4)) == ("mine", RESUMED)


def test_what_was_written_down_of_other_files_says_nothing_of_these() -> None:
    server = Server(list_error=NO_LIST)
    for record in (replace(SENT, digest="other"), replace(KEPT, digest="other", job_id="mine"), Record("else")):
        assert started(server, retry(record))[1] is STARTED


OTHERS = (
    replace(SENT, digest="other", cleared=2),
    replace(KEPT, digest="other", job_id="mine", cleared=2),
    Record("else", DIGEST, job_id="mine", cleared=2),
)


@pytest.mark.parametrize("is_own_key", [True, False])
@pytest.mark.parametrize("record", OTHERS)
def test_a_retry_with_other_arguments_sends_nothing(record: Record, is_own_key: bool) -> None:
    server = Server()
    server.add("mine", "Completed")
    with pytest.raises(ZillizSubmissionUnknown, match="has changed since"):
        started(server, retry(record, clears=2), is_own_key=is_own_key)
    assert server.created == 0


@pytest.mark.parametrize("record", OTHERS)
def test_a_clear_with_other_arguments_is_another_import(record: Record) -> None:
    assert started(Server(), retry(record, clears=3)) == ("new-1", STARTED)


def test_who_does_not_know_of_clears_asks_for_none() -> None:
    assert started(Server(), replace(retry(OTHERS[1], clears=2), knows_clears=False)) == ("new-1", STARTED)


def test_a_retry_with_other_arguments_follows_a_failed_job() -> None:
    server = Server()
    server.add("mine", "Failed")
    assert started(server, retry(OTHERS[1], clears=2)) == ("new-1", STARTED)


def test_a_job_that_a_cleared_task_goes_on_with_is_its_own_from_then_on() -> None:
    server = Server()
    server.add("mine")
    record = replace(KEPT, job_id="mine", cleared=2)
    assert started(server, retry(record, clears=3)) == ("mine", RESUMED)
    assert server.records == [replace(record, cleared=3)]


def test_what_version_0_1_wrote_down_is_understood() -> None:
    server = Server()
    server.add("mine", createTime=CREATED)
    job = Record.from_json({"key": "old", "job_id": "mine"})
    assert started(server, retry(job), former_key="old") == ("mine", RESUMED)
    sending = Record.from_json({"key": "old", "sending": True, "known": ["other"]})
    assert started(server, retry(sending), former_key="old") == ("mine", FOUND)
    assert server.created == 0


# -- jobs that come back for a key --------------------------------------------------------------------------------


def test_a_failed_job_that_is_returned_makes_the_next_key_be_used() -> None:
    server = Server(heeds_keys=True)
    started(server)
    server.jobs["new-1"]["state"] = "Failed"
    assert started(server, BLIND) == ("new-3", STARTED)
    assert server.keys == {"k": "new-1", "k~2": "new-3"}
    assert started(server, BLIND) == ("new-3", FOUND)


#: A first try before Airflow 3.3, where a scheduler may run it twice.
FIRST = first(remembers=False)


@pytest.mark.parametrize("this", [first(), FIRST])
@pytest.mark.parametrize("list_error", [None, NO_LIST])
@pytest.mark.parametrize("state", ["Importing", "Completed"])
def test_a_job_of_an_earlier_run_of_the_same_name_is_followed_by_another(
    list_error: Response | None, this: TaskTry, state: str
) -> None:
    server = Server(heeds_keys=True)
    started(server)
    server.jobs["new-1"] |= {"state": state, "createTime": server.time(ago=61)}
    server.list_error = list_error
    assert started(server, this) == ("new-3", STARTED)
    assert "earlier run with the same run id" in server.lines[0]


def test_a_job_that_was_listed_is_of_an_earlier_run_where_this_try_would_have_written_it_down() -> None:
    server = Server(heeds_keys=True)
    started(server)
    del server.jobs["new-1"]["createTime"]
    described = server.described
    assert started(server) == ("new-3", STARTED)
    assert server.described == described


@pytest.mark.parametrize(("list_error", "origin"), [(None, RETURNED), (NO_LIST, STARTED)])
def test_a_job_that_this_very_try_started_is_returned_to_it(list_error: Response | None, origin: Origin) -> None:
    server = Server(heeds_keys=True)
    started(server)
    server.jobs["new-1"]["createTime"] = server.time(ago=60)
    server.list_error = list_error
    assert started(server, FIRST) == ("new-1", origin)


def test_a_returned_job_without_a_time_is_undecided_before_airflow_3_3() -> None:
    server = Server(heeds_keys=True)
    started(server)
    del server.jobs["new-1"]["createTime"]
    with pytest.raises(ZillizSubmissionUnknown, match="earlier run with the same run id"):
        started(server, FIRST)


def test_a_returned_job_whose_description_is_refused_is_undecided_before_airflow_3_3() -> None:
    server = Server(heeds_keys=True)
    started(server)
    server.describe_error = response_of({"code": 1100, "message": "no"})
    with pytest.raises(ZillizSubmissionUnknown, match="which was there before"):
        started(server, FIRST)


@pytest.mark.parametrize(
    ("state", "sends_time", "origin"),
    [("Importing", False, STARTED), ("Completed", False, None), ("Completed", True, STARTED)],
)
def test_without_a_list_a_returned_job_without_a_time_is_new_unless_it_has_ended(
    state: str, sends_time: bool, origin: Origin | None
) -> None:
    server = Server(heeds_keys=True, list_error=NO_LIST)
    started(server)
    server.jobs["new-1"]["state"] = state
    if not sends_time:
        del server.jobs["new-1"]["createTime"]
    job_id, found = started(server)
    assert (job_id, found) == (("new-1", origin) if origin else ("new-3", STARTED))


def test_without_a_list_a_returned_job_that_cannot_be_described_is_taken() -> None:
    server = Server(heeds_keys=True, list_error=NO_LIST)
    started(server)
    for error in ({"code": 1100, "message": "no"}, {"code": 2100, "message": "import job does not exist"}):
        server.describe_error = response_of(error)
        assert started(server) == ("new-1", STARTED)


def test_a_retry_gets_a_job_that_the_list_did_not_show_as_its_own_back_for_the_key() -> None:
    server = Server(heeds_keys=True)
    server.add("mine", names=("else.parquet",))
    server.keys["k"] = "mine"
    assert started(server, BLIND) == ("mine", RETURNED)
    server.describe_error = response_of({"code": 1100, "message": "no"})
    assert started(server, retry(replace(SENT, known=frozenset({"mine"})))) == ("mine", RETURNED)


def test_an_own_key_returns_the_job_of_the_same_files() -> None:
    server = Server(heeds_keys=True)
    started(server, is_own_key=True)
    server.jobs["new-1"]["state"] = "Completed"
    assert started(server, is_own_key=True) == ("new-1", RETURNED)


OTHER = [["tuesday/a.parquet"]]


@pytest.mark.parametrize("was_listed", [True, False])
def test_an_own_key_that_stands_for_other_files_is_an_error(was_listed: bool) -> None:
    server = Server(heeds_keys=True, list_error=None if was_listed else NO_LIST)
    started(server, is_own_key=True)
    with pytest.raises(ZillizIdempotencyKeyReused, match=r"'k' stands for job new-1.*not imported.*key of its own"):
        started(server, is_own_key=True, groups=OTHER, digest="other")


def test_an_own_key_whose_job_hides_its_files_is_compared_later() -> None:
    server = Server(heeds_keys=True, shows=())
    assert started(server, is_own_key=True) == ("new-1", STARTED)

    def show() -> None:
        server.add("new-1")

    server.on_pause = show
    assert started(server, is_own_key=True) == ("new-1", RETURNED)


@pytest.mark.parametrize(("state", "waits"), [("Importing", 52), ("Completed", 0)])
def test_an_own_key_whose_job_never_shows_its_files_is_undecided(state: str, waits: float) -> None:
    server = Server(heeds_keys=True, shows=())
    started(server, is_own_key=True)
    server.jobs["new-1"]["state"] = state
    with pytest.raises(ZillizSubmissionUnknown, match="not known whether it is of these files"):
        started(server, is_own_key=True)
    assert server.paused == waits


def test_a_completed_job_is_compared_with_what_was_asked_for() -> None:
    server = Server()
    server.add("mine", "Completed")
    job = parse_job(server.jobs["mine"])
    assert job is not None
    check_key(a_submission(), job)
    with pytest.raises(ZillizIdempotencyKeyReused, match="it is of other files"):
        check_key(a_submission(groups=OTHER), job)


@pytest.mark.parametrize(
    "error", [{"code": 2100, "message": "import job does not exist"}, {"code": 1100, "message": "no"}]
)
def test_an_own_key_s_job_that_cannot_be_described_for_a_moment_is_described_again(error: dict[str, Any]) -> None:
    server = Server(heeds_keys=True)
    server.add("sibling", names=("tuesday/a.parquet",))
    server.keys["k"] = "sibling"
    server.describe_error = response_of(error)

    def recover() -> None:
        server.describe_error = None

    server.on_pause = recover
    with pytest.raises(ZillizIdempotencyKeyReused):
        started(server, is_own_key=True)


def test_an_own_key_s_failed_job_makes_the_next_key_be_used() -> None:
    server = Server(heeds_keys=True)
    started(server, is_own_key=True)
    server.jobs["new-1"]["state"] = "Failed"
    assert started(server, is_own_key=True) == ("new-3", STARTED)
    assert list(server.keys) == ["k", "k~2"]


@pytest.mark.parametrize("state", ["Importing", "Completed"])
def test_an_own_key_that_this_task_used_for_other_files_is_an_error(state: str) -> None:
    server = Server()
    server.add("mine", state)
    with pytest.raises(ZillizIdempotencyKeyReused, match="this task imported other files with it before"):
        started(server, retry(replace(KEPT, job_id="mine")), is_own_key=True, digest="other")
    assert server.created == 0


def test_what_was_sent_for_other_files_under_an_own_key_says_nothing_of_these() -> None:
    server = Server(list_error=NO_LIST)
    record = replace(SENT, digest="other", turn=3)
    assert started(server, retry(record), is_own_key=True) == ("new-1", STARTED)
    assert list(server.keys) == ["k~3"], "a key whose job is Failed is not used again"
    assert started(server, retry(record)) == ("new-2", STARTED)
    assert list(server.keys) == ["k~3", "k"]


@pytest.mark.parametrize(
    "response", [{"code": 2100, "message": "import job does not exist"}, {"code": 1100, "message": "no"}]
)
def test_an_own_key_whose_job_is_out_of_sight_is_followed_by_the_next(response: dict[str, Any]) -> None:
    server = Server(describe_error=response_of(response))
    this = retry(replace(KEPT, job_id="mine"))
    assert started(server, this, is_own_key=True, digest="other") == ("new-1", STARTED)
    assert list(server.keys) == ["k~2"]


def test_an_own_key_is_free_again_when_its_job_failed() -> None:
    server = Server(heeds_keys=True)
    server.add("mine", "Failed")
    this = retry(replace(KEPT, job_id="mine"))
    assert started(server, this, is_own_key=True, digest="other") == ("new-1", STARTED)
    assert list(server.keys) == ["k~2"]
