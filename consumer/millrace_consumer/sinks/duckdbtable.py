"""Tables of DuckDB."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.duckdbholds import hold_of
from millrace_consumer.sinks.holds import Hold
from millrace_consumer.sinks.sqlcolumns import SqlColumn
from millrace_consumer.sinks.sqlrows import Rows
from millrace_consumer.sinks.sqltable import Found, SqlTable, Upsert, quoted

MISFITS = (
    duckdb.ConversionException,
    duckdb.ConstraintException,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    UnicodeError,
)
"""Raised because of a record, as far as one can tell."""

WIDEST_DECIMAL = (38, 18)

STAGE = "millrace_stage"
PLACE = "millrace_place"
"""A column of the stage: which record of the batch it is."""
HAS = "millrace_has_"
"""With a number, a column of the stage: whether the record has a value for one of the others."""

_NESTED = re.compile(r"JSON|VARIANT|(?:STRUCT|MAP|UNION)\(.*|.*\[\d*\]", re.DOTALL)
_QUOTED = re.compile(r'["\'].*["\']', re.DOTALL)
_ZONELESS = re.compile(r"""("[^"]*"|'[^']*')|\b(?:TIMESTAMP(?:_M?S)?|DATE|(TIMESTAMP_NS))(?=[,)\[]|$)""")
"""A type of times without a zone in that of a column, where it is no name in quotes."""


