"""The hook over real sockets, blocking and asynchronous alike."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._transport import driver
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizAuthError,
    ZillizConfigError,
    ZillizError,
    ZillizJobNotFound,
    ZillizUnavailable,
)
from airflow_zilliz.hooks import ZillizHook
from airflow_zilliz.local.testing import LocalServer
from tests.contract.conftest import CLUSTER, KEYS, connect
from tests.helpers.servers import ServerPool

Ask = Callable[..., ImportProgress]


@pytest.fixture(params=["blocking", "asynchronous"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask for a job through a fresh hook, in both ways."""

    def blocking(*args: Any, **kwargs: Any) -> ImportProgress:
        with ZillizHook() as hook:
            return hook.get_import_progress(*args, **kwargs)

    def asynchronous(*args: Any, **kwargs: Any) -> ImportProgress:
        return asyncio.run(ZillizHook().aget_import_progress(*args, **kwargs))

    return blocking if request.param == "blocking" else asynchronous


@pytest.fixture(scope="module")
def cloud_process(server_pool: ServerPool) -> LocalServer:
    return server_pool.take("cloud", KEYS["cloud"])


@pytest.fixture
def cloud(cloud_process: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    cloud_process.clear()
    connect(monkeypatch, cloud_process, cluster_id=CLUSTER)
    return cloud_process


def test_a_job_is_described(milvus: LocalServer, ask: Ask) -> None:
    job_id = milvus.add_job({"state": "Importing", "progress": 70}, totalRows=6_000_000_000, collectionName="books")
    job = ask(job_id)
    assert (job.job_id, job.state, job.progress, job.collection_name) == (job_id, ImportState.IMPORTING, 70, "books")
    assert job.total_rows == 6_000_000_000


def test_without_a_key_no_authorization_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password elses-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with LocalServer(tmp_path) as server:
        connect(monkeypatch, server)
        ask(server.add_job({"state": "Importing"}))
        assert "authorization-sha256" not in server.requests("describe")[0]["headers"]


def test_a_netrc_file_does_not_replace_the_key(
    milvus: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password elses-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert ask(milvus.add_job({"state": "Importing"})).state is ImportState.IMPORTING


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ({"kind": "status", "status": 401}, ZillizAuthError, "authenticated"),
        ({"kind": "status", "status": 403}, ZillizAuthError, "PermissionDenied"),
        ({"kind": "status", "status": 408}, ZillizUnavailable, "request timeout"),
        ({"kind": "status", "status": 429, "retry_after": 9}, ZillizUnavailable, "rate limit"),
        ({"kind": "status", "status": 500}, ZillizUnavailable, "500"),
        ({"kind": "status", "status": 503}, ZillizUnavailable, "503"),
        ({"kind": "slow", "seconds": 2}, ZillizUnavailable, "no response within 0.4 s"),
        ({"kind": "cut"}, ZillizUnavailable, "connection was lost"),
        ({"kind": "reset"}, ZillizUnavailable, "connection was lost"),
        ({"kind": "html"}, ZillizUnavailable, "proxy or a login page"),
        ({"kind": "huge"}, ZillizUnavailable, "more than 10 MiB"),
        ({"kind": "redirect", "status": 302, "message": "https://elsewhere.test/"}, ZillizUnavailable, "not followed"),
        ({"kind": "redirect", "status": 308, "message": "https://elsewhere.test/"}, ZillizApiError, "not followed"),
    ],
    ids=lambda value: f"{value['kind']}{value.get('status', '')}" if isinstance(value, dict) else "",
)
def test_faults(
    milvus: LocalServer,
    monkeypatch: pytest.MonkeyPatch,
    ask: Ask,
    fault: dict[str, Any],
    error: type[ZillizError],
    words: str,
) -> None:
    # no other fault is one of time, and 10 MiB may take a busy machine longer
    connect(monkeypatch, milvus, request_timeout=0.4 if fault["kind"] == "slow" else 30)
    job_id = milvus.add_job({"state": "Importing"})
    milvus.add_fault(**fault, times=None)
    with pytest.raises(ZillizError, match=words) as raised:
        ask(job_id)
    assert type(raised.value) is error
    assert KEYS["milvus"] not in str(raised.value)
    if isinstance(raised.value, ZillizUnavailable):
        assert raised.value.retry_after == fault.get("retry_after")


