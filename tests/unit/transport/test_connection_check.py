from __future__ import annotations

import pytest

from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport.connection_check import check
from airflow_zilliz._transport.endpoint import CLOUD_URL, Endpoint
from airflow_zilliz.exceptions import ZillizApiError, ZillizError, ZillizUnavailable
from tests.helpers.responses import response_of, run

CLOUD = Endpoint("c", CLOUD_URL, "k3y-0123456789abcdef")


def test_a_cloud_connection_without_a_place_asks_for_its_clusters() -> None:
    verdict, requests = run(check(CLOUD), response_of({"code": 0, "data": {"count": 3, "clusters": []}}))
    assert requests == [Request("/v2/clusters?pageSize=10&currentPage=1")]
    assert "accepts the key, which sees 3 clusters" in verdict
    assert "names no cluster_id" in verdict


def test_a_cloud_connection_with_a_cluster_asks_for_its_jobs() -> None:
    endpoint = Endpoint("c", CLOUD_URL, "k3y", Target("in01-x", db_name="books"))
    verdict, requests = run(check(endpoint), response_of({"code": 0, "data": {"records": []}}))
    body = {"clusterId": "in01-x", "pageSize": 1, "currentPage": 1}
    assert requests == [Request("/v2/vectordb/jobs/import/list", body, {"DB-Name": "books"})]
    assert (
        verdict == f"{CLOUD_URL} responds to import calls for cluster in01-x, database books, and the key is accepted."
    )


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"code": 21119, "message": "The apikey is illegal."}, 200, "The key was refused: check it"),
        ({"code": 96014, "message": "no permission"}, 403, "The key is known, but has no right"),
        ({"code": 96036, "message": "Invalid clusterId"}, 200, "is unknown to it"),
        ({"code": 90102, "message": "not in this region"}, 200, "check the endpoint and region_id"),
        (b"404 page not found", 404, "the endpoint is not an import API"),
    ],
)
def test_what_is_wrong_is_said_in_words_to_act_on(body: object, status: int, words: str) -> None:
    with pytest.raises(ZillizApiError, match=words):
        run(check(CLOUD), response_of(body, status=status))


def test_a_server_that_is_down_is_reported_as_such() -> None:
    with pytest.raises(ZillizUnavailable, match="HTTP 503"):
        run(check(CLOUD), response_of(b"", status=503))


def test_a_missing_key_is_not_called_a_wrong_one() -> None:
    with pytest.raises(ZillizError, match="the connection has none"):
        run(check(Endpoint("c", "http://milvus.test")), response_of({"code": 1800, "message": "no"}, status=401))
