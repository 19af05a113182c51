"""Reads a file sink's output again, on disk or in a bucket, and counts: what `millrace verify --sink` rests on.

Files are streamed and records are told apart by 64-bit hashes of what identifies them, kept at 8 bytes a record: ten
million records take 80 MB. That two of so many different ones share a hash has a chance of 1 in 370,000.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise

from pydantic import BaseModel

from millrace_consumer.rows import Damaged, Rows, rows_of, unpacked
from millrace_consumer.sinks.files import FileSink
from millrace_consumer.sinks.places.disk import TEMPORARY

BATCH_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{10}-\d{6,}[ab]*")
"""A batch's id: the session of the consumer that claimed it, its number, and a or b for each time it was split."""

SHOWN = 5
_BUCKETS = 256


@dataclass
class Repeated:
    """One record that the files hold more than once."""

    identity: str
    files: list[str]


@dataclass
class Found:
    """What a sink holds. Names of files are relative to its path."""

    by: str
    """What tells records apart: `envelope id`, the pointer of a key, or `whole record`."""
    files: int = 0
    records: int = 0
    by_batch: Counter[str] = field(default_factory=Counter)
    """Records by batch id."""
    twice: int = 0
    """Copies beyond each record's first."""
    repeated: list[Repeated] = field(default_factory=list)
    """The first few of them, and where they are."""
    unknown: list[str] = field(default_factory=list)
    """Files that no consumer wrote: their name is no batch id. Read all the same where they end as the sink's do."""
    damaged: list[str] = field(default_factory=list)
    """Files that can't be read to their end, and why."""
    leftovers: list[str] = field(default_factory=list)
    """Hidden files of writers that died or are at work: no reader sees them, and an hour later they are swept."""
    unit: str = "file"
    """What `files` counts: files, or tables."""
    upserts: bool = False
    """Whether a record replaces an earlier one of its key, so that fewer records than were delivered are no loss."""


class Readback:
    """The output of one file sink.

    `key` is the JSON pointer of what names a record in its source, for output that doesn't hold the envelope's id.
    """

    def __init__(self, sink: FileSink, *, model: type[BaseModel] | None = None, key: str | None = None) -> None:
        self._place = sink.place
        self._rows: Rows = rows_of(sink, model, key)

    def read(self) -> Found:
        """Reads every file there is."""
        found = Found(self._rows.by)
        hashes = Hashes()
        for name in self._names(found):
            file = name.rpartition("/")[2]
            batch = file[: -len(self._rows.suffix_of(file))]
            if not BATCH_ID.fullmatch(batch):
                found.unknown.append(name)
            try:
                for identity in self._identities(name):
                    hashes.add(hash_of(identity))
                    found.records += 1
                    found.by_batch[batch] += 1
            except FileNotFoundError:
                continue  # renamed or removed since it was listed
            except Damaged as damage:
                found.damaged.append(f"{name}: {damage}")
            found.files += 1
        repeated = hashes.repeated()
        found.twice = sum(repeated.values())
        found.repeated = list(self._where(set(list(repeated)[:SHOWN])))
        return found

    def identities(self) -> Iterator[str]:
        """What identifies each record, of all files; of a damaged one as far as it can be read."""
        for name in self._names(Found("")):
            with suppress(FileNotFoundError, Damaged):
                for identity in self._identities(name):
                    yield identity.decode(errors="replace")

    def _identities(self, name: str) -> Iterator[bytes]:
        with self._place.open(name) as stored, unpacked(name, stored) as file:
            yield from self._rows.identities(file)

    def _names(self, found: Found) -> Iterator[str]:
        """The files that hold records, in a steady order; what else lies there is noted."""
        for name in self._place.names():
            file = name.rpartition("/")[2]
            if TEMPORARY.fullmatch(file):
                found.leftovers.append(name)
            elif file.startswith("."):
                continue
            elif self._rows.suffix_of(file):
                yield name
            else:
                found.unknown.append(name)

    def _where(self, wanted: set[int]) -> Iterator[Repeated]:
        """A second reading, for the few that are shown by name."""
        places: dict[bytes, list[str]] = {}
        for name in self._names(Found("")) if wanted else ():
            with suppress(FileNotFoundError, Damaged):
                for identity in self._identities(name):
                    if hash_of(identity) in wanted:
                        places.setdefault(identity, []).append(name)
        for identity, files in places.items():
            yield Repeated(identity.decode(errors="replace")[:120], files)


class Hashes:
    """Hashes, and which of them came more than once; sorted a part at a time, so that they stay 8 bytes each."""

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(_BUCKETS)]

    def add(self, hashed: int) -> None:
        """One more record."""
        self._parts[hashed % _BUCKETS].append(hashed)

    def repeated(self) -> dict[int, int]:
        """How many copies beyond the first, by hash."""
        copies: dict[int, int] = {}
        for part in self._parts:
            for hashed in _after_equal(sorted(part)):
                copies[hashed] = copies.get(hashed, 0) + 1
        return copies


def _after_equal(values: list[int]) -> Iterable[int]:
    return (value for before, value in pairwise(values) if before == value)


def hash_of(identity: bytes) -> int:
    """64 bits that stand for what identifies a record."""
    return int.from_bytes(blake2b(identity, digest_size=8).digest(), "big")
