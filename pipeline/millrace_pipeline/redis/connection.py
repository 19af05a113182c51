"""One connection to Redis: commands out, replies in, errors in our words.

redis-py's own client is not used for this, since it sends a command again by itself after a lost reply (ten times by
default), which stores an LPUSH several times. Here a command is sent once; who sends it again knows what it does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

import redis

from millrace_pipeline.errors import QueueError, QueueFull, QueueMisuse, QueueUnavailable
from millrace_pipeline.redis.address import Address
from millrace_pipeline.redis.certificates import certificate_mistake
from millrace_pipeline.redis.lots import packed_arguments
from millrace_pipeline.redis.nodes import Place, note_silence, silent
from millrace_pipeline.redis.scripts import SCRIPTS

Command: TypeAlias = tuple[Any, ...]

MOVES = 5
"""So many nodes of a cluster may send us on, each to the next, before we take a rest."""

_TEMPORARY = (
    "LOADING",
    "READONLY",
    "MISCONF",
    "MASTERDOWN",
    "NOREPLICAS",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "BUSY",
    "UNBLOCKED",
    "WAIT cannot be used with replica",
    "WAITAOF cannot be used with replica",
)
_NO_PASSWORD = ("Authentication required", "NOAUTH", "HELLO must be called with the client already authenticated")
"""What a server that has a password says to who gives none."""

_REFUSED = ("ACL failure in script", "The user executing the script can't")
"""What a script that its user may not run fails with, which bears no NOPERM; Redis 7.0 says the second."""

_ELSEWHERE = (redis.exceptions.AskError, redis.exceptions.TryAgainError, redis.exceptions.ClusterDownError)
"""A cluster is moving the list to another node (MOVED is an AskError too), or has lost one. It comes to rest again."""


class Posted:
    """A lot of commands that was sent, and its replies once they are read."""

    def __init__(self, commands: int) -> None:
        self.commands = commands
        self.replies: list[Any] | None = None


class Connection:
    """A connection for one thread. It is made when first used, and again after a failure."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._wire: Any = None
        self._scripts: dict[str, bytes] = {}
        self._posted: deque[Posted] = deque()  # lots whose replies come before those of the next exchange
        self.generation = 0
        """Grows with each new connection, so that who keeps state in one (a WATCH) can see that it is gone."""

    def open(self) -> None:
        """Connects, if not connected. Raises QueueUnavailable or QueueMisuse."""
        if self._wire is not None:
            return
        place: Place | None = None
        down: Exception | None = None
        for _ in range(MOVES):
            try:
                self._wire = self._address.dial(place)
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                ours = in_our_words(error)
                if place is not None and isinstance(ours, QueueUnavailable):
                    raise QueueUnavailable(f"the node that has the list does not answer: {place}: {error}") from error
                raise ours from error
            except redis.RedisError as error:
                raise in_our_words(error) from error
            self.generation += 1
            found = self._has_the_list()
            if isinstance(found, redis.exceptions.MovedError):
                place = self._place(found.host, found.port)
            elif isinstance(found, redis.exceptions.ClusterDownError):
                # This node may be cut off from the others, or alone in not having heard that the cluster is well.
                note_silence(self._place("", self._wire.port), found)
                if all(map(silent, self._address.nodes)):
                    return
                place, down = None, found
            else:
                return
            self.close()
        raise (
            in_our_words(down)
            if down
            else QueueUnavailable("the nodes of the cluster don't agree on which has the list")
        )

    def close(self) -> None:
        """Drops the connection; the next exchange makes a new one."""
        if self._wire is not None:
            self._wire.disconnect()
            self._wire = None
            self._scripts = {}
            self._posted.clear()  # their replies never come

    def exchange(self, *commands: Command, may_fail: int = 0) -> list[Any]:
        """Sends the commands in one go and returns a reply for each.

        Raises, after all replies are in, the first that is an error, in our words: QueueUnavailable, QueueFull or
        QueueMisuse. After QueueUnavailable nobody knows whether the commands were carried out. Of the last `may_fail`
        commands an error is the reply.
        """
        replies = self._exchange(commands)
        if any(isinstance(reply, redis.exceptions.NoScriptError) for reply in replies):
            # SCRIPT FLUSH, or a fresh server. The scripts that did run are the kind that may run again.
            self.load_scripts()
            replies = self._exchange(commands)
        for reply in replies[: len(replies) - may_fail]:
            if isinstance(reply, Exception):
                raise self._failed(reply)
        return replies

    def post(self, *commands: Command) -> Posted:
        """Send commands without waiting for their replies, which `collect` returns. Raises as `exchange` does."""
        self._exchange(commands, wait=False)
        posted = Posted(len(commands))
        self._posted.append(posted)
        return posted

    def collect(self, posted: Posted) -> list[Any] | None:
        """Return the replies to a lot; None where they are lost or one is an error. Nobody knows then what was done.

        Raises QueueUnavailable where the connection breaks.
        """
        while posted.replies is None and posted in self._posted:
            self._read_posted(1)
        replies = posted.replies
        return None if replies is None or any(isinstance(reply, Exception) for reply in replies) else replies

    def say(self, *commands: Command) -> None:
        """Sends commands whose replies `listen` returns, among all else. Raises QueueUnavailable."""
        if self._wire is None:
            raise QueueUnavailable("the connection is gone")
        try:
            self._wire.send_packed_command([packed(commands)], check_health=False)
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from error

    def listen(self, seconds: float) -> list[Any] | None:
        """What Redis says unasked after a SUBSCRIBE, or None after so long a silence. Raises QueueUnavailable.

        Where the connection is gone nothing would be said on a new one.
        """
        if self._wire is None:
            raise QueueUnavailable("the connection is gone")
        try:
            return self._reply() if self._wire.can_read(seconds) else None
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from error

    def script(self, name: str, keys: Sequence[str], *arguments: Any) -> Command:
        """The command that runs `lua/<name>.lua`. Connects, and makes the scripts known, where that is still to do."""
        self.open()
        if not self._scripts:
            self.load_scripts()
        return ("EVALSHA", self._scripts[name], len(keys), *keys, *packed_arguments(len(keys), arguments))

    def _has_the_list(self) -> Any:
        """What a node of a cluster says when it is asked for the list: that another has it (MovedError), or how long it
        is; None where this is the one server to ask.

        Raises QueueUnavailable where Sentinel sent us to what is no primary (any more, or yet), QueueMisuse where what
        the URL calls a cluster is none.
        """
        (hello,) = self._exchange([("HELLO",)])  # needs no right; who doesn't know it, is no cluster
        said = dict(zip(hello[::2], hello[1::2], strict=True)) if isinstance(hello, list) else {}
        if self._address.sentinels and said.get(b"role", b"master") != b"master":
            self.close()
            raise QueueUnavailable("READONLY: Sentinel named a replica, it is in the midst of a failover")
        clustered = said.get(b"mode") == b"cluster"
        if self._address.named and not clustered:
            here = self._place("", self._wire.port)
            self.close()
            raise QueueMisuse(f"{here} is no node of a cluster: for one server REDIS_URL is redis://… or rediss://…")
        if not clustered or self._address.key is None:
            return None
        found, slots = self._exchange([("LLEN", self._address.key), ("CLUSTER", "SLOTS")])
        if isinstance(slots, list):  # else this user may not ask, and knows the nodes in its URL alone
            nodes = [node for _, _, *nodes in slots for node in nodes]
            self._address.learn([self._place("", self._wire.port), *(self._place(node[0], node[1]) for node in nodes)])
        return found

    def _place(self, host: bytes | str | None, port: int) -> Place:
        """Where a node of a cluster is that another names: no host, or ?, is the host that we asked."""
        name = host.decode() if isinstance(host, bytes) else host or ""
        return Place(name.strip("?") or self._wire.host, port)

    def _exchange(self, commands: Sequence[Command], *, wait: bool = True) -> list[Any]:
        self.open()
        try:
            if commands:
                self._wire.send_packed_command([packed(commands)], check_health=False)
            if not wait:
                return []
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from error
        self._read_posted(len(self._posted))  # they come first, while Redis works on what was sent just now
        return self._read_replies(len(commands))

    def _read_posted(self, lots: int) -> None:
        for _ in range(lots):
            posted = self._posted[0]
            posted.replies = self._read_replies(posted.commands)
            self._posted.popleft()

    def _read_replies(self, count: int) -> list[Any]:
        try:
            return [self._reply() for _ in range(count)]
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from error

    def _reply(self) -> Any:
        try:
            return self._wire.read_response()
        except redis.ResponseError as error:
            return error
        except redis.exceptions.BusyLoadingError as error:
            return error

    def load_scripts(self) -> None:
        """Makes the scripts known to Redis; who only looks never needs the right to. Raises as `exchange` does."""
        shas = self._exchange([("SCRIPT", "LOAD", text) for text in SCRIPTS.values()])
        for sha in shas:
            if isinstance(sha, Exception):
                raise self._failed(sha)
        self._scripts = dict(zip(SCRIPTS, shas, strict=True))

    def _failed(self, error: Exception) -> QueueError:
        ours = in_our_words(error)
        if isinstance(error, redis.exceptions.InvalidResponse):  # in the midst of others: nobody knows where one begins
            ours = QueueUnavailable(f"what answers doesn't speak as Redis does: {error}")
        if isinstance(ours, QueueUnavailable):
            # Also where the server answered (READONLY, LOADING): the next connection may find the new primary.
            self.close()
        return ours


