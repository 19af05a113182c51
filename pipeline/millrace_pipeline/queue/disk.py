"""Disk: when what Redis was told is on its disk, so that a power cut can't take it back.

Redis (>= 7.2) and Valkey answer WAITAOF once the append-only file is synced as far as its connection wrote. Two things
keep us from going by that alone (docs/decisions/0012-what-is-on-disk.md):

- Valkey, 9.1 included, answers at once where `appendfsync everysec` has synced within the last second: its
  `flushAppendOnlyFile` counts all as synced when its buffer is empty. Redis 7.0 has no WAITAOF.
- There, the clock does: once no sync is under way, wait for longer than a second, in which a new one must have begun,
  and then until none is under way again. It tells nothing of a second in which a rewrite of the file has begun, or in
  which a child of the server saves and the server syncs nothing meanwhile: then another second is waited out.
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

INFO: Command = ("INFO", "persistence", "stats")

FILE_IS_OFF = "its append-only file is off: what it holds is lost with the process"


class _Server(msgspec.Struct, frozen=True):
    """What there is to know of a server: whether it keeps a file at all, and how its word is to be taken."""

    keeps_file: bool
    has_waitaof: bool
    honest: bool
    begun: bool = False
    """Its file was switched on before our eyes: it holds nothing until a first rewrite is done."""


class _Children(msgspec.Struct, frozen=True):
    """What children of a server did by a moment: they save, or rewrite its file."""

    forks: int
    rewrites: int
    rewrites_now: bool
    saves_now: bool

    @classmethod
    def of(cls, said: dict[str, str]) -> _Children:
        """Return what INFO says of them."""
        rewrites = "1" in (said.get("aof_rewrite_in_progress"), said.get("aof_rewrite_scheduled"))
        saves = "1" in (said.get("rdb_bgsave_in_progress"), said.get("module_fork_in_progress"))
        return cls(int(said.get("total_forks", 0)), int(said.get("aof_rewrites", 0)), rewrites, saves)


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
        self._may_not_ask = False

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
        text, *seen, marked = self._connection.exchange(INFO, *looks, self._renewed_mark())
        said = _told(text)
        if said.get("aof_enabled") != "1":
            self._give_up_on_it(FILE_IS_OFF)
            return seen
        marked = marked or self._make_mark()
        if server.has_waitaof and not self._wait_for_aof(stop):
            return None
        if not (server.honest and marked) and not self._wait_out_a_second(server, _Children.of(said), stop):
            return None
        return seen

    def _renewed_mark(self) -> Command:
        """WAITAOF goes by what its own connection wrote, and a sync is of what was written. Works at maxmemory, too."""
        return ("EXPIRE", self._keys.fsync, MARK_SECONDS)

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

    def _wait_out_a_second(self, server: _Server, since: _Children, stop: threading.Event) -> bool:
        """Return True once a sync that began after this call has ended; False where `stop` is set first.

        `since` is what children did before what is to be synced was written.
        """
        while self._await_idle(stop) and not stop.wait(EVERYSEC_SECONDS):
            # Asked twice: a server that stood still meanwhile begins its sync between the two answers.
            if not (self._await_idle(stop) and self._await_idle(stop)):
                break
            if self._synced_meanwhile(server, since, self._children()):
                self._server = msgspec.structs.replace(server, begun=False)
                return True
            since = self._children()
            self._connection.exchange(self._renewed_mark())
        return False

    def _synced_meanwhile(self, server: _Server, since: _Children, now: _Children) -> bool:
        """Return True where no child kept the server from syncing its file, or may have.

        A rewrite begins a new file. The old one is synced by who closes it, which no number tells of: it is done where
        that waits in one line with the syncs of the new one (from 7.2 on), or once the rewrite is.
        """
        if since.forks == now.forks and not (since.rewrites_now or since.saves_now):
            return True
        if self._pauses_for_children():
            return False
        in_line = server.has_waitaof and not server.begun
        return since.rewrites == now.rewrites and (in_line or not since.rewrites_now)

    def _pauses_for_children(self) -> bool:
        """Return False only where the server says that it syncs also while a child is at work."""
        try:
            (found,) = self._connection.exchange(("CONFIG", "GET", "no-appendfsync-on-rewrite"))
        except QueueMisuse:
            return True
        return list(found)[1:] != [b"no"]

    def _children(self) -> _Children:
        return _Children.of(self._info())

    def _await_idle(self, stop: threading.Event) -> bool:
        """Wait until no background sync is under way."""
        while self._info().get("aof_pending_bio_fsync", "0") != "0":
            if stop.wait(POLL_SECONDS):
                return False
        return True

    def _info(self) -> dict[str, str]:
        (text,) = self._connection.exchange(INFO)
        return _told(text)

    def _look_at_server(self) -> _Server:
        """Return what is known of the server at the other end; it may be another after each new connection.

        Raises QueueUnavailable while it loads its data: until then it says that it keeps no file, even if it does.
        """
        self._connection.open()
        known = self._server if self._generation == self._connection.generation else None
        if known is not None and (known.keeps_file or self._may_not_ask):
            return known
        self._server, self._generation, self._may_not_ask = None, self._connection.generation, False
        try:
            (server,) = self._connection.exchange(("INFO", "server"))
            said = _told(server) | self._info()
            if said.get("loading", "0") != "0":
                raise QueueUnavailable("Redis is loading its data")
            self._server = self._judge(said)
        except QueueMisuse as error:
            self._may_not_ask = True
            self._server = self._give_up_on_it(f"this user may not ask: {error}")
        if self._server.keeps_file:
            self.reason = None
            if known is not None:
                self._server = msgspec.structs.replace(self._server, begun=True)
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
            return self._give_up_on_it(FILE_IS_OFF)
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


def _told(text: bytes) -> dict[str, str]:
    """Return what a reply to INFO says."""
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
