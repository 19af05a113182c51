"""Records as rows of a DuckDB table."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field, PrivateAttr

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.ledger import PRUNE_SECONDS, PRUNED, Entry, settle
from millrace_consumer.sinks.sql import SqlSink, Wait
from millrace_consumer.sinks.sqltable import beside
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.extras import Extra, need
from millrace_pipeline.killpoints import killpoint

EXTRA = Extra("duckdb", module="duckdb")
need(EXTRA.module, EXTRA.name, "sink duckdb")

import duckdb  # noqa: E402
import pyarrow as pa  # noqa: E402
from duckdb import DuckDBPyConnection  # noqa: E402

from millrace_consumer.sinks.duckdbtable import PLACE, STAGE, DuckdbTable, create_table, qualified, quoted  # noqa: E402

_LEDGER = (
    "CREATE TABLE IF NOT EXISTS {} (batch_id VARCHAR, target VARCHAR, flow VARCHAR NOT NULL, records BIGINT NOT NULL, "
    "rejected VARCHAR, written_at DOUBLE NOT NULL, PRIMARY KEY (batch_id, target))"
)
T = TypeVar("T")

_FOR_EVER = 1e15

_MISFITS = (
    duckdb.ConversionException,
    duckdb.ConstraintException,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    UnicodeError,
)
"""Raised because of a record, as far as one can tell."""

_QUOTED = re.compile(r'["\'].*["\']', re.DOTALL)
_PAUSE = (0.005, 0.03)
"""Seconds between two looks whether the file is free: drawn evenly, so that consumers don't stay in step."""


