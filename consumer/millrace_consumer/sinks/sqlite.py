"""Records as rows of a SQLite table."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, Field, PrivateAttr
from pydantic_core import to_jsonable_python

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.ledger import PRUNE_SECONDS, PRUNED, Entry, settle
from millrace_consumer.sinks.sql import SqlSink, Wait
from millrace_consumer.sinks.sqlitetable import SqliteTable, create_table, quoted
from millrace_pipeline.errors import ConfigError, MillraceError
from millrace_pipeline.killpoints import killpoint

Rows = Sequence[Sequence[Any]]

_LEDGER = (
    "CREATE TABLE IF NOT EXISTS {} (batch_id TEXT, target TEXT, flow TEXT NOT NULL, records INTEGER NOT NULL, "
    "rejected TEXT, written_at REAL NOT NULL, PRIMARY KEY (batch_id, target))"
)
_FOR_EVER = 1e15

# Raised because of a record, as far as one can tell.
_MISFITS = (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeError)


class SqliteSink(SqlSink):
    """Exactly once: a batch's records and its id in a ledger, in one transaction of SQLite.

    Consumers take turns: one writes at a time, and the others wait for it. A record that the table refuses is found and
    named, and the others are written.
    """

    path: Annotated[Path, Field(description="The database file; made where there is none.")]
    timeout: Annotated[Wait, Field(description="How long to wait for the turn to write.")] = 60

    longest_name: ClassVar[int] = 1000

    _connection: sqlite3.Connection | None = PrivateAttr(None)
    _table: SqliteTable | None = PrivateAttr(None)
    _schema_version: Any = PrivateAttr(None)
    _prune_at: float = PrivateAttr(0.0)

    def check(self, model: type[BaseModel] | None) -> None:
        """Refuses a path that is a directory, and a table in a schema, which SQLite has none of."""
        super().check(model)
        if self.path.is_dir():
            raise ConfigError(f"path: {self.path} is a directory; name a file in it")
        if "." in self.table:
            raise ConfigError(f"table: SQLite has no schemas: name a table such as {self.table.rpartition('.')[2]}")

    def write_once(self, batch: Batch) -> None:
        """One transaction: the ledger, and the rows. Raises RecordsRejected and SinkUnavailable."""
        killpoint("sink.before_write")
        with self._open() as connection:
            table = self._ready(connection, batch)
            found = self.cells(batch, table)
            names = list(found)
            rows = list(zip(*map(_bound, found.values()), strict=True))
            try:
                entry = self._transaction(connection, table, batch, names, rows)
            except _MISFITS as error:
                if reasons := self._narrow(connection, table, names, rows):
                    raise RecordsRejected(reasons) from None
                raise SinkUnavailable(f"{self.path}: {error}, and a moment later it wasn't so") from None
            if entry is not None:
                settle(batch, entry)

    def has_batch(self, batch_id: str) -> bool:
        """Whether the ledger has this batch; yes where that can't be asked, so that the batch keeps its id."""
        try:
            if not self.path.exists():
                return False
            with self._open() as connection:
                known = SqliteTable.find(connection, self.ledger)
                return known is not None and self._entry(connection, batch_id) is not None
        except (SinkUnavailable, OSError):
            return True

    @contextlib.contextmanager
    def reading(self) -> Iterator[SqliteReading | None]:
        """The table, in a transaction that sees nothing of what is written meanwhile."""
        if not self.path.exists():
            yield None
            return
        with self._open() as connection, _transaction(connection, "BEGIN DEFERRED"):
            table = SqliteTable.find(connection, self.table)
            ledger = SqliteTable.find(connection, self.ledger)
            yield None if table is None or ledger is None else SqliteReading(connection, self, table)

    def close(self) -> None:
        """Closes the file."""
        connection, self._connection, self._table = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The file, which is opened anew after an error. Raises SinkUnavailable."""
        try:
            if self._connection is None:
                new = not self.path.exists()
                self.path.parent.mkdir(parents=True, exist_ok=True)
                # Not bound to this thread: another one closes it.
                self._connection = sqlite3.connect(
                    self.path, timeout=self.timeout, isolation_level=None, check_same_thread=False
                )
                self._connection.execute("PRAGMA synchronous = FULL")  # a power cut takes nothing that was committed
                if new:
                    with contextlib.suppress(sqlite3.OperationalError):  # another consumer is at it
                        self._connection.execute("PRAGMA journal_mode = WAL")  # readers don't hold up writers
            yield self._connection
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            self.close()
            said = error.strerror if isinstance(error, OSError) else str(error)
            if isinstance(error, UnicodeDecodeError):
                said = "it is damaged: what should be UTF-8 is not"
            raise SinkUnavailable(f"{self.path}: {said}{_MENDS.get(str(error), '')}") from error
        except MillraceError:
            raise
        except BaseException:
            self.close()
            raise

    def _ready(self, connection: sqlite3.Connection, batch: Batch) -> SqliteTable:
        """The table, made where there is none, and looked at again whenever somebody changed the schema."""
        version = connection.execute("PRAGMA schema_version").fetchone()
        if self._table is not None and version == self._schema_version:
            return self._table
        with _transaction(connection):
            connection.execute(_LEDGER.format(quoted(self.ledger)))
            table = SqliteTable.find(connection, self.table)
            if table is None and self.create:
                connection.execute(create_table(self.table, self.columns(batch.model), self.key))
                table = SqliteTable.find(connection, self.table)
        if table is None:
            raise SinkUnavailable(f"{self.path}: there is no table {self.table}: create it, or set create: true")
        if drift := self.drift(table, batch.model):
            raise SinkUnavailable(f"{self.path}: table {self.table} {drift}")
        self._schema_version = connection.execute("PRAGMA schema_version").fetchone()
        self._table = table
        return table

    def _transaction(
        self, connection: sqlite3.Connection, table: SqliteTable, batch: Batch, names: list[str], rows: Rows
    ) -> Entry | None:
        """Writes the batch, or returns what the ledger says of it. Raises one of _MISFITS of a misfit."""
        with _transaction(connection):
            self._prune(connection)
            mine = connection.execute(
                f"INSERT INTO {quoted(self.ledger)} (batch_id, target, flow, records, rejected, written_at) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [batch.id, self.table, batch.flow, len(batch), self._refusals.text(batch.id), time.time()],
            )
            if not mine.rowcount:
                return self._entry(connection, batch.id)
            if self.mode == "replace":
                connection.execute(f"DELETE FROM {quoted(self.table)}")
            connection.executemany(table.insert(names, self.key, self.version), rows)
            killpoint("sink.before_commit")
        killpoint("sink.after_commit")
        return None

    def _entry(self, connection: sqlite3.Connection, batch_id: str) -> Entry | None:
        query = f"SELECT records, rejected FROM {quoted(self.ledger)} WHERE batch_id = ? AND target = ?"
        row = connection.execute(query, [batch_id, self.table]).fetchone()
        return Entry(*row) if row else None

    def _narrow(
        self, connection: sqlite3.Connection, table: SqliteTable, names: list[str], rows: Rows
    ) -> dict[int, str]:
        """Why the table refuses which rows, by index. Writes nothing."""
        reasons = {}
        insert = table.insert(names, self.key, self.version)
        with contextlib.suppress(_Undone), _transaction(connection):
            if self.mode == "replace":
                connection.execute(f"DELETE FROM {quoted(self.table)}")
            for index, row in enumerate(rows):
                try:
                    connection.execute(insert, row)
                except _MISFITS as error:
                    reasons[index] = _why(error, names, row)
                    if not connection.in_transaction:  # a conflict clause or trigger of the user's has ended it
                        connection.execute("BEGIN IMMEDIATE")
            raise _Undone
        return reasons

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Now and then, drops old batches from the ledger."""
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_SECONDS
        ledger, old = quoted(self.ledger), [self.table, time.time() - self.ledger_keep]
        connection.execute(
            f"INSERT INTO {ledger} AS kept (batch_id, target, flow, records, written_at) "
            f"SELECT ? || flow, target, flow, sum(records), {_FOR_EVER} FROM {ledger} "
            "WHERE target = ? AND written_at < ? GROUP BY flow "
            "ON CONFLICT (batch_id, target) DO UPDATE SET records = kept.records + excluded.records",
            [PRUNED, *old],
        )
        connection.execute(f"DELETE FROM {ledger} WHERE target = ? AND written_at < ?", old)


