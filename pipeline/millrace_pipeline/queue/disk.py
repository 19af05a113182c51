"""Disk: when what Redis was told is on its disk, so that a power cut can't take it back.

Redis (>= 7.2) and Valkey answer WAITAOF once the append-only file is synced as far as its connection wrote. Two things
keep us from going by that alone (docs/decisions/0012-what-is-on-disk.md):

- Valkey, 9.1 included, answers at once where `appendfsync everysec` has synced within the last second: its
  `flushAppendOnlyFile` counts all as synced when its buffer is empty. Redis 7.0 has no WAITAOF.
- There, the clock does: once no sync is under way, wait for longer than a second, in which a new one must have begun,
  and then until none is under way again.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from millrace_pipeline.errors import QueueFull, QueueMisuse, QueueUnavailable
from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.queue.replicas import WAIT_MS
from millrace_pipeline.redis.connection import Command, Connection

log = structlog.get_logger(__name__)

HONEST_REDIS = (8, 0)
"""From here on WAITAOF alone tells the truth (tried: 8.0)."""

EVERYSEC_SECONDS = 1.3
"""Within so long a server that syncs every second has begun to: its second, and a tick of its clock (hz 10)."""

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 30.0
"""After so long without a sync we say that it is missing; and go on waiting."""

MARK_SECONDS = 3600


class _Server(msgspec.Struct, frozen=True):
    """What there is to know of a server: whether it keeps a file at all, and how its word is to be taken."""

    keeps_file: bool
    has_waitaof: bool
    honest: bool


class Disk:
    """Confirms what is on disk, over a connection of its own. For one thread.

    `reason` says why this server can't confirm anything, where it can't: then nothing is waited for.
    """

    def __init__(self, connection: Connection, keys: Keys, *, replicas: int, give_up: threading.Event) -> None:
        self.reason: str | None = None
        self._connection = connection
        self._keys = keys
        self._replicas = replicas
        self._give_up = give_up
        self._server: _Server | None = None
        self._generation = -1

    def confirm(self, *looks: Command, stop: threading.Event) -> list[Any] | None:
        """Return the replies to these commands once all that they saw is on disk; None once `stop` is set.

        Raises QueueUnavailable where the connection breaks or `give_up` is set: then nothing is known, and to ask again
        is right.
        """
        server = self._look_at_server()
        try:
            if server.keeps_file:
                return self._confirm(server, looks, stop)
        except QueueMisuse as error:
            self._give_up_on_it(f"this user may not ask: {error}")
        return self._connection.exchange(*looks)

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()

    def _confirm(self, server: _Server, looks: Sequence[Command], stop: threading.Event) -> list[Any] | None:
        # WAITAOF goes by what its own connection wrote. EXPIRE works at maxmemory, too.
        *seen, marked = self._connection.exchange(*looks, ("EXPIRE", self._keys.fsync, MARK_SECONDS))
        marked = marked or self._make_mark()
        if server.has_waitaof and not self._wait_for_aof(stop):
            return None
        if not (server.honest and marked) and not self._wait_out_a_second(stop):
            return None
        return seen

    def _make_mark(self) -> bool:
        """Write the key that EXPIRE is said of. Returns False where Redis is full."""
        try:
            self._connection.exchange(("HSET", self._keys.fsync, "by", "millrace"))
        except QueueFull:
            return False
        return True

    def _wait_for_aof(self, stop: threading.Event) -> bool:
        since = time.monotonic()
        while not stop.is_set():
            ((local, replicas),) = self._connection.exchange(("WAITAOF", 1, self._replicas, WAIT_MS))
            if local and replicas >= self._replicas:
                return True
            if self._give_up.is_set():
                raise QueueUnavailable("Redis has not synced its append-only file")
            if time.monotonic() - since > PATIENCE_SECONDS:
                since = float("inf")
                missing = (
                    "its append-only file (appendfsync no?)" if not local else "enough replicas' append-only files"
                )
                log.warning("redis_does_not_sync", queue=self._keys.ready, missing=missing)
        return False

    def _wait_out_a_second(self, stop: threading.Event) -> bool:
        """Return True once a sync that began after this call has ended; False where `stop` is set first."""
        waited = self._await_idle(stop) and not stop.wait(EVERYSEC_SECONDS)
        # Asked twice: a server that stood still meanwhile begins its sync between the two answers.
        return waited and self._await_idle(stop) and self._await_idle(stop)

    def _await_idle(self, stop: threading.Event) -> bool:
        """Wait until no background sync is under way."""
        while _info(self._connection, "persistence").get("aof_pending_bio_fsync", "0") != "0":
            if stop.wait(POLL_SECONDS):
                return False
        return True

    def _look_at_server(self) -> _Server:
        """Return what is known of the server at the other end; it may be another after each new connection.

        Raises QueueUnavailable while it loads its data: until then it says that it keeps no file, even if it does.
        """
        self._connection.open()
        if self._server is not None and self._generation == self._connection.generation:
            return self._server
        self._server, self._generation = None, self._connection.generation
        try:
            said = _info(self._connection, "server") | _info(self._connection, "persistence")
            if said.get("loading", "0") != "0":
                raise QueueUnavailable("Redis is loading its data")
            self._server = self._judge(said)
        except QueueMisuse as error:
            self._server = self._give_up_on_it(f"this user may not ask: {error}")
        if self._server.keeps_file:
            self.reason = None
        return self._server

    def _give_up_on_it(self, reason: str) -> _Server:
        """Take this server, until the next connection, for one that can't confirm anything; and say so once."""
        if reason != self.reason:
            log.warning("fsync_not_confirmed", queue=self._keys.ready, reason=reason)
        self.reason = reason
        self._server = _Server(False, False, False)
        return self._server

    def _judge(self, said: dict[str, str]) -> _Server:
        if said.get("aof_enabled") != "1":
            return self._give_up_on_it("its append-only file is off: what it holds is lost with the process")
        try:
            self._connection.exchange(("WAITAOF", 0, 0, 1))
            has_waitaof = True
        except QueueMisuse:
            has_waitaof = False
        valkey = said.get("server_name") == "valkey"
        honest = has_waitaof and not valkey and _version(said.get("redis_version", "0")) >= HONEST_REDIS
        return _Server(True, has_waitaof, honest)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _info(connection: Connection, section: str) -> dict[str, str]:
    (text,) = connection.exchange(("INFO", section))
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