def test_an_unknown_job(milvus: LocalServer, ask: Ask) -> None:
    with pytest.raises(ZillizJobNotFound, match="does not exist"):
        ask("453468002260053160")


def test_an_unknown_job_of_the_cloud(cloud: LocalServer, ask: Ask) -> None:
    with pytest.raises(ZillizJobNotFound, match="96026"):
        ask("job-0123456789")


def test_a_job_of_another_cluster_is_unknown(cloud: LocalServer, ask: Ask) -> None:
    job_id = cloud.add_job({"state": "Importing"}, place={"clusterId": CLUSTER})
    assert ask(job_id).job_id == job_id
    with pytest.raises(ZillizJobNotFound):
        ask(job_id, cluster_id="in01-other")


def test_a_project_database_instead_of_the_connection_s_cluster(cloud: LocalServer, ask: Ask) -> None:
    ask(cloud.add_job({"state": "Importing"}), project_id="proj-1", region_id="aws-us-west-2")
    assert cloud.requests("describe")[0]["body"].keys() == {"jobId", "projectId", "regionId"}


def test_cluster_and_project_together_are_refused_before_anything_is_sent(cloud: LocalServer, ask: Ask) -> None:
    with pytest.raises(ZillizConfigError, match="cluster_id"):
        ask("j", cluster_id=CLUSTER, project_id="proj-1", region_id="r")
    assert cloud.requests() == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
def test_no_server(monkeypatch: pytest.MonkeyPatch, ask: Ask, url: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps({"conn_type": "zilliz", "host": url}))
    with pytest.raises(ZillizUnavailable, match=r"connection refused|cannot be resolved"):
        ask("j")


def test_a_server_with_an_ipv6_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    with LocalServer(tmp_path, options=("--host", "::1")) as server:
        assert server.url == f"http://[::1]:{server.port}"
        job_id = server.add_job({"state": "Importing"})
        monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", f"zilliz://root:pw@[::1]:{server.port}/http")
        assert ask(job_id).job_id == job_id


def test_the_route_of_an_old_server_is_remembered(milvus: LocalServer, ask: Ask) -> None:
    driver._describe_paths.clear()
    milvus.set(describe_routed=False)
    job_id = milvus.add_job({"state": "Importing"})
    for _ in range(3):
        ask(job_id)
    paths = [request["path"].rpartition("/")[2] for request in milvus.requests()]
    assert paths == ["describe", "get_progress", "get_progress", "get_progress"]
    driver._describe_paths.clear()


def test_blocking_reads_are_repeated_on_503(milvus: LocalServer) -> None:
    milvus.add_fault("status", status=503, times=2)
    job_id = milvus.add_job({"state": "Importing"})
    assert ZillizHook().get_import_progress(job_id).job_id == job_id


def test_429_is_never_repeated_by_the_http_layer(milvus: LocalServer) -> None:
    milvus.add_fault("status", status=429, times=1)
    with pytest.raises(ZillizUnavailable):
        ZillizHook().get_import_progress(milvus.add_job({"state": "Importing"}))
    assert len(milvus.requests("describe")) == 1


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503}, {"kind": "reset"}, {"kind": "cut"}])
def test_an_import_is_sent_once_whatever_happens(milvus: LocalServer, fault: dict[str, Any]) -> None:
    milvus.script({"state": "Completed"})
    milvus.add_fault(**fault, times=1)
    with pytest.raises(ZillizUnavailable):
        ZillizHook().bulk_import("books", files=[["a.json"]])
    assert len(milvus.requests("create")) == 1


