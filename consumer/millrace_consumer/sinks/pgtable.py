"""Tables of PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from psycopg import Connection, Cursor
from psycopg.sql import SQL

from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.holds import Hold
from millrace_consumer.sinks.pgholds import hold_of
from millrace_consumer.sinks.pgmisfits import JSON_TYPES, misfits, why
from millrace_consumer.sinks.sqlcolumns import SqlColumn
from millrace_consumer.sinks.sqlrows import Rows
from millrace_consumer.sinks.sqltable import Found, SqlTable, Upsert, qualified, quoted
from millrace_pipeline.killpoints import killpoint

# The categories of https://www.postgresql.org/docs/current/catalog-pg-type.html that a value of each kind can be
# written to. Text, and JSON that may be anything, are parsed record by record.
_CATEGORIES = {
    Kind.INTEGER: "NS",
    Kind.FLOAT: "NS",
    Kind.DECIMAL: "NS",
    Kind.BOOLEAN: "BS",
    Kind.INSTANT: "DS",
    Kind.DATE: "DS",
    Kind.TIME: "DS",
    Kind.DURATION: "TS",
    Kind.UUID: "S",
    Kind.BYTES: "",
}
_ALSO = {Kind.UUID: {"uuid"}, Kind.BYTES: {"bytea"}}

STAGE = "millrace_stage"
HAS = "millrace_has_"
"""With a number, a column of the stage: whether the record has a value for one of the others."""

_ZONED = {"timestamp": "timestamp with time zone", "date": "timestamp with time zone"}
_ZONED |= {f"_{base}": f"{zoned}[]" for base, zoned in _ZONED.items()}
"""What a column without a zone is staged as: PostgreSQL leaves out of text what its type has no place for."""

_COLUMNS = """
select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
       a.attidentity <> '' or a.attgenerated <> '', t.typcategory, coalesce(base.typname, t.typname),
       case when base.oid is null then a.atttypmod else t.typtypmod end
from pg_attribute a
join pg_type t on t.oid = a.atttypid
left join pg_type base on base.oid = t.typbasetype
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""

_UNIQUE = """
select array_agg(a.attname::text)
from pg_index i
cross join unnest(i.indkey::int2[]) with ordinality as k(attnum, place)
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
where i.indrelid = %s and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
      and k.place <= i.indnkeyatts
group by i.indexrelid
"""