class DuckdbSink(SqlSink):
    """Exactly once: a batch's records and its id in a ledger, in one transaction of DuckDB.

    The file is open only while a batch is written, so consumers take turns, and others can read it between. A record
    that the table refuses is found and named, and the others are written.
    """

    path: Annotated[Path, Field(description="The database file; made where there is none.")]
    timeout: Annotated[Wait, Field(description="How long to wait until no other process has the file open.")] = 60

    extra: ClassVar[Extra | None] = EXTRA
    longest_name: ClassVar[int] = 1000

    _table: DuckdbTable | None = PrivateAttr(None)
    _prune_at: float = PrivateAttr(0.0)

    def check(self, model: type[BaseModel] | None) -> None:
        """Refuses a path that is a directory."""
        super().check(model)
        if self.path.is_dir():
            raise ConfigError(f"path: {self.path} is a directory; name a file in it")

    def write_once(self, batch: Batch) -> None:
        """One transaction: the ledger, and the rows. Raises RecordsRejected and SinkUnavailable."""
        killpoint("sink.before_write")
        with self._open() as connection:
            table = self._look(connection, batch)
            found = self.cells(batch, table)
            _no_fractions(found, table)
            stage = pa.table({name: _array(values) for name, values in found.items()} | {PLACE: range(len(batch))})
            try:
                entry = self._transaction(connection, table, batch, stage)
            except _MISFITS as error:
                if reasons := self._narrow(connection, table, stage):
                    raise RecordsRejected(reasons) from None
                raise SinkUnavailable(f"{self.path}: {_said(error)}") from None
        killpoint("sink.after_close")
        if entry is not None:
            settle(batch, entry)

    def has_batch(self, batch_id: str) -> bool:
        """Whether the ledger has this batch; yes where that can't be asked, so that the batch keeps its id."""
        try:
            if not self.path.exists():
                return False
            with self._open() as connection:
                known = DuckdbTable.find(connection, self._ledger_name)
                return known is not None and self._entry(connection, batch_id) is not None
        except (SinkUnavailable, OSError):
            return True

    @contextlib.contextmanager
    def reading(self) -> Iterator[DuckdbReading | None]:
        """The table, while nobody else can write to it."""
        if not self.path.exists():
            yield None
            return
        with self._open(read_only=True) as connection:
            table = DuckdbTable.find(connection, self.table)
            ledger = DuckdbTable.find(connection, self._ledger_name)
            yield None if table is None or ledger is None else DuckdbReading(connection, self, table)

    @property
    def _ledger_name(self) -> str:
        return beside(self.table, self.ledger)

    @contextlib.contextmanager
    def _open(self, *, read_only: bool = False) -> Iterator[DuckDBPyConnection]:
        """The file, once no other process has it. Raises SinkUnavailable."""
        try:
            if not read_only and not self.path.exists():
                _make(self.path)
            with self._turn(shared=read_only), self._connected(read_only) as connection:
                yield connection
        except (duckdb.Error, OSError) as error:
            self._table = None  # it may have changed: look at it again
            said = error.strerror if isinstance(error, OSError) and error.strerror else _said(error)
            raise SinkUnavailable(f"{self.path}: {said}") from None

    @contextlib.contextmanager
    def _turn(self, *, shared: bool) -> Iterator[None]:
        """Nobody else of ours has the file open meanwhile, or only to read.

        DuckDB's own lock alone doesn't do: of two processes that open and close a file at the same moment now and then
        both have it, and the rows of one are lost. Raises OSError.
        """
        try:
            lock = self.path.with_name(f".{self.path.name}.lock").open("w")
        except OSError:
            if not shared:
                raise
            yield  # who may only read here can spoil nothing
            return
        with lock:
            kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
            try:
                self._once_free(lambda: fcntl.flock(lock, kind), lambda error: isinstance(error, BlockingIOError))
            except BlockingIOError:
                raise TimeoutError(errno.ETIMEDOUT, "other consumers have it open") from None
            yield

    def _connected(self, read_only: bool) -> DuckDBPyConnection:
        return self._once_free(
            lambda: duckdb.connect(self.path, read_only=read_only),
            lambda error: isinstance(error, duckdb.IOException) and "lock" in str(error),
        )

    def _once_free(self, attempt: Callable[[], T], is_taken: Callable[[Exception], bool]) -> T:
        """Tries until the file isn't taken, as long as `timeout` says. Raises what the last try did."""
        over = time.monotonic() + self.timeout
        while True:
            try:
                return attempt()
            except Exception as error:
                if not is_taken(error) or time.monotonic() > over:
                    raise
                time.sleep(random.uniform(*_PAUSE))

    def _look(self, connection: DuckDBPyConnection, batch: Batch) -> DuckdbTable:
        """The table, looked at once until something fails, and made where there is none; and so is the ledger."""
        if self._table is not None:
            return self._table
        with _transaction(connection):
            connection.execute(_LEDGER.format(qualified(self._ledger_name)))
            table = DuckdbTable.find(connection, self.table)
            if table is None and self.create:
                connection.execute(create_table(self.table, self.columns(batch.model), self.key))
                table = DuckdbTable.find(connection, self.table)
        if table is None:
            raise SinkUnavailable(f"{self.path}: there is no table {self.table}: create it, or set create: true")
        if drift := self.drift(table, batch.model):
            raise SinkUnavailable(f"{self.path}: table {self.table} {drift}")
        self._table = table
        return table

    def _transaction(
        self, connection: DuckDBPyConnection, table: DuckdbTable, batch: Batch, stage: pa.Table
    ) -> Entry | None:
        """Writes the batch, or returns what the ledger says of it. Raises one of _MISFITS of a misfit."""
        with _transaction(connection):
            if (entry := self._entry(connection, batch.id)) is not None:
                return entry
            self._prune(connection)
            connection.execute(
                f"INSERT INTO {qualified(self._ledger_name)} (batch_id, target, flow, records, rejected, written_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [batch.id, self.table, batch.flow, len(batch), self._refusals.text(batch.id), time.time()],
            )
            self._put(connection, table, stage)
            killpoint("sink.before_commit")
        killpoint("sink.after_commit")
        return None

    def _put(self, connection: DuckDBPyConnection, table: DuckdbTable, stage: pa.Table) -> None:
        if self.mode == "replace":
            connection.execute(f"DELETE FROM {qualified(self.table)}")
        connection.register(STAGE, stage)
        names = [name for name in stage.column_names if name != PLACE]
        connection.execute(table.take_over(names, self.key, self.version))

    def _entry(self, connection: DuckDBPyConnection, batch_id: str) -> Entry | None:
        query = f"SELECT records, rejected FROM {qualified(self._ledger_name)} WHERE batch_id = ? AND target = ?"
        row = connection.execute(query, [batch_id, self.table]).fetchone()
        return Entry(*row) if row else None

    def _narrow(self, connection: DuckDBPyConnection, table: DuckdbTable, stage: pa.Table) -> dict[int, str]:
        """Why the table refuses which rows, by index. Writes nothing."""
        reasons: dict[int, str] = {}
        connection.register(STAGE, stage)
        for name in stage.column_names:
            if name != PLACE:
                lost = f"{quoted(name)} IS NOT NULL AND {table.cast(name, 'TRY_CAST')} IS NULL"
                for (index,) in connection.execute(f"SELECT {PLACE} FROM {STAGE} WHERE {lost}").fetchall():
                    reasons.setdefault(index, f"{name}: not something that {table.columns[name].type} can hold")
        good: list[int] = []

        def put(indices: list[int]) -> None:
            # DuckDB has no savepoints, so what is known to be good goes in again with every try.
            try:
                with contextlib.suppress(_Undone), _transaction(connection):
                    self._put(connection, table, stage.take(pa.array(good + indices, pa.int64())))
                    raise _Undone
                good.extend(indices)
            except _MISFITS as error:
                if len(indices) == 1:
                    reasons[indices[0]] = _said(error)
                else:
                    middle = len(indices) // 2
                    put(indices[:middle])
                    put(indices[middle:])

        if left := [index for index in range(stage.num_rows) if index not in reasons]:
            put(left)
        return dict(sorted(reasons.items()))

    def _prune(self, connection: DuckDBPyConnection) -> None:
        """Now and then, drops old batches from the ledger."""
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_SECONDS
        ledger, old = qualified(self._ledger_name), [self.table, time.time() - self.ledger_keep]
        connection.execute(
            f"INSERT INTO {ledger} AS kept (batch_id, target, flow, records, written_at) "
            f"SELECT ? || flow, target, flow, sum(records), {_FOR_EVER} FROM {ledger} "
            "WHERE target = ? AND written_at < ? GROUP BY flow, target "
            "ON CONFLICT (batch_id, target) DO UPDATE SET records = kept.records + excluded.records",
            [PRUNED, *old],
        )
        connection.execute(f"DELETE FROM {ledger} WHERE target = ? AND written_at < ?", old)


