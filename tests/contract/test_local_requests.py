"""Requests to the local server as Milvus takes and refuses them; R numbers are those of docs/milvus-readers.md."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests

from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.local.versions import VERSIONS
from tests.contract.conftest import client_of, make_collection, rows, rows_in, write_json
from tests.helpers.servers import ServerPool

IMPORTS = "/v2/vectordb/jobs/import/"


@pytest.fixture(scope="module")
def process(server_pool: ServerPool) -> LocalServer:
    server = server_pool.take()
    (server.data_dir / "dir").mkdir()
    write_json(server.data_dir, "a.json", rows(3))
    write_json(server.data_dir / "dir", "a.json", rows(3))
    make_collection(server, "books")
    make_keyed_collection(server)
    return server


@pytest.fixture
def server(process: LocalServer) -> LocalServer:
    process.clear()
    return process


def make_keyed_collection(server: LocalServer) -> None:
    from pymilvus import DataType

    client = client_of(server)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("tenant", DataType.VARCHAR, max_length=20, is_partition_key=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection("keyed", schema=schema)


def send(server: LocalServer, verb: str, body: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Send a body as it is: an object as JSON, bytes and text as they are."""
    data = body if isinstance(body, (bytes, str)) else json.dumps(body)
    with requests.Session() as session:
        session.trust_env = False
        response = session.post(f"{server.url}{IMPORTS}{verb}", data=data, headers=headers, timeout=30)
    answer: dict[str, Any] = response.json()
    return answer


def create(server: LocalServer, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    return send(server, "create", {"collectionName": "books", "files": [["a.json"]], **body}, headers)


def code_of(server: LocalServer, headers: dict[str, str] | None = None, **body: Any) -> int:
    """Return the code of a create; one that is refused makes no job."""
    before = listed(server)
    response = create(server, headers, **body)
    assert ("data" in response) == (response["code"] == 0), response
    assert response["code"] == 0 or listed(server) == before
    code: int = response["code"]
    return code


def listed(server: LocalServer, **body: Any) -> list[str]:
    return sorted(record["jobId"] for record in send(server, "list", body)["data"]["records"])


def imported(server: LocalServer, **body: Any) -> dict[str, Any]:
    job_id = create(server, **body)["data"]["jobId"]
    job = server.wait_for_job(job_id, "Completed", "Failed")
    assert job["state"] == "Completed", job
    return job


# -- bodies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["jobID", "jobid", "JOBID", "jobId"])
def test_go_decodes_json_keys_without_regard_to_case(server: LocalServer, key: str) -> None:
    """R1."""
    created = send(server, "create", {"CollectionName": "books", "FILES": [["a.json"]]})
    job_id = created["data"]["jobId"]
    assert send(server, "describe", {key: job_id})["data"]["jobId"] == job_id


def test_the_last_spelling_of_a_key_counts(server: LocalServer) -> None:
    job_id = server.add_job({"state": "Importing"})
    assert send(server, "describe", {"jobid": "1", "jobId": job_id})["code"] == 0
    assert send(server, "describe", {"jobId": job_id, "JOBID": None})["code"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"collectionName": 5, "files": [["a.json"]]},
        {"collectionName": "books", "files": [["a.json"]], "dbName": 5},
        {"collectionName": "books", "files": [["a.json"]], "partitionName": True},
        {"collectionName": "books", "files": [[5]]},
        {"collectionName": "books", "files": ["a.json"]},
        {"collectionName": "books", "files": "a.json"},
        {"collectionName": "books", "files": [["a.json"]], "options": {"timeout": 300}},
        {"collectionName": "books", "files": [["a.json"]], "options": ["timeout"]},
    ],
)
def test_another_type_where_text_is_due_is_1801(server: LocalServer, body: dict[str, Any]) -> None:
    """R2."""
    assert send(server, "create", body)["code"] == 1801
    assert listed(server) == []


