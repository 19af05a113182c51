"""A CSV file being read: a record a row, by the names in its header."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from millrace_producer.sources.base import DeadLetter, Record
from millrace_producer.sources.cells import Cells
from millrace_producer.sources.reading.base import SHOWN_BYTES, ByLines, not_encoded, too_long
from millrace_producer.sources.reading.lines import Head, Lines
from millrace_producer.sources.reading.notcsv import NotCsv, check_csv, other_delimiter, say_one_column

csv.field_size_limit(1 << 30)  # what is too long is said by the source's own limit


_SEP_LINE = re.compile(rb'(?:\xef\xbb\xbf)?("?)sep=([^\w"\r\n\x80-\xff])\1\s*', re.IGNORECASE)
"""A line that Excel reads as what cells are parted by, and no row, where it is a file's first."""


class Dialect(NamedTuple):
    """How a CSV file is written. Without `columns` its first row names them.

    `heeds_sep`: the file may say its delimiter itself, in a first line `sep=;`.
    """

    columns: Sequence[str] | None = None
    delimiter: str = ","
    quote: str | None = '"'
    encoding: str = "utf-8"
    cells: Cells = Cells()
    heeds_sep: bool = False


class CsvReading(ByLines):
    """A record a row: a mapping of strings.

    A row may span lines, within quotes. Where a quote is never closed, only the line that opens it is bad: the next
    ones are read as if it weren't there.
    """

    def __init__(self, lines: Lines, dialect: Dialect, *, limit: int, mark: str | None = None) -> None:
        self.offset = 0
        self._mark = mark
        self._lines = lines
        self._dialect = dialect
        self._columns = list(dialect.columns) if dialect.columns else None
        self._limit = limit
        self._head = Head()
        self._resume: tuple[int, Head] | None = None
        self._is_first = True
        self._is_else = False

    def go_on(self, offset: int) -> None:
        """See `Reading.go_on`. It does so once it has read the header."""
        if offset == 0:
            return
        self._is_first = False
        head = self._lines.head(offset)
        self._resume = (offset, Head(head))
        self._is_sep_line(head.partition(b"\n")[0])

    def records(self, final: bool) -> Iterator[Record | DeadLetter]:
        if self._resume:
            self._columns = self._columns or next((names_of(row) for row in self._rows(final) if type(row) is list), [])
            self.offset, self._head = self._resume
            self._lines.skip_to(self._resume[0])
            self._resume = None
        if self._is_else:
            return
        for row in self._rows(final):
            if self._is_first:
                self._check_first(row)
                if row == self._columns:
                    continue  # a header, which the names of `columns` stand for
            if isinstance(row, DeadLetter):
                yield row
            elif self._columns is None:
                say_one_column(row, self._dialect.delimiter)
                self._columns = names_of(row)
            elif len(row) == len(self._columns):
                yield Record(self._dialect.cells.valued(dict(zip(self._columns, row, strict=True))))
            else:
                yield DeadLetter(self._raw, self._why_no_record(row, self._columns))

    def _check_first(self, row: list[str] | DeadLetter) -> None:
        """Raise NotCsv where the file begins with something else: once, and nothing more is read of it."""
        self._is_first = False
        if not isinstance(row, DeadLetter):
            try:
                check_csv(self._raw, named=self._dialect.columns is not None, quoted=self._dialect.quote is not None)
            except NotCsv:
                self._is_else = True
                raise

    def _is_sep_line(self, line: bytes) -> bool:
        """Return True for a first line that says the delimiter, which counts from now on where none is given."""
        found = _SEP_LINE.fullmatch(line)
        if not found:
            return False
        said = found[2].decode()
        if self._dialect.heeds_sep and said != self._dialect.quote:
            self._dialect = self._dialect._replace(delimiter=said)
        return True

    def _why_no_record(self, row: list[str], columns: list[str]) -> str:
        why = f"{len(row)} fields, where the header has {len(columns)}"
        other = other_delimiter(row, self._dialect.delimiter)
        return f'{why}: is it delimiter: "{other}"?' if other else why

    @property
    def columns(self) -> list[str]:
        """The names of the columns, as far as they are known."""
        return self._columns or []

    @property
    def mark(self) -> str:
        return self._mark or self._head.text

    def _rows(self, final: bool) -> Iterator[list[str] | DeadLetter]:
        """Each row, or a dead letter for what is none; `offset` stands behind it, its bytes are `_raw`."""
        lines = _RowLines(self._lines.upto_now(final), self._dialect.encoding, self._limit)
        while not lines.ended:
            for row in self._parsed(lines):
                if not final and lines.ran_out:  # the rest of the row is still to come
                    self._lines.skip_to(self.offset)
                    self.rest = True
                    return
                if wrong := lines.wrong or (lines.ran_out and "a quote that is opened here is never closed"):
                    lines.give_back_all_but_one()
                    self._step_behind(lines)
                    yield DeadLetter(self._raw[:SHOWN_BYTES], wrong)
                    break
                is_first = self.offset == 0
                self._step_behind(lines)
                if is_first and self._is_sep_line(self._raw):
                    break
                if row:
                    yield row
        self.rest = self._lines.rest

    def _parsed(self, lines: _RowLines) -> Iterator[list[str]]:
        quote = self._dialect.quote
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
        reader = csv.reader(
            lines,
            delimiter=self._dialect.delimiter,
            quotechar=quote,
            quoting=quoting,
            doublequote=True,
            escapechar=None,
            skipinitialspace=False,
            strict=False,  # as spreadsheets read it: what stands behind a closing quote belongs to the cell
        )
        try:
            yield from reader
        except csv.Error as error:
            lines.wrong = str(error)
            yield []

    def _step_behind(self, lines: _RowLines) -> None:
        raw, self.offset = lines.take()
        if self._head.left:
            self._head.add(raw)
        self._raw = raw.rstrip(b"\r\n")


