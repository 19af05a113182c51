"""Reads a table again, and the ledger beside it, and counts: what `millrace verify --sink` rests on for SQL sinks.

How many records there are goes by the ledger, for a table may hold rows that others put there, and an upsert makes one
row of several records. That none is there twice is looked at where a column names the record.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from millrace_consumer.readback import SHOWN, Found, Hashes, Repeated, hash_of
from millrace_consumer.rows import ENVELOPE_ID
from millrace_consumer.sinks.sql import Reading, SqlSink
from millrace_pipeline.envelope import encode_json

LEDGER = "batch in the ledger"
"""What tells records apart where no column names them: each batch is there once."""


class TableReadback:
    """The output of one SQL sink. `key` is the JSON pointer of what names a record in its source."""

    def __init__(self, sink: SqlSink, *, model: type[BaseModel] | None = None, key: str | None = None) -> None:
        self._sink = sink
        self._model = model
        self._key = key

    def read(self) -> Found:
        """The ledger and the table, as they are at one instant."""
        with self._sink.reading() as reading:
            if reading is None:
                return Found(LEDGER, unit="table")
            column = self._column(reading)
            found = Found(self._by(column, reading), files=1, unit="table")
            for batch, records in reading.batches():
                found.by_batch[batch] += records
            found.records = found.by_batch.total()
            if self._sink.mode != "append":  # rows take each other's place
                found.by = LEDGER
                return found
            rows = reading.count()
            if rows > found.records:
                found.unknown.append(f"{rows - found.records:,} rows, which the ledger doesn't count")
            found.records = min(found.records, rows)
            if column is not None:
                hashes = Hashes()
                for value in reading.values(column):
                    hashes.add(hash_of(_named(value)))
                repeated = hashes.repeated()
                found.twice = sum(repeated.values())
                found.repeated = list(self._shown(reading, column, set(list(repeated)[:SHOWN])))
            return found

    def identities(self) -> Iterator[str]:
        """What identifies each row; nothing where no column does."""
        with self._sink.reading() as reading:
            column = None if reading is None else self._column(reading)
            if reading is not None and column is not None:
                for value in reading.values(column):
                    yield _named(value).decode(errors="replace")

    def _column(self, reading: Reading) -> str | None:
        """The column that names a record."""
        if self._sink.record_id:
            return self._sink.record_id
        if self._model is None and reading.plain:
            return "id"
        name = (self._key or "").removeprefix("/")
        return name if name in reading.columns else None

    def _by(self, column: str | None, reading: Reading) -> str:
        if column is None:
            return LEDGER
        is_id = self._sink.record_id or (self._model is None and reading.plain)
        return ENVELOPE_ID if is_id else self._key or column

    def _shown(self, reading: Reading, column: str, wanted: set[int]) -> Iterator[Repeated]:
        """A second reading, for the few that are shown by name."""
        times: dict[bytes, int] = {}
        for value in reading.values(column) if wanted else ():
            identity = _named(value)
            if hash_of(identity) in wanted:
                times[identity] = times.get(identity, 0) + 1
        for identity, count in times.items():
            yield Repeated(identity.decode(errors="replace")[:120], [self._sink.table] * count)


def _named(value: object) -> bytes:
    """What names a record, as bytes: text as it is, anything else as JSON."""
    return value.encode(errors="replace") if isinstance(value, str) else encode_json(value)
