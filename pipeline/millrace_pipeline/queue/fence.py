"""Fence: the connection of a publisher, on which nothing is said but behind a standing WATCH."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.queue.session import SESSION_SECONDS
from millrace_pipeline.redis.connection import Command, Connection


class Found(NamedTuple):
    """What stood in Redis when the fence was raised: our last publish that was applied, who leads, what people say."""

    published: int
    leader: tuple[str, str]
    """Its session and the number of its takeover."""
    paused: bytes | None
    """Who paused the producers, where they are."""
    moves: bytes | None
    """How often a person has set a checkpoint."""


class Fence:
    """Keeps what was sent before from being applied late, and a leader that was replaced from publishing.

    A transaction of ours is conditional on a WATCH on our session key, on the epochs, and on what people say of the
    flow. `raise_` touches the session key from this connection: a transaction that an older one of ours still has on
    its way can then never be applied.

    The WATCH lives in the connection, so it is gone with it. Therefore each exchange takes the fence down before it
    says a word, and puts it up again only when all replies are in. An exchange that fails leaves it down, whatever it
    was for, and nothing can be sent on a new connection before the fence is raised there.
    """

    def __init__(self, connection: Connection, keys: Keys, session_key: str) -> None:
        self.connection = connection
        self.stands = False
        self._keys = keys
        self._session_key = session_key
        self._watch: Command = ("WATCH", session_key, keys.epochs, keys.steering)

    def raise_(self) -> Found:
        """Raise the fence. Returns what it found.

        All but our own is read behind the WATCH: what changes from here on breaks it, what changed before shows here.
        """
        self.stands = False
        replies = self.connection.exchange(
            ("UNWATCH",),
            ("MULTI",),
            ("HINCRBY", self._session_key, "fences", 1),
            ("EXPIRE", self._session_key, SESSION_SECONDS),
            ("HGET", self._session_key, "published"),
            ("EXEC",),
            self._watch,
            ("HMGET", self._keys.leader, "session", "epoch"),
            ("HMGET", self._keys.steering, "producers", "moves"),
        )
        self.stands = True
        session, epoch = ((part or b"").decode() for part in replies[7])
        return Found(int(replies[5][2] or 0), (session, epoch), *replies[8])

    def ask(self, *commands: Command) -> list[Any]:
        """Exchange commands that leave the WATCH as it is. Raises as `Connection.exchange` does."""
        self._take_down()
        replies = self.connection.exchange(*commands)
        self.stands = True
        return replies

    def commit(
        self, commands: Sequence[Command], behind: Sequence[Command] = (), *, may_fail: int = 0
    ) -> tuple[list[Any] | None, list[Any]]:
        """Exchange a transaction (`MULTI` is its first command) with EXEC, the next WATCH and some commands behind it.

        Returns the results, None where something watched had changed and nothing was done; and the replies to what
        was sent behind, of which the last `may_fail` may be errors. Raises as `Connection.exchange` does.
        """
        self._take_down()
        replies = self.connection.exchange(*commands, ("EXEC",), self._watch, *behind, may_fail=may_fail)
        results = replies[len(commands)]
        self.stands = results is not None
        return results, replies[len(commands) + 2 :]

    def close(self) -> None:
        """Drop the connection, and the fence with it."""
        self.stands = False
        self.connection.close()

    def _take_down(self) -> None:
        if not self.stands:
            raise RuntimeError("nothing may be said on a publisher's connection before its fence is raised")
        self.stands = False