class SqliteReading:
    """The table at one instant; see `Reading`."""

    def __init__(self, connection: sqlite3.Connection, sink: SqliteSink, table: SqliteTable) -> None:
        self.columns = set(table.columns)
        self.plain = table.is_plain(sink.record_id)
        self._connection = connection
        self._sink = sink

    def batches(self) -> Iterator[tuple[str, int]]:
        """See `Reading.batches`."""
        query = f"SELECT batch_id, records FROM {quoted(self._sink.ledger)} WHERE target = ?"
        yield from self._connection.execute(query, [self._sink.table])

    def count(self) -> int:
        """See `Reading.count`."""
        [(rows,)] = self._connection.execute(f"SELECT count(*) FROM {quoted(self._sink.table)}")
        return int(rows)

    def values(self, column: str) -> Iterator[Any]:
        """See `Reading.values`."""
        name, table = quoted(column), quoted(self._sink.table)
        query = f"SELECT {name} FROM {table} WHERE {name} IS NOT NULL"
        return (value for (value,) in self._connection.execute(query))


class _Undone(Exception):
    """What was tried is to leave no trace."""


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Committed when it is left, rolled back on any error. IMMEDIATE waits for the turn to write at once."""
    connection.execute(begin)
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


_MENDS = {
    "database is locked": ": somebody else has been writing for longer than the sink's timeout",
    "database or disk is full": ": make room on the disk",
    "attempt to write a readonly database": ": give the consumer's user the right to write the file and its folder",
    "unable to open database file": ": give the consumer's user the right to write the file and its folder",
}


def _bound(values: list[Any]) -> list[Any]:
    """A column's values as SQLite takes them."""
    if set(map(type, values)) <= {type(None), str, int, float, bytes}:
        return values
    return [_scalar(value) for value in values]


def _scalar(value: Any) -> Any:
    """Instants become text in UTC, of one width, so that text in order is time in order."""
    if isinstance(value, datetime):
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, timedelta):
        return to_jsonable_python(value)
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | UUID) or hasattr(value, "isoformat") else value


def _why(error: Exception, names: Sequence[str], row: Sequence[Any]) -> str:
    """Why a row was refused; never what it holds, for reasons are shown."""
    # Looked for whatever the error is: after another one Python may say that again.
    if large := [name for name, value in zip(names, row, strict=True) if isinstance(value, int) and not _fits(value)]:
        return f"{large[0]}: too large for SQLite, whose integers have 64 bits"
    if isinstance(error, UnicodeError):
        return "holds half a surrogate pair, which is no character"
    return str(error)


def _fits(value: int) -> bool:
    return -(2**63) <= value < 2**63