def packed(commands: Sequence[Command]) -> bytes:
    """The commands as RESP says them. A word is bytes, text or a number.

    redis-py's own packers copy each word several times, which for hundreds of records a command is most of a publish.
    """
    parts: list[bytes] = []
    for command in commands:
        words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
        said = [b""] * (2 * len(words))
        said[::2] = [_HEADERS[size] if size < len(_HEADERS) else b"\r\n$%d\r\n" % size for size in map(len, words)]
        said[1::2] = words
        parts.append(b"*%d" % len(words))
        parts += said
        parts.append(b"\r\n")
    return b"".join(parts)


_HEADERS = [b"\r\n$%d\r\n" % size for size in range(4096)]
"""What stands between a word and one of so many bytes."""


def in_our_words(error: Exception) -> QueueError:
    """The error that redis-py raised or returned, as one of ours."""
    words = str(error)
    if mistake := certificate_mistake(error):
        return QueueMisuse(mistake)
    refused = isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError)
    if refused and words.startswith(_NO_PASSWORD):
        return QueueMisuse("this Redis wants a password; REDIS_URL has none")
    if refused or words.startswith(_REFUSED):
        said = words.rstrip(".?") + "."
        return QueueMisuse(f"Redis refuses this user: {said} Check the user, the password and the ACL in REDIS_URL.")
    if isinstance(error, redis.exceptions.OutOfMemoryError) or words.startswith("OOM"):
        return QueueFull("Redis is at maxmemory")
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError | redis.exceptions.ReadOnlyError):
        return QueueUnavailable(words or type(error).__name__)
    if isinstance(error, redis.exceptions.NoScriptError):
        return QueueUnavailable("the scripts were flushed again before one could run")
    if isinstance(error, _ELSEWHERE):
        return QueueUnavailable(f"{type(error).__name__.removesuffix('Error')}: {words}")
    if words.startswith(_TEMPORARY):
        return QueueUnavailable(words)
    return QueueMisuse(f"Redis refuses the request: {words}")


def raise_nested(results: Sequence[Any]) -> None:
    """Raises the first error among the results of an EXEC, in our words."""
    for result in results:
        if isinstance(result, Exception):
            raise in_our_words(result) from result
