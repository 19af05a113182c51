"""Records as CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence, Set
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, BinaryIO, ClassVar

import msgspec
from pydantic import BaseModel, Field, RootModel, field_validator
from pydantic_core import PydanticSerializationError, to_jsonable_python

from millrace_consumer.batch import Batch
from millrace_consumer.exactjson import exact_text, exact_values, text_of_model
from millrace_consumer.matching import Match, listed
from millrace_consumer.modelfields import field_names
from millrace_consumer.readback import WHOLE, Readback
from millrace_consumer.sinks.base import RecordsRejected
from millrace_consumer.sinks.columned import ColumnedSink
from millrace_consumer.sinks.csvfinding import Finding
from millrace_consumer.sinks.filereadback import Damaged, FileReadback
from millrace_consumer.sinks.files import FileSink
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import ConfigError, EnvelopeError, RecordError
from millrace_pipeline.fitting import in_unicode
from millrace_pipeline.pointer import steps_of

# What a spreadsheet takes for a formula: https://owasp.org/www-community/attacks/CSV_Injection, with the white space
# and the invisible characters that they skip before it. Quotes in front count too, so that escaping can be undone.
_FORMULA = re.compile(r"'*(?:[\t\r\n]|[\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*[=+\-@＝＋－＠﹦﹢﹣﹫])")
_ROWS_A_PIECE = 1000

# RFC 4180: docs/decisions/0017-library-defaults.md
_WRITING: dict[str, Any] = {
    "lineterminator": "\r\n",
    "quotechar": '"',
    "quoting": csv.QUOTE_MINIMAL,
    "doublequote": True,
    "escapechar": None,
}


class CsvSink(ColumnedSink, FileSink):
    """Exactly once: one file a batch, with the same columns in the same order and a header in each.

    RFC 4180 in UTF-8: lines end in CRLF; commas, quotes and line breaks are quoted. Null is empty, booleans are true
    and false, times are ISO 8601, what is nested is JSON. A record of which no column finds anything is rejected.
    """

    columns: Annotated[
        list[str] | dict[str, str] | None,
        Field(
            description="Names or JSON pointers (/meta/domain) in order, or header → name or pointer. Default: the "
            "fields of the flow's model."
        ),
    ] = None
    header: Annotated[bool, Field(description="Begin every file with the columns' names.")] = True
    delimiter: Annotated[str, Field(description="One character between the fields.", min_length=1, max_length=1)] = ","
    null: Annotated[str, Field(description="What stands for null and for a column that a record lacks.")] = ""
    escape_formulas: Annotated[
        bool,
        Field(
            description="Put a ' before text that a spreadsheet would run as a formula (= + - @ tab CR, also behind "
            "white space). To undo it, drop one ' from text of that kind."
        ),
    ] = True

    kind: ClassVar[str] = "csv"

    @field_validator("delimiter")
    @classmethod
    def _delimiter_is_no_quote(cls, delimiter: str) -> str:
        if delimiter in '"\r\n':
            raise ValueError("a quote or a line break can't be the delimiter")
        return delimiter

    @field_validator("columns")
    @classmethod
    def _columns_are_different(cls, columns: list[str] | dict[str, str] | None) -> list[str] | dict[str, str] | None:
        if columns is not None and not columns:
            raise ValueError("no columns")
        headers = list(map(_header, columns)) if isinstance(columns, list) else []
        if len(set(headers)) < len(headers):
            raise ValueError("two columns of one name; give them names of their own, as {header: /pointer}")
        return columns

    def check(self, model: type[BaseModel] | None) -> None:
        """Refuses a flow whose columns nothing names, and columns that the flow's model doesn't have."""
        super().check(model)
        pointers = self.pointers(model)
        if model is not None and not issubclass(model, RootModel) and model.model_config.get("extra") != "allow":
            names = field_names(model)
            for pointer in pointers.values():
                if steps_of(pointer)[0] not in names:
                    raise ConfigError(f"columns: model {model.__name__} has no field {pointer}: it has {listed(names)}")

    def encode(self, batch: Batch) -> Iterator[bytes]:
        """The header and one line a record."""
        self.hold_to_model(batch)
        pointers = self.pointers(batch.model)
        rows = self._rows(batch, list(pointers.values()))
        piece = io.StringIO(newline="")
        writer = csv.writer(piece, delimiter=self.delimiter, **_WRITING)
        if self.header:
            writer.writerow(pointers)
        for start in range(0, len(rows), _ROWS_A_PIECE):
            writer.writerows(rows[start : start + _ROWS_A_PIECE])
            yield piece.getvalue().encode()
            piece.seek(0)
            piece.truncate()

    def read_back(self, *, model: type[BaseModel] | None = None, key: str | None = None) -> Readback:
        """See `Sink.read_back`: rows, by the column of the key where there is one."""
        pointers = list(map(_pointer, self.pointers(model).values()))
        column = pointers.index(_pointer(key)) if key and _pointer(key) in pointers else None
        by = WHOLE if key is None or column is None else key
        return FileReadback(self.place, (".csv",), by, partial(self._identities, column))

    def _identities(self, column: int | None, _: str, file: BinaryIO) -> Iterator[bytes]:
        number = 0
        csv.field_size_limit(2**31 - 1)  # of the whole process: its default refuses cells above 128 kB
        try:
            with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
                for number, row in enumerate(csv.reader(text, delimiter=self.delimiter, strict=True)):
                    if number or not self.header:
                        cell = "" if column is None or len(row) <= column else row[column]
                        yield cell.encode() if cell else json.dumps(row).encode()
        except (csv.Error, UnicodeDecodeError) as error:
            raise Damaged(f"after record {number}: {error}") from None

    def pointers(self, model: type[BaseModel] | None) -> dict[str, str]:
        """Where each column's values are found in a record, by header."""
        if isinstance(self.columns, dict):
            return self.columns
        if self.columns is not None:
            return {_header(pointer): pointer for pointer in self.columns}
        if model is None:
            raise ConfigError("csv needs to know its columns: add `columns: [...]` to the sink, or a model to the flow")
        if issubclass(model, RootModel) or not field_names(model):
            raise ConfigError(f"model {model.__name__} has no named fields to make columns of: add `columns: [...]`")
        return {name: name for name in field_names(model)}

    def _rows(self, batch: Batch, pointers: list[str]) -> list[list[str]]:
        """The cells of every record. Raises RecordsRejected naming those that have none."""
        rows, rejected = [], {}
        cell = partial(self._cell, exact_text if batch.model is None else text_of_model)
        for index, values in enumerate(self._found(batch, pointers)):
            if isinstance(values, str):
                rejected[index] = values
                continue
            try:
                row = list(map(cell, values))
                for text in row:
                    text.encode()
            except (ValueError, TypeError, PydanticSerializationError) as error:
                rejected[index] = f"can't be written as CSV: {error}"
                continue
            rows.append(row)
        if rejected:
            raise RecordsRejected(rejected)
        return rows

    def _found(self, batch: Batch, pointers: list[str]) -> Iterator[list[Any] | str]:
        """Return what each record has for each column, or why it can't be a row."""
        model = batch.model
        if batch.models is not None and model is not None and pointers == field_names(model):
            getters = list(map(attrgetter, pointers))
            yield from ([get(record) for get in getters] for record in batch.models)
            self.say_dropped(batch)
            return
        finding = Finding(pointers)
        computed = model.model_computed_fields.keys() if model else ()
        given: Sequence[Any] = batch.given or [None] * len(batch)
        records = map(_exact_record, batch.envelopes) if model is None else batch.records
        matches = []
        for record, fields in zip(records, given, strict=True):
            if isinstance(record, RecordError):
                yield f"can't be written as CSV: {record}"
                continue
            match = finding.match(record, None if fields is None else {*fields, *computed})
            reason = self.unmatched(match, pointers)
            if isinstance(match, Match) and reason is None:
                matches.append(match)
                yield finding.values(record, match)
            else:
                yield str(reason)
        self.say_left(batch, matches, "the csv sink")

    def _cell(self, to_json: Callable[[Any], str], value: Any) -> str:
        """A value as the text of its cell."""
        if value is None:
            return self.null
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, str):
            return self._safe(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float | Decimal):
            return str(value)
        if isinstance(value, datetime | date | time):
            return value.isoformat()
        if isinstance(value, Set):
            value = sorted(value, key=repr)  # in the same order in every process
        if not isinstance(value, dict | list | tuple | BaseModel):
            value = to_jsonable_python(value)
            if isinstance(value, str):
                return self._safe(value)
        return to_json(value)

    def _safe(self, text: str) -> str:
        if not self.escape_formulas or text[:1].isalnum() or not _FORMULA.match(text):
            return text
        return f"'{text}"


def _header(pointer: str) -> str:
    """The name of a column: the name itself, or a pointer's steps with dots between them."""
    return pointer[1:].replace("/", ".").replace("~1", "/").replace("~0", "~") if pointer.startswith("/") else pointer


def _pointer(name: str) -> str:
    return name if name.startswith("/") else f"/{name}"


def _exact_record(envelope: Envelope) -> Any:
    """A record with all digits of its numbers, or the RecordError that says why it is none."""
    try:
        data = envelope.data
        return exact_values(in_unicode(bytes(data) if isinstance(data, msgspec.Raw) else envelope.text))
    except RecordError as error:
        return error
    except (EnvelopeError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        return RecordError(str(error))