class DuckdbReading:
    """The table at one instant; see `Reading`."""

    def __init__(self, connection: DuckDBPyConnection, sink: DuckdbSink, table: DuckdbTable) -> None:
        self.columns = set(table.columns)
        self.plain = table.is_plain(sink.record_id)
        self._connection = connection
        self._table = qualified(sink.table)
        self._ledger = qualified(beside(sink.table, sink.ledger))
        self._target = sink.table

    def batches(self) -> Iterator[tuple[str, int]]:
        """See `Reading.batches`."""
        query = f"SELECT batch_id, records FROM {self._ledger} WHERE target = ?"
        yield from self._connection.execute(query, [self._target]).fetchall()

    def count(self) -> int:
        """See `Reading.count`."""
        [(rows,)] = self._connection.execute(f"SELECT count(*) FROM {self._table}").fetchall()
        return int(rows)

    def values(self, column: str) -> Iterator[Any]:
        """See `Reading.values`; as text, in which DuckDB can say everything."""
        name = quoted(column)
        found = self._connection.execute(f"SELECT {name}::VARCHAR FROM {self._table} WHERE {name} IS NOT NULL")
        while rows := found.fetchmany(10_000):
            yield from (value for (value,) in rows)


def _make(path: Path) -> None:
    """An empty database: whole or not at all, for DuckDB never opens again what it could make only half of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")
    try:
        duckdb.connect(beside).close()
        with contextlib.suppress(FileExistsError):  # another consumer was quicker
            path.hardlink_to(beside)
    finally:
        beside.unlink(missing_ok=True)


class _Undone(Exception):
    """What was tried is to leave no trace."""


@contextlib.contextmanager
def _transaction(connection: DuckDBPyConnection) -> Iterator[None]:
    """Committed when it is left, rolled back on any error."""
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        with contextlib.suppress(duckdb.Error):  # the error may have ended it
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _array(values: list[Any]) -> pa.Array:
    """A column's values as Arrow takes them: of their own type where they have one, else as text."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {datetime}:
        return pa.array([None if value is None else _in_utc(value) for value in values], pa.timestamp("us", "UTC"))
    if len(kinds) == 1 and not kinds & {Decimal, UUID}:
        with contextlib.suppress(pa.ArrowException, OverflowError):
            return pa.array(values)
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _in_utc(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _no_fractions(found: dict[str, list[Any]], table: DuckdbTable) -> None:
    """Raises RecordsRejected for what is no whole number where one is wanted: DuckDB would round it."""
    rejected: dict[int, str] = {}
    for name in table.integers & found.keys():
        if set(map(type, found[name])) & {float, Decimal}:
            for index, value in enumerate(found[name]):
                if isinstance(value, float | Decimal) and not _is_whole(value):
                    rejected[index] = f"{name}: no whole number, and {table.columns[name].type} holds nothing else"
    if rejected:
        raise RecordsRejected(dict(sorted(rejected.items())))


def _is_whole(value: float | Decimal) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return value.is_finite() and value == value.to_integral_value()  # of any size, as the remainder of 1 is not


def _said(error: Exception) -> str:
    """What DuckDB says, on one line, without what it quotes of the records."""
    first = str(error).split("\n", 1)[0]
    return _QUOTED.sub("…", first)[:300] if isinstance(error, _MISFITS) else first[:300]
