"""A source that counts, and the records it makes: each says all about itself, so that a damaged one is seen."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import msgspec
from pydantic import Field

from millrace_producer.sources.base import Position, Record, Source


def text(number: int, size: int = 100) -> bytes:
    """The data of record `number`, at least so many bytes: a function of both."""
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    return msgspec.json.encode({"n": number, "text": (digest * (size // 64 + 1))[:size]})


class CountingSource(Source):
    """Counts from 0; its position is the last number, so it goes on exactly where the list stopped."""

    total: int = Field(description="How many there are.")
    size: int = Field(100, description="Bytes of each.")
    pause: float = Field(0.0, description="Seconds after each hundred.")
    alone: bool = Field(False, description="Whether one producer at a time may read it.")

    @property
    def exclusive(self) -> bool:  # type: ignore[override]
        """Follows `alone`."""
        return self.alone

    def read(self, resume_from: Position | None) -> Iterator[Record]:
        for number in range(0 if resume_from is None else resume_from + 1, self.total):
            yield Record(text(number, self.size), key=str(number), position=number)
            if self.pause and number % 100 == 99:
                threading.Event().wait(self.pause)
