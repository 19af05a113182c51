"""Tables of SQLite."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from sqlite3 import Connection
from typing import Any, ClassVar
from uuid import UUID

from pydantic_core import to_jsonable_python

from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.sqltable import Found, Rows, SqlTable, Upsert, quoted


class SqliteTable(SqlTable):
    """One table of SQLite."""

    # Whatever is not here is TEXT: an exact decimal would become a float in any other column.
    types: ClassVar = dict.fromkeys(Kind, "TEXT") | {
        Kind.INTEGER: "INTEGER",
        Kind.FLOAT: "REAL",
        Kind.BOOLEAN: "BOOLEAN",
        Kind.BYTES: "BLOB",
        # JSON by a name that SQLite gives no affinity to numbers, so that text such as "12" stays what it is.
        Kind.JSON: "JSON TEXT",
    }

    @classmethod
    def find(cls, connection: Connection, name: str) -> SqliteTable | None:
        """The table as it is now; None where there is none."""
        rows = connection.execute("SELECT * FROM pragma_table_xinfo(?)", [name]).fetchall()
        if not rows:
            return None
        columns = {
            column: Found(kind, bool(not_null), default, bool(hidden))
            for _, column, kind, not_null, default, _, hidden in rows
        }
        keys = frozenset(row[1] for row in rows if row[5])
        unique = [keys] if keys else []
        for index, partial in connection.execute(
            'SELECT name, partial FROM pragma_index_list(?) WHERE "unique"', [name]
        ).fetchall():
            names = [column for (column,) in connection.execute("SELECT name FROM pragma_index_info(?)", [index])]
            if not partial and None not in names:
                unique.append(frozenset(names))
        if len(keys) == 1 and (key := next(iter(keys))) and columns[key].type.upper() == "INTEGER":
            columns[key] = columns[key]._replace(not_null=False)  # the row's own number, given where there is null
        return cls(name, columns, unique)

    @property
    def json(self) -> set[str]:
        """The columns that take JSON text."""
        return {name for name, column in self.columns.items() if "JSON" in column.type.upper()}

    def drop_not_null(self, name: str) -> str:
        """SQLite has no statement for it."""
        return f"make the table anew with a DEFAULT for {quoted(name)}, or without its NOT NULL"

    def value(self, name: str) -> str:  # noqa: ARG002 - by its place
        return "?"

    def staged(self, cells: dict[str, list[Any]]) -> Rows:
        return Rows(list(cells), list(zip(*map(_bound, cells.values()), strict=True)))

    def put(self, connection: Connection, rows: Rows, upsert: Upsert) -> None:
        # WHERE true: else SQLite could take ON CONFLICT for a join's.
        insert = self.insert(rows.names, f"SELECT {self.values(rows.names)} WHERE true", upsert)
        connection.executemany(insert, rows.rows)

    def why(self, error: Exception, row: Rows | None = None) -> str:
        # Looked for whatever the error is: after another one Python may say that again.
        values = zip(row.names, row.rows[0], strict=True) if row else ()
        if large := [name for name, value in values if isinstance(value, int) and not -(2**63) <= value < 2**63]:
            return f"{large[0]}: too large for SQLite, whose integers have 64 bits"
        if isinstance(error, UnicodeError):
            return "holds half a surrogate pair, which is no character"
        return str(error)


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
