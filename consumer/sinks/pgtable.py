"""A table of PostgreSQL as it is found, what a flow asks of it, and the statements that write to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.sql import SQL, Composable, Composed, Identifier

from consumer.sinks.sqlcolumns import PLAIN, Kind, SqlColumn

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
select a.attname, format_type(a.atttypid, a.atttypmod), coalesce(base.typname, t.typname), t.typcategory,
       a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity <> '' or a.attgenerated <> ''
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


class PgColumn(NamedTuple):
    """A column that is there. `type` is as SQL spells it, `base` its name in pg_type, below any domain."""

    type: str
    base: str
    category: str
    not_null: bool
    default: str | None
    made: bool
    """Whether the database fills it by itself: an identity, or a generated column."""


class PgTable:
    """One table. `name` is as the flow says it."""

    def __init__(self, name: str, columns: Mapping[str, PgColumn], unique: Collection[frozenset[str]]) -> None:
        self.name = name
        self.columns = columns
        self.unique = unique

    @classmethod
    def find(cls, connection: Connection[Any], name: str) -> PgTable | None:
        """The table as it is now; None where there is none."""
        oid = _one(connection, "select to_regclass(%s)::oid", identifier(name).as_string(connection))
        if oid is None:
            return None
        rows = connection.execute(_COLUMNS, [oid]).fetchall()
        unique = connection.execute(_UNIQUE, [oid]).fetchall()
        return cls(name, {row[0]: PgColumn(*row[1:]) for row in rows}, [frozenset(names) for (names,) in unique])

    @property
    def json(self) -> set[str]:
        """The columns that take JSON text."""
        return {name for name, column in self.columns.items() if column.base in JSON_TYPES}

    @property
    def arrays(self) -> set[str]:
        """The columns that take a list."""
        return {name for name, column in self.columns.items() if column.category == "A"}

    def is_plain(self, record_id: str | None) -> bool:
        """Whether it is a table as one is made for records without a model."""
        wanted = {name: TYPES[column.kind] for name, column in PLAIN.items()}
        return {name: column.type for name, column in self.columns.items() if name != record_id} == wanted

    def fillable(self) -> list[str]:
        """The columns that the database doesn't fill by itself."""
        return [name for name, column in self.columns.items() if not column.made]

    def drift(self, wanted: Mapping[str, SqlColumn | None], key: Sequence[str]) -> str | None:
        """What must be mended before records with these columns can be written, and how; None where nothing must."""
        if missing := [name for name in (*wanted, *key) if name not in self.columns]:
            mends = [f"ADD COLUMN {_shown(name)} {type_of(wanted.get(name))}" for name in dict.fromkeys(missing)]
            return f"has no column {', '.join(dict.fromkeys(missing))}: {self._alter(', '.join(mends))}"
        for name, column in wanted.items():
            there = self.columns[name]
            if there.made:
                return f"fills column {name} by itself: {self._alter(f'ALTER COLUMN {_shown(name)} DROP IDENTITY')}"
            if column is not None and not _takes(there, column.kind):
                kind = type_of(column)
                change = f"ALTER COLUMN {_shown(name)} TYPE {kind} USING {_shown(name)}::text::{kind}"
                return f"has {there.type} in column {name}, and {column.kind} are to go there: {self._alter(change)}"
        for name, there in self.columns.items():
            if there.not_null and there.default is None and not there.made and name not in wanted:
                change = f"ALTER COLUMN {_shown(name)} DROP NOT NULL"
                return f"wants a value for its column {name}, and the flow's model has none: {self._alter(change)}"
        if key and frozenset(key) not in self.unique:
            columns = ", ".join(map(_shown, key))
            return f"has no unique index on ({columns}): CREATE UNIQUE INDEX ON {self._shown} ({columns})"
        return None

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

    def _alter(self, change: str) -> str:
        return f"ALTER TABLE {self._shown} {change}"

    @property
    def _shown(self) -> str:
        return ".".join(map(_shown, self.name.split(".")))


def create_table(name: str, columns: Mapping[str, SqlColumn], key: Sequence[str]) -> Composed:
    """Makes a table of these columns."""
    parts = [
        SQL("{} {}{}").format(
            Identifier(column_name),
            _verbatim(type_of(column)),
            SQL("") if column.nullable and column_name not in key else SQL(" NOT NULL"),
        )
        for column_name, column in columns.items()
    ]
    if key:
        parts.append(SQL("PRIMARY KEY ({})").format(SQL(", ").join(map(Identifier, key))))
    return SQL("CREATE TABLE {} ({})").format(identifier(name), SQL(", ").join(parts))


def type_of(column: SqlColumn | None) -> str:
    """The type of a column that is to be made; text where nothing is known of it."""
    if column is None:
        return "text"
    digits = f"({column.digits[0]}, {column.digits[1]})" if column.digits else ""
    return TYPES[column.kind] + digits


def identifier(name: str) -> Identifier:
    """`table` or `schema.table`, quoted."""
    return Identifier(*name.split("."))


def beside(table: str, name: str) -> str:
    """The name of another table in the schema of this one."""
    schema, _, _ = table.rpartition(".")
    return f"{schema}.{name}" if schema else name


def _takes(there: PgColumn, kind: Kind) -> bool:
    if kind not in _CATEGORIES or there.base in JSON_TYPES:
        return True
    return there.category in _CATEGORIES[kind] or there.base in _ALSO.get(kind, ())


def _shown(name: str) -> str:
    """A name as SQL has it, without quotes where it needs none."""
    return name if name.isidentifier() and name.islower() and name.isascii() else Identifier(name).as_string(None)


def _verbatim(text: str) -> Composable:
    """A type or an expression as the catalogue spells it."""
    return SQL(text)


def _one(connection: Connection[Any], query: str, *values: Any) -> Any:
    row = connection.execute(query, values).fetchone()
    return row[0] if row else None