@pytest.mark.parametrize("verb", ["describe", "get_progress", "commit", "abort"])
def test_a_job_id_that_is_a_json_number_is_1801(server: LocalServer, verb: str) -> None:
    """R2."""
    assert send(server, verb, {"jobId": 453468002260053160})["code"] == 1801


@pytest.mark.parametrize("body", [b"", b"  ", b"[]", b'"text"', b"{", b"null", b'{"jobId": NaN}'])
@pytest.mark.parametrize("verb", ["create", "describe", "list"])
def test_a_body_that_is_empty_or_no_object_is_1801(server: LocalServer, verb: str, body: bytes) -> None:
    """R9."""
    assert send(server, verb, body)["code"] == 1801


# -- create -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["json", "jsonl", "ndjson", "csv", "parquet"])
@pytest.mark.parametrize("milvus", VERSIONS)
def test_an_inner_list_is_one_file(server: LocalServer, kind: str, milvus: str) -> None:
    """R3."""
    server.set(milvus=milvus)
    response = create(server, files=[[f"a.{kind}", f"b.{kind}"]])
    assert (response["code"], "accepts only one file" in response["message"]) == (2100, True)
    assert response["message"].endswith(": importing data failed")
    assert listed(server) == []


@pytest.mark.parametrize(
    "group",
    [["a.json", "a.csv"], ["id.npy", "a.json"], ["a.txt"], ["a"], ["dir"], ["dir/"], ["a.JSON"], ["a.json.gz"], [""]],
)
def test_what_is_refused_at_once_with_2100(server: LocalServer, group: list[str]) -> None:
    """R4."""
    assert code_of(server, files=[["a.json"], group]) == 2100


@pytest.mark.parametrize(
    "group",
    [["a.json"], ["a.jsonl"], ["a.ndjson"], ["a.csv"], ["a.parquet"], ["id.npy", "x/vector.npy"], ["v.1/.json"]],
)
def test_known_extensions(server: LocalServer, group: list[str]) -> None:
    """R5."""
    server.script({"state": "Completed"})
    assert code_of(server, files=[group]) == 0


@pytest.mark.parametrize(
    ("files", "code"),
    [([[]], 1100), ([], 1100), ([None], 1100), ([[], ["a.json"]], 0), ([["a.json"], []], 0), (None, 1802)],
)
def test_empty_lists(server: LocalServer, files: object, code: int) -> None:
    """R6, R7, R8."""
    assert code_of(server, files=files) == code


@pytest.mark.parametrize(
    "body", [{"collectionName": "books"}, {"collectionName": None, "files": [["a.json"]]}, {"files": [["a.json"]]}, {}]
)
def test_what_is_missing_is_1802(server: LocalServer, body: dict[str, Any]) -> None:
    """R8."""
    assert send(server, "create", body)["code"] == 1802


def test_a_leading_slash_is_a_path_in_the_bucket(server: LocalServer) -> None:
    """R10."""
    assert imported(server, files=[["/dir/a.json"]])["importedRows"] == 3


def test_a_partition_of_a_collection_with_a_partition_key(server: LocalServer) -> None:
    """R11, R12."""
    assert code_of(server, collectionName="keyed", partitionName="_default") == 2100
    assert code_of(server, partitionName="nowhere") == 200
    assert code_of(server, partitionName="_default") == 0


@pytest.mark.parametrize("timeout", ["300", "soon", "", "1d", "5 s", None])
def test_a_timeout_that_is_no_go_duration(server: LocalServer, timeout: str | None) -> None:
    """R13, R14."""
    response = create(server, options={"timeout": timeout})
    assert (response["code"], "timeout" in response["message"]) == (2100, True)
    assert listed(server) == []


@pytest.mark.parametrize("timeout", ["300s", "1.5h", "1h30m", "0", "500ms", ".5m"])
def test_a_timeout_that_is_a_go_duration(server: LocalServer, timeout: str) -> None:
    """R13."""
    assert code_of(server, options={"timeout": timeout}) == 0


