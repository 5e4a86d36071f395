"""A malicious server, over real sockets: no poll hangs, and none makes its process grow."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from packaging.version import Version

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz.exceptions import ZillizError, ZillizUnavailable
from airflow_zilliz.hooks import ZillizHook

TIMEOUT = 0.5
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
MUCH = b"x" * 2**16

BOMB = gzip.compress(bytes(2**30), 9)  # a MiB that unpacks to a GiB

Send = Callable[[bytes], None]


def endless_body(send: Send) -> None:
    send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        send(b"10000\r\n" + MUCH + b"\r\n")


def body_of_a_claimed_10_gb(send: Send) -> None:
    send(OK + b"Content-Length: 10737418240\r\n\r\n")
    while True:
        send(MUCH)


def gzip_bomb(send: Send) -> None:
    send(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB)


def endless_headers(send: Send) -> None:
    send(OK)
    while True:
        send(b"X-More: " + b"y" * 1000 + b"\r\n")


def endless_header_line(send: Send) -> None:
    send(OK + b"X-Long: ")
    while True:
        send(MUCH)


def headers_drop_by_drop(send: Send) -> None:
    send(OK)
    while True:
        send(b"X-Drop: 1\r\n")
        time.sleep(TIMEOUT / 10)


def body_drop_by_drop(send: Send) -> None:
    send(OK + b"Content-Length: 100000\r\n\r\n")
    while True:
        send(b" ")
        time.sleep(TIMEOUT / 5)


def nested_json(send: Send) -> None:
    body = b'{"code": 0, "data": ' + b"[" * 2**20
    send(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def huge_numbers(send: Send) -> None:
    body = json.dumps({"code": 0, "data": {"jobId": "1", "state": "Importing"}}).encode()
    body = body.replace(b'"Importing"', b'"Importing", "progress": ' + b"9" * 100_000)
    send(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def unknown_compression(send: Send) -> None:
    send(OK + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc")


def broken_compression(send: Send) -> None:
    send(OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")


def nothing_of_http(send: Send) -> None:
    while True:
        send(b"\x16\x03\x01\x00\xff" * 1000)


HARMS = [
    endless_body,
    body_of_a_claimed_10_gb,
    gzip_bomb,
    endless_headers,
    endless_header_line,
    pytest.param(headers_drop_by_drop, marks=pytest.mark.full),
    body_drop_by_drop,
    nested_json,
    huge_numbers,
    unknown_compression,
    broken_compression,
    nothing_of_http,
]


@contextmanager
def serving(harm: Callable[[Send], None]) -> Iterator[int]:
    """Do harm to whoever connects, and return the port."""
    over = threading.Event()

    def hurt(connection: socket.socket) -> None:
        with connection:
            connection.recv(2**16)

            def send(data: bytes) -> None:
                if over.is_set():
                    raise ConnectionAbortedError
                connection.sendall(data)

            try:
                harm(send)
                time.sleep(0.2)
            except OSError:
                return

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=hurt, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        over.set()


def connect_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "zilliz", "host": f"http://127.0.0.1:{port}", "password": "k3y-0123456789"}
    extra = {"request_timeout": TIMEOUT}
    monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", json.dumps({**connection, "extra": extra}))


def blocking() -> ImportProgress:
    with ZillizHook() as hook:
        return hook.get_import_progress("1")


def asynchronous() -> ImportProgress:
    return asyncio.run(ZillizHook().aget_import_progress("1"))


def peak_memory() -> int:
    """Return the most that this process had resident since `reset_peak`, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


@pytest.mark.parametrize("ask", [blocking, asynchronous])
@pytest.mark.parametrize("harm", HARMS)
def test_no_poll_hangs_or_grows(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[], ImportProgress], harm: Callable[[Send], None]
) -> None:
    if harm is endless_headers and ask is asynchronous and Version(aiohttp.__version__) < Version("3.14"):
        pytest.skip("aiohttp counts no headers before 3.14")
    with serving(harm) as port:
        connect_to(port, monkeypatch)
        before, began = reset_peak(), time.monotonic()
        with pytest.raises(ZillizError) as raised:
            ask()
        took = time.monotonic() - began
    assert isinstance(raised.value, ZillizUnavailable), "whatever it sends, a wait continues for its tolerance"
    # a worker, for which nobody else waits, ends at the hundredth header of each of its three attempts
    slowly = harm is headers_drop_by_drop and ask is blocking
    assert took < (40 if slowly else 8) * TIMEOUT, "a poll that hangs holds a worker, or all triggers"
    assert peak_memory() - before < 120 * 2**20
    assert len(str(raised.value)) < 2000, "it goes into the log"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
@pytest.mark.parametrize("ask", [blocking, asynchronous])
def test_a_response_that_is_compressed_all_the_same_is_read(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[], ImportProgress], pack: Callable[[bytes], bytes]
) -> None:
    body = pack(b'{"code": 0, "data": {"jobId": "1", "state": "Importing"}}')
    name = b"gzip" if pack is gzip.compress else b"deflate"
    head = OK + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (name, len(body))
    with serving(lambda send: send(head + body)) as port:
        connect_to(port, monkeypatch)
        assert ask().state is ImportState.IMPORTING