class _RowLines:
    """The lines that a CSV reader asks for, row after row, so that it is known which they were."""

    def __init__(self, lines: Iterator[tuple[bytes, int]], encoding: str, limit: int) -> None:
        self._lines = lines
        self._again: deque[tuple[bytes, int]] = deque()
        self._encoding = encoding
        self._limit = limit
        self._of_row: list[tuple[bytes, int]] = []
        self._size = 0
        self.wrong = ""
        """What is wrong with a line of this row."""
        self.ran_out = False
        """Whether a line of this row was asked for that isn't there."""
        self.ended = False

    def __iter__(self) -> _RowLines:
        return self

    def __next__(self) -> str:
        if self.wrong:
            raise StopIteration
        if self._size > self._limit:
            self.wrong = f"a quote that is opened here isn't closed within max_line_bytes, {self._limit}"
            raise StopIteration
        found = self._again.popleft() if self._again else next(self._lines, None)
        if found is None:
            self.ran_out = bool(self._of_row)
            self.ended = not self._of_row
            raise StopIteration
        line, offset = found
        self._of_row.append(found)
        self._size += len(line)
        if len(line) > self._limit:
            self.wrong = too_long(line, self._limit).reason
        try:
            return line[3 if offset == len(line) and line.startswith(b"\xef\xbb\xbf") else 0 :].decode(self._encoding)
        except UnicodeDecodeError as error:
            within = "a quote is opened here, and a line within it is " if len(self._of_row) > 1 else ""
            self.wrong = self.wrong or within + not_encoded(error, self._encoding)
            return ""

    def take(self) -> tuple[bytes, int]:
        """The bytes of the row, and where it ends; the next row begins."""
        raw = b"".join(line for line, _ in self._of_row)
        offset = self._of_row[-1][1]
        self._of_row, self._size, self.wrong, self.ran_out = [], 0, "", False
        return raw, offset

    def give_back_all_but_one(self) -> None:
        """The row's first line stands alone; the others are given again."""
        self._again.extendleft(reversed(self._of_row[1:]))
        del self._of_row[1:]


def names_of(header: Sequence[str]) -> list[str]:
    """The columns' names: a number for one without, a number behind one that another has already."""
    names: list[str] = []
    for number, name in enumerate(header, 1):
        base = name.strip() or f"column_{number}"
        name, again = base, 1
        while name in names:
            again += 1
            name = f"{base}_{again}"
        names.append(name)
    return names
