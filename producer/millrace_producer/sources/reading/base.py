"""A file being read: records, and where in the file each of them ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import BinaryIO

from millrace_producer.sources.base import DeadLetter, Record
from millrace_producer.sources.fields import BYTE_ORDER_MARK, Fields
from millrace_producer.sources.reading.files import unreadable
from millrace_producer.sources.reading.lines import Head, Lines
from millrace_producer.sources.reading.packed import DAMAGED
from millrace_producer.sources.reading.place import FilePlace

BLANK = b" \t\r\n"
"""What JSON has for white space."""

SHOWN_BYTES = 64 * 1024


class Reading(ABC):
    """One file from an offset on. What an offset counts is the format's own affair."""

    offset: int
    """Behind the last record that was given."""
    damaged: bool = False
    """Whether it can't be read any further."""
    rest: bool = False
    """Whether something stands behind it that may be half of a record."""

    @abstractmethod
    def records(self, final: bool) -> Iterator[Record | DeadLetter]:
        """What follows the offset and is there now. `final`: the file is complete, and so is its last record."""

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""

    @abstractmethod
    def go_on(self, offset: int) -> None:
        """Goes on at an offset. Called before anything is read."""

    @property
    def recoded(self) -> bool:
        """True where its bytes, and so its offsets, are others than the file's own."""
        return False

    def head(self, length: int) -> bytes:  # noqa: ARG002
        """Return its beginning, so many bytes at most. Called before anything is read."""
        return b""

    @property
    @abstractmethod
    def mark(self) -> str:
        """What tells the content up to the offset from any other under the file's name."""

    def place(self, file: str, *, changed: int | None = None, inode: int | None = None) -> FilePlace:
        """Where it stands."""
        return FilePlace(file, None if self.damaged else self.offset, self.mark, changed, inode)


class Unreadable(Reading):
    """A file that can't be read at all."""

    def __init__(self, file: BinaryIO, mark: str | None, why: Exception) -> None:
        self.offset = 0
        self._file = file
        self._mark = mark or Head().text
        self._why = why

    def records(self, final: bool) -> Iterator[Record | DeadLetter]:  # noqa: ARG002
        raise self._why

    def close(self) -> None:
        self._file.close()

    def go_on(self, offset: int) -> None:
        """See `Reading.go_on`."""

    @property
    def mark(self) -> str:
        return self._mark


class ByLines(Reading):
    """A reading of lines."""

    _lines: Lines

    @property
    def recoded(self) -> bool:
        return self._lines.recoded

    def head(self, length: int) -> bytes:
        return self._lines.head(length)

    def close(self) -> None:
        self._lines.close()


class LineReading(ByLines):
    """A record a line."""

    def __init__(
        self,
        lines: Lines,
        make: Callable[[bytes], Record | DeadLetter],
        *,
        limit: int,
        blank: bytes = BLANK,
        mark: str | None = None,
    ) -> None:
        """`blank` are the bytes of which a line that is passed over is made."""
        self.offset = 0
        self._mark = mark
        self._lines = lines
        self._make = make
        self._limit = limit
        self._blank = blank
        self._head = Head()

    def go_on(self, offset: int) -> None:
        self._head = Head(self._lines.head(offset))
        self._lines.skip_to(offset)
        self.offset = offset

    def records(self, final: bool) -> Iterator[Record | DeadLetter]:
        for line, offset in self._lines.upto_now(final):
            if self._head.left:
                self._head.add(line)
                if self.offset == 0:
                    line = line.removeprefix(BYTE_ORDER_MARK)
            self.offset = offset
            if len(line) > self._limit:
                yield too_long(line, self._limit)
            elif (text := line.removesuffix(b"\n").removesuffix(b"\r")).strip(self._blank):
                yield self._make(text)
        self.rest = self._lines.rest

    @property
    def mark(self) -> str:
        return self._mark or self._head.text


def records_of(reading: Reading, name: str, *, final: bool) -> Iterator[Record | DeadLetter]:
    """The reading's records; where the file is damaged, a dead letter that says so is the last of them.

    Raises SourceUnavailable where the file can't be read.
    """
    damage: Exception
    try:
        yield from reading.records(final)
        return
    except _damages() as error:
        damage = error
    except OSError as error:
        if error.errno is not None:
            raise unreadable(name, error) from error
        damage = error  # Arrow's own, of what it read
    reason = f"{name} is damaged behind offset {reading.offset}: {damage}"
    reading.damaged = True
    yield DeadLetter(name.encode(), reason)


def _damages() -> tuple[type[Exception], ...]:
    """Return what a damaged file raises; asked for when something is raised, since Arrow takes long to import."""
    import pyarrow as pa

    return (*DAMAGED, pa.ArrowException)


def too_long(line: bytes, limit: int) -> DeadLetter:
    """A dead letter for a line that doesn't fit, with as much of it as a person may want to see."""
    return DeadLetter(line[:SHOWN_BYTES], f"a line longer than max_line_bytes, {limit}: this is its beginning")


def json_line(fields: Fields, encoding: str) -> Callable[[bytes], Record | DeadLetter]:
    """Makes a record of a line: the JSON stays byte for byte what it is, unless it isn't UTF-8."""
    if encoding == "utf-8":
        return fields.record

    def recoded(line: bytes) -> Record | DeadLetter:
        try:
            return fields.record(line.decode(encoding).encode())
        except UnicodeDecodeError as error:
            return DeadLetter(line, not_encoded(error, encoding))

    return recoded


def text_line(encoding: str) -> Callable[[bytes], Record | DeadLetter]:
    """Makes a record of a line: a string."""

    if encoding == "utf-8":
        return Fields("text").record

    def record(line: bytes) -> Record | DeadLetter:
        try:
            return Record(line.decode(encoding))
        except UnicodeDecodeError as error:
            return DeadLetter(line, not_encoded(error, encoding))

    return record


def not_encoded(error: UnicodeDecodeError, encoding: str) -> str:
    """Why bytes are no text, as a dead letter says it."""
    return f"not {encoding.upper()}: byte {error.object[error.start]:#04x} at offset {error.start}"
