"""The source contract, by the stdin source: pipes and connections as this process's own standard input."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from millrace.testing import FaultyOrigin, FaultySourceContract, read, value_of
from millrace_pipeline.envelope import DeadLetter
from millrace_producer.sources.stdin import StdinSource

RECORDS: list[Any] = [
    {"n": 0, "text": "plain"},
    {"n": 1, "text": "žluťoučký 水車 🦆"},
    {"n": 2, "text": "a\u2028b\u0085c\nd"},
    {"n": 3, "big": 2**64 - 1},
    ["a list"],
    "a string",
    {"n": 6, "text": "x" * 200_000},
    {"n": 7},
    {"n": 90, "text": "cut in half \ud83d, the other \ude00", "\udc00": 1},
]


class PipeOrigin(FaultyOrigin):
    """Each `source` reads a new program, whose lines come through a pipe."""

    def __init__(self) -> None:
        self.expected = list(RECORDS)
        self.lines = [
            json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n" for record in RECORDS
        ]
        self.half: int | None = None
        self._gone = False
        self._down = False
        self._writers: list[threading.Thread] = []

    def source(self) -> StdinSource:
        if self._gone:
            os.close(0)
        elif self._down:
            _put_on_stdin(_reset_connection())
        else:
            reading, writing = os.pipe()
            _put_on_stdin(reading)
            writer = threading.Thread(target=_write, args=(writing, self._text()), daemon=True)
            writer.start()
            self._writers.append(writer)
        return StdinSource()

    def break_off(self, after: int) -> None:
        self.half = after

    def spoil(self, at: int) -> bytes:
        bad = b'{"n": NaN, "\xff'
        self.lines.insert(at, bad + b"\n")
        return bad

    def refuse(self) -> None:
        self._gone = True

    def fall_over(self) -> None:
        self._down = True

    def recover(self) -> None:
        self._down = False

    def held(self) -> int:
        return 0

    def close(self, stdin: int) -> None:
        """Gives the test's own input back; who still writes hears that nobody reads."""
        _put_on_stdin(stdin)
        for writer in self._writers:
            writer.join(20)

    def _text(self) -> bytes:
        if self.half is None:
            return b"".join(self.lines)
        return b"".join(self.lines[: self.half]) + self.lines[self.half][:4]


def _put_on_stdin(descriptor: int) -> None:
    os.dup2(descriptor, 0)
    os.close(descriptor)


def _write(descriptor: int, text: bytes) -> None:
    with os.fdopen(descriptor, "wb") as pipe, contextlib.suppress(BrokenPipeError):
        pipe.write(text)


def _reset_connection() -> int:
    """A connection that the other side has reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    return ours.detach()


class TestStdinSource(FaultySourceContract):
    replays = False

    @pytest.fixture
    def origin(self) -> Iterator[PipeOrigin]:
        stdin = os.dup(0)
        origin = PipeOrigin()
        yield origin
        origin.close(stdin)

    @pytest.mark.parametrize("after", [0, 1, 3])
    def test_a_source_that_breaks_off_neither_loses_nor_doubles_a_record(self, origin: PipeOrigin, after: int) -> None:
        """A program that dies in the middle of a line can't be told from one that has ended: half a line is kept."""
        origin.break_off(after)
        *whole, half = origin.source().read(None)
        assert [value_of(record) for record in whole] == RECORDS[:after]
        assert isinstance(half, DeadLetter)
        assert half.original == origin.lines[after][:4]

    def test_the_same_source_reads_again_from_the_start(self, origin: PipeOrigin) -> None:
        """What was read from a pipe is not in it any more."""
        source = origin.source()
        assert read(source) == RECORDS
        assert read(source) == []
