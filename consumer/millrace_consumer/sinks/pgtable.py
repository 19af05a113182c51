"""Tables of PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from psycopg import Connection
from psycopg.sql import SQL

from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.pgmisfits import JSON_TYPES, misfits, why
from millrace_consumer.sinks.sqlcolumns import SqlColumn
from millrace_consumer.sinks.sqltable import Found, Rows, SqlTable, Upsert, qualified, quoted
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

_COLUMNS = """
select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
       a.attidentity <> '' or a.attgenerated <> '', t.typcategory, coalesce(base.typname, t.typname)
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

    def takes(self, there: Found, column: SqlColumn) -> bool:
        if column.kind not in _CATEGORIES or there.base in JSON_TYPES:
            return True
        return there.category in _CATEGORIES[column.kind] or there.base in _ALSO.get(column.kind, ())

    def staged(self, cells: dict[str, list[Any]]) -> Rows:
        return Rows(list(cells), list(zip(*cells.values(), strict=True)))

    def put(self, connection: Connection[Any], rows: Rows, upsert: Upsert) -> None:
        """See `SqlTable.put`: they are copied to a temporary table, and moved from there."""
        types = ", ".join(f"{quoted(name)} {self.columns[name].type}" for name in rows.names)
        names = ", ".join(map(quoted, rows.names))
        with connection.cursor() as cursor:
            cursor.execute(SQL(f"CREATE TEMP TABLE {STAGE} ({types})"))
            killpoint("sink.before_copy")
            with cursor.copy(SQL(f"COPY pg_temp.{STAGE} ({names}) FROM STDIN")) as copy:
                for row in rows.rows:
                    copy.write_row(row)
            killpoint("sink.after_copy")
            take_over = self.insert(rows.names, self._select(rows.names, upsert), upsert)
            cursor.execute(SQL(f"{take_over}; SET CONSTRAINTS ALL IMMEDIATE; DROP TABLE pg_temp.{STAGE}"))

    def misfits(self, connection: Connection[Any], rows: Rows) -> dict[int, str]:  # noqa: ARG002 - by its own look
        return misfits(self.columns, rows.names, rows.rows)

    def why(self, error: Exception, row: Rows | None = None) -> str:  # noqa: ARG002 - it says it all
        return why(error)

    def _select(self, names: Sequence[str], upsert: Upsert) -> str:
        values, (key, version) = self.values(names), upsert
        if not key:
            return f"SELECT {values} FROM pg_temp.{STAGE}"
        keys = ", ".join(map(quoted, key))
        # The last record of a key in the batch wins, and all consumers take their locks in the same order.
        newest = f"{quoted(version)} DESC NULLS LAST, " if version else ""
        return f"SELECT DISTINCT ON ({keys}) {values} FROM pg_temp.{STAGE} ORDER BY {keys}, {newest}ctid DESC"
