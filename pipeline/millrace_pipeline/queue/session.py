"""Session: one party's conversation with Redis about one flow's list.

It numbers what it does, so that a thing that was sent twice after a lost reply is applied once. Every call waits out an
outage and carries on, until `give_up` is set; only then does it raise QueueUnavailable.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, TypeVar

import structlog

from millrace_pipeline.backoff import Backoff
from millrace_pipeline.errors import QueueUnavailable
from millrace_pipeline.queue.disk import Disk
from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.queue.replicas import Replicas
from millrace_pipeline.redis.address import Address, Client
from millrace_pipeline.redis.connection import Command, Connection

log = structlog.get_logger(__name__)
T = TypeVar("T")

SESSION_SECONDS = 7 * 24 * 3600
"""How long after its last word a session may still ask whether that was applied."""

RETRY_FIRST_SECONDS = 0.05
RETRY_CAP_SECONDS = 5.0

STILL_SECONDS = 20.0
"""So often an outage is told of again while it lasts."""


Fsync: TypeAlias = Literal["off", "acknowledge", "write"]
"""What is done only when Redis says that it is on its disk: nothing; to tell the source; that and to write a batch."""


class Session:
    """Keys, connections, and the patience to get through. Each thread that uses it has a connection of its own."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        replicas: int = 0,
        fsync: Fsync = "off",
        give_up: threading.Event | None = None,
    ) -> None:
        self.keys = Keys(key)
        self.fsync = fsync
        self.give_up = give_up or threading.Event()
        self.session = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(5)}"
        self.retry_first_seconds = RETRY_FIRST_SECONDS
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._session_key = self.keys.session(self.session)
        self._address = Address(url, key=key, name=f"millrace-{self.session}")
        self._replicas = Replicas(replicas, key)
        self._own = threading.local()
        self._outage = _Outage(key)

    def lag(self) -> int:
        """How many records are ready or in flight."""
        ready, woken, in_flight = self.ask(
            ("LLEN", self.keys.ready), ("LLEN", self.keys.woken), ("HGET", self.keys.counters, "in_flight")
        )
        return int(ready) + int(woken) + int(in_flight or 0)

    @property
    def outage(self) -> str | None:
        """None while Redis answers and has the replicas it should, else what is the matter."""
        return self._outage.reason or self._replicas.shortage

    def client(self) -> Client:
        """A redis-py client of the Redis that has the list; it sends no command twice. The caller closes it.

        Raises QueueUnavailable or QueueMisuse where it can't be found.
        """
        self._connection.open()  # by now the address knows which node of a cluster that is
        return self._address.client()

    def close(self) -> None:
        """Drops the connections that are this session's or this thread's."""
        self.close_own()

    def close_own(self) -> None:
        """Drops the connection of this thread, which will not use the queue again."""
        if (connection := getattr(self._own, "connection", None)) is not None:
            connection.close()

    @property
    def _connection(self) -> Connection:
        """This thread's own connection, so that a renewal never waits behind a blocking call."""
        connection: Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = Connection(self._address)
        return connection

    def ask(self, *commands: Command) -> list[Any]:
        """Sends commands that may be sent twice, and returns their replies; waits out an outage."""
        return self._persist(lambda: self._connection.exchange(*commands))

    def ask_script(self, name: str, keys: Sequence[str], arguments: Sequence[Any], *behind: Command) -> list[Any]:
        """The same for a script by the name of its file, with commands behind it in the same breath."""

        def attempt() -> list[Any]:
            connection = self._connection
            return connection.exchange(connection.script(name, keys, *arguments), *behind)

        return self._persist(attempt)

    def _disk(self) -> Disk:
        """What confirms that things are on disk, for one thread."""
        return Disk(Connection(self._address), self.keys, replicas=self._replicas.wanted, give_up=self.give_up)

    def _persist(self, attempt: Callable[[], T]) -> T:
        """Tries until Redis answers or `give_up` is set; says once an outage that it is away, and that it is back."""
        backoff = Backoff(first=self.retry_first_seconds, cap=RETRY_CAP_SECONDS)
        while True:
            try:
                result = attempt()
            except QueueUnavailable as error:
                self._outage.begins(error)
                if self.give_up.wait(backoff.next()):
                    raise
            else:
                self._outage.ends()
                return result


class _Outage:
    """Says that Redis is away, now and then that it still is, and that it is back."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.reason: str | None = None
        self._since = self._told_at = 0.0
        self._lock = threading.Lock()

    def begins(self, error: BaseException) -> None:
        with self._lock:
            if self.reason is None:
                self.reason = f"Redis is unavailable: {error}"
                self._since = self._told_at = time.monotonic()
                log.warning("redis_unavailable", queue=self._key, reason=str(error))
            elif (now := time.monotonic()) - self._told_at >= STILL_SECONDS:
                self._told_at = now
                for_seconds = round(now - self._since)
                log.warning("redis_still_unavailable", queue=self._key, for_seconds=for_seconds, reason=str(error))

    def ends(self) -> None:
        if self.reason is None:
            return
        with self._lock:
            if self.reason is not None:
                log.info("redis_available", queue=self._key, after_seconds=round(time.monotonic() - self._since, 1))
                self.reason = None
