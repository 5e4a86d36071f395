from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport.endpoint import Endpoint, endpoint_of
from airflow_zilliz.exceptions import ZillizConfigError

KEY = "k3y-0123456789abcdef"


def endpoint(extra: object = None, **fields: Any) -> Endpoint:
    defaults = {"host": None, "port": None, "schema": None, "login": None, "password": None}
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    return endpoint_of("c", SimpleNamespace(**{**defaults, **fields}, extra=text))


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://api.cloud.zilliz.com"),
        ({"host": "  "}, "https://api.cloud.zilliz.com"),
        ({"host": "https://api.cloud.zilliz.com.cn/"}, "https://api.cloud.zilliz.com.cn"),
        ({"host": "api.cloud.zilliz.com"}, "https://api.cloud.zilliz.com"),
        ({"host": "http://localhost:19530"}, "http://localhost:19530"),
        ({"host": "localhost", "port": 19530, "schema": "http"}, "http://localhost:19530"),
        ({"host": "localhost", "port": 19530, "schema": "HTTP"}, "http://localhost:19530"),
        ({"host": "localhost:19530", "port": 0}, "https://localhost:19530"),
        ({"host": "http://localhost:19530", "port": 19530}, "http://localhost:19530"),
        ({"host": "http://[::1]:19530"}, "http://[::1]:19530"),
        ({"host": "::1", "port": 19530, "schema": "http"}, "http://[::1]:19530"),
        ({"host": "::1"}, "https://[::1]"),
        ({"host": "[::1]:19530", "schema": "http"}, "http://[::1]:19530"),
        ({"host": "http://fd00::12", "port": 19530}, "http://[fd00::12]:19530"),
        ({"host": "https://2001:db8::1"}, "https://[2001:db8::1]"),
        ({"host": "https://api.aws-us-west-2.zillizcloud.com/v2"}, "https://api.aws-us-west-2.zillizcloud.com"),
        ({"host": "https://gate.test/milvus/"}, "https://gate.test/milvus"),
        ({"host": "https://api.cloud.zilliz.com/v2/vectordb/jobs/import"}, "https://api.cloud.zilliz.com"),
        ({"host": "https://api.cloud.zilliz.com/v1"}, "https://api.cloud.zilliz.com"),
        ({"host": "http://api.cloud.zilliz.com"}, "https://api.cloud.zilliz.com"),
        ({"host": "api.cloud.zilliz.com.cn", "schema": "http"}, "https://api.cloud.zilliz.com.cn"),
        ({"host": "https://gate.test/v1"}, "https://gate.test/v1"),
        # the addresses of the first API, which Zilliz's own SDK replaces as well
        ({"host": "https://controller.api.gcp-us-west1.zillizcloud.com"}, "https://api.cloud.zilliz.com"),
        ({"host": "controller.gcp-us-west1.zillizcloud.com", "port": 443}, "https://api.cloud.zilliz.com"),
        ({"host": "https://controller.api.aws-us-east-2.cloud.zilliz.com/v1"}, "https://api.cloud.zilliz.com"),
        ({"host": "https://controller.api.ali-cn-hangzhou.zilliz.com.cn"}, "https://api.cloud.zilliz.com.cn"),
        ({"host": "https://controller.api.x.zillizcloud.com.test"}, "https://controller.api.x.zillizcloud.com.test"),
    ],
)
def test_address(fields: dict[str, Any], url: str) -> None:
    assert endpoint(**fields).base_url == url


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"host": "ftp://x"}, "host"),
        ({"host": "https:/api.cloud.zilliz.com"}, "host"),
        ({"host": "https"}, "host"),
        (
            {"host": "https://cloud.zilliz.com/orgs/org-1/projects"},
            "console; the API is at https://api.cloud.zilliz.com",
        ),
        ({"host": "cloud.zilliz.com.cn"}, "console; the API is at https://api.cloud.zilliz.com.cn"),
        ({"host": "http://"}, "host"),
        ({"host": "http://a b"}, "host"),
        ({"host": "http://x:99999"}, "host"),
        ({"host": "http://x/?a=1"}, "query"),
        ({"host": "http://x:1", "port": 2}, "port"),
        ({"host": "x", "schema": "grpc"}, "schema"),
        ({"login": "root"}, "password"),
        ({"password": "a\nb"}, "line break"),
        ({"password": "schlüssel"}, "ASCII"),
        ({"extra": "{"}, "JSON"),
        ({"extra": "[]"}, "object"),
        ({"extra": {"clusterid": "in01"}}, "'clusterid' is not known; the known ones are cluster_id"),
        ({"extra": {"cluster_id": "in01", "project_id": "p"}}, "cluster_id 'in01' and project_id 'p'"),
        ({"extra": {"project_id": "p"}}, "region_id"),
        ({"extra": {"cluster_id": 5}}, "'cluster_id' must be text"),
        ({"extra": {"db_name": "a\r\nX: y"}}, "'db_name'"),
        ({"extra": {"verify": "/no/such/file"}}, "'verify'"),
        ({"extra": {"verify": 3}}, "'verify'"),
        ({"extra": {"request_timeout": 0}}, "'request_timeout'"),
        ({"extra": {"request_timeout": "soon"}}, "'request_timeout'"),
        ({"extra": {"request_timeout": True}}, "'request_timeout'"),
        ({"extra": {"max_requests_per_second": -1}}, "'max_requests_per_second'"),
        ({"extra": {"console_url": "javascript:alert(1)"}}, "'console_url'"),
    ],
)
def test_what_cannot_be_used_is_named(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ZillizConfigError, match="Connection 'c': ") as error:
        endpoint(**fields)
    assert word in str(error.value)


