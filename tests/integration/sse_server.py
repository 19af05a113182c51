"""A server that says exactly what a test tells it to, byte for byte."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
END = b"HTTP/1.1 204 No Content\r\n\r\n"

Say = Callable[[], Iterable[bytes]]


def answer(status: str, headers: str = "", body: bytes = b"") -> bytes:
    """A whole answer; `headers` are lines without their ends."""
    lines = [f"HTTP/1.1 {status}", *headers.splitlines(), f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*chunks: bytes, headers: str = "") -> bytes:
    """An event stream in HTTP chunks of just these cuts, properly ended."""
    head = "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked"])
    head += "".join(f"\r\n{line}" for line in headers.splitlines()) + "\r\n\r\n"
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """A request as it came. Header names in lower case."""

    line: str
    headers: dict[str, str]


class ScriptedServer:
    """Says one line of its script to each connection, then hangs up; 204 when the script is over.

    A line is bytes, or a function that gives bytes to say one after the other. `asked` holds the requests so far.
    """

    def __init__(self, *script: bytes | Say, host: str = "127.0.0.1") -> None:
        self.script = list(script)
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._listener = socket.create_server((host, 0), backlog=16)
        self.url = f"http://{host}:{self._listener.getsockname()[1]}/events"
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def silence(self) -> Iterable[bytes]:
        """Nothing, until the test is over."""
        self.closing.wait(60)
        return ()

    def __enter__(self) -> ScriptedServer:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in [self._acceptor, *self._threads]:
            thread.join(10)

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            thread = threading.Thread(target=self._talk, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._listen(connection):
                line = self.script.pop(0) if self.script else END
                for text in [line] if isinstance(line, bytes) else line():
                    connection.sendall(text)
            # Hanging up with something unread would be a reset, and could take along what was said.
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        self._open.discard(connection)

    def _listen(self, connection: socket.socket) -> bool:
        request = b""
        while b"\r\n\r\n" not in request:
            if not (more := connection.recv(65_536)):
                return False
            request += more
        line, *headers = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        pairs = (header.partition(":") for header in headers)
        self.asked.append(Asked(line, {name.lower(): value.strip() for name, _, value in pairs}))
        return True
