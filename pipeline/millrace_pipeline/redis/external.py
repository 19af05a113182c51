"""External: a list, a stream or a channel that others put things into, for a source that takes them from there.

Everything here raises QueueUnavailable, QueueFull and QueueMisuse as the rest of the queue does. A method is for the
thread that reads, unless it says that it is for others.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from millrace_pipeline.errors import QueueUnavailable
from millrace_pipeline.redis.address import Address
from millrace_pipeline.redis.connection import Command, Connection
from millrace_pipeline.redis.lots import in_lots
from millrace_pipeline.redis.slot import key_beside

Entry: TypeAlias = tuple[str, list[tuple[bytes, bytes]]]
"""A stream's entry: its id, and its fields, of which several may have one name."""

NAME = "millrace-source"

SILENCE_SECONDS = 10.0
"""After so long without a message we ask whether anybody is there, and wait as long for the answer."""

UNCLAIMED_MS = 2**31 - 1
"""Given back as idle for so long: whoever looks for what was left behind takes it at once."""


class Fetched(NamedTuple):
    """What `ExternalList.fetch` found: see `lua/fetch.lua`."""

    numbering: str
    done: int
    moved: int
    elements: list[bytes]


class ExternalList:
    """A list whose elements we move to one of our own before we read them. `reader` tells readers of one list apart."""

    def __init__(self, url: str, key: str, reader: str) -> None:
        address = Address(url, key=key, name=NAME)
        self._key = key
        self._ours = key_beside(key, f"taken:{reader}")
        self._state = f"{self._ours}:state"
        self._connection = Connection(address)
        self._removing = Connection(address)

    def fetch(self, count: int, end: str, begin: int) -> Fetched:
        """Moves so many elements from this end (LEFT or RIGHT), and returns what we have from number `begin` on."""
        keys = [self._key, self._ours, self._state]
        arguments = (count, end, begin, secrets.token_hex(4))
        (found,) = self._connection.exchange(self._connection.script("fetch", keys, *arguments))
        numbering, done, moved, elements = found
        return Fetched(numbering.decode(), done, moved, elements)

    def wait(self, end: str, seconds: float) -> None:
        """Returns once there is something to fetch, or after so many seconds."""
        self._connection.exchange(("BLMOVE", self._key, self._ours, end, "RIGHT", seconds))

    def number_anew(self) -> None:
        """Gives the numbering another name: numbers that were told before mean nothing any more."""
        self._connection.exchange(("HSET", self._state, "name", secrets.token_hex(4)))

    def remove(self, numbering: str, end: int) -> None:
        """Forgets what stands before this number. For the thread that publishes."""
        keys = [self._ours, self._state]
        self._removing.exchange(self._removing.script("remove", keys, numbering, end))

    def close(self) -> None:
        """Ends the reading; `remove` still works."""
        self._connection.close()

    def close_removing(self) -> None:
        """For the thread that publishes, or once it is done."""
        self._removing.close()


