from __future__ import annotations

import pytest

from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz.links import console_url_of


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.cloud.zilliz.com", "https://cloud.zilliz.com"),
        ("https://api.cloud.zilliz.com.cn", "https://cloud.zilliz.com.cn"),
        ("http://localhost:19530", None),
    ],
)
def test_the_console_s_address_is_the_region_s(base_url: str, url: str | None) -> None:
    assert console_url_of(Endpoint("c", base_url)) == url


def test_the_connection_s_own_address_comes_first() -> None:
    endpoint = Endpoint("c", "https://api.cloud.zilliz.com", console_url="https://console.test")
    assert console_url_of(endpoint) == "https://console.test"
