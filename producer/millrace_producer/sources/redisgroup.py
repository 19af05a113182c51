"""Membership in a consumer group of a Redis stream."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from millrace_pipeline.errors import QueueError, QueueMisuse
from millrace_pipeline.redis.external import Entry, ExternalStream
from millrace_producer import trouble
from millrace_producer.sources.base import DeadLetter, Record, SourceRefused, SourceUnavailable
from millrace_producer.sources.held import Held

log = structlog.get_logger(__name__)

BATCH = 500
"""As much is taken at once."""

WAIT_SECONDS = 1.0
"""How long to wait inside Redis for something to take."""

LOOK_SECONDS = 5.0
"""How often to look for what others left behind."""


class EntryRecord(Record):
    """A record that knows its entry."""

    entry: str = ""


class EntryLetter(DeadLetter):
    """A dead letter that knows its entry."""

    entry: str = ""


class Membership:
    """One reading of a stream as a member of a group; `acknowledge` and `close` are for other threads."""

    def __init__(self, url: str, key: str, group: str, idle: float) -> None:
        self._idle = idle
        self._look_seconds = min(LOOK_SECONDS, idle / 2)
        self._stream = ExternalStream(url, key, group, f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
        self._held = Held(self._hold, every=idle / 3)
        self._closing = threading.Event()
        self._failure: Exception | None = None

    def entries(self, start: str, *, until_empty: bool) -> Iterator[Entry]:
        """Those that somebody left behind, and those that are new, in turn."""
        stream = self._stream
        waiting: list[Entry] = []
        cursor, looked = "0-0", float("-inf")
        try:
            stream.join("0" if start == "earliest" else "$")
            while not self._closing.is_set():
                if cursor != "0-0" or time.monotonic() - looked > self._look_seconds:
                    cursor, found = stream.left(self._idle, cursor, BATCH)
                    waiting = [entry for entry in found if entry[0] not in self._held]
                    looked = time.monotonic()
                else:
                    waiting = stream.fresh(BATCH, 0 if until_empty else min(WAIT_SECONDS, self._look_seconds))
                    if not waiting and until_empty:
                        return
                if self._failure is not None:
                    raise self._failure
                trouble.over()
                self._held.add({id: "" for id, _ in waiting})
                while waiting:
                    yield waiting.pop(0)
        finally:
            self._held.drop(id for id, _ in waiting)
            with _warning():
                stream.give_back([id for id, _ in waiting])
            stream.close()

    def acknowledge(self, records: Sequence[Record | DeadLetter]) -> None:
        """These are published. What goes wrong ends the reading, which a quiet stream would not hear of otherwise."""
        ids = [record.entry for record in records if isinstance(record, EntryRecord | EntryLetter)]
        try:
            with translated():
                self._stream.acknowledge(ids)
            self._held.drop(ids)
        except (SourceRefused, SourceUnavailable) as error:
            log.warning("redis_entries_not_acknowledged", entries=len(ids), reason=str(error))
            self._failure = error

    def close(self) -> None:
        """Gives back what is held, and was not published."""
        self._closing.set()
        self._held.close()
        with _warning():
            self._stream.give_back(list(self._held.drop_all()))
        with _warning():
            self._stream.leave()

    def _hold(self, receipts: Mapping[str, str]) -> None:
        with translated():
            self._stream.hold(list(receipts))


@contextmanager
def translated() -> Iterator[None]:
    """A queue's errors as a source's; what they say of REDIS_URL is said of our `url`."""
    try:
        yield
    except QueueError as error:
        said = str(error).replace("REDIS_URL", "url")
        raise (SourceRefused if isinstance(error, QueueMisuse) else SourceUnavailable)(said) from None


@contextmanager
def _warning() -> Iterator[None]:
    try:
        yield
    except QueueError as error:
        log.warning("redis_entries_not_given_back", reason=str(error))
