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
from millrace_pipeline.flows.options import QueueOptions
from millrace_pipeline.queue.disk import Disk
from millrace_pipeline.queue.history import History
from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.queue.replicas import Replicas
from millrace_pipeline.redis.address import Address, Client
from millrace_pipeline.redis.connection import Command, Connection, raise_nested

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
    """Keys, connections, and the patience to get through: what every half of a queue is made with.

    `url` and `key` name the Redis and the list. What is published, and a batch that is taken, count only once so many
    `replicas` of Redis hold them; `fsync` says what waits for Redis' disk; `in_order`, that nobody takes a batch while
    another is taken. Set `give_up` to make a call that waits out
    an outage raise QueueUnavailable instead. Each thread that uses it has a connection of its own.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        replicas: int = 0,
        fsync: Fsync = "off",
        in_order: bool = False,
        give_up: threading.Event | None = None,
    ) -> None:
        self.keys = Keys(key)
        self.fsync = fsync
        self.in_order = in_order
        self.give_up = give_up or threading.Event()
        self.id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(5)}"
        self.key = self.keys.session(self.id)
        """Where Redis keeps how far we got."""
        self.retry_first_seconds = RETRY_FIRST_SECONDS
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.replicas = Replicas(replicas, key)
        self.history = History(self.keys, self.ask_script)
        self._address = Address(url, key=key, name=f"millrace-{self.id}")
        self._own = threading.local()
        self._outage = _Outage(key)

    @classmethod
    def of(cls, url: str, queue: QueueOptions, *, give_up: threading.Event | None = None) -> Session:
        """Return a session about a flow's list, as the flow's `queue` says. Raises ConfigError where it has several."""
        return cls(
            url,
            queue.list_name,
            replicas=queue.replicas,
            fsync=queue.fsync,
            in_order=queue.in_order,
            give_up=give_up,
        )

    def lag(self) -> int:
        """How many records are ready or in flight."""
        ready, woken, in_flight = self.ask(
            ("LLEN", self.keys.ready), ("LLEN", self.keys.woken), ("HGET", self.keys.counters, "in_flight")
        )
        return int(ready) + int(woken) + int(in_flight or 0)

    @property
    def outage(self) -> str | None:
        """None while Redis answers and has the replicas it should, else what is the matter."""
        return self._outage.reason or self.replicas.shortage

    @property
    def outages(self) -> int:
        """How many there were: after each Redis may have come back without the last that it was told."""
        return self._outage.count

    def client(self) -> Client:
        """A redis-py client of the Redis that has the list; it sends no command twice. The caller closes it.

        Raises QueueUnavailable or QueueMisuse where it can't be found.
        """
        self.connection.open()  # by now the address knows which node of a cluster that is
        return self._address.client()

    def close(self) -> None:
        """Drop the connection of this thread, until it asks again."""
        if (connection := getattr(self._own, "connection", None)) is not None:
            connection.close()

    @property
    def connection(self) -> Connection:
        """This thread's own connection, so that a renewal never waits behind a blocking call."""
        connection: Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = Connection(self._address)
        return connection

    def ask(self, *commands: Command) -> list[Any]:
        """Sends commands that may be sent twice, and returns their replies; waits out an outage."""
        return self.persist(lambda: self.connection.exchange(*commands))

    def ask_at_once(self, *commands: Command) -> list[Any]:
        """Return the replies to these commands, which only look, of one instant; waits out an outage."""
        replies: list[Any] = self.ask(("MULTI",), *commands, ("EXEC",))[-1]
        raise_nested(replies)
        return replies

    def ask_script(
        self, name: str, keys: Sequence[str], arguments: Sequence[Any], *behind: Command, may_fail: int = 0
    ) -> list[Any]:
        """The same for a script by the name of its file, with commands behind it in the same breath.

        Of the last `may_fail` of these an error is the reply.
        """

        def attempt() -> list[Any]:
            connection = self.connection
            return connection.exchange(connection.script(name, keys, *arguments), *behind, may_fail=may_fail)

        return self.persist(attempt)

    def ask_once(self, *commands: Command) -> list[Any]:
        """Send commands once, for what may as well be left out: an outage is neither waited out nor told of.

        Raises QueueUnavailable.
        """
        return self._once(lambda: self.connection.exchange(*commands))

    def ask_script_once(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> list[Any]:
        """Run a script by the name of its file as `ask_once` sends commands. Raises QueueUnavailable."""
        connection = self.connection
        return self._once(lambda: connection.exchange(connection.script(name, keys, *arguments)))

    def _once(self, attempt: Callable[[], T]) -> T:
        try:
            return attempt()
        except QueueUnavailable:
            self.history.doubt()  # nobody may hear of this outage otherwise
            raise

    def another_connection(self) -> Connection:
        """Return a connection beside the threads' own ones, for what must not share one."""
        return Connection(self._address)

    def disk(self) -> Disk:
        """Return what confirms that things are on disk, for one thread."""
        return Disk(self.another_connection(), self.keys, replicas=self.replicas.wanted, give_up=self.give_up)

    def persist(self, attempt: Callable[[], T], *, over: threading.Event | None = None) -> T:
        """Try until Redis answers; say once an outage that it is away, and that it is back.

        Raises QueueUnavailable once `give_up` is set, or soon after `over` is: nobody wants the answer any more.
        """
        backoff = Backoff(first=self.retry_first_seconds, cap=RETRY_CAP_SECONDS)
        while True:
            try:
                if self.history.in_doubt:
                    self.history.note_again(self.ask_script_once)
                result = attempt()
            except QueueUnavailable as error:
                self._outage.begins(error)
                self.history.doubt()
                if self.give_up.wait(backoff.next()) or (over is not None and over.is_set()):
                    raise
            else:
                self._outage.ends()
                return result

    def answered(self) -> None:
        """Redis has answered in the midst of an attempt that goes on."""
        self._outage.ends()


class _Outage:
    """Says that Redis is away, now and then that it still is, and that it is back."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.reason: str | None = None
        self.count = 0
        self._since = self._told_at = 0.0
        self._lock = threading.Lock()

    def begins(self, error: BaseException) -> None:
        with self._lock:
            if self.reason is None:
                self.count += 1
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
