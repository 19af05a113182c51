"""A receiver of batches over HTTP that heeds `Idempotency-Key`, and fails as a test tells it to."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass
class Asked:
    """A request as it came, and what was answered."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    status: int = 0

    @property
    def key(self) -> str:
        return self.headers.get("idempotency-key", "")

    @property
    def records(self) -> list[Any]:
        if self.headers["content-type"] == "application/x-ndjson":
            return [json.loads(line, parse_int=_whole) for line in self.body.splitlines()]
        value = json.loads(self.body)
        return value if isinstance(value, list) else [value]


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= 4300 else Decimal(digits)


@dataclass
class Answer:
    """What to say instead of 200. `before` runs first; a status of 0 hangs up without a word."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    stores: bool = False
    """Whether it has the records all the same."""
    before: Callable[[], object] = lambda: None


class Receiver:
    """Keeps what it is sent, once a key, in `stored` by path. A record that holds `refuse: true` is answered with 422.

    `script` holds answers for the requests to come, one each; `limit` is the largest body in bytes that it takes.
    """

    def __init__(self) -> None:
        self.stored: dict[str, list[Any]] = {}
        self.asked: list[Asked] = []
        self.script: list[Answer] = []
        self.limit: int | None = None
        self.always: Answer | None = None
        self._keys: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                receiver._answer(self)

            do_POST = do_PUT = do_PATCH = answer

            def log_message(self, *_: object) -> None:
                """Nothing: tests read standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        asked = Asked(handler.command, handler.path, headers, body)
        with self._lock:
            answer = self._decide(asked)
            asked.status = answer.status
            self.asked.append(asked)
        answer.before()
        if not answer.status:
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        handler.wfile.write(answer.body)

    def _decide(self, asked: Asked) -> Answer:
        answer = self.always or (self.script.pop(0) if self.script else None)
        if answer is None and self.limit is not None and len(asked.body) > self.limit:
            answer = Answer(413)
        if answer is None and any(isinstance(record, dict) and record.get("refuse") for record in asked.records):
            answer = Answer(422, body=b'{"error": "refused"}')
        if answer is None or answer.stores:
            self._store(asked)
        return answer or Answer(200, body=b'{"ok": true}')

    def _store(self, asked: Asked) -> None:
        if (asked.path, asked.key) not in self._keys:
            self._keys.add((asked.path, asked.key))
            self.stored.setdefault(asked.path, []).extend(asked.records)
