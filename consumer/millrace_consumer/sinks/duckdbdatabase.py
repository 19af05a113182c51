"""DuckDB: one file, open only while a batch is written, so consumers take turns and others can read it between."""

from __future__ import annotations

import errno
import fcntl
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import duckdb
from duckdb import DuckDBPyConnection

from millrace_consumer.sinks.base import SinkUnavailable
from millrace_consumer.sinks.duckdbtable import MISFITS, DuckdbTable, said
from millrace_consumer.sinks.sqldatabase import FileDatabase
from millrace_consumer.sinks.sqltable import SqlTable, quoted
from millrace_pipeline.killpoints import killpoint

T = TypeVar("T")

_CONFIG: dict[str, str | bool | int | float | list[str]] = {"TimeZone": "UTC", "autoinstall_known_extensions": "false"}
"""See docs/decisions/0017-library-defaults.md. All connections of a process to one file have the same."""

_PAUSE = (0.005, 0.03)
"""Seconds between two looks whether the file is free: drawn evenly, so that consumers don't stay in step."""


class DuckdbDatabase(FileDatabase):
    """One file."""

    table: ClassVar[type[SqlTable]] = DuckdbTable
    ledger: ClassVar = ("VARCHAR", "BIGINT", "VARCHAR", "DOUBLE NOT NULL")
    misfits: ClassVar = MISFITS
    failures: ClassVar = duckdb.Error
    savepoints: ClassVar[bool] = False

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__(path, timeout)
        self._failures = 0

    @contextmanager
    def session(self) -> Iterator[DuckDBPyConnection]:
        """See `Database.session`: the file, once no other process has it."""
        with self._open(read_only=False) as connection:
            yield connection
        killpoint("sink.after_close")

    @contextmanager
    def reading(self) -> Iterator[DuckDBPyConnection]:
        """See `Database.reading`: nobody else can write meanwhile."""
        with self._open(read_only=True) as connection:
            yield connection

    @contextmanager
    def looking(self) -> Iterator[DuckDBPyConnection | None]:
        """See `Database.looking`. No turn is waited for, which would leave its file: who only reads spoils nothing."""
        connection = None
        try:
            try:
                connection = _connected(self._path, read_only=True)
            except duckdb.IOException as error:
                if not _is_locked(error):
                    raise
            with connection or nullcontext():
                yield connection
        except duckdb.Error as error:
            raise SinkUnavailable(f"{self._path}: {said(error)}") from None

    def close(self) -> None:
        """Does nothing: the file is closed."""

    def version(self, connection: DuckDBPyConnection) -> object:  # noqa: ARG002 - it is another one each time
        """See `Database.version`: the table is looked at once, until something fails."""
        return self._failures

    def change(self, connection: DuckDBPyConnection, statement: str) -> int:
        [(rows,)] = self.run(connection, statement)
        return int(rows)

    def stream(self, connection: DuckDBPyConnection, statement: str) -> Iterator[tuple[Any, ...]]:
        found = connection.execute(statement)
        while rows := found.fetchmany(10_000):
            yield from rows

    def as_read(self, column: str) -> str:
        """See `Database.as_read`: as text, in which DuckDB can say everything."""
        return f"{quoted(column)}::VARCHAR"

    @contextmanager
    def _open(self, *, read_only: bool) -> Iterator[DuckDBPyConnection]:
        """The file, once no other process has it. Raises SinkUnavailable."""
        try:
            if not read_only and not self._path.exists():
                _make(self._path)
            with self._turn(shared=read_only), self._connected(read_only) as connection:
                yield connection
        except (duckdb.Error, OSError) as error:
            self._failures += 1  # the table may have changed
            reason = error.strerror if isinstance(error, OSError) and error.strerror else said(error)
            raise SinkUnavailable(f"{self._path}: {reason}") from None

    @contextmanager
    def _turn(self, *, shared: bool) -> Iterator[None]:
        """Nobody else of ours has the file open meanwhile, or only to read.

        DuckDB's own lock alone doesn't do: of two processes that open and close a file at the same moment now and then
        both have it, and the rows of one are lost. Raises OSError.
        """
        try:
            lock = self._path.with_name(f".{self._path.name}.lock").open("w")
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
            lambda: _connected(self._path, read_only=read_only),
            _is_locked,
        )

    def _once_free(self, attempt: Callable[[], T], is_taken: Callable[[Exception], bool]) -> T:
        """Tries until the file isn't taken, as long as `timeout` says. Raises what the last try did."""
        over = time.monotonic() + self._timeout
        while True:
            try:
                return attempt()
            except Exception as error:
                if not is_taken(error) or time.monotonic() > over:
                    raise
                time.sleep(random.uniform(*_PAUSE))


def _connected(path: Path, *, read_only: bool) -> DuckDBPyConnection:
    return duckdb.connect(path, read_only=read_only, config=_CONFIG)


def _is_locked(error: Exception) -> bool:
    return isinstance(error, duckdb.IOException) and "lock" in str(error)


def _make(path: Path) -> None:
    """An empty database: whole or not at all, for DuckDB never opens again what it could make only half of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")
    try:
        _connected(beside, read_only=False).close()
        with suppress(FileExistsError):  # another consumer was quicker
            path.hardlink_to(beside)
    finally:
        beside.unlink(missing_ok=True)
