from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_zilliz._protocol import calls
from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.responses import Response
from airflow_zilliz._protocol.scrubbing import Scrubber
from airflow_zilliz._protocol.target import Target
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizConfigError,
    ZillizError,
    ZillizJobNotFound,
    ZillizUnavailable,
)
from tests.helpers.responses import response_of, run

JOB = {"jobId": "j", "state": "Importing", "progress": 40}
DESCRIBE = "/v2/vectordb/jobs/import/describe"
GET_PROGRESS = "/v2/vectordb/jobs/import/get_progress"
CAMEL = "/v2/vectordb/jobs/import/getProgress"
NOT_ROUTED = response_of(b"404 page not found", status=404)


def describe(
    *responses: Response, target: Target | None = None, known_path: str | None = None
) -> tuple[Any, list[Request]]:
    (job, path), requests = run(calls.describe("j", target or Target(), known_path=known_path), *responses)
    return (job, path), requests


def test_describe_on_milvus_sends_the_job_id_alone() -> None:
    (job, path), requests = describe(response_of({"code": 0, "data": JOB}))
    assert requests == [Request(DESCRIBE, {"jobId": "j"})]
    assert (job.job_id, job.state, job.progress, path) == ("j", ImportState.IMPORTING, 40, DESCRIBE)


def test_describe_names_cluster_and_database() -> None:
    _, requests = describe(response_of({"code": 0, "data": JOB}), target=Target("in01-x", db_name="books"))
    assert requests == [Request(DESCRIBE, {"jobId": "j", "clusterId": "in01-x"}, {"DB-Name": "books"})]


def test_describe_names_project_and_region() -> None:
    _, requests = describe(response_of({"code": 0, "data": JOB}), target=Target(None, "proj-1", "aws-us-west-2"))
    assert requests[0].body == {"jobId": "j", "projectId": "proj-1", "regionId": "aws-us-west-2"}


def test_a_server_without_describe_gets_the_older_requests() -> None:
    (_, path), requests = describe(NOT_ROUTED, response_of({"code": 0, "data": JOB}))
    assert [request.path for request in requests] == [DESCRIBE, GET_PROGRESS]
    assert path == GET_PROGRESS


def test_a_server_with_the_third_spelling_alone_is_found() -> None:
    (_, path), requests = describe(NOT_ROUTED, NOT_ROUTED, response_of({"code": 0, "data": JOB}))
    assert [request.path for request in requests] == [DESCRIBE, GET_PROGRESS, CAMEL]
    _, requests = describe(response_of({"code": 0, "data": JOB}), known_path=path)
    assert [request.path for request in requests] == [CAMEL]


@pytest.mark.parametrize("body", [{"code": 404, "message": "Not Found"}, {"code": "404", "error": "no route"}])
def test_a_gateway_s_json_for_a_missing_route_is_no_word_of_the_job(body: Any) -> None:
    (_, path), _ = describe(response_of(body, status=404), response_of({"code": 0, "data": JOB}))
    assert path == GET_PROGRESS


def test_the_route_that_is_known_comes_first() -> None:
    _, requests = describe(response_of({"code": 0, "data": JOB}), known_path=GET_PROGRESS)
    assert [request.path for request in requests] == [GET_PROGRESS]


def test_an_upgraded_server_without_the_known_route_is_found_again() -> None:
    (_, path), _ = describe(NOT_ROUTED, response_of({"code": 0, "data": JOB}), known_path=GET_PROGRESS)
    assert path == DESCRIBE


def test_no_route_at_all_is_no_import_api() -> None:
    with pytest.raises(ZillizApiError, match="not an import API") as error:
        describe(NOT_ROUTED, NOT_ROUTED, NOT_ROUTED)
    assert (error.value.http_status, error.value.from_api) == (404, False)


@pytest.mark.parametrize("code", [0, 200, 0.0, "0", "200"])
def test_success_codes(code: object) -> None:
    (job, _), _ = describe(response_of({"code": code, "data": JOB}))
    assert job.state is ImportState.IMPORTING


def test_data_in_a_list_of_one() -> None:
    (job, _), _ = describe(response_of({"code": 0, "data": [JOB]}))
    assert job.job_id == "j"


def test_a_response_for_another_job_is_not_believed() -> None:
    with pytest.raises(ZillizUnavailable, match="responded with 'other'"):
        describe(response_of({"code": 0, "data": {**JOB, "jobId": "other", "state": "Completed"}}))


