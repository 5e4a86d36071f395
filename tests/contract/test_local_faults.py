"""What goes wrong on purpose in the local server: each fault over a real socket, and what it leaves behind."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_zilliz.local.testing import LocalServer
from tests.helpers.servers import ServerPool

IMPORTS = "/v2/vectordb/jobs/import/"


@pytest.fixture(scope="module")
def process(server_pool: ServerPool) -> LocalServer:
    return server_pool.take()


@pytest.fixture
def server(process: LocalServer) -> LocalServer:
    """A server that makes a scripted job of whatever is created."""
    process.clear()
    process.script({"state": "Importing", "seconds": 60, "progress": 40}, {"state": "Completed"})
    return process


def post(server: LocalServer, verb: str, **body: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"{server.url}{IMPORTS}{verb}", json=body, timeout=10, allow_redirects=False)


def call(server: LocalServer, verb: str, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = post(server, verb, **body).json()
    return answer


def create(server: LocalServer) -> requests.Response:
    return post(server, "create", collectionName="books", files=[["a.parquet"]])


def jobs(server: LocalServer) -> list[str]:
    return [record["jobId"] for record in call(server, "list")["data"]["records"]]


# -- a create request whose outcome its response does not show ---------------------------------------------------


@pytest.mark.parametrize("code", [65535, 10000, 5, 2101])
def test_an_ambiguous_code_leaves_no_job(server: LocalServer, code: int) -> None:
    server.add_fault("code", code=code, path="create")
    response = create(server)
    assert (response.status_code, response.json()["code"]) == (200, code)
    assert response.json()["message"] not in ("", "scripted fault")
    server.advance(3600)
    assert jobs(server) == []


@pytest.mark.parametrize("code", [65535, 10000, 5, 2101])
def test_an_ambiguous_code_leaves_a_job(server: LocalServer, code: int) -> None:
    server.add_fault("code", code=code, path="create", done=True)
    assert create(server).json()["code"] == code
    assert len(jobs(server)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "code", "code": 65535},
        {"kind": "status", "status": 503},
        {"kind": "proxy", "status": 504},
        {"kind": "reset"},
        {"kind": "cut"},
    ],
)
def test_a_create_takes_effect_late(server: LocalServer, fault: dict[str, Any]) -> None:
    server.add_fault(**fault, path="create", done_after=30)
    try:
        assert "data" not in create(server).text or fault["kind"] == "cut"
    except requests.RequestException:
        assert fault["kind"] in ("reset", "cut")
    assert jobs(server) == []
    server.advance(29)
    assert jobs(server) == []
    server.advance(2)
    assert len(jobs(server)) == 1


def test_cleared_faults_take_no_effect_any_more(server: LocalServer) -> None:
    server.add_fault("reset", path="create", done_after=30)
    with pytest.raises(requests.ConnectionError):
        create(server)
    server.clear("faults")
    server.advance(60)
    assert jobs(server) == []


def test_a_late_effect_is_refused_as_any_other_request(server: LocalServer) -> None:
    server.add_fault("code", code=65535, path="create", done_after=30)
    create(server)
    server.set(max_jobs=0)
    server.advance(60)
    assert jobs(server) == []


# -- lists --------------------------------------------------------------------------------------------------------


def test_a_list_lags(server: LocalServer) -> None:
    server.set(list_lag=30)
    job_id = create(server).json()["data"]["jobId"]
    assert jobs(server) == []
    assert call(server, "describe", jobId=job_id)["data"]["state"] == "Importing", "it is there all the same"
    server.advance(31)
    assert jobs(server) == [job_id]


def test_every_second_list_lags(server: LocalServer) -> None:
    server.set(list_lag=30, lists_alternate=True)
    job_id = create(server).json()["data"]["jobId"]
    assert [jobs(server) for _ in range(4)] == [[], [job_id], [], [job_id]]


def test_a_job_is_in_no_list(server: LocalServer) -> None:
    first, second = (create(server).json()["data"]["jobId"] for _ in range(2))
    server.set(unlisted=[first])
    assert jobs(server) == [second]
    server.set(lists_alternate=True)
    assert [sorted(jobs(server)) for _ in range(2)] == [[second], sorted([first, second])]


def test_a_description_is_refused_while_the_list_shows_the_job(server: LocalServer) -> None:
    first, second = (create(server).json()["data"]["jobId"] for _ in range(2))
    server.add_fault("status", status=403, path="describe", job_id=first, times=None)
    response = post(server, "describe", jobId=first)
    assert (response.status_code, response.json()["code"]) == (403, 65535)
    assert "PermissionDenied" in response.json()["message"]
    assert call(server, "describe", jobId=second)["code"] == 0
    assert sorted(jobs(server)) == sorted([first, second])


# -- what is in front of a server, and a server that becomes unreachable ------------------------------------------


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "default backend - 404"),
        (401, "401 Authorization Required"),
        (403, "403 Forbidden"),
        (407, "Cache Access Denied"),
        (502, "502 Bad Gateway"),
        (503, "503 Service Temporarily Unavailable"),
    ],
)
def test_pages_of_a_proxy(server: LocalServer, status: int, words: str) -> None:
    server.add_fault("proxy", status=status)
    response = create(server)
    assert (response.status_code, words in response.text) == (status, True)
    assert "json" not in response.headers["Content-Type"]
    assert jobs(server) == []


@pytest.mark.parametrize("loses_jobs", [False, True])
def test_a_restart_in_the_middle_of_a_create(server: LocalServer, loses_jobs: bool) -> None:
    server.add_fault("restart", path="create", done=True, seconds=30, loses_jobs=loses_jobs)
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            create(server)
    server.advance(31)
    assert len(jobs(server)) == (0 if loses_jobs else 1)


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("keep_jobs", [False, True])
def test_a_real_restart(process: LocalServer, kill: bool, keep_jobs: bool) -> None:
    process.clear()
    job_id, url = process.add_job({"state": "Importing"}), process.url
    process.restart(kill=kill, keep_jobs=keep_jobs)
    assert process.url == url
    assert jobs(process) == ([job_id] if keep_jobs else [])


def test_too_many_jobs(server: LocalServer) -> None:
    server.set(max_jobs=1)
    assert create(server).json()["code"] == 0
    refused = create(server).json()
    assert refused["code"] == 2100
    assert "the number of jobs has reached the limit, please try again later" in refused["message"].lower()
    assert len(jobs(server)) == 1
    server.advance(61)
    assert create(server).json()["code"] == 0, "the first has ended"


def test_the_refusal_of_too_many_jobs_without_any(server: LocalServer) -> None:
    server.add_fault("code", code=2100, path="create")
    assert "the number of jobs has reached the limit" in create(server).json()["message"].lower()
    assert jobs(server) == []


# -- the clock ----------------------------------------------------------------------------------------------------


def test_a_slow_response_is_there_once_the_clock_is(server: LocalServer) -> None:
    server.add_fault("slow", path="list", seconds=0.2)
    response = post(server, "list")
    assert response.elapsed.total_seconds() > 0.15
    assert response.json()["code"] == 0


def test_a_script_follows_the_clock(server: LocalServer) -> None:
    job_id = create(server).json()["data"]["jobId"]
    assert call(server, "describe", jobId=job_id)["data"]["state"] == "Importing"
    server.advance(60)
    assert call(server, "describe", jobId=job_id)["data"]["state"] == "Completed"


@pytest.mark.parametrize("seconds", [-1, "soon", None])
def test_the_clock_goes_forward_alone(server: LocalServer, seconds: Any) -> None:
    with pytest.raises(ValueError, match="clock"):
        server.advance(seconds)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "odd"},
        {"kind": "code"},
        {"kind": "status", "status": 7},
        {"kind": "reset", "done": True, "done_after": 1},
        {"kind": "slow", "seconds": -1},
        {"kind": "status", "color": "red"},
    ],
)
def test_what_is_no_fault(server: LocalServer, fault: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="faults"):
        server.add_fault(**fault)
