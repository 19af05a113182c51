"""Packed files: what gzip and Zstandard have made of them, undone while it is read."""

from __future__ import annotations

import gzip
import io
from typing import Any, BinaryIO, Literal, cast
from zlib import error as ZlibError

Compression = Literal["none", "gzip", "zstd"]

PACKED: dict[str, Compression] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
"""What the end of a name says."""

DAMAGED = (EOFError, gzip.BadGzipFile, ZlibError)
"""What gzip raises on a file that ends too early or holds something else. Arrow says OSError, without a number."""

UNPACKED_BYTES = 1 << 16
"""So much is unpacked at once, and so much of a damaged file may be lost before the damage."""


def unpacked(file: BinaryIO, compression: Compression) -> BinaryIO:
    """The file as it was before it was compressed. Can be sought in, forwards at the price of unpacking."""
    if compression == "gzip":
        return cast(BinaryIO, io.BufferedReader(_Gzip(file), UNPACKED_BYTES))
    if compression == "zstd":
        return cast(BinaryIO, io.BufferedReader(_Zstd(file), UNPACKED_BYTES))
    return file


class _Gzip(gzip.GzipFile):
    """Closes what it unpacks, which Python's own doesn't."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._packed = file

    def close(self) -> None:
        super().close()
        self._packed.close()


class _Zstd(io.RawIOBase):
    """Arrow unpacks Zstandard, here as a file of Python's."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begin()

    def _begin(self) -> None:
        import pyarrow as pa  # only here: it takes long, and what isn't packed needs none

        self._unpacking: Any = pa.CompressedInputStream(pa.PythonFile(_Lent(self._file), mode="r"), "zstd")
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        if offset < self._at:
            self._file.seek(0)
            self._begin()
        while self._at < offset and self.read(min(UNPACKED_BYTES, offset - self._at)):
            pass
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        piece = self._unpacking.read(len(buffer))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._unpacking.close()
            self._file.close()
        super().close()


class _Lent:
    """A file for Arrow to read, and not to close: it does so whenever it is done with it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read

    def close(self) -> None:
        """Leaves it open."""
