"""A table of SQLite as it is found, and the statements that write to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sqlite3 import Connection

from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.sqlcolumns import SqlColumn
from millrace_consumer.sinks.sqltable import Found, SqlTable

TYPES = {
    Kind.INTEGER: "INTEGER",
    Kind.FLOAT: "REAL",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.BYTES: "BLOB",
    # JSON by a name that SQLite gives no affinity to numbers, so that text such as "12" stays what it is.
    Kind.JSON: "JSON TEXT",
}
"""Whatever is not here is TEXT: an exact decimal would become a float in any other column."""


class SqliteTable(SqlTable):
    """One table of SQLite."""

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

    @staticmethod
    def type_of(column: SqlColumn) -> str:
        """See `SqlTable.type_of`."""
        return TYPES.get(column.kind, "TEXT")

    @staticmethod
    def quoted(name: str) -> str:
        """See `SqlTable.quoted`."""
        return quoted(name)

    @property
    def json(self) -> set[str]:
        """The columns that take JSON text."""
        return {name for name, column in self.columns.items() if "JSON" in column.type.upper()}

    def drop_not_null(self, name: str) -> str:
        """SQLite has no statement for it."""
        return f"make the table anew with a DEFAULT for {quoted(name)}, or without its NOT NULL"

    def insert(self, names: Sequence[str], key: Sequence[str], version: str | None) -> str:
        """The statement that writes a row. A null gives way to the column's default."""
        columns = ", ".join(map(quoted, names))
        values = ", ".join(map(self._value, names))
        # WHERE true: else SQLite could take ON CONFLICT for a join's.
        insert = f"INSERT INTO {quoted(self.name)} AS there ({columns}) SELECT {values} WHERE true"
        if not key:
            return insert
        others = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in names if name not in key)
        action = f"DO UPDATE SET {others}" if others else "DO NOTHING"
        if version:
            action += f" WHERE there.{quoted(version)} IS NULL OR excluded.{quoted(version)} >= there.{quoted(version)}"
        return f"{insert} ON CONFLICT ({', '.join(map(quoted, key))}) {action}"

    def _value(self, name: str) -> str:
        default = self.columns[name].default
        return "?" if default is None else f"coalesce(?, {default})"


def create_table(name: str, columns: Mapping[str, SqlColumn], key: Sequence[str]) -> str:
    """The statement that makes a table of these columns."""
    parts = [
        f"{quoted(column_name)} {SqliteTable.type_of(column)}"
        f"{'' if column.nullable and column_name not in key else ' NOT NULL'}"
        for column_name, column in columns.items()
    ]
    if key:
        parts.append(f"PRIMARY KEY ({', '.join(map(quoted, key))})")
    return f"CREATE TABLE {quoted(name)} ({', '.join(parts)})"


def quoted(name: str) -> str:
    """A name, quoted."""
    return '"' + name.replace('"', '""') + '"'