def test_a_response_without_job_id_is_for_the_requested_job() -> None:
    (job, _), _ = describe(response_of({"code": 0, "data": {"state": "Completed"}}))
    assert job.job_id == "j"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"code": 1800, "message": "user hasn't authenticated"}, 401, ZillizAuthError),
        ({"code": 65535, "message": "rpc error: code = PermissionDenied desc = no"}, 403, ZillizAuthError),
        ({"code": 65535, "message": "rpc error: code = PermissionDenied desc = no"}, 200, ZillizAuthError),
        ({"code": 21119, "message": "The apikey is illegal."}, 200, ZillizAuthError),
        ({"code": 21119, "message": "The apikey is illegal"}, 401, ZillizAuthError),
        ({"code": 80001, "message": "The token is illegal"}, 200, ZillizAuthError),
        ({"code": 96014, "message": "no permission"}, 200, ZillizAuthError),
        (
            {"code": 2100, "message": "import job does not exist, jobID=1: importing data failed"},
            200,
            ZillizJobNotFound,
        ),
        ({"code": 2100, "message": "import job does not exist, jobID=1, dbID=1: importing"}, 400, ZillizJobNotFound),
        ({"code": 96026, "message": "Job not found"}, 200, ZillizJobNotFound),
        ({"code": 404, "message": "Job not found"}, 404, ZillizJobNotFound),
        ({"code": 10001, "message": "request timeout"}, 408, ZillizUnavailable),
        ({"code": 8, "message": "rate limit exceeded"}, 429, ZillizUnavailable),
        ({"code": 1807, "message": "request is rejected by limiter"}, 200, ZillizUnavailable),
        ({"code": 1, "message": "service not ready"}, 200, ZillizUnavailable),
        ({"code": 500, "message": "panic"}, 500, ZillizUnavailable),
        (b"upstream down", 502, ZillizUnavailable),
        (b"<html>log in</html>", 200, ZillizUnavailable),
        (b"", 200, ZillizUnavailable),
        (b'{"code": 0, "data": {"jobId": "', 200, ZillizUnavailable),
        ([], 200, ZillizUnavailable),
        ({"code": 0}, 200, ZillizUnavailable),
        ({"code": 0, "message": "The token is illegal."}, 200, ZillizUnavailable),
        ({"code": 0, "data": {}}, 200, ZillizUnavailable),
        ({"code": 2100, "message": "parse job id failed: importing data failed"}, 200, ZillizApiError),
        ({"code": 96018, "message": "Cluster not found"}, 200, ZillizApiError),
        ({"code": 1100, "message": "invalid parameter"}, 400, ZillizApiError),
        ({"code": 800, "message": "database not found[database=x]"}, 200, ZillizApiError),
        ({"code": 100, "message": "collection job: collection not found"}, 200, ZillizApiError),
        ({"code": 1801, "message": "can only accept json format request"}, 200, ZillizApiError),
        ({"code": 90102, "message": "cluster not in this region"}, 200, ZillizApiError),
        ({"code": 4711, "message": "a bad request"}, 400, ZillizApiError),
        # passing states of a restart or a fail-over, and unknown ones (wire 4.3, 4.7)
        ({"code": 65535, "message": "find no available mixcoord"}, 200, ZillizUnavailable),
        (
            {"code": 65535, "message": "rpc error: code = Unavailable desc = transport is closing"},
            200,
            ZillizUnavailable,
        ),
        ({"code": 65535, "message": "rpc error"}, 400, ZillizUnavailable),
        ({"code": 10000, "message": "context canceled"}, 200, ZillizUnavailable),
        ({"code": 5, "message": "service internal error"}, 200, ZillizUnavailable),
        ({"code": 901, "message": "node not match"}, 200, ZillizUnavailable),
        ({"code": 500, "message": "panic"}, 200, ZillizUnavailable),
        ({"code": 4711, "message": "never heard of"}, 200, ZillizUnavailable),
        ({"code": 0, "message": "odd"}, 404, ZillizUnavailable),
        ({"code": 2101, "message": "import failed"}, 200, ZillizUnavailable),
        ({"code": 2101, "message": "import job does not exist, jobID=1"}, 200, ZillizJobNotFound),
        # pages of whatever stands before the server (wire 4.8)
        (b"default backend - 404", 404, ZillizUnavailable),
        (b"<html><center>nginx</center></html>", 404, ZillizUnavailable),
        (b"<html><center>nginx</center></html>", 405, ZillizUnavailable),
        (b"404 page not found", 405, ZillizUnavailable),
        ({"message": "no Route matched"}, 404, ZillizUnavailable),
        (b"<html>forbidden</html>", 403, ZillizUnavailable),
        (b"<html>log in</html>", 401, ZillizUnavailable),
        ({"message": "Unauthorized"}, 401, ZillizUnavailable),
        (b"proxy authentication required", 407, ZillizUnavailable),
        (b"<html>bad request</html>", 400, ZillizUnavailable),
        (b"Client sent an HTTP request to an HTTPS server.\n", 400, ZillizApiError),
        (b"<title>400 The plain HTTP request was sent to HTTPS port</title>", 400, ZillizApiError),
        (b"404 page not found", 404, ZillizApiError),
        (b"404 page not found\n", 404, ZillizApiError),
    ],
)
def test_errors_are_classified(body: object, status: int, error: type[ZillizError]) -> None:
    with pytest.raises(ZillizError) as raised:
        describe(response_of(body, status=status))
    assert type(raised.value) is error
    code = body.get("code") if isinstance(body, dict) else None
    assert isinstance(raised.value, (ZillizApiError, ZillizUnavailable))
    assert raised.value.from_api is (code is not None)
    assert "None" not in str(raised.value)


