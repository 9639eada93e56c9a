"""What stands between a tracker and its server: a proxy that loses answers, brings requests late, asks for a password.

A `Fault` befalls one request: the first whose path ends with `path` and whose body holds `text`, after `skip` of them.
"""

from __future__ import annotations

import base64
import http.client
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal


@dataclass
class Fault:
    """`lost`: the server does it and the answer is cut off; `late`: cut off at once, the server does it after the
    next such request; `unsent`: cut off, and never done."""

    path: str
    how: Literal["lost", "late", "unsent"]
    text: str = ""
    skip: int = 0
    struck: bool = False

    def strikes(self, path: str, body: bytes) -> bool:
        if self.struck or not path.endswith(self.path) or self.text.encode() not in body:
            return False
        self.skip -= 1
        self.struck = self.skip < 0
        return self.struck


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def send(self, port: int) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            upstream.request(self.method, self.path, self.body, {**self.headers, "Host": f"127.0.0.1:{port}"})
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()


class Proxy:
    """Serves on a port of its own until closed; `login` is "user:password", if one is asked for."""

    def __init__(self, port: int, fault: Fault | None = None, login: str = "") -> None:
        self.upstream, self.fault = port, fault
        self.expected = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
        self.held: list[Request] = []
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Proxy:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request: Request) -> tuple[int, list[tuple[str, str]], bytes] | None:
        """The server's answer, or None where the connection is to be cut."""
        if self.expected and request.headers.get("Authorization") != self.expected:
            return 401, [("WWW-Authenticate", "Basic")], b"who are you"
        path = request.path.partition("?")[0]
        with self.lock:
            strikes = self.fault is not None and self.fault.strikes(path, request.body)
        if not strikes:
            answer = request.send(self.upstream)
            self._bring(path)
            return answer
        assert self.fault is not None
        if self.fault.how == "lost":
            request.send(self.upstream)
        elif self.fault.how == "late":
            self.held.append(request)
        return None

    def _bring(self, path: str) -> None:
        with self.lock:
            late = [r for r in self.held if r.path.endswith(path)]
            self.held = [r for r in self.held if r not in late]
        for request in late:
            assert request.send(self.upstream)[0] == 200


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hop = {"host", "connection", "content-length", "accept-encoding"}
        headers = {k: v for k, v in self.headers.items() if k.lower() not in hop}
        answer = self.proxy.answer(Request(self.command, self.path, headers, body))
        self.close_connection = True
        if answer is None:
            return
        status, fields, text = answer
        self.send_response(status)
        for key, value in fields:
            if key.lower() not in {"connection", "content-length", "transfer-encoding", "date", "server"}:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass
