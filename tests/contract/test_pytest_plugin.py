"""The fixture that users' DAG tests ask for, and its marker."""

from __future__ import annotations

import os
from typing import Any

import pytest
import requests

from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer

IMPORTS = "/v2/vectordb/jobs/import/"


def send(server: LocalServer, verb: str, **body: Any) -> requests.Response:
    return requests.post(f"{server.url}{IMPORTS}{verb}", json=body, timeout=10)


def test_the_connection_points_at_it(zilliz_server: LocalServer) -> None:
    job_id = zilliz_server.add_job({"state": "Completed"})
    assert ZillizHook().get_import_progress(job_id).state.value == "Completed"
    assert {"127.0.0.1", "localhost"} <= set(os.environ["NO_PROXY"].split(","))


@pytest.mark.zilliz_server(milvus="2.4", max_jobs=0)
def test_the_marker_chooses_a_version_and_a_limit(zilliz_server: LocalServer) -> None:
    assert send(zilliz_server, "describe", jobId="1").status_code == 404
    zilliz_server.set(collections=["books"])
    zilliz_server.script({"state": "Completed"})
    assert send(zilliz_server, "create", collectionName="books", files=[["a.json"]]).json()["code"] == 2100


def test_the_next_test_has_the_newest_again(zilliz_server: LocalServer) -> None:
    assert send(zilliz_server, "describe", jobId="1").json()["code"] == 2101


@pytest.mark.parametrize("zilliz_server", ["2.5", "3.0"], indirect=True)
def test_each_version_in_turn(zilliz_server: LocalServer, request: pytest.FixtureRequest) -> None:
    code = {"2.5": 2100, "3.0": 2101}[request.node.callspec.params["zilliz_server"]]
    assert send(zilliz_server, "describe", jobId="1").json()["code"] == code


@pytest.mark.zilliz_server(flavor="cloud")
def test_the_marker_chooses_the_flavor(zilliz_server: LocalServer) -> None:
    assert zilliz_server.flavor == "cloud"
    job_id = zilliz_server.add_job({"state": "Completed"})
    assert ZillizHook().get_import_progress(job_id).job_id == job_id
