"""Tap: a sample of the records that pass a producer or a consumer, put where whoever listens can read it.

A tap is a stream beside the list, one for what is published and one for what is delivered. Who listens makes it, and
keeps it from expiring; nobody else can. Each party asks once a second, behind something that it says anyway, whether it
is there, and while it is, a thread beside the work adds a lot to it a few times a second. With nobody listening that
costs a look at the clock for each batch; with somebody, at most `LOT_RECORDS` records of a lot are copied.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import structlog

from millrace_pipeline.errors import QueueError, QueueMisuse
from millrace_pipeline.queue.session import Session
from millrace_pipeline.redis.connection import Command, Connection, in_our_words

log = structlog.get_logger(__name__)

CUT_BYTES = 64 * 1024
"""A record is shown up to here."""

LOTS_KEPT = 64
"""The stream is capped at so many lots, at most 32 MiB."""

LOT_SECONDS = 0.2
LOT_RECORDS = 40
LOT_BYTES = 512 * 1024

ASK_SECONDS = 1.0
CLOSE_SECONDS = 1.0

LOT = "lot"
"""The field of a lot in its entry; that of a listener who came is `listener`."""

Became: TypeAlias = Literal["published", "variant", "delivered", "filtered", "dead"]


class Text(msgspec.Struct, array_like=True):
    """The bytes of a record, up to `CUT_BYTES`, and how many there are in all."""

    content: bytes
    size: int

    @property
    def is_cut(self) -> bool:
        """Return True where there is more of it."""
        return len(self.content) < self.size


def cut(line: bytes) -> Text:
    """Return a record as far as it is shown."""
    return Text(line[:CUT_BYTES], len(line))


class Sampled(msgspec.Struct, omit_defaults=True):
    """A record as it stood on the list, what became of it, and what the sink had of it, where that is another text."""

    record: Text
    became: Became
    after: list[Text] | None = None
    """None where it is the record as it was, and where nothing was delivered."""
    reason: str = ""
    batch: str = ""


class Lot(msgspec.Struct):
    """What one party has sampled since its last lot, and how many records have passed it while it was tapped."""

    party: str
    session: str
    passed: int
    """Since the session began: lots that were trimmed off are missing in no sum."""
    since_last: int
    records: list[Sampled]


class Tap:
    """One party's end of a tap. One thread at a time asks, hears and keeps."""

    def __init__(self, session: Session, key: str) -> None:
        self._session = session
        self._key = key
        self._due = 0.0
        self._lock = threading.Lock()
        self._kept: list[Sampled] = []
        self._bytes = self._passed = self._told = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def listened(self) -> bool:
        """Return True while somebody listens, as far as we have heard."""
        return self._thread is not None

    def question(self) -> tuple[Command, ...]:
        """Return what to say behind something else, its answer being for `hear`: nothing, or one command, now and then.

        It may be refused, to a user without the right to ask.
        """
        if self._thread is not None or (now := time.monotonic()) < self._due:
            return ()
        self._due = now + ASK_SECONDS
        return (("XLEN", self._key),)

    def hear(self, answers: Sequence[Any]) -> None:
        """Take note of the answer to the question, if one was asked."""
        for answer in answers:
            if isinstance(answer, Exception):
                if isinstance(error := in_our_words(answer), QueueMisuse):
                    self._refused(str(error))
            elif answer:
                self._over = threading.Event()
                self._thread = threading.Thread(target=self._run, args=(self._over,), name="tap", daemon=True)
                self._thread.start()

    def take(self, count: int) -> Sequence[int]:
        """Count so many records that pass, and return the places of those that are wanted of them."""
        if self._thread is None or not count:
            return ()
        with self._lock:
            self._passed += count
            room = LOT_RECORDS - len(self._kept) if self._bytes < LOT_BYTES else 0
        return range(0, count, -(-count // room)) if room > 0 else ()

    def keep(self, records: Iterable[Sampled]) -> None:
        """Keep these for the next lot, as far as they have room in it."""
        for record in records:
            size = len(record.record.content) + sum(len(text.content) for text in record.after or ())
            with self._lock:
                if self._kept and self._bytes + size > LOT_BYTES:
                    return
                self._kept.append(record)
                self._bytes += size

    def close(self) -> None:
        """Hand on what is kept, and end; waits but a moment for that."""
        if (thread := self._thread) is not None:
            self._over.set()
            thread.join(CLOSE_SECONDS)

    def _run(self, over: threading.Event) -> None:
        connection = self._session.another_connection()
        try:
            while True:
                ends = over.wait(LOT_SECONDS)
                if not self._hand_on(connection) or ends:
                    return
        except QueueMisuse as error:
            self._refused(str(error))
        except QueueError:
            pass  # who works with Redis says so; we ask again when it is back
        finally:
            connection.close()
            with self._lock:
                self._kept, self._bytes, self._thread = [], 0, None

    def _hand_on(self, connection: Connection) -> bool:
        """Add a lot, where something has passed. Returns whether somebody listens. Raises QueueError."""
        with self._lock:
            kept, self._kept, self._bytes = self._kept, [], 0
            since, self._told = self._passed - self._told, self._passed
        if not since:
            return bool(connection.exchange(("XLEN", self._key))[0])
        lot = Lot(self._session.name, self._session.id, self._told, since, kept)
        added = ("XADD", self._key, "NOMKSTREAM", "MAXLEN", "=", LOTS_KEPT, "*", LOT, msgspec.msgpack.encode(lot))
        return connection.exchange(added)[0] is not None

    def _refused(self, reason: str) -> None:
        self._due = float("inf")
        log.warning("tap_refused", queue=self._session.keys.ready, reason=reason, mend="docs/how-to/redis.md")


def told(entry: dict[Any, Any]) -> Lot | None:
    """Return the lot in an entry of the stream; None where it is none, or another version's."""
    try:
        return msgspec.msgpack.decode(entry[LOT.encode()], type=Lot)
    except (KeyError, msgspec.DecodeError):
        return None