def test_a_null_option(server: LocalServer) -> None:
    """R14, R15."""
    assert code_of(server, options={"sep": None, "backup": None}) == 0
    for value in (None, "", "maybe"):
        assert code_of(server, options={"auto_commit": value}) == 1801
    assert code_of(server, options=None) == 0
    assert code_of(server, options={"auto_commit": "True"}) == 0


@pytest.mark.parametrize("sep", ['"', "\n", "\r", "\ufffd", "\0"])
def test_a_separator_that_go_refuses(server: LocalServer, sep: str) -> None:
    """R72."""
    (server.data_dir / "plain.csv").write_text("id,vector\n1,none\n")
    job_id = create(server, files=[["plain.csv"]], options={"sep": sep})["data"]["jobId"]
    assert "unsupported csv separator" in server.wait_for_job(job_id, "Failed", "Completed")["reason"]


def test_a_backup_without_a_partition(server: LocalServer) -> None:
    """R16."""
    assert code_of(server, options={"backup": "true"}, files=[["insert_log/1"]]) == 1101
    assert code_of(server, options={"backup": "true"}, files=[["insert_log/1"]], partitionName="_default") == 10


def test_at_most_1024_files_a_request(server: LocalServer) -> None:
    """R17."""
    server.script({"state": "Completed"})
    assert code_of(server, files=[["a.json"]] * 1024) == 0
    response = create(server, files=[["a.json"]] * 1025)
    assert response["code"] == 2100
    assert response["message"].startswith("The max number of import files should not exceed 1024, but got 1025")


def test_at_most_1024_running_jobs(server: LocalServer) -> None:
    """R18."""
    server.script({"state": "Importing", "seconds": 60}, {"state": "Completed"})
    for _ in range(1024):
        assert create(server)["code"] == 0
    response = create(server)
    assert (response["code"], len(listed(server))) == (2100, 1024)
    assert "the number of jobs has reached the limit" in response["message"].lower()
    server.advance(61)
    assert code_of(server) == 0


def test_milvus_checks_in_this_order(server: LocalServer) -> None:
    """The types first, then what is missing, the database, the collection, the partition, the files, the number."""
    server.set(max_jobs=0)
    wrong: dict[str, Any] = {
        "dbName": "nowhere",
        "collectionName": "nowhere",
        "partitionName": "nowhere",
        "files": [["a.txt"]],
        "options": {"timeout": "soon", "auto_commit": "maybe"},
    }
    right = {
        "options": {"timeout": "soon"},
        "dbName": "default",
        "collectionName": "books",
        "partitionName": "_default",
        "files": [["a.json"]],
    }
    found = [create(server, **wrong)]
    for name, value in [*right.items(), ("options", {})]:
        wrong[name] = value
        found.append(create(server, **wrong))
    assert [answer["code"] for answer in found] == [1801, 800, 100, 200, 2100, 2100, 2100]
    assert ["file type" in found[4]["message"], "timeout" in found[5]["message"]] == [True, True]
    assert "number of jobs" in found[6]["message"]


# -- describe, commit, abort --------------------------------------------------------------------------------------

UNKNOWN = "453468002260053160"


@pytest.mark.parametrize(("milvus", "code"), [("2.4", 2100), ("2.5", 2100), ("2.6", 2101), ("3.0", 2101)])
def test_an_unknown_job(server: LocalServer, milvus: str, code: int) -> None:
    """R19."""
    server.set(milvus=milvus)
    response = send(server, "get_progress", {"jobId": UNKNOWN})
    text = f"import job does not exist, jobID={UNKNOWN}: importing data failed"
    assert response == {"code": code, "message": text}