def test_a_load_balancer_without_a_server_is_asked_for_each_route_and_is_no_word_of_the_server_s() -> None:
    with pytest.raises(ZillizUnavailable, match="a load balancer or proxy in front of it") as error:
        describe(
            NOT_ROUTED, response_of(b"default backend - 404", status=404, headers={"retry-after": "7"}), NOT_ROUTED
        )
    assert (error.value.http_status, error.value.retry_after) == (404, 7.0)


def test_an_api_error_says_code_status_and_request_id() -> None:
    refused = response_of({"code": 1100, "message": "bad"}, headers={"requestid": "r-1"})
    with pytest.raises(ZillizApiError, match=r"code 1100 \(HTTP 200\): bad \(request id r-1\)") as error:
        describe(refused)
    assert (error.value.code, error.value.http_status, error.value.request_id) == (1100, 200, "r-1")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0", 0.0), ("99999", 3600.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None), ("", None)],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    with pytest.raises(ZillizUnavailable) as error:
        describe(response_of({"code": 8, "message": "slow down"}, status=429, headers={"retry-after": header}))
    assert error.value.retry_after == seconds


@pytest.mark.parametrize(("status", "error"), [(301, ZillizApiError), (308, ZillizApiError), (302, ZillizUnavailable)])
def test_a_redirect_is_named_and_not_followed(status: int, error: type[ZillizError]) -> None:
    moved = response_of(b"", status=status, headers={"location": "https://elsewhere.test/login?key=1"})
    with pytest.raises(error, match=r"https://elsewhere\.test, which is not followed"):
        describe(moved)


# -- list ---------------------------------------------------------------------------------------------------------


def walk(*pages: Response, page_size: int = 2, **kwargs: Any) -> tuple[list[str], list[Request]]:
    reading, left = calls.ListWalk(Target(), page_size=page_size, **kwargs), list(pages)
    jobs: list[str] = []
    requests: list[Request] = []
    while not reading.is_over:
        listed, sent = run(reading.next_page(), left.pop(0))
        jobs += [job.job_id for job in listed]
        requests += sent
    return jobs, requests


def page(*ids: str, **fields: Any) -> Response:
    return response_of({"code": 0, "data": {"records": [{"jobId": i, "state": "InProgress"} for i in ids], **fields}})


def test_a_walk_ends_at_a_short_page() -> None:
    jobs, requests = walk(page("a", "b"), page("c"))
    assert jobs == ["a", "b", "c"]
    assert [request.body["currentPage"] for request in requests if request.body] == [1, 2]


def test_a_walk_ends_at_an_empty_page() -> None:
    assert walk(page("a", "b"), page())[0] == ["a", "b"]


def test_a_server_that_ignores_paging_gets_one_more_request_at_most() -> None:
    assert walk(page("a", "b", "c"))[0] == ["a", "b", "c"]
    assert walk(page("a", "b"), page("a", "b"))[0] == ["a", "b"]


