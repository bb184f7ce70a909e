"""One connection to the double of the Hub: it reads a request, makes a fault and sends an answer."""

from __future__ import annotations

import json
import math
import socket
import struct
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.pipelines.hub.double import Hub

UNKNOWN = "unknown"  # the endpoint of a path that the double does not know


@dataclass
class Fault:
    """A fault at one endpoint (a name of `ROUTES`), made `times` times after `after` good answers."""

    endpoint: str
    status: int | None = None  # of an answer without the work
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"error": "made up"}'
    drop: str | None = (
        None  # "body": the connection ends within the body; "reply": the work is done, but not answered
    )
    stall: bool = False  # the answer never comes
    corrupt: bool = False  # one byte of a stored or a sent file is changed
    times: float = math.inf
    after: int = 0


class Answer(Exception):
    """The answer to a request, which an endpoint raises from any depth."""

    def __init__(self, status: int, content: Any = None, headers: dict[str, str] | None = None) -> None:
        self.status, self.headers = status, headers or {}
        self.body = content if isinstance(content, bytes) else json.dumps(content).encode()


class Request(BaseHTTPRequestHandler):
    """The handler of one connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def json(self) -> Any:
        return json.loads(self.body)

    def serve(self) -> None:
        name, arguments = self.hub.route(self.command, self.path)
        with self.hub.lock:
            self.fault = self.hub.fault_at(name)
        fault = self.fault or Fault(name)
        self.body = self._read_body(cut=fault.drop == "body")
        with self.hub.lock:
            self.hub.received += f"{self.requestline}\n{self.headers}".encode() + self.body
        if fault.drop == "body":
            return self._hang_up(name)
        if fault.stall:
            self.hub.released.wait(60)
            return self._hang_up(name)
        answer = (
            Answer(fault.status, fault.body, fault.headers) if fault.status else self._answer(name, arguments)
        )
        if fault.drop == "reply":
            return self._hang_up(name)
        self.hub.requests.append((name, answer.status))
        self.send_response(answer.status)
        for key, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = serve

    def _answer(self, name: str, arguments: tuple[str | None, ...]) -> Answer:
        if name == UNKNOWN:
            return Answer(404, {"error": f"{self.command} {self.path}: the double does not know this"})
        try:
            with self.hub.lock:
                getattr(self.hub, name)(self, *arguments)
        except Answer as answer:
            return answer
        raise AssertionError(f"{name} answered nothing")

    def _read_body(self, *, cut: bool) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        length = int(self.headers.get("Content-Length", 0))
        return self.rfile.read(length // 2 if cut else length)

    def _hang_up(self, name: str) -> None:
        """End the connection without an answer, as a crash does (RST, not FIN)."""
        self.hub.requests.append((name, None))
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Print nothing: `Hub.requests` is the log."""
