"""Read-back: a sink's output read again and counted, which is what `millrace verify --sink` rests on.

Records are told apart by 64-bit hashes of what identifies them, kept at 8 bytes a record: ten million records take
80 MB. That two of so many different ones share a hash has a chance of 1 in 370,000.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from typing import Any, ClassVar

from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.surrogates import in_utf8

BATCH_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{10}(-later)?-\d{6,}[ab]*")
"""A batch's id: the session of the consumer that claimed it or, with a d, put it off, its number, and a or b for each
time it was split."""

WHOLE = "whole record"
ENVELOPE_ID = "envelope id"

SHOWN = 5
_BUCKETS = 256


@dataclass
class Repeated:
    """One record that is there more than once."""

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


class Readback(ABC):
    """The output of one sink, which may be read again and again; `by` is what tells its records apart."""

    unit: ClassVar[str] = "file"
    """What the output consists of."""

    def __init__(self, by: str) -> None:
        self.by = by

    @abstractmethod
    def records(self, found: Found) -> Iterator[tuple[str, bytes]]:
        """Yields where each record lies and what identifies it, and notes in `found` how many there are.

        So it does with the batches that they are of, and with what is damaged, which it reads as far as that goes, or
        unknown. Raises SinkUnavailable where the sink's place can't be reached.
        """

    def opened(self) -> AbstractContextManager[object]:
        """Hold what `records` reads, as it is at one instant, where that takes something to be held."""
        return nullcontext()

    def read(self) -> Found:
        """Reads all there is and counts. Raises as `records` does."""
        found = Found(self.by, unit=self.unit)
        hashes = Hashes()
        with self.opened():
            for _, identity in self.records(found):
                hashes.add(_hash_of(identity))
            repeated = hashes.repeated()
            found.twice = sum(repeated.values())
            found.repeated = list(self._where(set(list(repeated)[:SHOWN])))
        return found

    def identities(self) -> Iterator[str]:
        """Yields what identifies each record; of what is damaged as far as it can be read."""
        for _, identity in self.placed(Found(self.by)):
            yield identity.decode(errors="replace")

    def placed(self, found: Found) -> Iterator[tuple[str, bytes]]:
        """Yields as `records` does, and holds meanwhile what that takes; nothing is kept of what went by."""
        with self.opened():
            yield from self.records(found)

    def _where(self, wanted: set[int]) -> Iterator[Repeated]:
        """Reads a second time, for the few that are shown by name."""
        places: dict[bytes, list[str]] = {}
        for place, identity in self.records(Found(self.by)) if wanted else ():
            if _hash_of(identity) in wanted:
                places.setdefault(identity, []).append(place)
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
        copies: Counter[int] = Counter()
        for part in self._parts:
            copies.update(value for before, value in pairwise(sorted(part)) if before == value)
        return copies


def _hash_of(identity: bytes) -> int:
    """64 bits that stand for what identifies a record."""
    return int.from_bytes(blake2b(identity, digest_size=8).digest(), "big")


def named(value: Any) -> bytes | None:
    """A key as bytes: text as it is, anything else as JSON; None where there is none."""
    if value is None or value == "":
        return None
    return in_utf8(value).encode() if isinstance(value, str) else encode_json(value)
