"""Feed: which events the practice stream serves, and what is to go wrong with it."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from millrace.practice import recentchange
from millrace.practice.timeline import Timeline


class Visit(NamedTuple):
    """One request for the stream, as it came. Header names are in lower case."""

    path: str
    headers: dict[str, str]


class Answer(NamedTuple):
    """What to answer a request with instead of the stream."""

    status: int
    headers: dict[str, str]
    body: bytes


class Events(Protocol):
    """Where the data of the events comes from."""

    def data(self, number: int, moment_ms: int) -> bytes:
        """The data of event `number`, which happened at that time (milliseconds since 1970)."""


class GeneratedEvents:
    """Events of our own making."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def data(self, number: int, moment_ms: int) -> bytes:
        return recentchange.event(self.seed, number, moment_ms)


class RecordedEvents:
    """The lines of a JSONL file, byte for byte."""

    def __init__(self, path: Path) -> None:
        self.lines = path.read_bytes().removesuffix(b"\n").split(b"\n")

    def data(self, number: int, moment_ms: int) -> bytes:  # noqa: ARG002
        return self.lines[number]


class Feed:
    """Events, when each happens, and how each connection is served: see `PracticeStream` for the options."""

    stopping: threading.Event

    def __init__(
        self,
        *,
        rate: float = 0.0,
        total: int | None = None,
        seed: int = 0,
        start: float | None = None,
        end: bool = False,
        replay: Path | None = None,
        keep_alive: float = 15.0,
        gzip: bool = False,
        chunk_bytes: int | None = None,
    ) -> None:
        self.timeline = Timeline(int((time.time() if start is None else start) * 1000), rate)
        self.events: Events = GeneratedEvents(seed)
        self.total = total
        if replay is not None:
            recorded = RecordedEvents(replay)
            self.events = recorded
            self.total = min(len(recorded.lines), sys.maxsize if total is None else total)
        self.end = end
        self.keep_alive = keep_alive
        self.gzip = gzip
        self.chunk_bytes = chunk_bytes
        self.visits: list[Visit] = []
        self._answers: deque[Answer] = deque()
        self._drops: deque[int] = deque()

    def data(self, number: int) -> bytes:
        """The data of event `number`, as a client gets it."""
        return self.events.data(number, self.timeline.moment_of(number))

    def drop_next(self, *after: int) -> None:
        """The next connections break off in the middle of an event, each after that many whole ones."""
        self._drops.extend(after)

    def answer_next(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """The next request that nothing is set for yet gets this instead of the stream."""
        self._answers.append(Answer(status, dict(headers or {}), body))

    def next_answer(self) -> Answer | None:
        """What the request that asks is to be answered with instead of the stream."""
        with contextlib.suppress(IndexError):
            return self._answers.popleft()
        return None

    def next_drop(self) -> int | None:
        """After how many events the connection that asks is to break off."""
        with contextlib.suppress(IndexError):
            return self._drops.popleft()
        return None
