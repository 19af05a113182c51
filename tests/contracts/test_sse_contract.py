"""The source contract, by the SSE source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.practice.feed import RecordedEvents
from millrace.practice.stream import PracticeStream
from millrace.testing import FaultyOrigin, FaultySourceContract
from millrace_producer.sources.sse import SseSource

RECORDS: list[Any] = [
    {"n": 0, "text": "plain"},
    {"n": 1, "text": "žluťoučký 水車 🦆"},
    {"n": 2, "text": "a\u2028b\u0085c"},
    {"n": 3, "big": 2**64 - 1},
    ["a list"],
    "a string",
    {"n": 6, "text": "x" * 70_000},
    {"n": 7},
]


class StreamOrigin(FaultyOrigin):
    def __init__(self, stream: PracticeStream) -> None:
        self.stream = stream
        self.expected = list(RECORDS)

    def source(self) -> SseSource:
        return SseSource(url=self.stream.url, max_failures=3, backoff_initial=0.01, backoff_max=0.05)

    def break_off(self, after: int) -> None:
        self.stream.drop_next(after)

    def spoil(self, at: int) -> bytes:
        bad = b'{"n": NaN, "\xff'
        assert isinstance(self.stream.events, RecordedEvents)
        assert self.stream.total is not None
        self.stream.events.lines.insert(at, bad)
        self.stream.total += 1
        return bad

    def refuse(self) -> None:
        self.stream.answer_next(410)

    def fall_over(self) -> None:
        for _ in range(3):
            self.stream.answer_next(503)

    def recover(self) -> None:
        assert self.stream.next_answer() is None

    def held(self) -> int:
        return self.stream.connections


class TestSseSource(FaultySourceContract):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> Iterator[StreamOrigin]:
        recorded = tmp_path / "records.jsonl"
        recorded.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS), "utf-8")
        with PracticeStream(replay=recorded, end=True) as stream:
            yield StreamOrigin(stream)