@pytest.mark.parametrize(
    "job_id", ["x", "5.0", "0x5", "5_000", " 5", "\u0665", "9223372036854775808", "job-5", "+", "9" * 5000]
)
@pytest.mark.parametrize(("milvus", "code"), [("2.5", 2100), ("3.0", 1100)])
def test_an_id_that_is_no_int64(server: LocalServer, job_id: str, milvus: str, code: int) -> None:
    """R20."""
    server.set(milvus=milvus)
    assert send(server, "describe", {"jobId": job_id})["code"] == code


def test_signed_ids_are_int64s(server: LocalServer) -> None:
    """R21."""
    server.add_job({"state": "Importing"}, jobId="5")
    assert send(server, "describe", {"jobId": "+5"})["data"]["state"] == "Importing"
    assert send(server, "describe", {"jobId": "-5"})["code"] == 2101


@pytest.mark.parametrize("milvus", ["2.6", "3.0"])
@pytest.mark.parametrize("verb", ["commit", "abort"])
def test_commit_and_abort_of_an_unknown_job(server: LocalServer, milvus: str, verb: str) -> None:
    """R22."""
    server.set(milvus=milvus)
    response = send(server, verb, {"jobId": UNKNOWN})
    assert (response["code"], "not found" in response["message"]) == (2101, True)
    assert send(server, verb, {"jobId": "x"})["code"] == 1100
    assert send(server, verb, {})["code"] == 1802


@pytest.mark.parametrize(("milvus", "code"), [("2.6", 2100), ("3.0", 0)])
def test_commit_of_a_completed_ordinary_job(server: LocalServer, milvus: str, code: int) -> None:
    """R23."""
    server.set(milvus=milvus)
    done, running = server.add_job({"state": "Completed"}), server.add_job({"state": "Importing"})
    assert send(server, "commit", {"jobId": done})["code"] == code
    assert send(server, "commit", {"jobId": running})["code"] == 2100
    assert send(server, "abort", {"jobId": done})["code"] == 2100


def test_commit_and_abort_of_a_scripted_job(server: LocalServer) -> None:
    server.script({"state": "Uncommitted", "progress": 99}, totalRows=5)
    committed, aborted = (create(server, options={"auto_commit": "false"})["data"]["jobId"] for _ in range(2))
    assert send(server, "commit", {"jobId": committed})["code"] == 0
    assert send(server, "abort", {"jobId": aborted})["code"] == 0
    done, failed = (send(server, "describe", {"jobId": job_id})["data"] for job_id in (committed, aborted))
    assert (done["state"], done["importedRows"], failed["state"]) == ("Completed", 5, "Failed")


# -- list ---------------------------------------------------------------------------------------------------------


def test_a_list_of_an_unknown_collection_or_database(server: LocalServer) -> None:
    """R24, R25."""
    assert send(server, "list", {"collectionName": "nowhere"})["code"] == 100
    assert send(server, "list", {"collectionName": "books", "dbName": "nowhere"})["code"] == 800
    assert send(server, "list", {"collectionName": "books"}, {"DB-Name": "nowhere"})["code"] == 800
    assert send(server, "list", {"collectionName": "books"})["code"] == 0


def test_a_list_of_an_unknown_database_without_a_collection(server: LocalServer) -> None:
    """R26."""
    job_id = imported(server)["jobId"]
    assert listed(server) == [job_id]
    assert listed(server, dbName="nowhere") == []
    assert send(server, "list", {}, {"DB-Name": "nowhere"})["data"] == {"records": []}


def test_a_list_knows_no_pages(server: LocalServer) -> None:
    made = sorted(server.add_job({"state": "Importing"}) for _ in range(25))
    assert listed(server, pageSize=10, currentPage=2) == made


# -- descriptions -------------------------------------------------------------------------------------------------


def test_details_print_whole_paths(server: LocalServer) -> None:
    """R27."""
    job = imported(server, files=[["dir/a.json"], ["/a.json"]])
    assert [detail["fileName"] for detail in job["details"]] == ["[dir/a.json]", "[/a.json]"]
    assert {detail["state"] for detail in job["details"]} == {"Completed"}
    assert all(detail["completeTime"].endswith("Z") for detail in job["details"])


