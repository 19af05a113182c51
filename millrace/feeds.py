"""Feeds: where records can be looked at: as they are published, delivered or set aside, or where they wait."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from millrace_pipeline.errors import QueueMisuse
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.dead_letters import letter_of
from millrace_pipeline.queue.listener import Listener
from millrace_pipeline.queue.pages import Pages
from millrace_pipeline.queue.tap import Became, Text, cut

Place: TypeAlias = Literal["in", "out", "dead", "ready"]

REFUSED = (
    "who listens must write the key {key}, which the role consumer may and reader may not: see docs/how-to/redis.md. "
    "--dead and --ready need no such right"
)


class Tapped(msgspec.Struct, omit_defaults=True):
    """A record that was seen, and what became of it."""

    place: Place
    time: float
    """When it was seen there, to a fraction of a second, in seconds since 1970 by Redis' clock; 0 of one that waits."""
    record: Text
    """As it stood, or stands, on the list."""
    became: Became | Literal["ready"]
    after: list[Text] | None = None
    """What the sink had of it, where that is another text than the record."""
    party: str = ""
    """The producer or consumer that it passed."""
    batch: str = ""
    reason: str = ""
    id: str = ""
    """Of a dead letter, as `millrace dead show` takes it."""
    position: int = 0
    """Of one that waits: 1 is taken next."""

    @property
    def delivered(self) -> list[Text]:
        """What the sink had of it; nothing where it had nothing."""
        if self.became != "delivered":
            return []
        return [self.record] if self.after is None else self.after


class Feed(ABC):
    """Records of one place. Each look returns those that came since the last; `passed` counts all that there were.

    A look raises QueueUnavailable while Redis doesn't answer: the next one goes on from there.
    """

    passed = 0
    over = False
    """True once there will be no more."""

    @abstractmethod
    def look(self) -> list[Tapped]:
        """Return what came since the last look."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection."""


def feed_of(session: Session, place: Place) -> Feed:
    """Return the feed of this place of a flow, which has a connection of its own."""
    if place == "ready":
        return _Ready(session)
    return _Dead(session) if place == "dead" else _Live(session, place)


class _Live(Feed):
    """What is published or delivered, in samples."""

    def __init__(self, session: Session, place: Literal["in", "out"]) -> None:
        self._place = place
        self._key = session.keys.tap_in if place == "in" else session.keys.tap_out
        self._listener = Listener(session, self._key)

    def look(self) -> list[Tapped]:
        try:
            lots = self._listener.look()
        except QueueMisuse as error:
            raise QueueMisuse(f"{error} {REFUSED.format(key=self._key)}") from error
        self.passed = self._listener.passed
        return [
            Tapped(
                self._place, moment, one.record, one.became, one.after, lot.party, batch=one.batch, reason=one.reason
            )
            for moment, lot in lots
            for one in lot.records
        ]

    def close(self) -> None:
        self._listener.close()


class _Dead(Feed):
    """Dead letters as they are set aside, all of them."""

    def __init__(self, session: Session) -> None:
        self._connection = session.another_connection()
        self._key = session.keys.dead
        self._pages = Pages()
        self._last: bytes | None = None

    def look(self) -> list[Tapped]:
        if self._last is None:
            (newest,) = self._connection.exchange(("XREVRANGE", self._key, "+", "-", "COUNT", 1))
            self._last = newest[0][0] if newest else b"0-0"
        count = self._pages.count
        (page,) = self._connection.exchange(("XRANGE", self._key, b"(" + self._last, "+", "COUNT", count))
        letters = [letter_of(id, fields) for id, fields in page]
        self._pages.is_last([len(letter.record) for letter in letters])
        if page:
            self._last = page[-1][0]
        self.passed += len(letters)
        return [
            Tapped(
                *("dead", letter.time.timestamp(), cut(letter.record), "dead"),
                batch=letter.batch,
                reason=letter.reason,
                id=letter.id,
            )
            for letter in letters
        ]

    def close(self) -> None:
        self._connection.close()


class _Ready(Feed):
    """What waits, from the record that is taken next on, page by page. Meanwhile the list moves on."""

    def __init__(self, session: Session) -> None:
        self._connection = session.another_connection()
        self._lists = (session.keys.woken, session.keys.ready)  # those that woke a consumer are taken first
        self._left = list(self._lists)
        self._pages = Pages()
        self._seen = 0

    def look(self) -> list[Tapped]:
        first, last = self._pages.indexes
        page, *lengths = self._connection.exchange(
            ("LRANGE", self._left[0], -1 - last, -1 - first), *(("LLEN", name) for name in self._lists)
        )
        self.passed = sum(lengths)
        lines: Sequence[bytes] = page[::-1]
        found = [
            Tapped("ready", 0.0, cut(line), "ready", position=self._seen + number)
            for number, line in enumerate(lines, 1)
        ]
        self._seen += len(lines)
        if self._pages.is_last([*map(len, lines)]):
            self._pages = Pages()
            self._left.pop(0)
            self.over = not self._left
        return found

    def close(self) -> None:
        self._connection.close()
