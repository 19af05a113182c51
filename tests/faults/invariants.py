"""The five things that must hold after every fault, checked against files and Redis.

**C** complete: every acknowledged publish is in sink ∪ ready ∪ in flight ∪ dead, and the books balance.
**S** sound: what is there is what was published, byte for byte, and nothing else.
**D** distinct: nothing is twice in the files.
**L** live: a fresh record is delivered.
**B** bounded: no process holds more memory than it was allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import redis

from millrace_pipeline import envelope
from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.moment import now
from tests.conftest import eventually
from tests.queues import Queue

PROBE = b'{"probe":"'


class _Numbered(msgspec.Struct):
    n: int


def number_in(data: bytes) -> int:
    """What a record of `tests.faults.counting` is known by."""
    return msgspec.json.decode(data, type=_Numbered).n


class Invariants:
    """Remembers what was published on one list, and compares it with the files of its sink and with Redis.

    `files` is the directory of a `jsonl` sink. A record is known by what `id_of` finds in its data. `checked` collects
    the letters of what was checked and held.
    """

    def __init__(self, url: str, key: str, files: Path, *, id_of: Callable[[bytes], Any] = number_in) -> None:
        self._client = redis.Redis.from_url(url)
        self._queue = Queue(url, key)
        self._files = files
        self._id_of = id_of
        self._published: dict[Any, bytes] = {}
        self._acknowledged: set[Any] = set()
        self._probes = 0
        self.checked: list[str] = []

    def published(self, data: Iterable[bytes], *, acknowledged: bool = True) -> None:
        """These records were put on the list, or (not acknowledged) may have been."""
        ids = {self._id(text): text for text in data}
        self._published |= ids
        if acknowledged:
            self._acknowledged |= ids.keys()

    def forget_acknowledged(self) -> None:
        """What was acknowledged until now may be lost: Redis itself has forgotten it."""
        self._acknowledged.clear()

    def check_complete(self) -> None:
        """C. Raises AssertionError with some of what is missing."""
        where = self._everywhere()
        missing = sorted(self._acknowledged - where.keys(), key=str)
        assert not missing, f"{len(missing)} acknowledged records are nowhere: {missing[:10]} …"
        books = self._queue.books()
        assert books.difference == 0, books
        self._held("C")

    def check_sound(self) -> None:
        """S. Raises AssertionError with some of what is wrong."""
        for id, texts in self._everywhere().items():
            assert id in self._published, f"{id} was never published: {texts[0][:200]!r}"
            assert set(texts) == {self._published[id]}, f"{id} has changed: {texts[0][:200]!r}"
        self._held("S")

    def check_distinct(self) -> None:
        """D. Raises AssertionError with some of what is twice."""
        twice = {id: count for id, count in Counter(map(self._id, self.in_files())).items() if count > 1}
        assert not twice, f"{len(twice)} records are in the files more than once: {sorted(twice.items())[:10]} …"
        self._held("D")

    def check_live(self, seconds: float = 30.0) -> None:
        """L: somebody must be consuming. Raises AssertionError."""
        self._probes += 1
        probe = PROBE + b'%d"}' % self._probes
        line = envelope.encode(
            envelope.Record(probe),
            id=f"probe-{self._probes}",
            source="probe",
            time=now(),
            mark=self._queue.keys.ready,
        )
        self._queue.publish([line])
        eventually(lambda: probe in self.in_files(), seconds)
        self.published([probe])
        self._held("L")

    def check_bounded(self, pid: int | str, megabytes: int) -> None:
        """B, by the most memory the process ever held. Raises AssertionError."""
        held = peak_megabytes(pid)
        assert held <= megabytes, f"process {pid} held {held} MB, more than {megabytes}"
        self._held("B")

    def all_delivered(self) -> bool:
        """Whether every acknowledged record is in the files, and nothing waits or is in flight."""
        return self._queue.lag() == 0 and {self._id(line) for line in self.in_files()} >= self._acknowledged

    def in_files(self) -> list[bytes]:
        """Every line of every finished file: what a reader sees, who leaves hidden files alone."""
        paths = [path for path in self._files.rglob("*.jsonl") if not path.name.startswith(".")]
        return [line for path in paths for line in path.read_bytes().splitlines()]

    def on_the_list(self) -> list[bytes]:
        """Every line that is ready or in flight, or a dead letter's."""
        keys, client = self._queue.keys, self._client
        lines: list[bytes] = [*client.lrange(keys.ready, 0, -1), *client.lrange(keys.woken, 0, -1)]
        for id, text in client.hgetall(keys.claims).items():
            for part in keys.parts(id.decode(), int(msgspec.json.decode(text)["steps"])):
                lines += client.lrange(part, 0, -1)
        return lines + [letter[b"record"] for _, letter in client.xrange(keys.dead)]

    def close(self) -> None:
        self._client.close()
        self._queue.close_all()

    def _id(self, data: bytes) -> Any:
        return data if data.startswith(PROBE) else self._id_of(data)

    def _everywhere(self) -> dict[Any, list[bytes]]:
        where: dict[Any, list[bytes]] = {}
        for text in (*self.in_files(), *map(_data, self.on_the_list())):
            where.setdefault(self._id(text), []).append(text)
        return where

    def _held(self, letter: str) -> None:
        if letter not in self.checked:
            self.checked.append(letter)


def forget_peak(pid: int | str) -> int:
    """Makes `peak_megabytes` count from now on. Returns what the process holds. Linux only."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_megabytes(pid)


def peak_megabytes(pid: int | str) -> int:
    """The most memory that a process ever held (VmHWM); `self` is this one. Linux only."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def _data(line: bytes) -> bytes:
    try:
        return envelope.decode(line, foreign_id=str).text
    except EnvelopeError:
        return line
