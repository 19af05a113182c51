"""A table of PostgreSQL as it is found, what a flow asks of it, and the statements that write to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import Connection
from psycopg.sql import SQL, Composable, Composed, Identifier

from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.sqlcolumns import SqlColumn
from millrace_consumer.sinks.sqltable import Found, SqlTable

TYPES = {
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
JSON_TYPES = frozenset({"json", "jsonb"})

STAGE = Identifier("pg_temp", "millrace_stage")

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

    @classmethod
    def find(cls, connection: Connection[Any], name: str) -> PgTable | None:
        """The table as it is now; None where there is none."""
        [(oid,)] = connection.execute("select to_regclass(%s)::oid", [identifier(name).as_string(connection)])
        if oid is None:
            return None
        columns = {column: Found(*rest) for column, *rest in connection.execute(_COLUMNS, [oid])}
        return cls(name, columns, [frozenset(names) for (names,) in connection.execute(_UNIQUE, [oid])])

    @staticmethod
    def type_of(column: SqlColumn) -> str:
        """See `SqlTable.type_of`."""
        digits = f"({column.digits[0]},{column.digits[1]})" if column.digits else ""
        return TYPES[column.kind] + digits

    @staticmethod
    def quoted(name: str) -> str:
        """See `SqlTable.quoted`."""
        return Identifier(name).as_string(None)

    @property
    def json(self) -> set[str]:
        """The columns that take JSON text."""
        return {name for name, column in self.columns.items() if column.base in JSON_TYPES}

    @property
    def arrays(self) -> set[str]:
        """The columns that take a list."""
        return {name for name, column in self.columns.items() if column.category == "A"}

    def takes(self, there: Found, column: SqlColumn) -> bool:
        """See `SqlTable.takes`."""
        if column.kind not in _CATEGORIES or there.base in JSON_TYPES:
            return True
        return there.category in _CATEGORIES[column.kind] or there.base in _ALSO.get(column.kind, ())

    def stage(self, names: Sequence[str]) -> Composed:
        """Makes the temporary table that COPY fills, which goes with the transaction."""
        columns = [SQL("{} {}").format(Identifier(name), _verbatim(self.columns[name].type)) for name in names]
        return SQL("CREATE TEMP TABLE {} ({}) ON COMMIT DROP").format(
            Identifier("millrace_stage"), SQL(", ").join(columns)
        )

    def take_over(self, names: Sequence[str], key: Sequence[str], version: str | None) -> Composed:
        """Moves what was copied to the temporary table into this one. A null gives way to the column's default."""
        columns = SQL(", ").join(map(Identifier, names))
        values = SQL(", ").join(map(self._value, names))
        insert = SQL("INSERT INTO {} ({}) SELECT").format(identifier(self.name), columns)
        if not key:
            return SQL("{} {} FROM {}").format(insert, values, STAGE)
        keys = SQL(", ").join(map(Identifier, key))
        # The last record of a key in the batch wins, and all consumers take their locks in the same order.
        newest = SQL("{} DESC NULLS LAST, ").format(Identifier(version)) if version else SQL("")
        others = [name for name in names if name not in key]
        update = SQL(", ").join(SQL("{0} = excluded.{0}").format(Identifier(name)) for name in others)
        action = SQL("DO UPDATE SET {}").format(update) if others else SQL("DO NOTHING")
        if version:
            action += SQL(" WHERE there.{0} IS NULL OR excluded.{0} >= there.{0}").format(Identifier(version))
        return SQL(
            "INSERT INTO {table} AS there ({columns}) SELECT DISTINCT ON ({keys}) {values} FROM {stage} "
            "ORDER BY {keys}, {newest}ctid DESC ON CONFLICT ({keys}) {action}"
        ).format(
            table=identifier(self.name),
            columns=columns,
            keys=keys,
            values=values,
            stage=STAGE,
            newest=newest,
            action=action,
        )

    def _value(self, name: str) -> Composable:
        default = self.columns[name].default
        if default is None:
            return Identifier(name)
        return SQL("coalesce({}, {})").format(Identifier(name), _verbatim(default))


def create_table(name: str, columns: Mapping[str, SqlColumn], key: Sequence[str]) -> Composed:
    """Makes a table of these columns."""
    parts = [
        SQL("{} {}{}").format(
            Identifier(column_name),
            _verbatim(PgTable.type_of(column)),
            SQL("") if column.nullable and column_name not in key else SQL(" NOT NULL"),
        )
        for column_name, column in columns.items()
    ]
    if key:
        parts.append(SQL("PRIMARY KEY ({})").format(SQL(", ").join(map(Identifier, key))))
    return SQL("CREATE TABLE {} ({})").format(identifier(name), SQL(", ").join(parts))


def identifier(name: str) -> Identifier:
    """`table` or `schema.table`, quoted."""
    return Identifier(*name.split("."))


def _verbatim(text: str) -> Composable:
    """A type or an expression as the catalogue spells it."""
    return SQL(text)
