"""REST body: the records of an answer, in JSON, in JSON Lines or in CSV, whatever it is encoded in."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from io import BytesIO
from typing import Any, Literal, NamedTuple, TypeAlias

from millrace_pipeline.errors import EnvelopeError, RecordError
from millrace_pipeline.jsontext import decode_json, encode_json
from millrace_pipeline.pointer import resolve
from millrace_producer.sources.base import DeadLetter
from millrace_producer.sources.cells import Cells
from millrace_producer.sources.encodings import HEAD, Recoder, Undecodable, encoding_of
from millrace_producer.sources.jsonbody import NotJson, dig, records_in, value_of

BodyFormat = Literal["json", "jsonl", "csv"]

Raw: TypeAlias = bytes | DeadLetter
"""A record as it came, or what is to be one and can't."""


MOST_SHOWN = 200
"""So much is told of an error that an answer names."""


class CsvLayout(NamedTuple):
    """How a CSV is written, and what its cells mean. Without `columns` the first row of each answer names them."""

    columns: Sequence[str] | None = None
    delimiter: str = ","
    quote: str | None = '"'
    cells: Cells = Cells()
    heeds_sep: bool = False
    """Whether an answer may say its delimiter itself, in a first line `sep=;`."""


class NoRecords(ValueError):
    """An answer has no records where they should be. Its text says why."""


class UnknownCharset(ValueError):
    """An answer is in an encoding that nobody knows here. Its text names it."""


@dataclass
class RestBody:
    """What an answer says, byte for byte but for its encoding, which is UTF-8 here, and the records in it."""

    text: bytes
    format: BodyFormat
    records: list[Raw] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Those of a CSV's columns."""

    @classmethod
    def of(
        cls,
        text: bytes,
        format: BodyFormat,
        *,
        pointer: str = "",
        map_key: str | None = None,
        csv: CsvLayout | None = None,
    ) -> RestBody:
        """Return the body with its records. Raises NoRecords."""
        if not text.strip():
            return cls(text, format)
        if format == "csv":
            return cls(text, format, *_rows(text, csv or CsvLayout()))
        return cls(text, format, _found(text, format, pointer, map_key))

    def look(self, pointer: str) -> Any:
        """What a JSON pointer finds in it; None where there is nothing."""
        if self.format != "json" or not self.text.strip():
            return None
        found = dig(pointer, self.text)
        return None if found is None else value_of(found)

    def has(self, pointer: str) -> bool:
        """Return True where a JSON pointer finds something in it, be it null; of an empty body nothing is asked."""
        return self.format != "json" or not self.text.strip() or dig(pointer, self.text) is not None

    def look_at_last(self, pointer: str) -> Any:
        """What a JSON pointer finds in the last record; None where there is nothing."""
        last = self.records[-1] if self.records else None
        return resolve(pointer, value_of(last.original if isinstance(last, DeadLetter) else last)) if last else None


def _found(text: bytes, format: BodyFormat, pointer: str, map_key: str | None) -> list[Raw]:
    if format == "jsonl":
        return [line for line in text.replace(b"\r\n", b"\n").split(b"\n") if line.strip()]
    try:
        found = dig(pointer, text)
        if (found is None or found.strip() == b"null") and (error := _error(text)):
            raise NoRecords(f"has no records at {pointer}, but an error: {error}")
        if found is None:
            raise NoRecords(f"has nothing at {pointer} in its answer")
        return list(records_in(found, map_key))
    except NotJson as error:
        hint = " (a record a line is `format: jsonl`)" if _is_lines(text) else ""
        raise NoRecords(f"answered what is not JSON: {error}{hint}") from None


def _error(text: bytes) -> str:
    """The first of the errors that an answer lists in place of what was asked for, as GraphQL has it; else nothing."""
    listed = value_of(dig("/errors", text) or b"")
    if not isinstance(listed, list) or not listed:
        return ""
    first = listed[0]
    said = first.get("message") if isinstance(first, dict) else first
    told = said if isinstance(said, str) and said else encode_json(first).decode("utf-8", "replace")
    return " ".join(told.split())[:MOST_SHOWN]


def _is_lines(text: bytes) -> bool:
    """Return True where a text has several lines, and the first one is JSON by itself."""
    first, _, rest = text.strip().partition(b"\n")
    try:
        return bool(rest) and decode_json(first) is not None
    except EnvelopeError:
        return False


def in_utf8(body: bytes, content_type: str, format: BodyFormat) -> bytes:
    """A body in UTF-8, without a byte order mark: decoded as that says, or else the charset of its Content-Type.

    What is none in its encoding stays as it is, for the record that holds it to be set aside. Raises UnknownCharset,
    and NoRecords for a body that isn't in its encoding.
    """
    charset = _charset(content_type)
    try:
        said = codecs.lookup(charset).name if charset else "utf-8"
        "".encode(said)
    except (LookupError, UnicodeError, TypeError):
        raise UnknownCharset(f"says that it is in {charset[:40]!r}, an encoding that isn't known here") from None
    try:
        encoded = encoding_of(body[:HEAD], said, may_have_zeros=format == "csv")
        body = body[encoded.mark :]
        if encoded.name in ("utf-8", "ascii"):
            return body
        if not encoded.is_wide:
            return body.decode(encoded.name, "surrogateescape").encode("utf-8", "surrogateescape")
        recoder = Recoder(encoded.name, escapes=format != "csv")
        text = recoder.recode(body)
        recoder.end()
    except Undecodable as error:
        raise NoRecords(f"answered what is in no encoding that it says: {error}") from None
    except UnicodeError:
        raise NoRecords(f"answered what is not in {charset[:40]!r}, as it says") from None
    return text


def _charset(content_type: str) -> str:
    message = Message()
    message["content-type"] = content_type
    return str(message.get_param("charset") or "")


def _rows(text: bytes, csv: CsvLayout) -> tuple[list[Raw], list[str]]:
    # Not before it is used: what reads files reads them in many more ways.
    from millrace_producer.sources.reading.csv import CsvReading, Dialect
    from millrace_producer.sources.reading.lines import Lines
    from millrace_producer.sources.reading.notcsv import NotCsv, check_csv

    try:
        check_csv(text, named=csv.columns is not None, quoted=csv.quote is not None)
    except NotCsv as error:
        raise NoRecords(f"answered {error}") from None
    dialect = Dialect(csv.columns, csv.delimiter, csv.quote, cells=csv.cells, heeds_sep=csv.heeds_sep)
    reading = CsvReading(Lines(BytesIO(text), len(text)), dialect, limit=len(text))
    rows: list[Raw] = []
    for row in reading.records(final=True):
        if isinstance(row, DeadLetter):
            rows.append(row)
            continue
        try:
            rows.append(encode_json(row.data))
        except RecordError as error:
            rows.append(DeadLetter(str(row.data).encode("utf-8", "replace"), str(error)))
    return rows, reading.columns
