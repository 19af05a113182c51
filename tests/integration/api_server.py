"""An HTTP API on loopback that answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from millrace_pipeline.jsontext import encode_json


@dataclass(frozen=True)
class Asked:
    """A request as it came. Header names are in lower case; `target` is path and query as they were written."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    method: str = "GET"
    body: bytes = b""
    target: str = ""


@dataclass(frozen=True)
class Answer:
    """What to answer. `cut` is after how many bytes of the body the connection breaks."""

    status: int = 200
    body: bytes = b"as you see\n"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


Route = Callable[[Asked], Answer]


def json_answer(value: Any, **headers: str) -> Answer:
    """200 with this value as JSON; underscores in a header's name stand for dashes."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(200, encode_json(value), {"Content-Type": "application/json", **named})


class ApiServer:
    """Serves `route` until left. What is put in `script` is said first, an answer a request.

    `asked` holds the requests so far, `connections` the clients that are connected now.
    """

    def __init__(self, route: Route | None = None, *, host: str = "127.0.0.1") -> None:
        self.route: Route = route or (lambda asked: Answer(404))
        self.script: deque[Answer | Route] = deque()
        self.asked: list[Asked] = []
        self.connected: set[socket.socket] = set()
        api = self

        class Handler(_Handler):
            server_api = api

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> ApiServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self.connected):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def connections(self) -> int:
        return len(self.connected)

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def answer(self, asked: Asked) -> Answer:
        """What the next request is answered with."""
        self.asked.append(asked)
        say = self.script.popleft() if self.script else self.route
        return say if isinstance(say, Answer) else say(asked)


class _Handler(BaseHTTPRequestHandler):
    server_api: ApiServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server_api.connected.add(self.connection)

    def finish(self) -> None:
        self.server_api.connected.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        query = dict(parse_qsl(parts.query, True))
        answer = self.server_api.answer(Asked(parts.path, query, headers, self.command, body, self.path))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[: answer.cut])
        if answer.cut is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: `asked` says it all."""
