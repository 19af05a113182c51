"""Standard input: what another program prints."""

from __future__ import annotations

import errno
import logging
import os
import select
from collections.abc import Iterator
from itertools import chain
from typing import ClassVar

from pydantic import Field

from millrace_pipeline.flows.units import Size
from millrace_pipeline.process.supervisor import SUPERVISED
from millrace_producer.sources.base import DeadLetter, Position, Record, Source, SourceRefused, SourceUnavailable
from millrace_producer.sources.encodings import HEAD, Encoding, Recoder, Undecodable, encoding_of
from millrace_producer.sources.fields import Format
from millrace_producer.sources.reading.base import BLANK, json_line, text_line
from millrace_producer.sources.recordoptions import RecordOptions

log = logging.getLogger(__name__)

STDIN = 0
READ_BYTES = 65_536

KEPT_BYTES = 4096
"""So much is kept of a line that is too long."""

_FIRST_OF_MARKS = b"\xff\xfe\xef"

_FINAL = (errno.EBADF, errno.EISDIR)


class StdinSource(RecordOptions, Source):
    """Reads lines from standard input until it ends: `… | millrace produce FLOW`.

    Every line becomes a record, empty ones excepted. What has come through a pipe can't be asked for again, so there
    are no positions: with `dedupe` on a key, the program can be run once more and only what is missing is published.
    """

    about: ClassVar[str] = "read, watched or followed"

    format: Format = Field(
        default="json",
        description="json: every line is JSON, what is not becomes a dead letter. text: a line becomes a JSON string.",
    )
    encoding: Encoding = Field(
        default="utf-8",
        description="How text is written: utf-8, latin-1, cp1252, shift_jis, utf-16 … A byte order mark counts more.",
    )
    max_line_bytes: Size = Field(
        default=16 * 1024 * 1024,
        ge=1,
        description="A longer line becomes a dead letter that holds its beginning; reading goes on after it.",
    )

    @property
    def ends(self) -> bool:
        """See `Source.ends`."""
        return True

    def describe(self, position: Position) -> str:  # noqa: ARG002
        """See `Source.describe`: there are none."""
        raise SourceRefused("standard input has no positions")

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:  # noqa: ARG002
        """See `Source.read`. There is no going back: what is left of the input is read, whatever was before."""
        if os.environ.get(SUPERVISED):
            # Standard input is the supervisor's then: its end says that he is gone.
            raise SourceRefused("a service that `millrace run` started has no input: use … | millrace produce FLOW")
        if os.isatty(STDIN):
            log.info("reading from the terminal: a line is a record, Ctrl-D ends it")
        blank = BLANK if self.format == "json" else b"\r"
        begun = _Line(self.max_line_bytes)
        pieces, encoding = self._pieces()
        make = json_line(self.fields(), encoding) if self.format == "json" else text_line(encoding)
        for line in _lines(pieces, begun):
            if isinstance(line, DeadLetter):
                yield line
            elif (line := line.removesuffix(b"\r")).strip(blank):
                yield make(line)

    def _pieces(self) -> tuple[Iterator[bytes], str]:
        """The input, piece by piece, without its byte order mark; in UTF-8 where it is in UTF-16 or UTF-32."""
        head = _received()
        while _may_go_on(head) and (more := _received()):
            head += more
        try:
            encoded = encoding_of(head, self.encoding, may_have_zeros=self.format == "text")
        except Undecodable as error:
            raise SourceRefused(f"standard input: {error}") from None
        rest = chain([head[encoded.mark :]], iter(_received, b""))
        if not encoded.is_wide:
            return rest, encoded.name
        return _recoded(rest, Recoder(encoded.name, escapes=self.format == "json")), "utf-8"


def _may_go_on(head: bytes) -> bool:
    """Return True while it may take another byte to know the encoding; a terminal gives a line and no more."""
    return 0 < len(head) < HEAD and (len(head) == 1 or 0 in head or head[0] in _FIRST_OF_MARKS)


def _recoded(pieces: Iterator[bytes], recoder: Recoder) -> Iterator[bytes]:
    try:
        for piece in pieces:
            yield recoder.recode(piece)
        recoder.end()
    except Undecodable as error:
        raise SourceRefused(f"standard input: {error}") from None


def _lines(pieces: Iterator[bytes], begun: _Line) -> Iterator[bytes | DeadLetter]:
    """Whole lines without their ends; of one that is too long, its beginning. The last one may lack its end."""
    for piece in pieces:
        *ends, rest = piece.split(b"\n")
        for end in ends:
            yield begun.finish(end)
        begun.add(rest)
    if begun.size:
        yield begun.finish(b"")


class _Line:
    """A line whose end has not come yet. What is beyond the limit is counted, and not kept."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        self.size += len(part)
        self._parts.append(part)
        if self.size > self._limit:
            self._parts = [b"".join(self._parts)[:KEPT_BYTES]]

    def finish(self, part: bytes) -> bytes | DeadLetter:
        """The line, with this as its last part; what is added from now on is another."""
        self.add(part)
        line, size = b"".join(self._parts), self.size
        self.size, self._parts = 0, []
        if size > self._limit:
            return DeadLetter(line, f"a line of {size} bytes, more than max_line_bytes: only its beginning was kept")
        return line


def _received() -> bytes:
    """The next bytes of the input, as soon as there are any; none once it has ended."""
    while True:
        try:
            return os.read(STDIN, READ_BYTES)
        except BlockingIOError:  # whoever shares the pipe or terminal has made it so
            select.select([STDIN], [], [])
        except OSError as error:
            reason = f"standard input: {error.strerror}"
            raise SourceRefused(reason) if error.errno in _FINAL else SourceUnavailable(reason) from None
