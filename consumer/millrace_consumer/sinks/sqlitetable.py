"""Tables of SQLite."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from math import isinf
from sqlite3 import Connection, sqlite_version_info
from typing import Any, ClassVar
from uuid import UUID

from pydantic_core import to_jsonable_python

from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.base import RecordsRejected
from millrace_consumer.sinks.holds import Hold
from millrace_consumer.sinks.sqliteholds import hold_of, is_numeric
from millrace_consumer.sinks.sqlrows import Rows
from millrace_consumer.sinks.sqltable import Found, SqlTable, Upsert, quoted
from millrace_consumer.sinks.upserting import Absent
from millrace_pipeline.moment import read_moment, timestamp

INSTANT = "millrace_instant"
"""The function that reads a time for comparisons."""

_IN_ORDER_AS_TEXT = frozenset({Kind.TIME, Kind.UUID, Kind.BYTES})


def instant(value: Any) -> str | None:
    """Return a time as text of one width in UTC, so that text in order is time in order; None where it is none."""
    moment = read_moment(value)
    return None if moment is None else timestamp(moment)


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
        is_strict = _is_strict(connection, name)
        columns = {
            column: Found("" if is_strict and kind.upper() == "ANY" else kind, bool(not_null), default, bool(hidden))
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

    def hold_of(self, column: Found) -> Hold | None:
        return hold_of(column.type)

    def drop_not_null(self, name: str) -> str:
        """SQLite has no statement for it."""
        return f"make the table anew with a DEFAULT for {quoted(name)}, or without its NOT NULL"

    def value(self, name: str) -> str:  # noqa: ARG002 - by its place
        return "?"

    def staged(self, cells: dict[str, list[Any]]) -> Rows:
        rejected: dict[int, str] = {}
        for name, values in cells.items():
            if name in self.json or Decimal in set(map(type, values)):
                reason = f"{name}: a number that SQLite would make infinity of: make the column TEXT, or JSON TEXT"
                if self._is_numeric(name):
                    rejected |= {index: reason for index, value in enumerate(values) if _is_beyond(value)}
        if rejected:
            raise RecordsRejected(dict(sorted(rejected.items())))
        return Rows({name: _bound(values) for name, values in cells.items()})

    def _is_numeric(self, name: str) -> bool:
        return is_numeric(self.columns[name].type)

    def is_ordered(self, upsert: Upsert) -> bool:
        """See `SqlTable.is_ordered`: what is a number in a column of numbers, and what sorts as text as it does."""
        name = upsert.version or ""
        return self._holds_instants(upsert) or self._is_numeric(name) or upsert.kind in _IN_ORDER_AS_TEXT

    def unordered(self, upsert: Upsert, versions: Sequence[Any]) -> dict[int, str]:
        if upsert.kind is not None:  # the flow's model has seen to it
            return {}
        is_one, what = (_is_time, "time") if self._holds_instants(upsert) else (_is_number, "number")
        reason = f"{upsert.version}: no {what}, and versions are compared by it"
        return {index: reason for index, value in enumerate(versions) if not (value is None or is_one(value))}

    def in_order(self, upsert: Upsert, version: str) -> str:
        """See `SqlTable.in_order`: of a time its instant, in whatever form it is there as text."""
        return f"{INSTANT}({version})" if self._holds_instants(upsert) else version

    def _holds_instants(self, upsert: Upsert) -> bool:
        if upsert.kind is not None:
            return upsert.kind in (Kind.INSTANT, Kind.DATE)
        type = self.columns[upsert.version or ""].type.upper()
        return "DATE" in type or "TIME" in type

    def put(self, connection: Connection, rows: Rows, upsert: Upsert) -> None:
        """See `SqlTable.put`. In order, and those together that have values for the same columns."""
        if not rows.has:
            connection.executemany(self._statement(rows.names, {}, upsert), rows.rows)
            return
        for lacks, group in groupby(rows.rows, _lacks):
            given = map(_present, group)
            connection.executemany(self._statement(rows.names, lacks, upsert), given)

    def _statement(self, names: Sequence[str], lacks: Mapping[int, bool], upsert: Upsert) -> str:
        """The statement for rows that lack values in these places; true where their model has a default for one."""
        into = [name for place, name in enumerate(names) if lacks.get(place, True)]
        updated = [name for place, name in enumerate(names) if place not in lacks]
        # What takes no null must be said also where the row is there already, and is to keep what it has.
        needed = [names[place] for place, default in lacks.items() if not default and self._must_be_said(names[place])]
        if not upsert.key or not needed:
            # WHERE true: else SQLite could take ON CONFLICT for a join's.
            return self.insert(into, f"SELECT {self.values(into)} WHERE true", upsert, updated)
        given = ", ".join(f"{self.present(name)} AS {quoted(name)}" for name in into)
        same = " AND ".join(f"before.{quoted(name)} = given.{quoted(name)}" for name in upsert.key)
        kept = ", ".join(f"before.{quoted(name)}" for name in needed)
        select = (
            f"SELECT given.*, {kept} FROM (SELECT {given}) AS given LEFT JOIN {self.quoted_name} AS before ON {same}"
        )
        return self.insert([*into, *needed], f"{select} WHERE true", upsert, updated)

    def _must_be_said(self, name: str) -> bool:
        column = self.columns[name]
        return column.not_null and column.default is None

    def why(self, error: Exception, row: Rows | None = None) -> str:
        # Looked for whatever the error is: after another one Python may say that again.
        values = zip(row.names, row.rows[0], strict=True) if row else ()
        if large := [name for name, value in values if isinstance(value, int) and not -(2**63) <= value < 2**63]:
            return f"{large[0]}: too large for SQLite, whose integers have 64 bits"
        if isinstance(error, UnicodeError):
            return "holds half a surrogate pair, which is no character"
        return str(error)


def _is_strict(connection: Connection, name: str) -> bool:
    """Return True for a table in which ANY keeps all as it is; elsewhere that name makes numbers of text."""
    if sqlite_version_info < (3, 37):
        return False
    found = connection.execute("SELECT strict FROM pragma_table_list(?) WHERE schema = 'main'", [name]).fetchone()
    return bool(found and found[0])


def _is_time(value: Any) -> bool:
    return read_moment(value) is not None


def _is_number(value: Any) -> bool:
    """Return True for what SQLite has as a number in a column of them: any other text is greater than all numbers."""
    return isinstance(value, int | float | Decimal) or (isinstance(value, str) and bool(_WRITTEN.fullmatch(value)))


_WRITTEN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NUMBER = re.compile(r"-?[0-9][0-9.eE+-]*")


def _is_beyond(value: Any) -> bool:
    """Return True where it is a number, or the JSON of one, beyond what a float holds."""
    text = str(value) if isinstance(value, Decimal | str) else ""
    return bool(_NUMBER.fullmatch(text)) and isinf(float(text))


def _lacks(row: tuple[Any, ...]) -> dict[int, bool]:
    """The places of a row at which its record has nothing, and whether there is a default for it."""
    return {place: value.default is not None for place, value in enumerate(row) if type(value) is Absent}


def _present(row: tuple[Any, ...]) -> list[Any]:
    return [value.default if type(value) is Absent else value for value in row if value != Absent()]


def _bound(values: list[Any]) -> list[Any]:
    """A column's values as SQLite takes them."""
    if set(map(type, values)) <= {type(None), str, int, float, bytes}:
        return values
    return [_scalar(value) for value in values]


def _scalar(value: Any) -> Any:
    """Instants become text in UTC, of one width, so that text in order is time in order."""
    if type(value) is Absent:
        return Absent(_scalar(value.default))
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
