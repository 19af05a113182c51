"""Reads a file sink's output again, record by record, and counts: what `millrace verify --sink` rests on.

Files are streamed and records are told apart by 64-bit hashes of what identifies them, kept at 8 bytes a record: ten
million records take 80 MB. That two of so many different ones share a hash has a chance of 1 in 370,000.
"""

from __future__ import annotations

import os
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel

from consumer.rows import Damaged, Rows, rows_of
from consumer.sinks.durable import TEMPORARY
from consumer.sinks.files import FileSink

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
    """What lies in a sink's directory. Paths are relative to it."""

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


class Readback:
    """The output of one file sink.

    `key` is the JSON pointer of what names a record in its source, for output that doesn't hold the envelope's id.
    """

    def __init__(self, sink: FileSink, *, model: type[BaseModel] | None = None, key: str | None = None) -> None:
        self.directory = sink.path
        self._rows: Rows = rows_of(sink, model, key)

    def read(self) -> Found:
        """Reads every file there is."""
        found = Found(self._rows.by)
        hashes = _Hashes()
        for path in self._paths(found):
            name = str(path.relative_to(self.directory))
            batch = path.name[: -len(self._rows.suffix_of(path.name))]
            if not BATCH_ID.fullmatch(batch):
                found.unknown.append(name)
            try:
                for identity in self._rows.identities(path):
                    hashes.add(_hash(identity))
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
        for path in self._paths(Found("")):
            with suppress(FileNotFoundError, Damaged):
                for identity in self._rows.identities(path):
                    yield identity.decode(errors="replace")

    def _paths(self, found: Found) -> Iterator[Path]:
        """The files that hold records, in a steady order; what else lies there is noted."""
        for folder, folders, names in os.walk(self.directory):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if TEMPORARY.fullmatch(name):
                    found.leftovers.append(str(path.relative_to(self.directory)))
                elif name.startswith("."):
                    continue
                elif self._rows.suffix_of(name):
                    yield path
                else:
                    found.unknown.append(str(path.relative_to(self.directory)))

    def _where(self, wanted: set[int]) -> Iterator[Repeated]:
        """A second reading, for the few that are shown by name."""
        places: dict[bytes, list[str]] = {}
        for path in self._paths(Found("")) if wanted else ():
            with suppress(FileNotFoundError, Damaged):
                for identity in self._rows.identities(path):
                    if _hash(identity) in wanted:
                        places.setdefault(identity, []).append(str(path.relative_to(self.directory)))
        for identity, files in places.items():
            yield Repeated(identity.decode(errors="replace")[:120], files)


class _Hashes:
    """Hashes, and which of them came more than once; sorted a part at a time, so that they stay 8 bytes each."""

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(_BUCKETS)]

    def add(self, hashed: int) -> None:
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


def _hash(identity: bytes) -> int:
    return int.from_bytes(blake2b(identity, digest_size=8).digest(), "big")
