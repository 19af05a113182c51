"""A WebSocket server on loopback that says what a test tells it to, and remembers what it was told."""

from __future__ import annotations

import contextlib
import http
import logging
import re
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.utils import accept_key

Talk = Callable[[ServerConnection], None]


@dataclass(frozen=True)
class Asked:
    """A handshake as it came. Header names are in lower case; `target` is path and query as they were written."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    target: str = ""


class Client(ServerConnection):
    """A client, as the server sees it. `pings` counts those that it has sent."""

    pings = 0

    def process_event(self, event: Any) -> None:
        if getattr(event, "opcode", None) is Opcode.PING:
            self.pings += 1
        super().process_event(event)


class SocketServer:
    """Lets `talk` speak to each client, then says goodbye in good order. What is in `script` has its turn before.

    `refuse` holds answers to the next handshakes, as status and headers. `asked` are the handshakes so far, `clients`
    those who are connected now.
    """

    def __init__(self, talk: Talk | None = None) -> None:
        self.talk: Talk = talk or (lambda client: None)
        self.script: deque[Talk] = deque()
        self.refuse: deque[tuple[int, dict[str, str]]] = deque()
        self.asked: list[Asked] = []
        self.clients: set[Client] = set()
        self.closing = threading.Event()
        logger = logging.getLogger("websockets.server")
        logger.setLevel(logging.CRITICAL)
        self._server = serve(
            self._serve,
            "127.0.0.1",
            0,
            process_request=self._handshake,
            ping_interval=None,
            close_timeout=2,
            create_connection=Client,
        )
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> SocketServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        for client in list(self.clients):
            break_off(client)
        self._thread.join(10)

    @property
    def connections(self) -> int:
        return len(self.clients)

    def silence(self, _client: ServerConnection) -> None:
        """Says nothing, until the test is over."""
        self.closing.wait(60)

    def _handshake(self, client: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        self.asked.append(
            Asked(parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), headers, request.path)
        )
        if not self.refuse:
            return None
        status, more = self.refuse.popleft()
        answer = client.respond(http.HTTPStatus(status), "as you see\n")
        for name, value in more.items():
            answer.headers[name] = value
        return answer

    def _serve(self, client: ServerConnection) -> None:
        self.clients.add(cast("Client", client))
        try:
            talk = self.script.popleft() if self.script else self.talk
            talk(client)
        except (ConnectionClosed, OSError):
            pass
        finally:
            self.clients.discard(cast("Client", client))


class MuteServer:
    """Shakes hands, and then neither says nor hears anything: half-open, as after a power cut."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self.clients: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> MuteServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for client in self.clients:
            client.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                request = b""
                while b"\r\n\r\n" not in request:
                    request += client.recv(65_536)
                key = re.search(rb"(?i)sec-websocket-key: (\S+)", request)
                assert key
                accept = accept_key(key[1].decode())
                upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                client.sendall(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
                self.clients.append(client)


def query_of(client: ServerConnection) -> dict[str, str]:
    """The query parameters that a client has connected with."""
    assert client.request is not None
    return dict(parse_qsl(urlsplit(client.request.path).query))


def break_off(client: ServerConnection) -> None:
    """Hangs up without a word."""
    with contextlib.suppress(OSError):
        client.socket.shutdown(socket.SHUT_RDWR)
