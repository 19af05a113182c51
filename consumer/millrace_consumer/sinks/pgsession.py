"""A connection to PostgreSQL that never waits for ever, and says what went wrong without a secret."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from millrace_consumer.sinks.base import SinkUnavailable
from millrace_pipeline.errors import MillraceError

MARGIN = 5.0
"""Seconds that the server is given to cancel a statement by itself before the connection is cut."""

_MENDS = {
    "28": "look at user and password in dsn, and at the server's pg_hba.conf",
    "3D000": "create the database, or name another in dsn",
    "3F000": "create the schema: CREATE SCHEMA …",
    "42501": "GRANT the user what docs/sinks/postgres.md lists",
    "53100": "make room on its disk",
    "53300": "raise max_connections, or run fewer consumers",
    "57014": "a statement took longer than the sink's timeout, or somebody cancelled it",
    "25006": "this server only reads: add target_session_attrs=read-write to dsn",
    "40": "another transaction was in the way: it is tried again",
}

_WHILE_CONNECTING = {"authentication failed": "28", "pg_hba.conf": "28", "does not exist": "3D000"}
"""What is said without a state, which libpq doesn't pass on, and the state that it is."""

_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


def checked_dsn(dsn: str) -> str:
    """The address, if it is one. Raises ValueError, in words of ours: libpq's would hold parts of it."""
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise ValueError("expected an address such as postgresql://user:password@host:5432/database") from None
    return dsn


class PgSession:
    """One connection, opened when it is first asked for, and again after it broke."""

    def __init__(self, dsn: str, *, connect_timeout: float, timeout: float) -> None:
        self._dsn = dsn
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._connection: Connection[Any] | None = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Connection[Any]]:
        """The connection, in which each statement is a transaction of its own unless one was begun.

        What takes longer than the timeout loses its connection. Raises SinkUnavailable for whatever psycopg raises
        inside; then, and on what isn't ours, the connection is gone.
        """
        try:
            connection = self._open()
            with self._deadline(connection):
                yield connection
        except psycopg.Error as error:
            self.close()
            raise SinkUnavailable(f"{self.place}: {self.told(error)}") from None
        except MillraceError:
            raise
        except BaseException:
            self.close()
            raise

    @property
    def open(self) -> bool:
        """Whether there is a connection that isn't known to be broken."""
        return self._connection is not None and not self._connection.closed

    @property
    def place(self) -> str:
        """The server and database, without user and password."""
        known = conninfo_to_dict(self._dsn)
        host = known.get("host") or known.get("hostaddr") or "the local socket"
        return f"PostgreSQL at {host}:{known.get('port') or 5432}, database {known.get('dbname') or 'of the user'}"

    def close(self) -> None:
        """Gives the connection back; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def told(self, error: psycopg.Error) -> str:
        """What the server or libpq says, on one line and without user and password; and how to mend it."""
        said = " ".join((error.diag.message_primary or str(error)).split()) or type(error).__name__
        state = error.sqlstate or next((state for words, state in _WHILE_CONNECTING.items() if words in said), "")
        known = conninfo_to_dict(self._dsn)
        for secret in (self._dsn, str(known.get("password") or ""), str(known.get("user") or "")):
            said = said.replace(f'"{secret}"', "of dsn") if secret else said
            said = said.replace(secret, "…") if len(secret) > 3 else said
        mend = _MENDS.get(state) or _MENDS.get(state[:2])
        return f"{said}{f' ({mend})' if mend else ''}"

    def _open(self) -> Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                make_conninfo(self._dsn, **self._defaults()),
                autocommit=True,
                prepare_threshold=None,  # a pooler may hand each transaction to another server process
            )
        return self._connection

    def _defaults(self) -> dict[str, Any]:
        wanted = {
            "connect_timeout": max(2, round(self._connect_timeout)),
            "application_name": "millrace",
            **_KEEPALIVES,
        }
        known = conninfo_to_dict(self._dsn)
        return {name: value for name, value in wanted.items() if not known.get(name)} | {"client_encoding": "UTF8"}

    @contextlib.contextmanager
    def _deadline(self, connection: Connection[Any]) -> Iterator[None]:
        """Cuts the connection once the time is over: the server may be gone without a word, and the client waits."""
        own = socket.socket(fileno=os.dup(connection.pgconn.socket))
        timer = threading.Timer(self._timeout + MARGIN, _cut, [own])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            own.close()


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
