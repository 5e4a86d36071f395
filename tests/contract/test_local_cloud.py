"""The Cloud flavor of the local server: its places, pages, limits and routes of its own."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_zilliz.local.testing import LocalServer
from tests.contract.conftest import CLUSTER, make_collection, rows, write_json
from tests.helpers.servers import ServerPool

PROJECT = {"projectId": "proj-1", "regionId": "aws-us-west-2"}


@pytest.fixture(scope="module")
def process(server_pool: ServerPool) -> LocalServer:
    server = server_pool.take("cloud")
    (server.data_dir / "bucket" / "dir").mkdir(parents=True)
    write_json(server.data_dir / "bucket", "good.json", rows(3))
    write_json(server.data_dir / "bucket" / "dir", "a.json", rows(2))
    write_json(server.data_dir / "bucket", "broken.json", [{"id": 1}])
    make_collection(server, "books")
    return server


@pytest.fixture
def cloud(process: LocalServer) -> LocalServer:
    process.clear()
    return process


def send(server: LocalServer, verb: str, **body: Any) -> dict[str, Any]:
    url = f"{server.url}/v2/vectordb/jobs/import/{verb}"
    answer: dict[str, Any] = requests.post(url, json=body, timeout=30).json()
    return answer


def get(server: LocalServer, path: str) -> dict[str, Any]:
    answer: dict[str, Any] = requests.get(f"{server.url}{path}", timeout=30).json()
    return answer


def create(server: LocalServer, **body: Any) -> dict[str, Any]:
    whole = {"clusterId": CLUSTER, "collectionName": "books", "objectUrls": [["s3://bucket/good.json"]], **body}
    return send(server, "create", **whole)


def ended(server: LocalServer, **body: Any) -> dict[str, Any]:
    job_id = create(server, **body)["data"]["jobId"]
    return server.wait_for_job(job_id, "Completed", "Failed", clusterId=CLUSTER)


@pytest.mark.parametrize(
    "source",
    [
        {"objectUrls": [["s3://bucket/good.json"]]},
        {"objectUrls": [["https://s3.test/bucket/good.json?version=1"]]},
        {"objectUrl": "s3://bucket/good.json", "objectUrls": None},
        {"volumeName": "bucket", "dataPaths": [["good.json"]], "objectUrls": None},
        {"OBJECTURLS": [["s3://bucket/good.json"]], "objectUrls": None},
    ],
)
def test_sources(cloud: LocalServer, source: dict[str, Any]) -> None:
    unused = {"files": None, "partitionName": "", "projectId": "", "regionId": ""}
    job = ended(cloud, **{**unused, **source})
    assert (job["state"], job["importedRows"], job["reason"], job["fileName"]) == ("Completed", 3, "", "good.json")


def test_a_folder_is_one_entry_of_a_request(cloud: LocalServer) -> None:
    """A folder counts as one entry on Cloud; details have base names there."""
    job = ended(cloud, objectUrls=[["s3://bucket/dir/"], ["s3://bucket/good.json"]])
    assert (job["state"], job["importedRows"]) == ("Completed", 5)
    assert [detail["fileName"] for detail in job["details"]] == ["a.json", "good.json"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, 96025),
        ({"clusterId": CLUSTER, **PROJECT}, 80000),
        ({"projectId": "p"}, 80000),
        ({"clusterId": CLUSTER}, 96026),
        (PROJECT, 96026),
        ({"clusterId": 5}, 1801),
    ],
)
@pytest.mark.parametrize("verb", ["describe", "getProgress", "get_progress", "commit", "abort"])
def test_one_place_is_needed(cloud: LocalServer, verb: str, body: dict[str, Any], code: int) -> None:
    """R29."""
    assert send(cloud, verb, jobId="job-1", **body)["code"] == code


def test_a_job_is_known_in_its_own_place_alone(cloud: LocalServer) -> None:
    job_id = create(cloud)["data"]["jobId"]
    assert send(cloud, "describe", jobId=job_id, **PROJECT)["code"] == 96026
    assert send(cloud, "list", **PROJECT)["data"]["records"] == []
    assert send(cloud, "getProgress", jobID=job_id, clusterId=CLUSTER)["data"]["jobId"] == job_id
    assert send(cloud, "getProgress", jobId=5, clusterId=CLUSTER)["code"] == 1801
    assert send(cloud, "getProgress", clusterId=CLUSTER)["code"] == 1802


def test_pages(cloud: LocalServer) -> None:
    made = {cloud.add_job({"state": "Importing"}) for _ in range(25)}
    first = send(cloud, "list", clusterId=CLUSTER)["data"]
    assert (first["count"], first["pageSize"], len(first["records"])) == (25, 10, 10)
    assert first["records"][0].keys() == {"collectionName", "jobId", "state"}
    assert first["records"][0]["state"] == "InProgress"
    pages = [send(cloud, "list", clusterId=CLUSTER, currentPage=n)["data"]["records"] for n in (1, 2, 3, 4)]
    assert {record["jobId"] for page in pages for record in page} == made
    assert send(cloud, "list", clusterId=CLUSTER, pageSize=101)["code"] == 96008
    assert send(cloud, "list", clusterId=CLUSTER, currentPage=0)["code"] == 96009
    assert send(cloud, "list", clusterId=CLUSTER, pageSize="10")["code"] == 1801


@pytest.mark.parametrize(
    ("phase", "status", "progress"),
    [
        ({"state": "Pending"}, "PENDING", "0"),
        ({"state": "Importing", "progress": 40}, "IN_PROGRESS", "40"),
        ({"state": "Completed"}, "SUCCESSFUL", "100"),
        ({"state": "Failed", "reason": "row 8"}, "FAILED", "0"),
    ],
)
def test_a_job_of_any_kind(cloud: LocalServer, phase: dict[str, Any], status: str, progress: str) -> None:
    """R30."""
    job_id = cloud.add_job(phase)
    job = get(cloud, f"/v2/jobs/{job_id}")["data"]
    assert (job["jobId"], job["type"], job["status"], job["progress"]) == (job_id, "IMPORT", status, progress)
    assert (job["reason"], bool(job["endTime"])) == (phase.get("reason", ""), status in ("SUCCESSFUL", "FAILED"))
    assert get(cloud, "/v2/jobs/job-nowhere") == {"code": 96026, "message": "Job not found"}


def test_clusters(cloud: LocalServer) -> None:
    cluster = get(cloud, f"/v2/clusters/{CLUSTER}")["data"]
    assert (cluster["clusterId"], cluster["status"], cluster["connectAddress"]) == (CLUSTER, "RUNNING", cloud.url)
    cloud.set(clusters=[CLUSTER])
    assert get(cloud, "/v2/clusters")["data"]["clusters"] == [cluster]
    assert get(cloud, "/v2/clusters/in01-other") == {"code": 96018, "message": "Cluster not found"}
    assert create(cloud, clusterId="in01-other")["code"] == 96018


def test_at_most_1000_files_a_request(cloud: LocalServer) -> None:
    """1,000 on the Cloud flavor."""
    cloud.script({"state": "Completed"})
    assert create(cloud, objectUrls=[["s3://bucket/good.json"]] * 1000)["code"] == 0
    response = create(cloud, objectUrls=[["s3://bucket/good.json"]] * 1001)
    assert (response["code"], "should not exceed 1000, but got 1001" in response["message"]) == (2100, True)


def test_the_number_of_jobs_is_limited_for_each_collection(cloud: LocalServer) -> None:
    """10,000 running and pending jobs a collection on Cloud."""
    cloud.script({"state": "Importing"})
    cloud.set(max_jobs=1)
    assert create(cloud)["code"] == 0
    assert create(cloud)["code"] == 2100
    assert create(cloud, collectionName="films")["code"] == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"objectUrls": None}, 1100),
        ({"objectUrls": [[]]}, 1100),
        ({"objectUrls": ["s3://bucket/good.json"]}, 1801),
        ({"objectUrl": 5, "objectUrls": None}, 1801),
        ({"collectionName": None}, 1802),
        ({"collectionName": "nowhere"}, 100),
        ({"dbName": "nowhere"}, 800),
        ({"volumeName": 5}, 1801),
    ],
)
def test_a_bad_request_makes_no_job(cloud: LocalServer, body: dict[str, Any], code: int) -> None:
    assert create(cloud, **body)["code"] == code
    assert send(cloud, "list", clusterId=CLUSTER)["data"]["records"] == []


def test_databases_of_a_cluster(cloud: LocalServer) -> None:
    from pymilvus import MilvusClient

    client = MilvusClient(cloud.url)
    client.create_database("films")
    try:
        assert create(cloud, dbName="films")["code"] == 100
        inside = MilvusClient(cloud.url, db_name="films")
        inside.create_collection("books", dimension=4)
        write_json(cloud.data_dir / "bucket", "film.json", [{"id": 1, "vector": [1, 2, 3, 4]}])
        job = ended(cloud, dbName="films", objectUrls=[["s3://bucket/film.json"]])
        assert (job["state"], job["importedRows"]) == ("Completed", 1)
        inside.drop_collection("books")
    finally:
        client.drop_database("films")
