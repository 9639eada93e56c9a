"""An HTTP proxy on loopback that fails on demand: what a network and a server under load do, in front of a real server.

Every request is read whole and logged; then the first fault that matches decides what becomes of it.

    refuse    reset, and nobody listens for `seconds`
    reset     reset before the server has seen anything
    cut       half the request reaches the server, then both sides are reset
    lost      the server does what it is asked, and the answer is lost
    late      reset, and the server does what it was asked after the next request of the same path
    half      the server does what it is asked, and half of the answer arrives before a reset
    slow      the answer comes after `seconds`
    stall     the server does what it is asked, and no answer comes for `seconds`; then a reset
    500, ...  this status instead of an answer; the server sees nothing
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import random
import re
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}

Answer = tuple[int, list[tuple[str, str]], bytes]


@dataclass
class Fault:
    """`kind` for `times` requests of `method` (a regex, as is `path`) that reach it with `text` in their bodies, after
    `skip` of them and each with `chance`; `code` is S3's word for a status."""

    kind: str | int
    times: float = 1
    method: str = ".*"
    path: str = ""
    text: str = ""
    skip: int = 0
    seconds: float = 0.3
    chance: float = 1.0
    code: str = "Injected"

    def matches(self, method: str, path: str, body: bytes) -> bool:
        if not (re.fullmatch(self.method, method) and re.search(self.path, path) and self.text.encode() in body):
            return False
        self.skip -= 1
        return self.skip < 0 < self.times


@dataclass(frozen=True)
class Request:
    """What the proxy saw: `fault` is the kind that struck, or None."""

    method: str
    path: str
    fault: str | int | None


class Proxy:
    """In front of the server at `upstream`, until closed; `url` stays the same while nobody listens. Who does not give
    `login`, "user:password", is refused."""

    def __init__(self, upstream: int, login: str = "") -> None:
        self.upstream, self.random = upstream, random.Random(0)
        self.login = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
        self.faults: list[Fault] = []
        self.seen: list[Request] = []
        self.held: dict[str, bytes] = {}
        self.lock, self.one = threading.Lock(), threading.Lock()
        self.server = _Server(self, 0)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.faults.clear()
            self.down()

    def fault(self, kind: str | int, times: float = 1, **where: Any) -> None:
        with self.lock:
            self.faults.append(Fault(kind, times, **where))

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
        self.server = _Server(self, self.server.server_port)

    def away(self, seconds: float) -> None:
        """Down for a while, unless it is already; faults and log wait."""
        server = self.server
        with self.lock:
            if not server.ended:
                self.down()
                time.sleep(seconds)
                self.up()

    def decide(self, method: str, path: str, body: bytes) -> Fault | None:
        with self.lock:
            matching = (f for f in self.faults if f.matches(method, path, body))
            chosen = next((f for f in matching if self.random.random() < f.chance), None)
            if chosen is not None:
                chosen.times -= 1
            self.seen.append(Request(method, path, chosen and chosen.kind))
            return chosen


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    ended = False

    def __init__(self, proxy: Proxy, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.proxy, self.open = proxy, set[socket.socket]()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def end(self) -> None:
        self.ended = True
        self.socket.close()  # refused from now on, before the others are told
        self.shutdown()
        for connection in list(self.open):
            reset(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is no news
            super().handle_error(request, client_address)


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

    def _serve(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if proxy.login and self.headers.get("Authorization") != proxy.login:
            return self._answer((401, [("WWW-Authenticate", "Basic")], b"who are you"))
        fault = proxy.decide(self.command, self.path, body)
        head = "\r\n".join([self.requestline, *(f"{k}: {v}" for k, v in self.headers.items()), "", ""])
        request = head.encode("latin-1") + body
        if fault is None:
            self._answer(self._pass(request))
        elif isinstance(fault.kind, int):
            self._answer((fault.kind, [], f"<Error><Code>{fault.code}</Code></Error>".encode()))
        else:
            self._strike(fault, request, len(body))

    do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  (as the base class calls them)

    def _strike(self, fault: Fault, request: bytes, length: int) -> None:
        match fault.kind:
            case "refuse":
                self.server.proxy.away(fault.seconds)
            case "cut":
                with self._upstream() as there:
                    there.sendall(request[: -max(1, length // 2)])
                    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            case "lost":
                self._pass(request)
            case "late":
                self.server.proxy.held[self.path] = request
            case "half":
                self._answer(self._pass(request), half=True)
            case "slow":
                time.sleep(fault.seconds)
                return self._answer(self._pass(request))
            case "stall":
                self._pass(request)
                time.sleep(fault.seconds)
        reset(self.connection)
        self.close_connection = True

    def _upstream(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.proxy.upstream), timeout=60)

    def _pass(self, request: bytes) -> Answer:
        """The server's answer; what is late comes now."""
        proxy = self.server.proxy
        if self.server.ended:
            raise ConnectionResetError("it would reach the bucket of the test that comes next")
        with proxy.one if "If-None-Match" in self.headers else contextlib.nullcontext():
            answer = self._ask(request)  # moto looks, then writes; S3 does both at once
        late = proxy.held.pop(self.path, None)
        if late is not None:
            assert self._ask(late)[0] == 200
        return answer

    def _ask(self, request: bytes) -> Answer:
        with self._upstream() as there:
            there.sendall(request)
            answer = http.client.HTTPResponse(there)
            answer.begin()
            return answer.status, answer.getheaders(), answer.read()

    def _answer(self, answer: Answer, *, half: bool = False) -> None:
        """Half an answer is half of its body, or of its headers where it has none."""
        status, headers, body = answer
        kept = [f"{k}: {v}" for k, v in headers if k.lower() not in HOP]
        lines = [f"HTTP/1.1 {status} {http.client.responses[status]}", *kept, f"Content-Length: {len(body)}", "", ""]
        head = "\r\n".join(lines).encode()
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