def test_a_server_with_smaller_pages_is_walked_to_the_end() -> None:
    assert walk(page("a", pageSize=1), page("b", pageSize=1), page(pageSize=1))[0] == ["a", "b"]


@pytest.mark.parametrize("data", [{"records": None}, {"records": []}, {"tasks": []}, {}, []])
def test_no_jobs(data: object) -> None:
    assert walk(response_of({"code": 0, "data": data}))[0] == []


def test_v1_calls_the_records_tasks() -> None:
    record = {"jobId": "a", "state": "ImportRunning", "collectionName": "c"}
    assert walk(response_of({"code": 200, "data": {"tasks": [record]}}))[0] == ["a"]


def test_a_list_that_is_none_is_no_usable_response() -> None:
    with pytest.raises(ZillizUnavailable, match="without a list"):
        walk(response_of({"code": 0, "data": {"jobs": 3}}))


def test_list_request_is_pymilvus_s() -> None:
    request = next(calls.ListWalk(Target("in01-x", db_name="books"), "c").next_page())
    assert isinstance(request, Request)
    assert request.body == {
        "collectionName": "c",
        "dbName": "books",
        "clusterId": "in01-x",
        "pageSize": 100,
        "currentPage": 1,
    }
    assert request.headers == {"DB-Name": "books"}


# -- target -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (("in01", "proj", "region"), "cluster_id 'in01' and project_id 'proj'"),
        (("in01", None, "region"), "cluster_id 'in01' and region_id 'region'"),
        ((None, "proj", None), "project_id was given without region_id"),
        ((None, None, "region"), "region_id was given without project_id"),
    ],
)
def test_a_target_names_one_place(ids: tuple[str | None, ...], words: str) -> None:
    with pytest.raises(ZillizConfigError, match=words):
        Target(*ids)


def test_an_argument_wins_over_the_connection() -> None:
    connection = Target("in01-x", db_name="books")
    assert Target().merged(connection) == connection
    assert Target("in02-y").merged(connection) == Target("in02-y", db_name="books")
    assert Target(None, "proj", "region").merged(connection) == Target(None, "proj", "region", "books")
    assert Target(db_name="films").merged(connection) == Target("in01-x", db_name="films")


# -- any JSON at all ----------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
JOB_FIELDS = (
    *("jobId", "state", "progress", "reason", "collectionName", "importedRows", "importRows", "totalRows"),
    *("fileSize", "completeTime", "details", "readyPercentage", "errorMessage"),
)
job_fields = st.sampled_from(JOB_FIELDS)
states = st.sampled_from(["Pending", "Importing", "Completed", "Failed", "Uncommitted", "Odd"])
job_values = st.dictionaries(job_fields, json_values | states | st.floats(0, 1), max_size=13)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([0, 200, 1, 2100, 21119, "0", 0.0]) | json_values,
        "data": job_values | st.lists(job_values, max_size=2) | json_values,
        "message": json_values,
    },
)


@given(body=envelopes | json_values, status=st.sampled_from([200, 200, 200, 400, 401, 404, 429, 503]))
def test_no_json_makes_the_parser_raise_anything_but_a_zilliz_error(body: object, status: int) -> None:
    try:
        (job, _), _ = describe(response_of(body, status=status))
    except ZillizError:
        return
    assert isinstance(job, ImportProgress)
    assert job.job_id == "j"
    assert 0 <= job.progress <= 100
    job.result()
    job.summary()


@given(body=envelopes | json_values)
def test_no_json_makes_the_list_raise_anything_but_a_zilliz_error(body: object) -> None:
    with contextlib.suppress(ZillizError):
        walk(response_of(body), page())


@given(body=st.binary())
def test_no_bytes_make_the_parser_raise_anything_but_a_zilliz_error(body: bytes) -> None:
    with pytest.raises(ZillizError):
        describe(response_of(body))


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"code":' + b"9" * 10_000 + b"}", b'{"code": NaN, "data": Infinity}']
)
def test_hostile_json_is_no_usable_response(body: bytes) -> None:
    with pytest.raises(ZillizError):
        describe(response_of(body))


