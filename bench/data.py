"""The data of a benchmark: Wikimedia's recentchange events, recorded where there are recordings, else made up.

There are some thousand recordings, and more records are needed, so they come round again; each time with an id of their
own of the same length, so that a record that is lost or doubled can be told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from millrace.practice import recentchange
from millrace_pipeline import envelope
from millrace_pipeline.envelope import Record
from millrace_pipeline.moment import timestamp

T = TypeVar("T")

Form: TypeAlias = Callable[[Iterable[bytes]], Iterator[bytes]]
"""How events stand on the list: as they are, in Millrace's envelope, in a peer's."""

GENERATED = 2000
KEY = "BENCH"
"""The list that the records are for."""

MOMENT_MS = 1_795_000_000_000
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


class Events:
    """As many events as one asks for, each the same whenever it is asked for."""

    def __init__(self) -> None:
        folder = Path(os.environ.get("MILLRACE_TEST_DATA") or SHARED)
        self.recording = folder / "recentchange.jsonl"

    @property
    def recorded(self) -> bool:
        return self.recording.is_file()

    @cached_property
    def _originals(self) -> list[tuple[bytes, bytes]]:
        """Events, and the id of each."""
        if self.recorded:
            lines = self.recording.read_bytes().removesuffix(b"\n").split(b"\n")
        else:
            lines = [recentchange.event(1, number, MOMENT_MS + 20 * number) for number in range(GENERATED)]
        return [(line, id_of(line)) for line in lines]

    def one(self, number: int) -> bytes:
        """The JSON of event `number`; its `meta.id` is `unique_id(number)`."""
        line, id = self._originals[number % len(self._originals)]
        return line.replace(id, unique_id(number), 1)

    def some(self, count: int, first: int = 0) -> Iterator[bytes]:
        """So many events in order."""
        return map(self.one, range(first, first + count))

    def dicts(self, count: int) -> list[dict[str, Any]]:
        """The same as Python values."""
        return [msgspec.json.decode(line) for line in self.some(count)]

    @cached_property
    def mean_bytes(self) -> int:
        return sum(len(line) for line, _ in self._originals) // len(self._originals)


class _Meta(msgspec.Struct):
    id: str


class _Event(msgspec.Struct):
    meta: _Meta


_event_decoder = msgspec.json.Decoder(_Event)


def id_of(line: bytes) -> bytes:
    """The `meta.id` of an event."""
    return _event_decoder.decode(line).meta.id.encode()


def unique_id(number: int) -> bytes:
    """As long as a UUID, and shaped like one."""
    return b"%08x-0000-4000-a000-%012x" % (number, number)


def number_of(id: bytes) -> int:
    """Which event has this id."""
    return int(id[:8], 16)


def bare(events: Iterable[bytes]) -> Iterator[bytes]:
    """The events themselves, as in a tutorial."""
    return iter(events)


def enveloped(events: Iterable[bytes], mark: str = KEY) -> Iterator[bytes]:
    """Each event in its envelope, as `millrace produce` puts it on the list."""
    time = timestamp(datetime.fromtimestamp(MOMENT_MS / 1000, UTC))
    for event in events:
        id = id_of(event).decode()
        yield envelope.encode(Record(event, key=id, type="message"), id=id, source="events", time=time, mark=mark)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of so many."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
