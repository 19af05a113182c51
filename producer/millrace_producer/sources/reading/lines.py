"""Lines of a file, with where each ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO
from zlib import crc32

from millrace_producer.sources.encodings import Recoded

HEAD_BYTES = 1024
"""So much of a file's beginning tells it from another: what only grows keeps it."""

SKIP_BYTES = 1 << 20

_NEWLINE = ord("\n")


class Lines:
    """The whole lines of a file from where it stands on, as `(bytes with the line end, offset behind it)`.

    A last line without its newline is given only where `final` says that the file is complete. One longer than `limit`
    comes cut to `limit + 1` bytes, whoever reads it sees that by its length.
    """

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._read = 0
        """The offset behind the last whole line that was read."""
        self.rest = False
        """Whether the file, when it was last read, ended with a line that has no newline yet."""

    def upto_now(self, final: bool) -> Iterator[tuple[bytes, int]]:
        """The lines that are there now. May be called again when there are more."""
        self.rest = False
        readline, most = self._file.readline, self._limit + 1
        while line := readline(most):
            if line[-1] == _NEWLINE:
                self._read += len(line)
                yield line, self._read
                continue
            length, whole = len(line), False
            while not whole and (more := self._file.readline(SKIP_BYTES)):
                length, whole = length + len(more), more.endswith(b"\n")
            if not (whole or final):
                self.rest = True
                self._file.seek(self._read)
                return
            self._read += length
            yield line, self._read
        if isinstance(self._file, Recoded):
            if final:
                self._file.end()
            self.rest = self._file.is_cut

    @property
    def recoded(self) -> bool:
        """True where its bytes are others than the file's own."""
        return isinstance(self._file, Recoded)

    def head(self, offset: int) -> bytes:
        """What the file begins with, as far as that was read by this offset. Goes back to the beginning."""
        self._file.seek(0)
        head = self._file.read(min(offset, HEAD_BYTES))
        self.skip_to(0)
        return head

    def skip_to(self, offset: int) -> None:
        """Goes on at an offset, which is behind a line."""
        self._file.seek(offset)
        self._read = offset

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Head:
    """The beginning of a file as a checksum: that of its first 1024 bytes, or of all that was read, if that is less."""

    def __init__(self, read: bytes = b"") -> None:
        self._sum = 0
        self.left = HEAD_BYTES
        """So many bytes may still be added; any more make no difference."""
        self.text = ""
        self.add(read)

    def add(self, more: bytes) -> None:
        """What was read next."""
        more = more[: self.left]
        self._sum = crc32(more, self._sum)
        self.left -= len(more)
        self.text = f"{self._sum:08x}"
