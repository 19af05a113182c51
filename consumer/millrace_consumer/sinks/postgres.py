"""Records as rows of a PostgreSQL table."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, PrivateAttr, SecretStr, field_validator

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.ledger import PRUNE_SECONDS, PRUNED, Entry, settle
from millrace_consumer.sinks.sql import DAY, SqlSink, Wait
from millrace_consumer.sinks.sqltable import beside
from millrace_pipeline.extras import Extra, need
from millrace_pipeline.killpoints import killpoint

EXTRA = Extra("postgres", module="psycopg")
need(EXTRA.module, EXTRA.name, "sink postgres")

import psycopg  # noqa: E402
from psycopg import Connection  # noqa: E402
from psycopg.sql import SQL, Composed, Identifier, Literal  # noqa: E402

from millrace_consumer.sinks.pgmisfits import MISFITS, misfits, why  # noqa: E402
from millrace_consumer.sinks.pgsession import PgSession, checked_dsn  # noqa: E402
from millrace_consumer.sinks.pgtable import STAGE, PgTable, create_table, identifier  # noqa: E402

Rows = Sequence[Sequence[Any]]

_LEDGER = SQL(
    "CREATE TABLE IF NOT EXISTS {} (batch_id text, target text, flow text NOT NULL, records bigint NOT NULL, "
    "rejected json, written_at timestamp with time zone NOT NULL DEFAULT now(), PRIMARY KEY (batch_id, target))"
)
_HELD = SQL("SELECT records, rejected::text FROM {} WHERE batch_id = {} AND target = {}")
_PRUNE = SQL(
    "WITH gone AS (DELETE FROM {ledger} WHERE target = {target} AND written_at < now() - make_interval(secs => {keep}) "
    "RETURNING flow, records) "
    "INSERT INTO {ledger} AS kept (batch_id, target, flow, records, written_at) "
    "SELECT {pruned} || flow, {target}, flow, sum(records), 'infinity' FROM gone GROUP BY flow "
    "ON CONFLICT (batch_id, target) DO UPDATE SET records = kept.records + excluded.records"
)


class PostgresSink(SqlSink):
    """Exactly once: a batch's records and its id in a ledger, in one transaction of PostgreSQL.

    They are copied to a temporary table and moved from there. A COMMIT whose reply is lost is looked up in the ledger.
    A record that the table refuses is found and named, and the others are written.
    """

    dsn: Annotated[
        SecretStr,
        Field(
            description="Where the database is: postgresql://user:password@host:5432/database, or libpq's key=value."
        ),
    ]
    connect_timeout: Annotated[Wait, Field(description="How long to wait for a connection.")] = 10
    timeout: Annotated[
        Wait, Field(description="How long a batch may take; the server gives a statement no longer, either.")
    ] = 300

    extra: ClassVar[Extra | None] = EXTRA
    longest_name: ClassVar[int] = 63

    _session: PgSession | None = PrivateAttr(None)
    _table: PgTable | None = PrivateAttr(None)
    _looked_at_by: Connection[Any] | None = PrivateAttr(None)
    _prune_at: float = PrivateAttr(0.0)

    @field_validator("dsn")
    @classmethod
    def _an_address(cls, dsn: SecretStr) -> SecretStr:
        checked_dsn(dsn.get_secret_value())
        return dsn

    def write_once(self, batch: Batch) -> None:
        """One transaction: the ledger, COPY, and the rows. Raises RecordsRejected and SinkUnavailable."""
        killpoint("sink.before_write")
        with self.session() as connection:
            table = self._ready(connection, batch)
            found = self.cells(batch, table)
            names, rows = list(found), list(zip(*found.values(), strict=True))
            try:
                entry = self._transaction(connection, table, batch, names, rows)
            except MISFITS as error:
                reasons = self._narrow(connection, table, names, rows)
                if reasons:
                    raise RecordsRejected(reasons) from None
                raise SinkUnavailable(f"{self.session.place}: {why(error)}, and a moment later it wasn't so") from None
            if entry is not None:
                settle(batch, entry)
            self._prune(connection)

    def has_batch(self, batch_id: str) -> bool:
        """Whether the ledger has this batch; yes where that can't be asked, so that the batch keeps its id."""
        try:
            with self.session() as connection:
                if PgTable.find(connection, self._ledger_name) is None:
                    return False
                return self._entry(connection, batch_id) is not None
        except SinkUnavailable:
            return True

    @contextlib.contextmanager
    def reading(self) -> Iterator[PgReading | None]:
        """The table, in a transaction that sees nothing of what is written meanwhile."""
        session = PgSession(self.dsn.get_secret_value(), connect_timeout=self.connect_timeout, timeout=DAY)
        try:
            with session() as connection, connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                table = PgTable.find(connection, self.table)
                ledger = PgTable.find(connection, self._ledger_name)
                yield None if table is None or ledger is None else PgReading(connection, self, table)
        finally:
            session.close()

    def close(self) -> None:
        """Ends the connection."""
        if self._session is not None:
            self._session.close()

    @property
    def session(self) -> PgSession:
        """The connection to the server, made when it is used."""
        if self._session is None:
            self._session = PgSession(
                self.dsn.get_secret_value(), connect_timeout=self.connect_timeout, timeout=self.timeout
            )
        return self._session

    @property
    def _ledger_name(self) -> str:
        return beside(self.table, self.ledger)

    # ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _ready(self, connection: Connection[Any], batch: Batch) -> PgTable:
        """The table, looked at once a connection, and made where there is none; so is the ledger."""
        if self._table is None or connection is not self._looked_at_by:
            self._table = self._look(connection, batch)
            self._looked_at_by = connection
        return self._table

    def _look(self, connection: Connection[Any], batch: Batch) -> PgTable:
        with connection.transaction():
            # Two consumers that start at once must not both make it.
            self._settings(connection)
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('millrace'), hashtext(%s))", [self.table])
            if PgTable.find(connection, self._ledger_name) is None:
                connection.execute(_LEDGER.format(identifier(self._ledger_name)))
            table = PgTable.find(connection, self.table)
            if table is None and self.create:
                connection.execute(create_table(self.table, self.columns(batch.model), self.key))
                table = PgTable.find(connection, self.table)
        if table is None:
            raise SinkUnavailable(
                f"{self.session.place}: there is no table {self.table}: create it, or set create: true"
            )
        if drift := self.drift(table, batch.model):
            raise SinkUnavailable(f"{self.session.place}: table {self.table} {drift}")
        return table

    # ── The transaction ─────────────────────────────────────────────────────────────────────────────────────────────

    def _transaction(
        self, connection: Connection[Any], table: PgTable, batch: Batch, names: list[str], rows: Rows
    ) -> Entry | None:
        """Writes the batch, or returns what the ledger says of it. Raises one of MISFITS where a record doesn't fit."""
        with connection.transaction():
            self._settings(connection)
            # First of all: another consumer that writes this batch right now is waited for here.
            mine = connection.execute(
                SQL(
                    "INSERT INTO {} (batch_id, target, flow, records, rejected) VALUES ({}) ON CONFLICT DO NOTHING"
                ).format(
                    identifier(self._ledger_name),
                    SQL(", ").join(
                        map(Literal, (batch.id, self.table, batch.flow, len(batch), self._refusals.text(batch.id)))
                    ),
                )
            )
            if not mine.rowcount:
                return self._entry(connection, batch.id)
            connection.execute(table.stage(names))
            killpoint("sink.before_copy")
            if self.mode == "replace":
                connection.execute(SQL("DELETE FROM {}").format(identifier(self.table)))
            self._put(connection, table, names, rows)
            killpoint("sink.before_commit")
        killpoint("sink.after_commit")
        return None

    def _settings(self, connection: Connection[Any]) -> None:
        """For this transaction only, so that it holds behind a pooler, too."""
        milliseconds = Literal(round(self.timeout * 1000))
        connection.execute(
            SQL(
                "SET LOCAL statement_timeout = {0}; SET LOCAL idle_in_transaction_session_timeout = {0}; "
                "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'"
            ).format(milliseconds)
        )

    def _put(self, connection: Connection[Any], table: PgTable, names: list[str], rows: Rows) -> None:
        into = SQL("COPY {} ({}) FROM STDIN").format(STAGE, SQL(", ").join(map(Identifier, names)))
        with connection.cursor() as cursor:
            with cursor.copy(into) as copy:
                for row in rows:
                    copy.write_row(row)
            killpoint("sink.after_copy")
            take_over = table.take_over(names, self.key, self.version)
            cursor.execute(Composed([take_over, SQL("; SET CONSTRAINTS ALL IMMEDIATE")]))

    def _entry(self, connection: Connection[Any], batch_id: str) -> Entry | None:
        query = _HELD.format(identifier(self._ledger_name), Literal(batch_id), Literal(self.table))
        row = connection.execute(query).fetchone()
        return Entry(*row) if row else None

    # ── The records that don't fit ──────────────────────────────────────────────────────────────────────────────────

    def _narrow(self, connection: Connection[Any], table: PgTable, names: list[str], rows: Rows) -> dict[int, str]:
        """Why the table refuses which rows, by index. Writes nothing."""
        reasons = misfits(table, names, rows)

        def put(indices: list[int]) -> None:
            try:
                with connection.transaction():
                    self._put(connection, table, names, [rows[index] for index in indices])
                    connection.execute(SQL("DELETE FROM {}").format(STAGE))
            except MISFITS as error:
                if len(indices) == 1:
                    reasons[indices[0]] = why(error)
                else:
                    middle = len(indices) // 2
                    put(indices[:middle])
                    put(indices[middle:])

        with connection.transaction(force_rollback=True):
            self._settings(connection)
            connection.execute(table.stage(names))
            if self.mode == "replace":
                connection.execute(SQL("DELETE FROM {}").format(identifier(self.table)))
            if left := [index for index in range(len(rows)) if index not in reasons]:
                put(left)
        return dict(sorted(reasons.items()))

    # ── The ledger's age ────────────────────────────────────────────────────────────────────────────────────────────

    def _prune(self, connection: Connection[Any]) -> None:
        """Now and then, drops old batches from the ledger. The batch in hand is durable, whatever becomes of this."""
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_SECONDS
        with contextlib.suppress(psycopg.Error), connection.transaction():
            self._settings(connection)
            connection.execute(
                _PRUNE.format(
                    ledger=identifier(self._ledger_name),
                    target=Literal(self.table),
                    keep=Literal(self.ledger_keep),
                    pruned=Literal(PRUNED),
                )
            )


