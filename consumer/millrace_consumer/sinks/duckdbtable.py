"""A table of DuckDB as it is found, and the statements that write to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from duckdb import DuckDBPyConnection

from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.sqlcolumns import SqlColumn
from millrace_consumer.sinks.sqltable import Found, SqlTable

TYPES = {
    Kind.TEXT: "VARCHAR",
    Kind.INTEGER: "BIGINT",
    Kind.FLOAT: "DOUBLE",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.BYTES: "BLOB",
    Kind.INSTANT: "TIMESTAMP WITH TIME ZONE",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.DURATION: "INTERVAL",
    Kind.UUID: "UUID",
    Kind.JSON: "JSON",
}
WIDEST_DECIMAL = (38, 18)

STAGE = "millrace_stage"
PLACE = "millrace_place"
"""A column of the stage: which record of the batch it is."""

_INTEGERS = re.compile(r"U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?")
_NESTED = re.compile(r"JSON|VARIANT|(?:STRUCT|MAP|UNION)\(.*|.*\[\d*\]", re.DOTALL)


class DuckdbTable(SqlTable):
    """One table of DuckDB."""

    @classmethod
    def find(cls, connection: DuckDBPyConnection, name: str) -> DuckdbTable | None:
        """The table as it is now; None where there is none."""
        schema, _, table = name.rpartition(".")
        place = [schema or "main", table]
        rows = connection.execute(
            "SELECT c.column_name, c.data_type, NOT c.is_nullable, c.column_default, s.is_generated = 'ALWAYS' "
            "FROM duckdb_columns() c JOIN information_schema.columns s ON s.table_catalog = c.database_name AND "
            "s.table_schema = c.schema_name AND s.table_name = c.table_name AND s.column_name = c.column_name "
            "WHERE c.database_name = current_database() AND c.schema_name = ? AND c.table_name = ? "
            "ORDER BY c.column_index",
            place,
        ).fetchall()
        if not rows:
            return None
        constraints = connection.execute(
            "SELECT constraint_column_names FROM duckdb_constraints() "
            "WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE') AND database_name = current_database() "
            "AND schema_name = ? AND table_name = ?",
            place,
        ).fetchall()
        indexes = connection.execute(
            "SELECT expressions FROM duckdb_indexes() WHERE is_unique AND database_name = current_database() "
            "AND schema_name = ? AND table_name = ?",
            place,
        ).fetchall()
        unique = [frozenset(names) for (names,) in constraints]
        unique += [frozenset(_names(expressions)) for (expressions,) in indexes]
        return cls(name, {column: Found(*rest) for column, *rest in rows}, unique)

    @staticmethod
    def type_of(column: SqlColumn) -> str:
        """See `SqlTable.type_of`."""
        if column.kind is not Kind.DECIMAL:
            return TYPES[column.kind]
        digits, places = column.digits if column.digits and column.digits[0] <= WIDEST_DECIMAL[0] else WIDEST_DECIMAL
        return f"DECIMAL({digits},{places})"

    @staticmethod
    def quoted(name: str) -> str:
        """See `SqlTable.quoted`."""
        return quoted(name)

    @property
    def json(self) -> set[str]:
        """The columns that take JSON text: those of JSON, and of anything nested."""
        return {name for name, column in self.columns.items() if _NESTED.fullmatch(column.type)}

    @property
    def integers(self) -> set[str]:
        """The columns of whole numbers."""
        return {name for name, column in self.columns.items() if _INTEGERS.fullmatch(column.type)}

    def drop_not_null(self, name: str) -> str:
        """See `SqlTable.drop_not_null`."""
        return self.alter(f"ALTER COLUMN {quoted(name)} DROP NOT NULL")

    def take_over(self, names: Sequence[str], key: Sequence[str], version: str | None) -> str:
        """Moves the stage into the table. A null gives way to the column's default."""
        columns = ", ".join(map(quoted, names))
        values = ", ".join(map(self._value, names))
        insert = f"INSERT INTO {qualified(self.name)} AS there ({columns}) SELECT {values} FROM {STAGE}"
        if not key:
            return f"{insert} ORDER BY {PLACE}"
        newest = f"{self.cast(version)} DESC NULLS LAST, " if version else ""
        keys = ", ".join(map(self.cast, key))
        # The last record of a key in the batch wins.
        last = f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {newest}{PLACE} DESC) = 1"
        others = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in names if name not in key)
        action = f"DO UPDATE SET {others}" if others else "DO NOTHING"
        if version:
            action += f" WHERE there.{quoted(version)} IS NULL OR excluded.{quoted(version)} >= there.{quoted(version)}"
        return f"{insert} {last} ORDER BY {PLACE} ON CONFLICT ({', '.join(map(quoted, key))}) {action}"

    def cast(self, name: str, how: str = "CAST") -> str:
        """The value of a column of the stage as the table's column takes it."""
        there = self.columns[name].type
        value = quoted(name)
        if there != "JSON" and name in self.json:
            value = f"{how}({value} AS JSON)"
        return f"{how}({value} AS {there})"

    def _value(self, name: str) -> str:
        default = self.columns[name].default
        return self.cast(name) if default is None else f"coalesce({self.cast(name)}, {default})"


def create_table(name: str, columns: Mapping[str, SqlColumn], key: Sequence[str]) -> str:
    """The statement that makes a table of these columns."""
    parts = [
        f"{quoted(column_name)} {DuckdbTable.type_of(column)}"
        f"{'' if column.nullable and column_name not in key else ' NOT NULL'}"
        for column_name, column in columns.items()
    ]
    if key:
        parts.append(f"PRIMARY KEY ({', '.join(map(quoted, key))})")
    return f"CREATE TABLE {qualified(name)} ({', '.join(parts)})"


def qualified(name: str) -> str:
    """`table` or `schema.table`, quoted."""
    return ".".join(map(quoted, name.split(".")))


def quoted(name: str) -> str:
    """A name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def _names(expressions: str) -> list[str]:
    """The columns of an index, of `[id, '"odd name"']`."""
    return [part.strip().strip("'").strip('"').replace('""', '"') for part in expressions.strip("[]").split(",")]