def test_a_list_is_walked_page_by_page(cloud: LocalServer) -> None:
    made = {cloud.add_job({"state": "Importing"}) for _ in range(230)}
    assert {job.job_id for job in ZillizHook().list_import_jobs()} == made
    assert len(cloud.requests("list")) == 3

    async def listed() -> set[str]:
        return {job.job_id async for job in ZillizHook().alist_import_jobs()}

    assert asyncio.run(listed()) == made


def test_a_milvus_sends_all_jobs_at_once(milvus: LocalServer) -> None:
    made = {milvus.add_job({"state": "Importing"}) for _ in range(130)}
    jobs = list(ZillizHook().list_import_jobs())
    assert {job.job_id for job in jobs} == made
    assert {job.state for job in jobs} == {ImportState.IMPORTING}
    assert len(milvus.requests("list")) == 1


@pytest.mark.parametrize("bypass", [False, True])
def test_the_environment_s_proxy_is_used(
    milvus: LocalServer, monkeypatch: pytest.MonkeyPatch, ask: Ask, serve: Callable[..., int], bypass: bool
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1" if bypass else "")
    monkeypatch.setenv("http_proxy", f"http://localhost:{serve()}")
    job_id = milvus.add_job({"state": "Importing"})
    if bypass:
        assert ask(job_id).job_id == job_id
    else:
        with pytest.raises(ZillizApiError, match="not an import API"):
            ask(job_id)
    assert len(milvus.requests("describe")) == (1 if bypass else 0)


# -- the event loop -----------------------------------------------------------------------------------------------


def test_one_session_serves_a_loop_and_ends_with_it(milvus: LocalServer) -> None:
    from airflow_zilliz._transport import aio

    job_id = milvus.add_job({"state": "Importing"})
    sessions = []

    async def ask_twice() -> None:
        await asyncio.gather(*(ZillizHook().aget_import_progress(job_id) for _ in range(5)))
        sessions.append((await aio._client()).session)
        await ZillizHook().aget_import_progress(job_id)
        assert (await aio._client()).session is sessions[-1]

    for _ in range(2):
        asyncio.run(ask_twice())
    assert sessions[0] is not sessions[1]
    assert all(session.closed for session in sessions)
    assert aio._holders == {}


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_nothing_is_left_open(milvus: LocalServer) -> None:
    job_id = milvus.add_job({"state": "Importing"})
    with ZillizHook() as hook:
        hook.get_import_progress(job_id)
    asyncio.run(ZillizHook().aget_import_progress(job_id))
    del hook
    gc.collect()


# -- the Test button ----------------------------------------------------------------------------------------------


def verdict(monkeypatch: pytest.MonkeyPatch, server: LocalServer | None = None, **fields: Any) -> tuple[bool, str]:
    base = json.loads(server.connection()) if server else {"conn_type": "zilliz"}
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps({**base, **fields}))
    status, message = ZillizHook().test_connection()
    for key in KEYS.values():
        assert key not in message
    assert "Traceback" not in message
    return status, message