@pytest.mark.parametrize("host", [f"https://user:{KEY}@x.test", f"https://{KEY}@x.test", f"user:{KEY}@x.test"])
def test_a_key_in_the_host_is_refused_without_being_shown(host: str) -> None:
    with pytest.raises(ZillizConfigError, match="login and password") as error:
        endpoint(host=host)
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    ("login", "password", "token"),
    [
        (None, None, ""),
        (None, KEY, KEY),
        ("", f" {KEY}\n", KEY),
        ("root", "Milvus", "root:Milvus"),
        ("root", "with space", "root:with space"),
        (None, f"Bearer {KEY}", KEY),
        (None, f"bearer  root:{KEY}", f"root:{KEY}"),
        ("root", "Bearer x", "root:Bearer x"),
    ],
)
def test_token(login: str | None, password: str | None, token: str) -> None:
    assert endpoint(login=login, password=password).token == token


@pytest.mark.parametrize(
    ("host", "is_cloud"),
    [
        ("api.cloud.zilliz.com", True),
        ("api.cloud.zilliz.com.cn", True),
        ("https://api.aws-us-west-2.zillizcloud.com/v2", True),
        ("in03-3bf3c31f4248e22.api.gcp-us-west1.zillizcloud.com", False),
        ("in03-fc01449d8a58b23.serverless.gcp-us-west1.cloud.zilliz.com", False),
        ("in01-295cd02566647b7.aws-us-east-2.vectordb.zillizcloud.com:19534", False),
        ("localhost:19530", False),
    ],
)
def test_the_control_plane_is_known_from_clusters(host: str, is_cloud: bool) -> None:
    assert endpoint(host=host).is_cloud is is_cloud


def test_the_token_is_not_shown() -> None:
    assert KEY not in repr(endpoint(password=KEY))


def test_nulls_and_empty_texts_are_unset() -> None:
    extra = dict.fromkeys(("cluster_id", "project_id", "region_id", "db_name", "verify", "request_timeout"))
    assert endpoint(extra=extra) == endpoint()
    assert endpoint(extra={"cluster_id": "", "verify": ""}) == endpoint()


def test_extras() -> None:
    found = endpoint(
        extra={
            "cluster_id": "in01-x",
            "db_name": "books",
            "verify": "false",
            "request_timeout": "5",
            "max_requests_per_second": 2.5,
            "console_url": "https://console.test",
        }
    )
    assert found.target == Target("in01-x", db_name="books")
    assert (found.verify, found.request_timeout, found.max_requests_per_second) == (False, 5.0, 2.5)
    assert found.console_url == "https://console.test"


def test_defaults() -> None:
    assert (endpoint().verify, endpoint().request_timeout, endpoint().max_requests_per_second) == (True, 20.0, 10.0)


def test_the_form_s_inner_names_are_understood() -> None:
    assert endpoint(extra={"extra__zilliz__cluster_id": "in01-x"}).target.cluster_id == "in01-x"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (f"zilliz://:{KEY}@api.cloud.zilliz.com/?cluster_id=in01-x", "https://api.cloud.zilliz.com"),
        (f"zilliz://:{KEY}@localhost:19530/http?cluster_id=in01-x", "http://localhost:19530"),
        (f"zilliz://:{KEY}@[::1]:19530/http?cluster_id=in01-x", "http://[::1]:19530"),
        (
            json.dumps({"conn_type": "zilliz", "password": KEY, "extra": {"cluster_id": "in01-x"}}),
            "https://api.cloud.zilliz.com",
        ),
    ],
)
def test_environment_variables_in_both_forms(monkeypatch: pytest.MonkeyPatch, text: str, url: str) -> None:
    from airflow_zilliz.hooks import ZillizHook

    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", text)
    found = ZillizHook().endpoint()
    assert (found.base_url, found.token, found.target.cluster_id) == (url, KEY, "in01-x")


def test_a_body_that_echoes_the_token_is_scrubbed() -> None:
    assert endpoint(password=KEY).scrubber(f'{{"message": "bad key {KEY}"}}') == '{"message": "bad key ***"}'
    assert endpoint(password="short").scrubber("a short word") == "a short word"


def test_airflow_s_connection_has_the_fields_that_are_read() -> None:
    conn = Connection(conn_id="c", conn_type="zilliz", host="http://x", password=KEY, extra='{"db_name": "books"}')
    assert endpoint_of("c", conn).target.db_name == "books"
