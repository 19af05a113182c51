"""Deadlines of an HTTP answer, by the clock: a server that says a byte now and then is held to them too.

A timeout of a socket begins anew with every byte. Here each read waits no longer than what is left of the whole time.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import time
from collections.abc import Callable
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import PoolManager, ProxyManager
from urllib3.connection import HTTPConnection


class AnswerTooSlow(TimeoutError):
    """The server talks, and isn't through in time. Its text says what took longer than how many seconds."""


class DeadlineAdapter(HTTPAdapter):
    """Connections, through proxies too, whose answers have to be there in time.

    From when a request is sent, its answer's headers may take `headers` seconds and all of the answer `answer`, where
    that has an end. The `timeout` of a request goes on to bound each silence. Raises AnswerTooSlow, which requests and
    urllib3 wrap as they do a timeout.
    """

    def __init__(self, *, headers: float, answer: float | None) -> None:
        self._headers = headers if answer is None else min(headers, answer)
        self._answer = answer
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        derive_connections(self.poolmanager, self._timed)

    def proxy_manager_for(self, proxy: str, **options: Any) -> ProxyManager:
        known = proxy in self.proxy_manager
        manager: ProxyManager = super().proxy_manager_for(proxy, **options)
        if not known:
            derive_connections(manager, self._timed)
        return manager

    def _timed(self, kind: type[HTTPConnection]) -> type[HTTPConnection]:
        made = functools.partial(_Answer, headers=self._headers, answer=self._answer)

        class Timed(kind):  # type: ignore[misc,valid-type]
            response_class = staticmethod(made)

            def request(self, method: str, url: str, *args: Any, headers: Any = None, **options: Any) -> None:
                """Ask for the target as it was written, where the headers know that: urllib3 would rewrite it."""
                written = getattr(headers, "target", None)
                if written is not None:  # a proxy is told the whole URL
                    url = written if url.startswith("/") else "/".join(url.split("/", 3)[:3]) + written
                super().request(method, url, *args, headers=headers, **options)

        Timed.__name__ = kind.__name__
        return Timed


def derive_connections(manager: PoolManager, derive: Callable[[type[Any]], type[Any]]) -> None:
    """Makes all pools of this manager use connections derived from those that they had."""
    pools: dict[str, Any] = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": derive(pool.ConnectionCls)})
        for scheme, pool in pools.items()
    }


class _Answer(http.client.HTTPResponse):
    """An answer that knows since when it is waited for: it is made once the request was sent."""

    def __init__(self, sock: socket.socket, *args: Any, headers: float, answer: float | None, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._sent = time.monotonic()
        self._seconds = answer
        self._reads = _Reads(sock, self.fp.detach())
        self._reads.hurry(self._sent, headers, "the answer's headers")
        self.fp = io.BufferedReader(self._reads)

    def begin(self) -> None:
        super().begin()
        self._reads.hurry(self._sent, self._seconds, "the answer")


class _Reads(io.RawIOBase):
    """What a socket receives, read within its timeout and what is left of a deadline."""

    def __init__(self, sock: socket.socket, received: io.RawIOBase) -> None:
        self._socket = sock
        self._received = received
        self._silence = self._wait = sock.gettimeout()
        self._heard = False
        self.hurry(0.0, None, "")

    def hurry(self, since: float, seconds: float | None, what: str) -> None:
        """From now on, `what` has to be read so many seconds after that moment; None takes the deadline away."""
        self._until = None if seconds is None else since + seconds
        self._seconds, self._what = seconds, what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        wait, left = self._silence, None
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise self._too_slow()
            wait = left if wait is None else min(left, wait)
        if wait != self._wait:
            self._socket.settimeout(wait)
            self._wait = wait
        try:
            count: int | None = self._received.readinto(buffer)
        except TimeoutError:
            if wait == left and not self._was_silent():
                raise self._too_slow() from None
            raise
        self._heard = True
        return count

    def close(self) -> None:
        try:
            self._received.close()
        finally:
            super().close()

    def _was_silent(self) -> bool:
        """Whether this is a silence as long as the socket's own timeout, or near it, and so told as one."""
        assert self._seconds is not None
        return not self._heard and self._silence is not None and self._silence <= self._seconds

    def _too_slow(self) -> AnswerTooSlow:
        return AnswerTooSlow(f"{self._what} took longer than {self._seconds:g} s")
