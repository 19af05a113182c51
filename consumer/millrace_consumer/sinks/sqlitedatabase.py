"""SQLite: one file, in which consumers take turns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from millrace_consumer.sinks.base import SinkUnavailable
from millrace_consumer.sinks.sqldatabase import LOOK_SECONDS, FileDatabase
from millrace_consumer.sinks.sqlitetable import INSTANT, SqliteTable, instant
from millrace_consumer.sinks.sqltable import SqlTable, quoted
from millrace_pipeline.errors import MillraceError

_MENDS = {
    "database is locked": ": somebody else has been writing for longer than the sink's timeout",
    "database or disk is full": ": make room on the disk",
    "attempt to write a readonly database": ": give the consumer's user the right to write the file and its folder",
    "unable to open database file": ": give the consumer's user the right to write the file and its folder",
}


class SqliteDatabase(FileDatabase):
    """One file, open until an error or the end."""

    table: ClassVar[type[SqlTable]] = SqliteTable
    ledger: ClassVar = ("TEXT", "INTEGER", "TEXT", "REAL NOT NULL")
    misfits: ClassVar = (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeError)
    failures: ClassVar = sqlite3.Error
    begin: ClassVar[str] = "BEGIN IMMEDIATE"  # waits for the turn to write at once

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__(path, timeout)
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def session(self) -> Iterator[sqlite3.Connection]:
        """See `Database.session`. The file is opened anew after an error."""
        try:
            if self._connection is None:
                new = not self._path.exists()
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # Not bound to this thread: another one closes it.
                self._connection = sqlite3.connect(
                    self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
                )
                self._connection.create_function(INSTANT, 1, instant, deterministic=True)
                self._connection.execute("PRAGMA synchronous = FULL")  # a power cut takes nothing that was committed
                if new:
                    with suppress(sqlite3.OperationalError):  # another consumer is at it
                        self._connection.execute("PRAGMA journal_mode = WAL")  # readers don't hold up writers
            yield self._connection
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            self.close()
            said = error.strerror if isinstance(error, OSError) else str(error)
            if isinstance(error, UnicodeDecodeError):
                said = "it is damaged: what should be UTF-8 is not"
            raise SinkUnavailable(f"{self._path}: {said}{_MENDS.get(str(error), '')}") from error
        except MillraceError:
            raise
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self.session() as connection, self.transaction(connection, "BEGIN DEFERRED"):
            yield connection

    @contextmanager
    def looking(self) -> Iterator[sqlite3.Connection]:
        address = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=min(self._timeout, LOOK_SECONDS))) as connection:
                yield connection
        except sqlite3.Error as error:
            raise SinkUnavailable(f"{self._path}: {error}") from None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def version(self, connection: sqlite3.Connection) -> object:
        """See `Database.version`: SQLite counts the changes of the schema."""
        return connection, self.run(connection, "PRAGMA schema_version")

    @contextmanager
    def savepoint(self, connection: sqlite3.Connection) -> Iterator[None]:
        connection.execute("SAVEPOINT millrace")
        try:
            yield
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK TO millrace")
                connection.execute("RELEASE millrace")
            else:  # a conflict clause or trigger of the user's has ended it
                connection.execute("BEGIN IMMEDIATE")
            raise
        connection.execute("RELEASE millrace")

    def change(self, connection: sqlite3.Connection, statement: str) -> int:
        return connection.execute(statement).rowcount

    def stream(self, connection: sqlite3.Connection, statement: str) -> Iterator[tuple[Any, ...]]:
        return connection.execute(statement)

    def qualified(self, name: str) -> str:
        """See `Database.qualified`: there are no schemas."""
        return quoted(name)

    def beside(self, table: str, name: str) -> str:  # noqa: ARG002 - all are beside each other
        return name