@pytest.mark.parametrize(
    ("data", "job_id"),
    [
        ({"jobId": "450000000000000001"}, "450000000000000001"),
        ({"jobId": 450000000000000001}, "450000000000000001"),
        ({"jobID": "450000000000000001"}, "450000000000000001"),
        ([{"jobId": "job-1"}], "job-1"),
        (["450000000000000001"], "450000000000000001"),
        ([450000000000000001], "450000000000000001"),
        ("job-016881078e8tilww9au69t", "job-016881078e8tilww9au69t"),
    ],
)
def test_a_created_job_in_all_shapes(data: Any, job_id: str) -> None:
    assert run(calls.create(Request("/create")), response_of({"code": 0, "data": data}))[0] == job_id


@pytest.mark.parametrize(
    "data", [{}, [], {"jobId": ""}, {"jobId": {"a": 1}}, {"jobId": True}, ["1", "2"], [[1]], "Submitted. See later"]
)
def test_a_created_job_without_an_id(data: Any) -> None:
    with pytest.raises(ZillizUnavailable, match="without a job id"):
        run(calls.create(Request("/create")), response_of({"code": 0, "data": data}))


@pytest.mark.parametrize("call", [calls.commit, calls.abort])
@pytest.mark.parametrize(
    "body",
    [
        {"code": 0, "data": {}},
        {"code": 0, "data": "Project plan updated successfully"},
        {"code": 0, "data": True, "message": "Submitted"},
        {"code": 0, "data": None},
        {"code": 0, "data": None, "message": "success"},
        {"code": 200, "message": ""},
        {"code": 0},
    ],
)
def test_a_decision_is_taken_in_all_shapes(call: Any, body: Any) -> None:
    assert run(call("j", Target()), response_of(body))[0] is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"code": 0, "message": "The token is illegal."}, 200),
        ({"code": 0, "message": "The token is illegal.", "data": None}, 200),
        ({"code": 0, "data": {}}, 502),
        ({}, 200),
        ({"data": None}, 200),
        ([], 200),
    ],
)
def test_a_decision_is_not_taken_for_granted(body: Any, status: int) -> None:
    with pytest.raises(ZillizUnavailable):
        run(calls.commit("j", Target()), response_of(body, status=status))


# -- secrets: what is read and what is shown ---------------------------------------------------------------------

SCRUB = Scrubber(("books-of-2024", "s3cret/0123&56"))


def scrubbed(body: Any, **more: Any) -> Response:
    return replace(response_of(body, **more), scrub=SCRUB)


def test_what_is_read_is_as_the_server_sent_it_also_where_it_equals_a_secret() -> None:
    record = {**JOB, "collectionName": "books-of-2024", "details": [{"fileName": "books-of-2024/a.parquet"}]}
    job = run(calls.describe("j", Target()), scrubbed({"code": 0, "data": record}))[0][0]
    assert (job.collection_name, job.details[0].file_name) == ("books-of-2024", "books-of-2024/a.parquet")
    page = run(calls.list_page(Target()), scrubbed({"code": 0, "data": {"records": [record]}}))[0]
    assert [job.collection_name for job in page.jobs()] == ["books-of-2024"]


def test_reasons_are_scrubbed_before_anybody_sees_them() -> None:
    reason = "cannot read https://b/a?sig=abc with s3cret\\/0123\\u002656"
    record = {**JOB, "state": "Failed", "reason": reason, "details": [{"fileName": "a", "reason": reason}]}
    shown = "cannot read https://b/a with ***"
    job = run(calls.describe("j", Target()), scrubbed({"code": 0, "data": record}))[0][0]
    assert (job.reason, job.file_reasons) == (shown, (("a", shown),))
    page = run(calls.list_page(Target()), scrubbed({"code": 0, "data": {"records": [record]}}))[0]
    assert [job.reason for job in page.jobs()] == [shown]
    assert [job.reason for _, job in page.news({"j": None}) if job is not None] == [shown]


def test_error_texts_are_scrubbed_before_they_are_cut() -> None:
    with pytest.raises(ZillizApiError) as raised:
        run(calls.describe("j", Target()), scrubbed({"code": 1100, "message": "x" * 1990 + " s3cret/0123&56"}))
    assert "s3cret" not in str(raised.value)
    with pytest.raises(ZillizUnavailable) as unusable:
        run(calls.describe("j", Target()), scrubbed(b"<html>" + b"x" * 185 + b"s3cret/0123&56"))
    assert "s3cret" not in str(unusable.value)