def test_details_of_an_uncommitted_job(server: LocalServer) -> None:
    """R28."""
    job_id = create(server, options={"auto_commit": "false"})["data"]["jobId"]
    (detail,) = server.wait_for_job(job_id, "Uncommitted")["details"]
    found = {name: detail[name] for name in ("state", "importedRows", "totalRows", "progress")}
    assert found == {"state": "Completed", "importedRows": 3, "totalRows": 3, "progress": 100}


# -- versions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("milvus", VERSIONS)
def test_what_a_version_has(server: LocalServer, milvus: str) -> None:
    """idempotency keys, two phases, describe and createTime, by version."""
    version = VERSIONS[milvus]
    server.set(milvus=milvus)
    server.script({"state": "Completed"})
    first, second = (create(server, {"Idempotency-Key": "once"})["data"]["jobId"] for _ in range(2))
    assert (first == second) == version.idempotency_keys
    described = requests.post(f"{server.url}{IMPORTS}describe", json={"jobId": first}, timeout=10)
    assert described.status_code == (200 if version.describe_routed else 404)
    assert ("createTime" in send(server, "get_progress", {"jobId": first})["data"]) == version.has_create_time
    committed = requests.post(f"{server.url}{IMPORTS}commit", json={"jobId": first}, timeout=10)
    assert committed.status_code == (200 if version.two_phases else 404)
    assert "404 page not found" in (described.text if milvus == "2.4" else "404 page not found")


@pytest.mark.parametrize("milvus", ["2.4", "2.5"])
def test_auto_commit_is_unknown_before_two_phases(server: LocalServer, milvus: str) -> None:
    server.set(milvus=milvus)
    for value in ("false", None):
        job_id = create(server, options={"auto_commit": value})["data"]["jobId"]
        assert server.wait_for_job(job_id, "Completed", "Failed")["state"] == "Completed"


@pytest.mark.parametrize(("milvus", "hours"), [("2.4", 3), ("2.5", 3), ("2.6", 48), ("3.0", 48)])
def test_retention(server: LocalServer, milvus: str, hours: int) -> None:
    """retention (3 or 48 hours, with a clock that tests can move)."""
    server.set(milvus=milvus)
    job_ids = [
        server.add_job({"state": state, "seconds": 1}, {"state": last})
        for state, last in [("Importing", "Completed"), ("Importing", "Failed"), ("Importing", "Uncommitted")]
    ]
    server.advance(hours * 3600)
    assert len(listed(server)) == 3
    server.advance(2)
    assert listed(server) == [job_ids[2]], "what has not ended is kept"
    assert send(server, "get_progress", {"jobId": job_ids[0]})["code"] in (2100, 2101)


def test_retention_of_a_real_job(server: LocalServer) -> None:
    job_id = imported(server)["jobId"]
    server.advance(48 * 3600 - 60)
    assert listed(server) == [job_id]
    server.advance(61)
    assert listed(server) == []


# -- limits -------------------------------------------------------------------------------------------------------


def test_files_that_are_too_large(server: LocalServer) -> None:
    size = (server.data_dir / "a.json").stat().st_size
    server.set(max_file_size=size - 1)
    job = server.wait_for_job(create(server)["data"]["jobId"], "Failed", "Completed")
    assert f"reached the maximum limit allowed for importing, fileSize={size}, maxSize={size - 1}" in job["reason"]
    server.set(max_file_size=size, max_request_size=2 * size - 1)
    both = create(server, files=[["a.json"], ["dir/a.json"]])["data"]["jobId"]
    job = server.wait_for_job(both, "Failed", "Completed")
    assert f"total fileSize={2 * size}, maxSize={2 * size - 1}" in job["reason"]
    assert imported(server)["importedRows"] == 3


