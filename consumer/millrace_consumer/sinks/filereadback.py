"""Files, on disk or in a bucket, streamed again: which of them a batch wrote, which are damaged, which are others'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from millrace_consumer.readback import BATCH_ID, Found, Readback
from millrace_consumer.sinks.places.base import Place
from millrace_consumer.sinks.places.disk import TEMPORARY


class Damaged(Exception):
    """A file that can't be read to its end. The message says why."""


class FileReadback(Readback):
    """The files of one sink.

    `suffixes` are the ends of their names, whatever the sink's options were when they were written, the longest first.
    `identities` gives what identifies each record of a file, by its name and content, in order; it raises Damaged.
    """

    def __init__(
        self, place: Place, suffixes: tuple[str, ...], by: str, identities: Callable[[str, BinaryIO], Iterator[bytes]]
    ) -> None:
        super().__init__(by)
        self._place = place
        self._suffixes = suffixes
        self._identities = identities

    def records(self, found: Found) -> Iterator[tuple[str, bytes]]:
        """See `Readback.records`. Files come in a steady order."""
        for name in self._place.names():
            file = name.rpartition("/")[2]
            suffix = next((suffix for suffix in self._suffixes if file.endswith(suffix)), "")
            if TEMPORARY.fullmatch(file):
                found.leftovers.append(name)
            elif file.startswith("."):
                continue
            elif suffix:
                yield from self._records_of(name, file.removesuffix(suffix), found)
            else:
                found.unknown.append(name)

    def _records_of(self, name: str, batch: str, found: Found) -> Iterator[tuple[str, bytes]]:
        if not BATCH_ID.fullmatch(batch):
            found.unknown.append(name)
        try:
            with self._place.open(name) as file:
                for identity in self._identities(name, file):
                    found.records += 1
                    found.by_batch[batch] += 1
                    yield name, identity
        except FileNotFoundError:
            return  # renamed or removed since it was listed
        except Damaged as damage:
            found.damaged.append(f"{name}: {damage}")
        found.files += 1
