"""A source that is told what is published, and counts it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field, PrivateAttr

from bench.data import Events, id_of
from bench.peers.stopwatch import mark
from millrace_producer.sources.base import DeadLetter, Position, Record, Source


class ReceiptSource(Source):
    """Yields the benchmark's events as JSON, as a message broker would; notes how many it was told are published."""

    acknowledges_data: ClassVar[bool] = False

    count: int = Field(description="How many.")
    folder: Path = Field(description="Where to note when the first was asked for, and how many are published.")

    _told: list[int] = PrivateAttr(default_factory=lambda: [0])

    def read(self, resume_from: Position | None) -> Iterator[Record]:
        """See `Source.read`."""
        first = resume_from or 0
        events = Events()
        events.one(0)
        mark(self.folder, "began")
        for number, event in enumerate(events.some(self.count - first, first), first):
            yield Record(event, key=id_of(event).decode(), position=number + 1)

    def published(self, records: Sequence[Record | DeadLetter]) -> None:
        """See `Source.published`."""
        self._told[0] += len(records)

    def close(self) -> None:
        """Write down how many it was told of."""
        (self.folder / "told").write_text(str(self._told[0]))
