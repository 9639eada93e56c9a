"""An HTTP proxy on loopback that fails on demand: what a network and a store under load do, in front of a real server.

Every request is read whole and logged; then the first fault that matches decides what becomes of it.

    refuse    reset, and nobody listens for `seconds`
    reset     reset before the server has seen anything
    cut       half the request reaches the server, then both sides are reset
    lost      the server does what it is asked, and the answer is lost
    half      the server does what it is asked, and half of the answer arrives before a reset
    slow      the answer comes after `seconds`
    stall     the server does what it is asked, and no answer comes for `seconds`; then a reset
    500, ...  this status instead of an answer; the server sees nothing
"""

from __future__ import annotations

import http
import http.client
import random
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}
LOST = {"refuse", "reset", "cut", "lost", "half", "stall"}


@dataclass
class Fault:
    """`kind` for the next `times` requests of `method` (a regex, as is `path`) that reach it, each with `chance`;
    `code` is S3's word for a status."""

    kind: str | int
    times: float = 1
    method: str = ".*"
    path: str = ""
    seconds: float = 0.3
    chance: float = 1.0
    code: str = "Injected"

    def matches(self, method: str, path: str) -> bool:
        return self.times > 0 and bool(re.fullmatch(self.method, method) and re.search(self.path, path))


@dataclass(frozen=True)
class Request:
    """What the proxy saw: `fault` is the kind that struck, or None."""

    method: str
    path: str
    sent: int
    fault: str | int | None


class Proxy:
    """In front of the server at `upstream`; `url` stays the same while nobody listens. A context manager."""

    def __init__(self, upstream: int, seed: int = 0) -> None:
        self.upstream, self.random = upstream, random.Random(seed)
        self.faults: list[Fault] = []
        self.seen: list[Request] = []
        self.lock, self.one = threading.Lock(), threading.Lock()
        self.server = _Server(self, 0)
        self.port = self.server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Proxy:
        self.server.begin()
        return self

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.faults.clear()
            self.server.end()

    def fault(self, kind: str | int, times: float = 1, **where: Any) -> Fault:
        """Add a fault; its `times` says how often it will still strike."""
        with self.lock:
            self.faults.append(Fault(kind, times, **where))
            return self.faults[-1]

    def clear(self) -> None:
        """No more faults, and an empty log."""
        with self.lock:
            self.faults.clear()
            self.seen.clear()

    def struck(self) -> list[Request]:
        with self.lock:
            return [r for r in self.seen if r.fault is not None]

    def down(self) -> None:
        """Nobody listens, and every connection is reset."""
        self.server.end()

    def up(self) -> None:
        self.server = _Server(self, self.port)
        self.server.begin()

    def decide(self, method: str, path: str, sent: int) -> Fault | None:
        with self.lock:
            chosen = next((f for f in self.faults if f.matches(method, path) and self.random.random() < f.chance), None)
            if chosen is not None:
                chosen.times -= 1
            self.seen.append(Request(method, path, sent, chosen and chosen.kind))
            return chosen

    def away(self, seconds: float) -> None:
        """Stop listening for a while, from a thread of its own."""
        with self.lock:
            server = self.server

        def rest() -> None:
            server.end()
            time.sleep(seconds)
            self.up()

        threading.Thread(target=rest, daemon=True).start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    ended = False

    def __init__(self, proxy: Proxy, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.proxy, self.open = proxy, set[socket.socket]()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def begin(self) -> None:
        self.thread.start()

    def end(self) -> None:
        self.ended = True
        self.socket.close()  # refused from now on, before the others are told
        self.shutdown()
        for connection in list(self.open):
            reset(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """`seen` is the log."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # reset, by us or by the client
            self.close_connection = True

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        proxy = self.server.proxy
        fault = proxy.decide(self.command, self.path, len(body))
        if fault is not None and self._struck(fault, body):
            return
        self._answer(*self._forward(body))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815  (as the base class calls them)

    def _struck(self, fault: Fault, body: bytes) -> bool:
        """Carry a fault out; whether that was the end of the request."""
        kind = fault.kind
        if isinstance(kind, int):
            self._answer(kind, [], f"<Error><Code>{fault.code}</Code></Error>".encode())
            return True
        if kind == "slow":
            time.sleep(fault.seconds)
            if not self.server.ended:
                return False  # else it would reach the bucket of the test that comes next
        elif kind == "refuse":
            self.server.proxy.away(fault.seconds)
        elif kind == "cut":
            self._cut(body)
        elif kind == "lost":
            self._forward(body)
        elif kind == "half":
            self._answer(*self._forward(body), half=True)
        elif kind == "stall":
            self._forward(body)
            time.sleep(fault.seconds)
        reset(self.connection)
        self.close_connection = True
        return True

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        if self.headers.get("If-None-Match"):  # moto looks, then writes; S3 does both at once
            with self.server.proxy.one:
                return self._ask(body)
        return self._ask(body)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        there = http.client.HTTPConnection("127.0.0.1", self.server.proxy.upstream, timeout=60)
        try:
            there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                there.putheader(name, value)
            there.endheaders(body or None)
            answer = there.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            there.close()

    def _cut(self, body: bytes) -> None:
        lines = [f"{self.command} {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in self.headers.items())]
        whole = "\r\n".join([*lines, "", ""]).encode() + body
        with socket.create_connection(("127.0.0.1", self.server.proxy.upstream)) as there:
            there.sendall(whole[: len(whole) - max(1, len(body) // 2)])
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, half: bool = False) -> None:
        """Half an answer is half of its body, or of its headers where it has none."""
        length = next((v for k, v in headers if k.lower() == "content-length"), "0")
        kept = [f"{k}: {v}" for k, v in headers if k.lower() not in HOP]
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}", *kept]
        if self.command == "HEAD":
            body = b""
        else:
            length = str(len(body))
        head = "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()
        end = len(head) + len(body) // 2 if body else len(head) // 2
        self.wfile.write((head + body)[:end] if half else head + body)


def reset(connection: socket.socket) -> None:
    """Close a connection with RST, from any thread."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        return
    connection.close()
