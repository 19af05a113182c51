"""Encodings: UTF-16 and UTF-32, in which a line ends with several bytes, told and made UTF-8 while it is read."""

from __future__ import annotations

import codecs
import io
from typing import Annotated, Any, BinaryIO, NamedTuple, cast

from pydantic import AfterValidator

WIDE = frozenset({"utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"})
"""The names of encodings whose characters have two bytes or four, as Python has them."""

HEAD = 4
"""So many bytes tell how a text is encoded."""

PIECE_BYTES = 1 << 16

MOST_TIMES_LONGER = 3
"""A text in UTF-16 or UTF-32 is at most so many times as long in UTF-8, half characters as escapes."""

_MARKS = (  # the longer first: UTF-16's is how UTF-32's begins
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_ZEROS = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}
"""The places of zeros in two or more letters of ASCII, with which all JSON and XML begins."""


class Undecodable(EOFError):
    """A text is not what its encoding has. The message says why."""


class Encoded(NamedTuple):
    """The encoding of a text, and the length of the mark that stands before it."""

    name: str
    mark: int = 0

    @property
    def is_wide(self) -> bool:
        """True where a line ends with more than one byte."""
        return self.name in WIDE


def marked(head: bytes) -> Encoded | None:
    """Return what a byte order mark at the beginning says; None where there is none."""
    return next((Encoded(name, len(mark)) for mark, name in _MARKS if head.startswith(mark)), None)


def unmarked(head: bytes) -> str | None:
    """Return which of UTF-16 and UTF-32 a text looks like that has no byte order mark; None for neither."""
    return _ZEROS.get(tuple(byte == 0 for byte in head[:HEAD])) if 0 in head[:HEAD] else None  # type: ignore[arg-type]


def encoding_of(head: bytes, said: str, *, may_have_zeros: bool) -> Encoded:
    """Return how a text is encoded: as its mark says, else as was `said`, unless that is UTF-8 and the text is not.

    `said` without an order of bytes is that of the letters, else little-endian. Raises Undecodable for a text that
    `may_have_zeros` and has them as UTF-16 does: it is UTF-8 too, and nobody said which of them is meant.
    """
    if found := marked(head):
        return found
    looks_like = unmarked(head)
    if said in ("utf-16", "utf-32"):
        return Encoded(looks_like if looks_like and looks_like.startswith(said) else f"{said}-le")
    if said not in ("utf-8", "ascii") or looks_like is None:
        return Encoded(said)
    if may_have_zeros:
        raise Undecodable(f"it looks like {looks_like.upper()} without a byte order mark: say encoding: {looks_like}")
    return Encoded(looks_like)


class Recoder:
    """Makes UTF-8 of what comes piece by piece. Half a character is a JSON escape with `escapes`, else no UTF-8."""

    def __init__(self, encoding: str, *, escapes: bool) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._encoding = encoding
        self._errors = "backslashreplace" if escapes else "surrogatepass"

    def recode(self, piece: bytes) -> bytes:
        """Return what is whole by now. Raises Undecodable."""
        try:
            return self._decoder.decode(piece).encode("utf-8", self._errors)
        except UnicodeDecodeError as error:
            raise Undecodable(f"not {self._encoding.upper()}: {error.reason}") from None

    @property
    def is_cut(self) -> bool:
        """True where what has come ends within a character."""
        return bool(self._decoder.getstate()[0])

    def end(self) -> None:
        """Raise Undecodable where it ends within a character."""
        if self.is_cut:
            raise Undecodable(f"it ends within a character of {self._encoding.upper()}")


class Recoded(io.BufferedReader):
    """A file in UTF-8 that is another in UTF-16 or UTF-32. Can be sought in, at the price of reading from its start."""

    def __init__(self, file: BinaryIO, encoded: Encoded, *, escapes: bool) -> None:
        self._recoding = _Recoding(file, encoded, escapes)
        super().__init__(self._recoding, PIECE_BYTES)

    @property
    def is_cut(self) -> bool:
        """True where what was read ends within a character."""
        return self._recoding.recoder.is_cut

    def end(self) -> None:
        """Raise Undecodable where it ends within a character."""
        self._recoding.recoder.end()


class _Recoding(io.RawIOBase):
    def __init__(self, file: BinaryIO, encoded: Encoded, escapes: bool) -> None:
        self._file = file
        self._encoded = encoded
        self._escapes = escapes
        self._begin()

    def _begin(self) -> None:
        self._file.seek(self._encoded.mark)
        self.recoder = Recoder(self._encoded.name, escapes=self._escapes)
        self._left = b""
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_CUR:
            offset += self._at
        elif whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        if offset < self._at:
            self._begin()
        while self._at < offset and self.read(min(PIECE_BYTES, offset - self._at)):
            pass
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        while not self._left:
            piece = self._file.read(PIECE_BYTES)
            if not piece:
                return 0
            self._left = self.recoder.recode(piece)
        piece, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def known_encoding(encoding: str) -> str:
    """Return an encoding by the name that Python has for it. Raises ValueError for one whose lines can't be found."""
    try:
        name = codecs.lookup(encoding).name
        if name == "utf-8-sig":
            return "utf-8"
        if name in WIDE or "\n".encode(name) == b"\n":
            return name
    except (LookupError, UnicodeError, TypeError):
        raise ValueError("there is no such encoding: expected one that Python knows, such as latin-1") from None
    raise ValueError("expected an encoding in which a line ends as in ASCII, or UTF-16 or UTF-32")


Encoding = Annotated[str, AfterValidator(known_encoding)]


def _head_of(file: BinaryIO) -> bytes:
    """Return how a file begins, and leave it there."""
    head: bytes = file.peek(HEAD)[:HEAD] if isinstance(file, io.BufferedReader) else b""
    if len(head) < HEAD:
        head = file.read(HEAD)
        file.seek(0)
    return head


def in_utf8(file: BinaryIO, said: str, *, is_json: bool, may_have_zeros: bool) -> tuple[BinaryIO, str]:
    """Return the file, in UTF-8 where it is in UTF-16 or UTF-32, and its encoding. Raises Undecodable."""
    head = _head_of(file)
    encoded = encoding_of(head, said, may_have_zeros=may_have_zeros)
    if not encoded.is_wide:
        return file, encoded.name
    return cast(BinaryIO, Recoded(file, encoded, escapes=is_json)), "utf-8"
