"""What files hold, and how readings of them are made."""

from __future__ import annotations

import logging
from pathlib import PurePath
from typing import BinaryIO, Literal, NamedTuple

from millrace_pipeline.errors import SourceRefused
from millrace_producer.sources.encodings import MOST_TIMES_LONGER, Recoded, in_utf8
from millrace_producer.sources.fields import Fields
from millrace_producer.sources.reading.base import LineReading, Reading, Unreadable, json_line, text_line
from millrace_producer.sources.reading.csv import CsvReading, Dialect
from millrace_producer.sources.reading.files import File, Files, unreadable
from millrace_producer.sources.reading.lines import HEAD_BYTES, Head, Lines
from millrace_producer.sources.reading.packed import DAMAGED, PACKED, Compression, unpacked
from millrace_producer.sources.reading.place import FilePlace

log = logging.getLogger(__name__)

Layout = Literal["jsonl", "json", "csv", "parquet", "text", "xml"]

WHOLE: frozenset[Layout] = frozenset({"json", "parquet", "xml"})
"""What is complete or is nothing."""


class Document(NamedTuple):
    """Where in a document of JSON or XML the records are."""

    records: str = ""
    lists: frozenset[str] = frozenset()
    """Tags that are lists however often they stand in their element."""
    limit: int = 0
    """The bytes that a document of JSON may have."""


class FileFormat(NamedTuple):
    """How all files of a source are written. Without `compression` each file's name says whether it is packed."""

    layout: Layout
    compression: Compression | None
    fields: Fields
    dialect: Dialect
    limit: int
    """The bytes that a line may have."""
    document: Document = Document()

    def packed(self, name: str) -> Compression:
        """How a file of this name is packed. Parquet has that inside."""
        if self.layout == "parquet":
            return "none"
        return self.compression or PACKED.get(PurePath(name).suffix, "none")

    def grows(self, name: str) -> bool:
        """Whether records may be added to a file of this name."""
        return self.layout not in WHOLE and self.packed(name) == "none"

    def begin(self, files: Files, file: File, place: FilePlace | None) -> Reading | None:
        """A reading of the file: from the place, if that is in it, else from its start. None where it is done.

        Raises FileNotFoundError, SourceUnavailable, SourceRefused.
        """
        opened = files.open(file)
        try:
            fixed = None if files.growing and self.grows(file.name) else files.mark(file, opened)
            reading = self.reading(opened, self.packed(file.name), fixed)
            if place is None or place.file != file.name:
                return reading
            if not _is_the_same(place, fixed, file, reading):
                log.warning("%s was replaced by another: it is read from its start", file.name)
                return reading
            if place.offset is None:
                reading.close()
                return None
            reading.go_on(place.offset)
        except OSError as error:
            opened.close()
            raise unreadable(file.name, error) from error
        except BaseException:
            opened.close()
            raise
        return reading

    def reading(self, file: BinaryIO, compression: Compression, mark: str | None = None) -> Reading:
        """A reading of an open file from its start. Without a mark, that is how the file begins."""
        if self.layout == "parquet":
            from millrace_producer.sources.reading.parquet import (
                ParquetReading,  # only here: Arrow takes long to import
            )

            return ParquetReading(file, mark or "")
        plain = unpacked(file, compression)
        try:
            plain, encoding = self._in_utf8(plain)
        except (*DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            return Unreadable(plain, mark, error)
        if self.layout in WHOLE:
            return self._whole(plain, mark or "", encoding)
        lines = Lines(plain, self.limit)
        if self.layout == "csv":
            return CsvReading(lines, self.dialect._replace(encoding=encoding), limit=self.limit, mark=mark)
        if self.layout == "jsonl":
            return LineReading(lines, json_line(self.fields, encoding), limit=self.limit, mark=mark)
        return LineReading(lines, text_line(encoding), limit=self.limit, blank=b"\r\n", mark=mark)

    def follow(self, file: BinaryIO, compression: Compression) -> Reading:
        """A reading of an open file that grows. Raises SourceRefused for one whose bytes aren't those of its lines."""
        reading = self.reading(file, compression)
        if reading.recoded or isinstance(reading, Unreadable):
            reading.close()
            raise SourceRefused("a file in UTF-16 or UTF-32 can't be followed as it grows: mode: watch reads it")
        return reading

    def _in_utf8(self, file: BinaryIO) -> tuple[BinaryIO, str]:
        is_json, is_text = self.layout in ("json", "jsonl"), self.layout in ("csv", "text")
        return in_utf8(file, self.dialect.encoding, is_json=is_json, may_have_zeros=is_text)

    def _whole(self, file: BinaryIO, mark: str, encoding: str) -> Reading:
        # Not before it is used: lxml takes its time to load.
        from millrace_producer.sources.reading.whole import JsonReading, XmlReading

        where = self.document
        if self.layout == "xml":  # says itself how it is written
            own = None if encoding == "utf-8" and not isinstance(file, Recoded) else encoding
            return XmlReading(file, mark, tag=where.records, lists=where.lists, encoding=own)
        return JsonReading(file, mark, self.fields, pointer=where.records, encoding=encoding, limit=where.limit)


def _is_the_same(place: FilePlace, fixed: str | None, file: File, reading: Reading) -> bool:
    """Whether the file still holds what it held up to the place."""
    if fixed is not None:
        return fixed == place.mark
    offset = place.offset or 0
    size = file.size * (MOST_TIMES_LONGER if reading.recoded else 1)
    return size >= offset and Head(reading.head(min(offset, HEAD_BYTES))).text == place.mark
