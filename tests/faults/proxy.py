"""A TCP proxy that misbehaves on request."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
from types import TracebackType

from millrace_pipeline.redis.scripts import SCRIPTS

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST instead of FIN


def sent_as(script: str) -> bytes:
    """How a request names a script."""
    return hashlib.sha1(SCRIPTS[script]).hexdigest().encode()


class Proxy:
    """Stands before a server on loopback. Whoever connects to `port` reaches the server, until a fault is asked for.

    `latency` is how many seconds each piece of data takes in each direction. The other faults are methods.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.latency = 0.0
        self._lose_replies_to: bytes | None = None
        self._lost = threading.Event()
        self._stall_at: bytes | None = None
        self._reached = threading.Event()
        self._allowance: int | None = None
        self._spent = threading.Event()
        self._refuse = False
        self._stalled = threading.Event()
        self._stalled.set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        """The server's Redis address, by way of here."""
        return f"redis://127.0.0.1:{self.port}/0"

    def lose_reply_to(self, command: bytes) -> threading.Event:
        """The next request holding these bytes reaches the server; its reply is lost with the connection.

        Returns an event that is set once that has happened.
        """
        self._lost = threading.Event()
        self._lose_replies_to = command
        return self._lost

    def stall_at(self, command: bytes) -> threading.Event:
        """Stalls as soon as a request holds these bytes: it arrives late, when `stall(False)` lets it go.

        Returns an event that is set once that has happened.
        """
        self._reached = threading.Event()
        self._stall_at = command
        return self._reached

    def cut_after(self, size: int) -> threading.Event:
        """Lets so many more bytes through to the server, then resets the connection that the next one came by.

        Returns an event that is set once that has happened.
        """
        with self._lock:
            self._spent = threading.Event()
            self._allowance = size
        return self._spent

    def cut(self) -> None:
        """Ends all connections."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Ends all connections with RST: what the receiver has not read yet is gone too."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.cut()

    def refuse(self, refuse: bool = True) -> None:
        """Closes new connections at once, and the ones there are."""
        self._refuse = refuse
        if refuse:
            self.cut()

    def stall(self, stall: bool = True) -> None:
        """Lets nothing through and says nothing: a half-open connection. What was held up arrives when it ends."""
        if stall:
            self._stalled.clear()
        else:
            self._stalled.set()

    def lead_to(self, host: str, port: int) -> tuple[str, int]:
        """Leads new connections to another server, and ends the ones there are. Returns where it led before."""
        before, self._server = self._server, (host, port)
        self.cut()
        return before

    def close(self) -> None:
        """Ends the proxy and its connections."""
        self._stalled.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept, which close alone does not
        self._listener.close()
        self.cut()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._refuse:
                client.close()
                continue
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            losing = threading.Event()
            for one, other, outwards in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(one, other, outwards, losing), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket, outwards: bool, losing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                if self.latency:
                    threading.Event().wait(self.latency)
                if outwards and self._stall_at and self._stall_at in data:
                    self._stall_at = None
                    self.stall()
                    self._reached.set()
                self._stalled.wait()
                if outwards and not losing.is_set():  # else it ends with this connection, by the loss before it
                    self._lose_reply(data, losing)
                if not outwards and losing.is_set():
                    # The server has done it, and said so: to nobody.
                    self._lost.set()
                    break
                allowed = self._allow(len(data)) if outwards else len(data)
                other.sendall(data[:allowed])
                if allowed < len(data):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    self._spent.set()
                    break
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        with self._lock:
            self._open -= {one, other}

    def _lose_reply(self, request: bytes, losing: threading.Event) -> None:
        """Marks the request's connection as one to lose, if that was asked for; no other connection is then."""
        with self._lock:
            if self._lose_replies_to and self._lose_replies_to in request:
                self._lose_replies_to = None
                losing.set()

    def _allow(self, size: int) -> int:
        """How many of these bytes may pass."""
        with self._lock:
            if self._allowance is None:
                return size
            if size <= self._allowance:
                self._allowance -= size
                return size
            allowed, self._allowance = self._allowance, None
            return allowed