def test_button_says_that_all_is_well(milvus: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdict(monkeypatch, milvus) == (True, f"{milvus.url} responds to import calls, and the key is accepted.")


def test_button_names_the_cluster(cloud: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    status, message = verdict(monkeypatch, cloud)
    assert status
    assert "for cluster in01-local" in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"login": "root", "password": "wrong-0123456789"}, "The key was refused: check it"),
        ({"login": "", "password": ""}, "The server requires a key, and the connection has none"),
        ({"host": "http://127.0.0.1:1"}, "connection refused (is a server listening"),
        (
            {"host": "http://no-such-host.invalid:19530"},
            "the name 'no-such-host.invalid' cannot be resolved: is the connection's host right?",
        ),
        ({"extra": {"clusterid": "x"}}, "extra 'clusterid' is not known"),
        ({"extra": {"cluster_id": "a", "project_id": "b"}}, "cluster_id 'a' and project_id 'b'"),
    ],
)
def test_button_says_what_is_wrong(
    milvus: LocalServer, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], words: str
) -> None:
    status, message = verdict(monkeypatch, milvus, **fields)
    assert not status
    assert words in message


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "status", "status": 403}, "The key is known, but has no right to imports"),
        ({"kind": "status", "status": 200, "code": 96018, "message": "Cluster not found"}, "is unknown to it"),
        ({"kind": "status", "status": 200, "code": 80020, "message": "no permission"}, "is unknown to it"),
        ({"kind": "status", "status": 200, "code": 90102, "message": "wrong region"}, "is not in the region"),
        ({"kind": "html"}, "something other than this API's JSON"),
    ],
)
def test_button_says_what_the_server_means(
    milvus: LocalServer, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], words: str
) -> None:
    milvus.add_fault(**fault)
    status, message = verdict(monkeypatch, milvus)
    assert not status
    assert words in message


def test_button_on_a_missing_connection() -> None:
    assert ZillizHook("nowhere").test_connection() == (False, "Connection 'nowhere' does not exist")


class _NotAnImportApi(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"404 page not found"
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Start a server that is not an import API, with a TLS context or without, and return its port."""
    servers = []

    def start(context: ssl.SSLContext | None = None) -> int:
        server = HTTPServer(("127.0.0.1", 0), _NotAnImportApi)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_button_on_something_else_than_an_import_api(
    serve: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, message = verdict(monkeypatch, host=f"http://127.0.0.1:{serve()}")
    assert not status
    assert "the endpoint is not an import API" in message


# -- TLS ----------------------------------------------------------------------------------------------------------


def tls_server(serve: Callable[..., int], tmp_path: Path, host: str, until: datetime | None = None) -> tuple[int, str]:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host, not_after=until).configure_cert(context)
    bundle = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(bundle)
    return serve(context), str(bundle)


@pytest.mark.parametrize("verify", ["bundle", False])
def test_a_private_ca_is_trusted_where_the_connection_says_so(
    serve: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask, verify: Any
) -> None:
    port, bundle = tls_server(serve, tmp_path, "localhost")
    extra = {"verify": bundle if verify == "bundle" else False}
    fields = {"conn_type": "zilliz", "host": f"https://localhost:{port}", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps(fields))
    with pytest.raises(ZillizApiError, match="not an import API"):
        ask("j")


YESTERDAY = datetime.now(timezone.utc) - timedelta(days=1)


@pytest.mark.parametrize(
    ("host", "trusted", "until", "word"),
    [
        ("localhost", False, None, "unable to get local issuer"),
        ("elsewhere.test", True, None, "localhost"),
        ("localhost", True, YESTERDAY, "expired"),
    ],
    ids=["unknown CA", "wrong host name", "expired"],
)
def test_tls_failures_are_named(
    serve: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Ask,
    host: str,
    trusted: bool,
    until: datetime | None,
    word: str,
) -> None:
    port, bundle = tls_server(serve, tmp_path, host, until)
    fields = {"host": f"https://localhost:{port}", "extra": {"verify": bundle} if trusted else {}}
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps({"conn_type": "zilliz", **fields}))
    with pytest.raises(ZillizUnavailable, match=rf"TLS failed \(.*{word}"):
        ask("j")
    status, message = verdict(monkeypatch, **fields)
    assert not status
    assert "TLS failed" in message
    assert word in message


def test_https_to_a_plain_server_is_a_tls_failure(
    milvus: LocalServer, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    fields = {"conn_type": "zilliz", "host": f"https://127.0.0.1:{milvus.port}"}
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps(fields))
    with pytest.raises(ZillizUnavailable, match=r"TLS failed.* start the connection's host with http://"):
        ask("j")