class PgTable(SqlTable):
    """One table of PostgreSQL."""

    types: ClassVar = {
        Kind.TEXT: "text",
        Kind.INTEGER: "bigint",
        Kind.FLOAT: "double precision",
        Kind.BOOLEAN: "boolean",
        Kind.BYTES: "bytea",
        Kind.DECIMAL: "numeric",
        Kind.INSTANT: "timestamp with time zone",
        Kind.DATE: "date",
        Kind.TIME: "time",
        Kind.DURATION: "interval",
        Kind.UUID: "uuid",
        Kind.JSON: "jsonb",
    }

    @classmethod
    def find(cls, connection: Connection[Any], name: str) -> PgTable | None:
        [(oid,)] = connection.execute("select to_regclass(%s)::oid", [qualified(name)])
        if oid is None:
            return None
        columns = {column: Found(*rest) for column, *rest in connection.execute(_COLUMNS, [oid])}
        return cls(name, columns, [frozenset(names) for (names,) in connection.execute(_UNIQUE, [oid])])

    @classmethod
    def type_of(cls, column: SqlColumn) -> str:
        return super().type_of(column) + (f"({column.digits[0]},{column.digits[1]})" if column.digits else "")

    @property
    def json(self) -> set[str]:
        """The columns that take JSON text."""
        return {name for name, column in self.columns.items() if column.base in JSON_TYPES}

    @property
    def arrays(self) -> set[str]:
        """The columns that take a list."""
        return {name for name, column in self.columns.items() if column.category == "A"}

    def hold_of(self, column: Found) -> Hold | None:
        return hold_of(column)

    def takes(self, there: Found, column: SqlColumn) -> bool:
        if column.kind not in _CATEGORIES or there.base in JSON_TYPES:
            return True
        return there.category in _CATEGORIES[column.kind] or there.base in _ALSO.get(column.kind, ())

    texts: ClassVar = frozenset({"text", "character varying"})

    def is_ordered(self, upsert: Upsert) -> bool:
        there = self.columns[upsert.version or ""]
        return there.category in "NDTBEU" and there.base not in {*JSON_TYPES, "xml"}

    def staged(self, cells: dict[str, list[Any]]) -> Rows:
        return Rows(cells)

    def put(self, connection: Connection[Any], rows: Rows, upsert: Upsert) -> None:
        """See `SqlTable.put`: they are copied to a temporary table, and moved from there."""
        for part in self.rounds(connection, rows, upsert):
            has = {name: f"{HAS}{place}" for place, name in enumerate(part.has)}
            with connection.cursor() as cursor:
                killpoint("sink.before_copy")
                self._stage(cursor, part, has)
                killpoint("sink.after_copy")
                take_over = self._take_over(part.names, has, upsert)
                cursor.execute(SQL(f"{take_over}; SET CONSTRAINTS ALL IMMEDIATE; DROP TABLE pg_temp.{STAGE}"))

    def ranks(self, connection: Connection[Any], rows: Rows, names: Sequence[str]) -> list[int]:
        with connection.cursor() as cursor:
            self._stage(cursor, Rows({name: rows.values[name] for name in names}), {})
            order = ", ".join(map(self.value, names))
            cursor.execute(SQL(f"SELECT dense_rank() OVER (ORDER BY {order}) FROM pg_temp.{STAGE} ORDER BY ctid"))
            ranks = [rank for (rank,) in cursor.fetchall()]
            cursor.execute(SQL(f"DROP TABLE pg_temp.{STAGE}"))
            return ranks

    def _stage(self, cursor: Cursor[Any], rows: Rows, has: Mapping[str, str]) -> None:
        columns = {name: self.columns[name] for name in rows.names}
        types = [f"{quoted(name)} {_ZONED.get(there.base, there.type)}" for name, there in columns.items()]
        types += [f"{flag} boolean" for flag in has.values()]
        names = ", ".join([*map(quoted, rows.names), *has.values()])
        cursor.execute(SQL(f"CREATE TEMP TABLE {STAGE} ({', '.join(types)})"))
        with cursor.copy(SQL(f"COPY pg_temp.{STAGE} ({names}) FROM STDIN")) as copy:
            for row in zip(*rows.values.values(), *rows.has.values(), strict=True):
                copy.write_row(row)

    def _take_over(self, names: Sequence[str], has: Mapping[str, str], upsert: Upsert) -> str:
        """The statements that move the rows of the temporary table."""
        if not has:
            return self.insert(names, self._select(names, upsert), upsert)
        given = f"({self._select(names, upsert, has)}) AS given"
        into = ", ".join(_either(name, has.get(name), self.or_default(f"given.{quoted(name)}", name)) for name in names)
        if not upsert.key:
            return self.insert(names, f"SELECT {into} FROM {given}", Upsert())
        others = [name for name in names if name not in upsert.key]
        columns = ", ".join(map(quoted, others))
        merged = ", ".join(_either(name, has.get(name), f"there.{quoted(name)}") for name in others)
        same = " AND ".join(f"there.{quoted(name)} = given.{quoted(name)}" for name in upsert.key)
        mine = " AND ".join(f"excluded.{quoted(name)} = given.{quoted(name)}" for name in upsert.key)
        there = ", ".join(f"there.{quoted(name)}" for name in upsert.key)
        new = (
            f"WHERE NOT EXISTS (SELECT FROM {self.quoted_name} AS there WHERE {same}) "
            f"ORDER BY {', '.join(f'given.{quoted(name)}' for name in upsert.key)}"
        )
        return "; ".join(
            (
                # All consumers take their locks in the same order.
                f"SELECT FROM {self.quoted_name} AS there JOIN {given} ON {same} ORDER BY {there} FOR UPDATE OF there",
                # One statement, so that both parts see the same rows: of two, each would see what is committed when it
                # begins, and a row that came in between would be new to the first and there for the second.
                f"WITH updated AS (UPDATE {self.quoted_name} AS there SET ({columns}) = ROW({merged}) FROM {given} "
                f"WHERE {same}{self.newer(upsert, 'given', 'AND')}) "
                f"{self.insert(names, f'SELECT {into} FROM {given} {new}', Upsert())} {self.on_conflict(upsert.key)} "
                f"DO UPDATE SET ({columns}) = (SELECT {merged} FROM {given} WHERE {mine})"
                f"{self.newer(upsert, 'excluded')}",
            )
        )

    def misfits(self, connection: Connection[Any], rows: Rows) -> dict[int, str]:  # noqa: ARG002 - by its own look
        return misfits(self.columns, rows.names, rows.rows)

    def why(self, error: Exception, row: Rows | None = None) -> str:  # noqa: ARG002 - it says it all
        return why(error)

    def value(self, name: str) -> str:
        """See `SqlTable.value`: of an instant the time in UTC, which the transaction's zone is."""
        there = self.columns[name]
        return f"{quoted(name)}::{there.type}" if there.base in _ZONED else quoted(name)

    def _select(self, names: Sequence[str], upsert: Upsert, has: Mapping[str, str] | None = None) -> str:
        """The rows as the table takes them, one a key, with the flags which of their values are theirs."""
        values, key, version = self.values(names), upsert.key, upsert.version
        if has is not None:
            values = ", ".join([*(f"{self.present(name)} AS {quoted(name)}" for name in names), *has.values()])
        if not key:
            return f"SELECT {values} FROM pg_temp.{STAGE}"
        keys = ", ".join(map(self.value, key))
        # The last record of a key in the batch wins, and all consumers take their locks in the same order.
        newest = f"{self.present(version)} DESC NULLS LAST, " if version else ""
        return f"SELECT DISTINCT ON ({keys}) {values} FROM pg_temp.{STAGE} ORDER BY {keys}, {newest}ctid DESC"


def _either(name: str, has: str | None, otherwise: str) -> str:
    """Return what a record gives for a column, or something else where it has nothing."""
    given = f"given.{quoted(name)}"
    return given if has is None else f"CASE WHEN given.{has} THEN {given} ELSE {otherwise} END"