class ExternalStream:
    """A stream, read by id or in a consumer group under the name `consumer`."""

    def __init__(self, url: str, key: str, group: str = "", consumer: str = "") -> None:
        address = Address(url, key=key, name=NAME)
        self._key, self._group, self._consumer = key, group, consumer
        self._connection = Connection(address)
        self._beside = Connection(address)
        self._lock = threading.Lock()

    def last_id(self) -> str:
        """The id of the newest entry; 0-0 where there is none."""
        (newest,) = self._connection.exchange(("XREVRANGE", self._key, "+", "-", "COUNT", 1))
        return newest[0][0].decode() if newest else "0-0"

    def behind(self, id: str, count: int, wait_seconds: float) -> list[Entry]:
        """The entries behind this id; waits for them if there are none."""
        return self._read(("XREAD", "COUNT", count, *_block(wait_seconds), "STREAMS", self._key, id))

    def join(self, start: str) -> None:
        """Makes the group, to begin behind this id (`0`, or `$` for now), unless there is one."""
        (groups,) = self._connection.exchange(("TYPE", self._key))
        if groups != b"none":
            (found,) = self._connection.exchange(("XINFO", "GROUPS", self._key))
            if any(dict(zip(group[::2], group[1::2], strict=True))[b"name"] == self._group.encode() for group in found):
                return
        self._connection.exchange(("XGROUP", "CREATE", self._key, self._group, start, "MKSTREAM"))

    def fresh(self, count: int, wait_seconds: float) -> list[Entry]:
        """Entries that nobody was given yet; they are ours now."""
        words = ("XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", count, *_block(wait_seconds))
        return self._read((*words, "STREAMS", self._key, ">"))

    def left(self, idle_seconds: float, cursor: str, count: int) -> tuple[str, list[Entry]]:
        """Entries whose consumer was silent for so long, ours now, and where to look on; `0-0` is the end."""
        idle_ms = int(idle_seconds * 1000)
        claim = ("XAUTOCLAIM", self._key, self._group, self._consumer, idle_ms, cursor, "COUNT", count)
        (answer,) = self._connection.exchange(claim)
        return answer[0].decode(), _entries(answer[1])

    def hold(self, ids: Sequence[str]) -> None:
        """Says that we still work on these. For any thread."""
        self._tell(*in_lots(("XCLAIM", self._key, self._group, self._consumer, 0), ids, ("JUSTID",)))

    def give_back(self, ids: Sequence[str]) -> None:
        """Lets others take these at once. For any thread."""
        for_others = ("IDLE", UNCLAIMED_MS, "JUSTID")
        self._tell(*in_lots(("XCLAIM", self._key, self._group, self._consumer, 0), ids, for_others))

    def acknowledge(self, ids: Sequence[str]) -> None:
        """These are done with. For any thread."""
        self._tell(*in_lots(("XACK", self._key, self._group), ids))

    def leave(self) -> None:
        """Forgets our name in the group, if nothing is ours any more. For any thread."""
        with self._lock:
            try:
                (mine,) = self._beside.exchange(("XPENDING", self._key, self._group, "-", "+", 1, self._consumer))
                if not mine:
                    self._beside.exchange(("XGROUP", "DELCONSUMER", self._key, self._group, self._consumer))
            finally:
                self._beside.close()

    def close(self) -> None:
        self._connection.close()

    def _read(self, command: Command) -> list[Entry]:
        (answer,) = self._connection.exchange(command)
        return _entries(answer[0][1]) if answer else []

    def _tell(self, *commands: Command) -> None:
        if commands:
            with self._lock:
                self._beside.exchange(*commands)


class ExternalChannel:
    """What is said on a channel, or on those that a pattern fits."""

    def __init__(self, url: str, channel: str) -> None:
        self._connection = Connection(Address(url, name=NAME))
        self._channel = channel
        self._heard = 0.0
        self._asked = False

    def subscribe(self) -> None:
        """From here on nothing is missed until the connection breaks."""
        pattern = any(sign in self._channel for sign in "*?[")
        self._connection.exchange(("PSUBSCRIBE" if pattern else "SUBSCRIBE", self._channel))
        self._heard = time.monotonic()

    def listen(self, seconds: float) -> tuple[str, bytes] | None:
        """The next message with its channel, or None if there is none for so many seconds."""
        said = self._connection.listen(seconds)
        if said is not None:
            self._heard, self._asked = time.monotonic(), False
            return None if said[0] == b"pong" else (said[-2].decode(errors="replace"), said[-1])
        silence = time.monotonic() - self._heard
        if self._asked and silence > 2 * SILENCE_SECONDS:
            raise QueueUnavailable(f"no word from Redis for {silence:.0f} s")
        if not self._asked and silence > SILENCE_SECONDS:
            self._connection.say(("PING",))
            self._asked = True
        return None

    def close(self) -> None:
        self._connection.close()


def _block(seconds: float) -> Sequence[Any]:
    return ("BLOCK", int(seconds * 1000)) if seconds else ()


def _entries(answer: Iterable[Any]) -> list[Entry]:
    return [
        (entry[0].decode(), list(zip(entry[1][::2], entry[1][1::2], strict=True)) if entry[1] else [])
        for entry in answer
        if entry is not None
    ]
