"""A small HTTP proxy over real sockets: CONNECT, and requests in absolute form."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """A proxy that runs.

    :param response: the whole response that it sends itself, instead of passing requests on
    :param seen: the first lines of the requests that came
    :param heads: their headers, too
    """

    port: int
    response: bytes = b""
    seen: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)


@contextmanager
def proxying(response: bytes = b"") -> Iterator[Proxy]:
    """Run a proxy on a free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(listener.getsockname()[1], response)
        threading.Thread(target=_accept, args=(listener, proxy), daemon=True).start()
        yield proxy


def _accept(listener: socket.socket, proxy: Proxy) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, proxy), daemon=True).start()


def _serve(client: socket.socket, proxy: Proxy) -> None:
    with client:
        received = b""
        while b"\r\n\r\n" not in received:
            if not (part := client.recv(65536)):
                return
            received += part
        head, _, rest = received.partition(b"\r\n\r\n")
        line, _, fields = head.decode("latin-1").partition("\r\n")
        method, address, version = line.split(" ")
        proxy.seen.append(f"{method} {address}")
        proxy.heads.append(fields)
        if proxy.response:
            client.sendall(proxy.response)
            return
        parts = urlsplit(f"//{address}" if method == "CONNECT" else address)
        assert parts.hostname is not None
        with socket.create_connection((parts.hostname, parts.port or 80)) as server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                server.sendall(
                    f"{method} {path} {version}\r\n{fields}\r\nConnection: close\r\n\r\n".encode("latin-1") + rest
                )
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join(5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while part := source.recv(65536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