class PgReading:
    """The table at one instant; see `Reading`."""

    def __init__(self, connection: Connection[Any], sink: PostgresSink, table: PgTable) -> None:
        self.columns = set(table.columns)
        self.plain = table.is_plain(sink.record_id)
        self._connection = connection
        self._table = identifier(sink.table)
        self._batches = SQL("SELECT batch_id, records FROM {} WHERE target = {}").format(
            identifier(beside(sink.table, sink.ledger)), Literal(sink.table)
        )

    def batches(self) -> Iterator[tuple[str, int]]:
        """See `Reading.batches`."""
        return self._rows(self._batches)

    def count(self) -> int:
        """See `Reading.count`."""
        [(rows,)] = self._rows(SQL("SELECT count(*) FROM {}").format(self._table))
        return int(rows)

    def values(self, column: str) -> Iterator[Any]:
        """See `Reading.values`."""
        query = SQL("SELECT {0} FROM {1} WHERE {0} IS NOT NULL").format(Identifier(column), self._table)
        return (value for (value,) in self._rows(query))

    def _rows(self, query: Composed) -> Iterator[Any]:
        with self._connection.cursor(name="millrace") as cursor:  # kept by the server, and fetched in pieces
            cursor.itersize = 10_000
            yield from cursor.execute(query)
