"""Pooled connections that the server has closed, and compressed bodies, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz.exceptions import ZillizUnavailable
from airflow_zilliz.hooks import ZillizHook

JOB = b'{"code": 0, "data": {"jobId": "1", "state": "Importing"}}'


@dataclass
class _Closing:
    """A server that responses each connection's first requests, and closes it on the next one without a word.

    :param answers: how many responses a connection has
    """

    port: int
    answers: int
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)


@contextmanager
def closing_server(answers: int, encoding: str | None = None, body: bytes = JOB) -> Iterator[_Closing]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Closing(listener.getsockname()[1], answers)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body)
        if encoding is not None:
            head += b"Content-Encoding: " + encoding.encode() + b"\r\n"

        def serve(connection: socket.socket) -> None:
            with connection:
                for _ in range(server.answers):
                    if not (request := _request(connection)):
                        return
                    server.requests.append(request.partition(b" HTTP")[0])
                    connection.sendall(head + b"\r\n" + body)
                if request := _request(connection):
                    server.requests.append(request.partition(b" HTTP")[0])

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                server.connections += 1
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server


def _request(connection: socket.socket) -> bytes:
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        if end:
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            if len(body) >= length:
                return received
        try:
            part = connection.recv(65536)
        except OSError:
            return b""
        if not part:
            return b""
        received += part


def connect(monkeypatch: pytest.MonkeyPatch, server: _Closing) -> None:
    connection = {"conn_type": "zilliz", "host": f"http://127.0.0.1:{server.port}"}
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps(connection))


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def poll_twice_on_worker() -> list[ImportState]:
    with ZillizHook() as hook:
        return [hook.get_import_progress("1").state for _ in range(2)]


def poll_twice_in_triggerer() -> list[ImportState]:
    async def poll() -> list[ImportState]:
        hook = ZillizHook()
        return [(await hook.aget_import_progress("1")).state for _ in range(2)]

    return asyncio.run(poll())


@pytest.mark.parametrize("poll_twice", [poll_twice_on_worker, poll_twice_in_triggerer])
def test_a_connection_that_the_server_had_just_closed_costs_nothing_and_no_line(
    poll_twice: Callable[[], list[ImportState]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with closing_server(answers=1) as server:
        connect(monkeypatch, server)
        assert poll_twice() == [ImportState.IMPORTING] * 2
    assert (server.connections, len(server.requests)) == (2, 3), "the second request was on its way twice"
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("poll_twice", [poll_twice_on_worker, poll_twice_in_triggerer])
def test_a_server_that_never_responds_is_not_a_closed_connection(
    poll_twice: Callable[[], list[ImportState]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with closing_server(answers=0) as server:
        connect(monkeypatch, server)
        with pytest.raises(ZillizUnavailable, match="connection was lost"):
            poll_twice()
    assert len(server.requests) == (3 if poll_twice is poll_twice_on_worker else 1)
    assert warnings_in(caplog) == []


def test_an_import_is_not_sent_again_on_a_closed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing_server(answers=1) as server, ZillizHook() as hook:
        connect(monkeypatch, server)
        assert hook.bulk_import("books", files=[["a.json"]]) == "1"
        with pytest.raises(ZillizUnavailable) as lost:
            hook.bulk_import("books", files=[["b.json"]])
    assert lost.value.was_sent
    assert len(server.requests) == 2


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


MEMBERS = gzip.compress(JOB[:20]) + gzip.compress(b"") + gzip.compress(JOB[20:])


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("Identity", JOB),
        ("", JOB),
        ("GZip", gzip.compress(JOB)),
        ("x-gzip", gzip.compress(JOB)),
        ("gzip", MEMBERS),
        ("gzip", MEMBERS + bytes(512)),
        ("deflate", zlib.compress(JOB)),
        ("deflate", raw_deflate(JOB)),
        ("identity, gzip", gzip.compress(JOB)),
        ("deflate, gzip", gzip.compress(zlib.compress(JOB))),
    ],
    # a gzip body holds the time, and the names of tests must be the same in each process
    ids=[
        "Identity",
        "none",
        "GZip",
        "x-gzip",
        "members",
        "members and padding",
        "deflate",
        "raw deflate",
        "identity, gzip",
        "both",
    ],
)
@pytest.mark.parametrize("poll_twice", [poll_twice_on_worker, poll_twice_in_triggerer])
def test_a_body_is_read_however_it_is_encoded(
    poll_twice: Callable[[], list[ImportState]], monkeypatch: pytest.MonkeyPatch, encoding: str, body: bytes
) -> None:
    with closing_server(answers=2, encoding=encoding, body=body) as server:
        connect(monkeypatch, server)
        assert poll_twice() == [ImportState.IMPORTING] * 2


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip", gzip.compress(JOB)[:-9], "ends too early"),
        ("gzip", gzip.compress(JOB) + gzip.compress(JOB)[:-9], "ends too early"),
        ("deflate", zlib.compress(JOB)[:-5], "ends too early"),
        ("gzip", JOB, "cannot be decompressed"),
        ("br", JOB, "compressed as 'br'"),
        ("gzip", gzip.compress(bytes(6 * 2**20)) * 2, "more than 10 MiB"),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(2**30), 9), 9), "more than 10 MiB"),
    ],
    ids=["cut", "second member cut", "deflate cut", "not packed", "br", "long members", "a bomb in a bomb"],
)
@pytest.mark.parametrize("poll_twice", [poll_twice_on_worker, poll_twice_in_triggerer])
def test_a_body_that_cannot_be_read_is_no_usable_response(
    poll_twice: Callable[[], list[ImportState]], monkeypatch: pytest.MonkeyPatch, encoding: str, body: bytes, words: str
) -> None:
    with closing_server(answers=1, encoding=encoding, body=body) as server:
        connect(monkeypatch, server)
        with pytest.raises(ZillizUnavailable, match=words):
            poll_twice()
