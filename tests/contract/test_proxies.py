"""The environment's proxies, over real sockets: a worker and a triggerer read them alike."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._transport.proxies import Proxy, proxy_for
from airflow_zilliz.exceptions import ZillizConfigError, ZillizUnavailable
from airflow_zilliz.hooks import ZillizHook
from tests.contract.proxy import proxying

Ask = Callable[[], ImportProgress]
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
KEY = "k3y-0123456789abcdef"
PAGE = b"HTTP/1.1 %s\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"
REFUSES = PAGE % b"407 Proxy Authentication Required"


@pytest.fixture(params=["worker", "triggerer"])
def ask(request: pytest.FixtureRequest) -> Ask:
    def worker() -> ImportProgress:
        with ZillizHook() as hook:
            return hook.get_import_progress("1")

    def triggerer() -> ImportProgress:
        return asyncio.run(ZillizHook().aget_import_progress("1"))

    return worker if request.param == "worker" else triggerer


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the proxies, and unset all others."""

    def set_all(**values: str) -> None:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


class _Describes(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b'{"code": 0, "data": {"jobId": "1", "state": "Importing"}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that describes a job; the connection leads to it. Returns its address."""
    scheme = str(request.param)
    httpd = HTTPServer(("127.0.0.1", 0), _Describes)
    extra = {}
    if scheme == "https":
        ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(context)
        ca.cert_pem.write_to_path(tmp_path / "ca.pem")
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
        extra = {"verify": str(tmp_path / "ca.pem")}
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    url = f"{scheme}://127.0.0.1:{httpd.server_address[1]}"
    connection = {"conn_type": "zilliz", "host": url, "password": KEY, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps(connection))
    yield url
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_request_goes_through_the_proxy(
    server: str, ask: Ask, environment: Callable[..., None], variable: str, scheme: str
) -> None:
    with proxying() as proxy:
        environment(**{variable: f"{scheme}127.0.0.1:{proxy.port}"})
        assert ask().state is ImportState.IMPORTING
        concerned = variable == "ALL_PROXY" or server.startswith(f"{variable[:-6].lower()}://")
        host = server.partition("://")[2]
        tunnel = f"CONNECT {host}" if server.startswith("https:") else f"POST {server}/v2/vectordb/jobs/import/describe"
        assert proxy.seen == ([tunnel] if concerned else [])


@pytest.mark.parametrize(
    ("no_proxy", "bypassed"),
    [
        ("127.0.0.0/8", True),
        ("10.0.0.0/8,127.0.0.0/16", True),
        ("10.0.0.0/8", False),
        ("127.0.0.1:{port}", True),
        ("127.0.0.1:1", False),
        ("127.0.0.1", True),
        ("*", True),
        (" localhost , 127.0.0.1", True),
        ("", False),
    ],
)
def test_no_proxy_names_networks_and_ports(
    server: str, ask: Ask, environment: Callable[..., None], no_proxy: str, bypassed: bool
) -> None:
    port = server.rpartition(":")[2]
    with proxying() as proxy:
        environment(ALL_PROXY=f"http://127.0.0.1:{proxy.port}", NO_PROXY=no_proxy.format(port=port))
        assert ask().state is ImportState.IMPORTING
        assert (proxy.seen == []) is bypassed


def test_a_proxy_s_user_and_password_are_sent_to_it_and_shown_nowhere(
    server: str, ask: Ask, environment: Callable[..., None]
) -> None:
    with proxying(REFUSES) as proxy:
        environment(ALL_PROXY=f"http://user:s3cret-pw@127.0.0.1:{proxy.port}")
        with pytest.raises(ZillizUnavailable, match="407") as error:
            ask()
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'user:s3cret-pw').decode()}" in proxy.heads[0]
    assert "s3cret" not in str(error.value)
    assert "user:" not in str(error.value)
    assert f"(through the proxy http://127.0.0.1:{proxy.port})" in str(error.value)
    assert not error.value.from_api


def test_a_proxy_that_refuses_to_connect_has_kept_the_request_to_itself(
    server: str, environment: Callable[..., None]
) -> None:
    with proxying(REFUSES) as proxy, ZillizHook() as hook:
        environment(ALL_PROXY=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ZillizUnavailable) as error:
            hook.get_import_progress("1")
    assert error.value.was_sent is server.startswith("http:")


def test_a_page_of_the_proxy_names_it_and_is_no_refused_key(
    server: str, ask: Ask, environment: Callable[..., None]
) -> None:
    with proxying(PAGE % b"403 Forbidden") as proxy:
        environment(ALL_PROXY=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ZillizUnavailable, match=f"through the proxy http://127.0.0.1:{proxy.port}"):
            ask()


def test_a_proxy_that_is_down_is_what_is_named(server: str, ask: Ask, environment: Callable[..., None]) -> None:
    environment(ALL_PROXY="http://127.0.0.1:1")
    with pytest.raises(ZillizUnavailable, match=r"through the proxy .*is the proxy listening at 127\.0\.0\.1:1\?"):
        ask()
    environment(ALL_PROXY="http://no-such-proxy.invalid:3128")
    with pytest.raises(ZillizUnavailable, match=r"'no-such-proxy\.invalid' cannot be resolved: is the env"):
        ask()


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("socks5://user:s3cret-pw@127.0.0.1:1080", "proxy socks5://127.0.0.1:1080, and "),
        ("socks5h://127.0.0.1:1080", "SOCKS"),
        ("ftp://127.0.0.1:21", "ftp:// is not a protocol of proxies"),
        ("http://", "not the address of a proxy"),
        ("http://127.0.0.1:port", "not the address of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_clear_error(
    server: str, ask: Ask, environment: Callable[..., None], proxy: str, words: str
) -> None:
    if importlib.util.find_spec("socks"):
        pytest.skip("a worker can use SOCKS here")
    environment(ALL_PROXY=proxy)
    with pytest.raises(ZillizConfigError, match="NO_PROXY") as error:
        ask()
    assert words in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_worker_may_use_socks_where_it_can(environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    environment(ALL_PROXY="socks5://127.0.0.1:1080")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert proxy_for("https://zilliz.test", in_triggerer=False) == Proxy("socks5://127.0.0.1:1080")
    with pytest.raises(ZillizConfigError, match="deferrable=False"):
        proxy_for("https://zilliz.test", in_triggerer=True)


def test_the_button_names_the_proxy(server: str, environment: Callable[..., None]) -> None:
    with proxying() as proxy:
        environment(ALL_PROXY=f"http://user:s3cret-pw@127.0.0.1:{proxy.port}")
        verdict = ZillizHook().test_connection()
    assert verdict[0]
    assert f"{server} (through the proxy http://127.0.0.1:{proxy.port}) responds to import calls" in verdict[1]
