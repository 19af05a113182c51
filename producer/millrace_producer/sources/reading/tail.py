"""A tail: one file that grows, followed across its rotation.

Whether the file was renamed and made anew, or copied and cut to nothing, is seen by its inode, its size and its
beginning. What it held is then read to its end where it lies now, and so are the files that were rotated after it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import sleep, time_ns
from typing import BinaryIO, NamedTuple

from millrace_producer import trouble
from millrace_producer.sources.base import DeadLetter, Record, SourceUnavailable
from millrace_producer.sources.reading.base import Reading, records_of
from millrace_producer.sources.reading.files import unreadable
from millrace_producer.sources.reading.lines import HEAD_BYTES, Head
from millrace_producer.sources.reading.packed import DAMAGED, PACKED, Compression, unpacked
from millrace_producer.sources.reading.place import FilePlace

log = logging.getLogger(__name__)

Came = Iterator[Record | DeadLetter]


class _Found(NamedTuple):
    """A file that is the followed one, or once was."""

    path: Path
    inode: int
    size: int
    changed: int

    @property
    def compression(self) -> Compression:
        return PACKED.get(self.path.suffix, "none")


class Tail:
    """Follows the file at a path. `begin` makes a reading of an open file from its start."""

    def __init__(
        self, path: str, begin: Callable[[BinaryIO, Compression], Reading], *, interval: float, settle: float
    ) -> None:
        self._path = Path(path).expanduser()
        self._begin = begin
        self._interval = interval
        self._settle = settle
        stem, suffix = re.escape(self._path.stem), re.escape(self._path.suffix)
        number = r"[._-]\d[\d.:T_-]*"
        self._is_rotated = re.compile(rf"(?:{stem}{suffix}{number}|{stem}{number}{suffix})(?:\.gz|\.zst)?").fullmatch

    def records(self, place: FilePlace | None) -> Came:
        """What follows the place. Never ends."""
        offset = 0
        if place is not None and place.offset:
            found = self._find(place)
            if found is not None and found.path == self._path:
                offset = place.offset
            else:
                yield from self._remote(found, place)
        while True:
            yield from self._follow(offset)
            offset = 0

    def _follow(self, offset: int) -> Came:
        """The file at the path from an offset on, until another stands there and this one is read to its end."""
        while self._look(self._path) is None:
            sleep(self._interval)
        with self._open(self._path) as file, closing(self._reading(file, "none", offset)) as reading:
            trouble.over()
            while True:
                now = os.fstat(file.fileno())
                ours = reading.place(str(self._path), inode=now.st_ino)
                if now.st_size < reading.offset or not _begins_as(ours, os.pread(file.fileno(), HEAD_BYTES, 0)):
                    yield from self._remote(self._find(ours, but=self._path), ours)
                    return
                there = self._look(self._path)
                moved = there is not None and there.inode != now.st_ino
                is_over = moved and self._settled(now.st_mtime_ns)
                yield from self._placed(reading, now.st_ino, final=is_over)
                if is_over:
                    yield from self._rotated_after(now.st_mtime_ns, now.st_ino)
                    return
                sleep(self._interval)

    def _remote(self, found: _Found | None, place: FilePlace) -> Came:
        """The rest of a file that was rotated away, and those that were rotated after it."""
        if found is None:
            log.warning("%s was replaced and isn't found: what it held behind %s is lost", place.file, place.offset)
            return
        yield from self._whole(found, place.offset or 0)
        yield from self._rotated_after(found.changed, found.inode)

    def _rotated_after(self, changed: int, inode: int) -> Came:
        """Files that were rotated after one that was changed last at this time."""
        later = [file for file in self._siblings() if file.changed > changed and file.inode != inode]
        for file in sorted(later, key=lambda file: file.changed):
            yield from self._whole(file, 0)

    def _whole(self, found: _Found, offset: int) -> Came:
        """A file that was rotated away, from an offset on, once nobody writes to it any more."""
        while not self._settled(found.changed):
            sleep(self._interval)
            found = next((file for file in self._siblings() if file.inode == found.inode), found)
        with self._open(found.path) as file:
            if os.fstat(file.fileno()).st_ino != found.inode:
                raise SourceUnavailable(f"{found.path} was rotated once more while it was looked for")
            with closing(self._reading(file, found.compression, offset)) as reading:
                yield from self._placed(reading, found.inode, final=True)

    def _placed(self, reading: Reading, inode: int, *, final: bool) -> Came:
        for record in records_of(reading, str(self._path), final=final):
            record.position = reading.place(str(self._path), inode=inode)
            yield record

    def _find(self, place: FilePlace, but: Path | None = None) -> _Found | None:
        """The file that the place is in, wherever it lies now: by its inode, and by how it begins."""
        here = self._look(self._path)
        files = [*([here] if here else []), *sorted(self._siblings(), key=lambda file: -file.changed)]
        for file in sorted(files, key=lambda file: file.inode != place.inode):
            is_long_enough = file.compression != "none" or file.size >= (place.offset or 0)
            if file.path != but and is_long_enough and _begins_as(place, self._head(file)):
                return file
        return None

    def _head(self, file: _Found) -> bytes:
        with self._open(file.path) as opened, closing(unpacked(opened, file.compression)) as plain:
            try:
                return plain.read(HEAD_BYTES)
            except (*DAMAGED, OSError):
                return b""

    def _siblings(self) -> list[_Found]:
        """The files beside it that were rotated away, by their names; one that is being packed, unpacked only."""
        try:
            names = {path.name: path for path in self._path.parent.iterdir() if self._is_rotated(path.name)}
        except OSError as error:
            raise unreadable(str(self._path.parent), error) from error
        found = (self._look(path) for name, path in names.items() if name.removesuffix(path.suffix) not in names)
        return [file for file in found if file is not None]

    def _look(self, path: Path) -> _Found | None:
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(str(path), error) from error
        return _Found(path, found.st_ino, found.st_size, found.st_mtime_ns)

    def _open(self, path: Path) -> BinaryIO:
        try:
            return path.open("rb", buffering=1 << 18)
        except OSError as error:  # a file that was there a moment ago is renamed, most likely
            raise unreadable(str(path), error) from error

    def _reading(self, file: BinaryIO, compression: Compression, offset: int) -> Reading:
        reading = self._begin(file, compression)
        if offset:
            reading.go_on(offset)
        return reading

    def _settled(self, changed: int) -> bool:
        age = (time_ns() - changed) / 1e9
        return age >= self._settle or age < -self._settle  # the clock that set it isn't ours


def _begins_as(place: FilePlace, head: bytes) -> bool:
    """Whether a file that begins with these bytes is the one that the place is in."""
    return Head(head[: place.offset]).text == place.mark
