"""Databases: what differs between those that are asked in SQL, as one class each."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from millrace_consumer.sinks.ledger import PRUNED
from millrace_consumer.sinks.sqlcolumns import SqlColumn
from millrace_consumer.sinks.sqltable import SqlTable, qualified, quoted

LOOK_SECONDS = 5.0
"""How long a look at a database waits for it."""


class Undone(Exception):
    """What was tried is to leave no trace."""


class Database(ABC):
    """One database: how it is reached, and what it has words of its own for.

    A connection is what `session` and `reading` give. Names of tables are as the flow says them; statements have all
    their values in them, as `literal` writes them.
    """

    table: ClassVar[type[SqlTable]]
    """Its tables."""

    ledger: ClassVar[tuple[str, str, str, str]]
    """The types of a ledger's columns: text, integers, text or JSON, instants."""

    misfits: ClassVar[tuple[type[Exception], ...]]
    """What it raises because of a record, as far as one can tell."""

    failures: ClassVar[type[Exception]]
    """What it raises."""

    savepoints: ClassVar[bool] = True
    """Whether a part of a transaction can be undone; else `savepoint` is never asked for."""

    for_ever: ClassVar[str]
    """An instant behind all others."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, for messages."""

    def exists(self) -> bool:
        """Whether there is anything to be asked; nobody is asked for that."""
        return True

    @abstractmethod
    def session(self) -> AbstractContextManager[Any]:
        """A connection. Raises SinkUnavailable, also for what the database raises within."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Any]:
        """A connection that sees one instant. Raises as `session` does."""

    @abstractmethod
    def looking(self) -> AbstractContextManager[Any | None]:
        """A connection that changes nothing at all, and is waited for no longer than `LOOK_SECONDS`.

        None where somebody writes now and lets nobody else in. Raises as `session` does.
        """

    def lacking(self, connection: Any, table: str) -> str:  # noqa: ARG002 - whoever may open a file may do all in it
        """A right to this table that the user lacks; empty for none."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """Ends the connection; the next use makes another."""

    @abstractmethod
    def version(self, connection: Any) -> object:
        """What is another thing once a table may have changed since it was looked at."""

    @abstractmethod
    def transaction(self, connection: Any) -> AbstractContextManager[Any]:
        """Committed when it is left, rolled back on any error."""

    def savepoint(self, connection: Any) -> AbstractContextManager[Any]:
        """A part of a transaction, which is undone by itself on any error."""
        raise NotImplementedError

    @contextmanager
    def undone(self, connection: Any) -> Iterator[None]:
        """A transaction that leaves nothing."""
        with suppress(Undone), self.transaction(connection):
            yield
            raise Undone

    def at_will(self) -> AbstractContextManager[Any]:
        """Within it nothing that the database raises matters."""
        return suppress(self.failures)

    def turn(self, table: str) -> str:  # noqa: ARG002 - where one writes at a time there is nothing to wait for
        """The statement that waits, in a transaction, until no other consumer makes this table; empty for none."""
        return ""

    @abstractmethod
    def run(self, connection: Any, statement: str) -> list[tuple[Any, ...]]:
        """The statement's rows."""

    @abstractmethod
    def change(self, connection: Any, statement: str) -> int:
        """How many rows the statement changed."""

    @abstractmethod
    def stream(self, connection: Any, statement: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query that there may be many of."""

    def find(self, connection: Any, name: str) -> SqlTable | None:
        """The table as it is now; None where there is none."""
        return self.table.find(connection, name)

    def qualified(self, name: str) -> str:
        """A table's name, quoted."""
        return qualified(name)

    def beside(self, table: str, name: str) -> str:
        """The name of another table in the schema of this one."""
        schema, _, _ = table.rpartition(".")
        return f"{schema}.{name}" if schema else name

    def literal(self, value: str | float | None) -> str:
        """A value, written out."""
        if value is None:
            return "NULL"
        return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)

    def as_read(self, column: str) -> str:
        """A column as it is read again."""
        return quoted(column)

    def ago(self, seconds: float) -> str:
        """An instant of the past, as the ledger has it."""
        return repr(time.time() - seconds)

    def make_table(self, name: str, columns: Mapping[str, SqlColumn], key: Sequence[str]) -> str:
        """The statement that makes a table of these columns."""
        parts = [
            f"{quoted(column_name)} {self.table.type_of(column)}"
            f"{'' if column.nullable and column_name not in key else ' NOT NULL'}"
            for column_name, column in columns.items()
        ]
        if key:
            parts.append(f"PRIMARY KEY ({', '.join(map(quoted, key))})")
        return f"CREATE TABLE {self.qualified(name)} ({', '.join(parts)})"

    def make_ledger(self, name: str) -> str:
        """The statement that makes a ledger where there is none."""
        text, integer, rejected, instant = self.ledger
        return (
            f"CREATE TABLE IF NOT EXISTS {self.qualified(name)} (batch_id {text}, target {text}, flow {text} NOT NULL, "
            f"records {integer} NOT NULL, rejected {rejected}, written_at {instant}, PRIMARY KEY (batch_id, target))"
        )

    def prune(self, ledger: str, target: str, keep: float) -> list[str]:
        """The statements that drop batches of more than so many seconds ago, and add them up in one row a flow.

        These are for a database that lets one write at a time.
        """
        old = f"FROM {ledger} WHERE target = {self.literal(target)} AND written_at < {self.ago(keep)}"
        return [
            f"INSERT INTO {ledger} AS kept (batch_id, target, flow, records, written_at) "
            f"SELECT {self.literal(PRUNED)} || flow, target, flow, sum(records), {self.for_ever} {old} "
            "GROUP BY flow, target "
            "ON CONFLICT (batch_id, target) DO UPDATE SET records = kept.records + excluded.records",
            f"DELETE {old}",
        ]


class FileDatabase(Database):
    """A database in a file, in which one writes at a time: SQLite's and DuckDB's."""

    for_ever: ClassVar[str] = "1e15"
    begin: ClassVar[str] = "BEGIN"

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout

    @property
    def place(self) -> str:
        return str(self._path)

    def exists(self) -> bool:
        """See `Database.exists`. Raises OSError."""
        return self._path.exists()

    @contextmanager
    def transaction(self, connection: Any, begin: str = "") -> Iterator[None]:
        connection.execute(begin or self.begin)
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            with suppress(self.failures):  # the error may have ended it
                connection.execute("ROLLBACK")
            raise

    def run(self, connection: Any, statement: str) -> list[tuple[Any, ...]]:
        return list(connection.execute(statement).fetchall())
