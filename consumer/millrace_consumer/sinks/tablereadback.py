"""Tables of SQL, and the ledger beside them, read again.

How many records there are goes by the ledger, for a table may hold rows that others put there, and an upsert makes one
row of several records. That none is there twice is looked at where a column names the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

from millrace_consumer.readback import ENVELOPE_ID, Found, Readback
from millrace_consumer.sinks.sqldatabase import Database
from millrace_consumer.sinks.sqltable import SqlTable, quoted
from millrace_pipeline.jsontext import encode_json

LEDGER = "batch in the ledger"
"""What tells records apart where no column names them: each batch is there once."""


class Reading:
    """A table and its ledger as they are at one instant.

    `plain` is true of a table as one is made for records without a model, whose `id` is the envelope's.
    """

    def __init__(
        self, database: Database, connection: Any, table: SqlTable, ledger: str, record_id: str | None
    ) -> None:
        self.columns = set(table.columns)
        self.plain = table.is_plain(record_id)
        self.spelled = table.spelled
        self._database = database
        self._connection = connection
        self._table = table.name
        self._ledger = ledger

    def batches(self) -> Iterator[tuple[Any, ...]]:
        """The ledger's batches of this table, and how many records each wrote."""
        ledger, target = self._database.qualified(self._ledger), self._database.literal(self._table)
        return self._stream(f"SELECT batch_id, records FROM {ledger} WHERE target = {target}")

    def count(self) -> int:
        """The table's rows."""
        [(rows,)] = self._stream(f"SELECT count(*) FROM {self._database.qualified(self._table)}")
        return int(rows)

    def values(self, column: str) -> Iterator[Any]:
        """The values of one column, without nulls."""
        read, table = self._database.as_read(column), self._database.qualified(self._table)
        return (value for (value,) in self._stream(f"SELECT {read} FROM {table} WHERE {quoted(column)} IS NOT NULL"))

    def _stream(self, query: str) -> Iterator[tuple[Any, ...]]:
        return self._database.stream(self._connection, query)


class TableReadback(Readback):
    """One table. `open` gives it as it is at that instant, or None where there is none yet.

    `record_id` is the column of the envelope's id, where it has one of its own; `key` the JSON pointer of what names a
    record in its source. In tables that are `replaced` rows take each other's place.
    """

    unit: ClassVar[str] = "table"

    def __init__(
        self,
        open: Callable[[], AbstractContextManager[Reading | None]],
        table: str,
        *,
        record_id: str | None,
        has_model: bool,
        key: str | None,
        replaced: bool,
    ) -> None:
        super().__init__(LEDGER)
        self._open = open
        self._table = table
        self._record_id = record_id
        self._has_model = has_model
        self._key = key
        self._replaced = replaced
        self._reading: Reading | None = None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Holds the ledger and the table, as they are at one instant."""
        with self._open() as self._reading:
            yield

    def records(self, found: Found) -> Iterator[tuple[str, bytes]]:
        """See `Readback.records`; it yields nothing where no column identifies a row."""
        reading = self._reading
        if reading is None:
            return
        found.files = 1
        for batch, records in reading.batches():
            found.by_batch[batch] += records
        found.records = found.by_batch.total()
        if self._replaced:
            return
        rows = reading.count()
        if rows > found.records:
            found.unknown.append(f"{rows - found.records:,} rows, which the ledger doesn't count")
        found.records = min(found.records, rows)
        column, found.by = self._name(reading)
        for value in reading.values(column) if column is not None else ():
            yield self._table, value.encode(errors="replace") if isinstance(value, str) else encode_json(value)

    def _name(self, reading: Reading) -> tuple[str | None, str]:
        """The column that names a record, and what that is."""
        if self._record_id:
            return reading.spelled(self._record_id), ENVELOPE_ID
        if not self._has_model and reading.plain:
            return "id", ENVELOPE_ID
        name = reading.spelled((self._key or "").removeprefix("/"))
        return (name, self._key or name) if name in reading.columns else (None, LEDGER)