class DuckdbTable(SqlTable):
    """One table of DuckDB."""

    types: ClassVar = {
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

    @classmethod
    def find(cls, connection: DuckDBPyConnection, name: str) -> DuckdbTable | None:
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

    @classmethod
    def type_of(cls, column: SqlColumn) -> str:
        if column.kind is not Kind.DECIMAL:
            return super().type_of(column)
        digits, places = column.digits if column.digits and column.digits[0] <= WIDEST_DECIMAL[0] else WIDEST_DECIMAL
        return f"DECIMAL({digits},{places})"

    def is_ordered(self, upsert: Upsert) -> bool:
        there = self.columns[upsert.version or ""].type
        return there != "VARCHAR" and not _NESTED.fullmatch(there)

    @property
    def json(self) -> set[str]:
        """The columns that take JSON text: those of JSON, and of anything nested."""
        return {name for name, column in self.columns.items() if _NESTED.fullmatch(column.type)}

    def staged(self, cells: dict[str, list[Any]]) -> Rows:
        return Rows(cells)

    def put(self, connection: DuckDBPyConnection, rows: Rows, upsert: Upsert) -> None:
        for part in self.rounds(connection, rows, upsert):
            connection.register(STAGE, _stage(part))
            has = {name: f"{HAS}{place}" for place, name in enumerate(part.has)}
            select = self._select(part.names, has, upsert)
            connection.execute(self.insert(part.names, select, upsert))

    texts: ClassVar = frozenset({"VARCHAR"})

    def hold_of(self, column: Found) -> Hold | None:
        return hold_of(column.type)

    def ranks(self, connection: DuckDBPyConnection, rows: Rows, names: Sequence[str]) -> list[int]:
        connection.register(STAGE, _stage(Rows({name: rows.values[name] for name in names})))
        order = ", ".join(map(self.value, names))
        ranks = f"SELECT dense_rank() OVER (ORDER BY {order}) FROM {STAGE} ORDER BY {PLACE}"
        return [rank for (rank,) in connection.execute(ranks).fetchall()]

    def _select(self, names: Sequence[str], has: Mapping[str, str], upsert: Upsert) -> str:
        """The rows as the table takes them, one a key, with what is there already in the place of what they lack."""
        given = [f"{self.present(name)} AS {quoted(name)}" for name in names]
        select = f"SELECT {', '.join([*given, *has.values(), PLACE])} FROM {STAGE}"
        if upsert.key:
            newest = f"{self.present(upsert.version)} DESC NULLS LAST, " if upsert.version else ""
            keys = ", ".join(map(self.value, upsert.key))
            # The last record of a key in the batch wins.
            select += f" QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {newest}{PLACE} DESC) = 1"
        before = ""
        if has and upsert.key:  # nobody else can write meanwhile
            same = " AND ".join(f"before.{quoted(name)} = given.{quoted(name)}" for name in upsert.key)
            before = f" LEFT JOIN {self.quoted_name} AS before ON {same}"
        into = ", ".join(self._into(name, has.get(name), upsert) for name in names)
        return f"SELECT {into} FROM ({select}) AS given{before} ORDER BY {PLACE}"

    def _into(self, name: str, has: str | None, upsert: Upsert) -> str:
        given = f"given.{quoted(name)}"
        if has is None:
            return given
        kept = f"WHEN before.{quoted(upsert.key[0])} IS NOT NULL THEN before.{quoted(name)} " if upsert.key else ""
        return f"CASE WHEN given.{has} THEN {given} {kept}ELSE {self.or_default(given, name)} END"

    def misfits(self, connection: DuckDBPyConnection, rows: Rows) -> dict[int, str]:
        """See `SqlTable.misfits`: what can't be cast."""
        reasons: dict[int, str] = {}
        for name in rows.names:
            for index in self._lost(connection, Rows({name: rows.values[name]}), name):
                reasons.setdefault(index, f"{name}: not something that {self.columns[name].type} can hold")
        return reasons

    def _lost(self, connection: DuckDBPyConnection, rows: Rows, name: str) -> list[int]:
        """The rows whose value the column doesn't take. TRY_CAST itself fails for keys of maps: then each is tried."""
        connection.register(STAGE, _stage(rows))
        lost = f"{quoted(name)} IS NOT NULL AND {self._cast(name, 'TRY_CAST')} IS NULL"
        count = len(rows.values[name])
        try:
            return [index for (index,) in connection.execute(f"SELECT {PLACE} FROM {STAGE} WHERE {lost}").fetchall()]
        except MISFITS:
            if count == 1:
                return [0]
        middle = count // 2
        halves = range(middle), range(middle, count)
        return [half[place] for half in halves for place in self._lost(connection, rows.take(half), name)]

    def why(self, error: Exception, row: Any = None) -> str:  # noqa: ARG002 - DuckDB says it all
        return said(error)

    def value(self, name: str) -> str:
        """The value of a column of the stage as the table's column takes it."""
        return self._cast(name, "CAST")

    def _cast(self, name: str, how: str) -> str:
        there = self.columns[name].type
        value = quoted(name)
        if there != "JSON" and name in self.json:
            value = f"{how}({value} AS JSON)"
        if (zoned := _zoned(there)) != there:
            value = f"{how}({value} AS {zoned})"
        return f"{how}({value} AS {there})"


def _zoned(type: str) -> str:
    """A type with zones where it has none: DuckDB leaves out of text what its type has no place for."""

    def with_zone(found: re.Match[str]) -> str:
        return found[1] or ("TIMESTAMPTZ_NS" if found[2] else "TIMESTAMPTZ")

    return _ZONELESS.sub(with_zone, type)


def _stage(rows: Rows) -> pa.Table:
    has = {f"{HAS}{place}": pa.array(values) for place, values in enumerate(rows.has.values())}
    columns = {name: _array(values) for name, values in rows.values.items()}
    count = len(next(iter(rows.cells.values())))
    return pa.table(columns | has | {PLACE: range(count)})


def said(error: Exception) -> str:
    """What DuckDB says, on one line, without what it quotes of the records."""
    first = str(error).split("\n", 1)[0]
    return _QUOTED.sub("…", first)[:300] if isinstance(error, MISFITS) else first[:300]


def _names(expressions: str) -> list[str]:
    """The columns of an index, of `[id, '"odd name"']`."""
    return [part.strip().strip("'").strip('"').replace('""', '"') for part in expressions.strip("[]").split(",")]


def _array(values: list[Any]) -> pa.Array:
    """A column's values as Arrow takes them: of their own type where they have one, else as text."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {datetime}:
        return pa.array([None if value is None else _utc(value) for value in values], pa.timestamp("us", "UTC"))
    if len(kinds) == 1 and not kinds & {Decimal, UUID}:
        with suppress(pa.ArrowException, OverflowError):
            return pa.array(values)
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _utc(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
