"""A source of Python dicts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr

from bench.data import Events
from bench.peers.stopwatch import mark
from millrace_producer.sources.base import Position, Record, Source


class DictSource(Source):
    """Yields the benchmark's events as dicts, each with its number as its position."""

    count: int = Field(description="How many.")
    folder: Path = Field(description="Where to note when the first was asked for.")

    _records: list[dict[str, Any]] = PrivateAttr(default_factory=list)  # so that none is freed while the clock runs

    def read(self, resume_from: Position | None) -> Iterator[Record]:
        """See `Source.read`."""
        self._records[:] = Events().dicts(self.count)
        mark(self.folder, "began")
        for number, record in enumerate(self._records[(resume_from or 0) :], resume_from or 0):
            yield Record(record, key=record["meta"]["id"], position=number + 1)
