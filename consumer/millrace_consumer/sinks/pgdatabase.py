"""PostgreSQL: a server, to which many consumers write at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import psycopg
from psycopg import Connection
from psycopg.sql import SQL, Literal

from millrace_consumer.sinks.ledger import PRUNED
from millrace_consumer.sinks.pgmisfits import MISFITS
from millrace_consumer.sinks.pgsession import PgSession
from millrace_consumer.sinks.pgtable import PgTable
from millrace_consumer.sinks.sqldatabase import LOOK_SECONDS, Database
from millrace_consumer.sinks.sqloptions import DAY
from millrace_consumer.sinks.sqltable import SqlTable


class PgDatabase(Database):
    """One database of a server."""

    table: ClassVar[type[SqlTable]] = PgTable
    ledger: ClassVar = ("text", "bigint", "json", "timestamp with time zone NOT NULL DEFAULT now()")
    misfits: ClassVar = MISFITS
    failures: ClassVar = psycopg.Error
    for_ever: ClassVar[str] = "'infinity'"

    def __init__(self, dsn: str, *, connect_timeout: float, timeout: float) -> None:
        self._dsn = dsn
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._session = PgSession(dsn, connect_timeout=connect_timeout, timeout=timeout)

    @property
    def place(self) -> str:
        return self._session.place

    @contextmanager
    def session(self) -> Iterator[Connection[Any]]:
        with self._session() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection[Any]]:
        """See `Database.reading`. A connection of its own, in a transaction for which there is a day."""
        with self._aside(self._connect_timeout, DAY) as connection:
            yield connection

    @contextmanager
    def looking(self) -> Iterator[Connection[Any]]:
        seconds = min(self._connect_timeout, LOOK_SECONDS)
        with self._aside(seconds, seconds) as connection:
            yield connection

    @contextmanager
    def _aside(self, connect_timeout: float, timeout: float) -> Iterator[Connection[Any]]:
        session = PgSession(self._dsn, connect_timeout=connect_timeout, timeout=timeout)
        try:
            with session() as connection, connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                yield connection
        finally:
            session.close()

    def lacking(self, connection: Connection[Any], table: str) -> str:
        name = self.literal(self.qualified(table))
        rights = ("INSERT", "SELECT")
        asked = ", ".join(f"has_table_privilege({name}, '{right}')" for right in rights)
        [found] = self.run(connection, f"SELECT {asked}")
        return next((right for right, there in zip(rights, found, strict=True) if not there), "")

    def close(self) -> None:
        self._session.close()

    def version(self, connection: Connection[Any]) -> object:
        """See `Database.version`: a table is looked at once a connection."""
        return connection

    @contextmanager
    def transaction(self, connection: Connection[Any]) -> Iterator[None]:
        """See `Database.transaction`. Its settings are for this one only, so that they hold behind a pooler, too."""
        with connection.transaction():
            connection.execute(
                SQL(
                    "SET LOCAL statement_timeout = {0}; SET LOCAL idle_in_transaction_session_timeout = {0}; "
                    "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; "
                    # What is acked is on the server's disk, whatever its configuration has for others.
                    "SELECT set_config('synchronous_commit', 'on', true) "
                    "WHERE current_setting('synchronous_commit') = 'off'"
                ).format(Literal(round(self._timeout * 1000)))
            )
            yield

    @contextmanager
    def savepoint(self, connection: Connection[Any]) -> Iterator[None]:
        with connection.transaction():
            yield

    def turn(self, table: str) -> str:
        return f"SELECT pg_advisory_xact_lock(hashtext('millrace'), hashtext({self.literal(table)}))"

    def run(self, connection: Connection[Any], statement: str) -> list[tuple[Any, ...]]:
        done = connection.execute(SQL(statement))
        return done.fetchall() if done.description else []

    def change(self, connection: Connection[Any], statement: str) -> int:
        return connection.execute(SQL(statement)).rowcount

    def stream(self, connection: Connection[Any], statement: str) -> Iterator[tuple[Any, ...]]:
        """See `Database.stream`: kept by the server, and fetched in pieces."""
        with connection.cursor(name="millrace") as cursor:
            cursor.itersize = 10_000
            yield from cursor.execute(SQL(statement))

    def literal(self, value: str | float | None) -> str:
        return Literal(value).as_string(None)

    def ago(self, seconds: float) -> str:
        """See `Database.ago`: by the server's clock."""
        return f"now() - make_interval(secs => {seconds!r})" if seconds else "now()"

    def prune(self, ledger: str, target: str, keep: float) -> list[str]:
        """See `Database.prune`: in one statement, since others may do the same at this moment."""
        table = self.literal(target)
        return [
            f"WITH gone AS (DELETE FROM {ledger} WHERE target = {table} AND written_at < {self.ago(keep)} "
            "RETURNING flow, records) "
            f"INSERT INTO {ledger} AS kept (batch_id, target, flow, records, written_at) "
            f"SELECT {self.literal(PRUNED)} || flow, {table}, flow, sum(records), {self.for_ever} FROM gone "
            "GROUP BY flow "
            "ON CONFLICT (batch_id, target) DO UPDATE SET records = kept.records + excluded.records"
        ]