def test_limits_of_the_command_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("limited")
    write_json(folder, "a.json", rows(3))
    with LocalServer(folder, milvus="2.5", max_files=2, max_jobs=1, max_file_size=10, max_request_size=5) as server:
        make_collection(server, "books")
        assert code_of(server, files=[["a.json"]] * 3) == 2100
        job = server.wait_for_job(create(server)["data"]["jobId"], "Failed")
        assert "maxSize=10" in job["reason"]
        assert send(server, "describe", {"jobId": "1"})["code"] == 2100
        server.add_job({"state": "Importing"})
        assert "number of jobs" in create(server)["message"]


# -- databases ----------------------------------------------------------------------------------------------------


def databases(server: LocalServer, verb: str, **body: Any) -> Any:
    response = requests.post(f"{server.url}/v2/vectordb/databases/{verb}", json=body, timeout=30)
    return response.json()


def test_databases_over_rest_and_grpc(server: LocalServer) -> None:
    """R31, R32."""
    from pymilvus import MilvusClient

    assert databases(server, "create", dbName="films") == {"code": 0, "data": {}}
    try:
        assert databases(server, "list")["data"] == client_of(server).list_databases() == ["default", "films"]
        assert databases(server, "describe", dbName="films")["data"]["dbName"] == "films"
        assert databases(server, "create", dbName="films")["code"] == 65535
        client = MilvusClient(server.url, db_name="films")
        client.create_collection("reviews", dimension=4)
        collections = requests.post(f"{server.url}/v2/vectordb/collections/list", json={"dbName": "films"}, timeout=10)
        assert collections.json() == {"code": 0, "data": ["reviews"]}
        assert databases(server, "drop", dbName="films")["code"] == 65535, "it has a collection"
        client.drop_collection("reviews")
    finally:
        assert databases(server, "drop", dbName="films") == {"code": 0, "data": {}}
    for verb in ("describe", "drop"):
        assert databases(server, verb, dbName="films")["code"] == 800
    assert databases(server, "create")["code"] == 1802
    assert databases(server, "drop", dbName="default")["code"] == 65535


@pytest.mark.parametrize("named", ["body", "header"])
def test_each_database_has_its_own_collections(server: LocalServer, named: str) -> None:
    """create, list, describe and import in the database that the request names."""
    from pymilvus import MilvusClient

    client_of(server).create_database("other")
    client = MilvusClient(server.url, db_name="other")
    try:
        make_collection(server, "books")
        client.create_collection("books", dimension=4)
        write_json(server.data_dir, "other.json", [{"id": n, "vector": [1, 2, 3, 4]} for n in range(5)])
        body = {"dbName": "other"} if named == "body" else {}
        headers = {"DB-Name": "other"} if named == "header" else {}
        job_id = create(server, headers, files=[["other.json"]], **body)["data"]["jobId"]
        assert server.wait_for_job(job_id, "Completed", "Failed")["importedRows"] == 5
        assert client.query("books", filter="", output_fields=["count(*)"])[0]["count(*)"] == 5
        assert rows_in(server, "books") == 0
        mine = {"collectionName": "books", **body}
        assert [r["jobId"] for r in send(server, "list", mine, headers)["data"]["records"]] == [job_id]
        assert listed(server, collectionName="books") == []
        client.create_collection("only-there".replace("-", "_"), dimension=4)
        assert code_of(server, collectionName="only_there") == 100
        assert code_of(server, collectionName="only_there", dbName="nowhere") == 800
    finally:
        for name in client.list_collections():
            client.drop_collection(name)
        client_of(server).drop_database("other")


def test_a_database_outlives_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    with LocalServer(tmp_path_factory.mktemp("kept")) as server:
        assert databases(server, "create", dbName="films")["code"] == 0
        server.restart()
        assert databases(server, "list")["data"] == ["default", "films"]


def test_the_time_of_a_job_is_the_servers(server: LocalServer) -> None:
    server.advance(3600)
    created = imported(server)["createTime"]
    assert created > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1800))
