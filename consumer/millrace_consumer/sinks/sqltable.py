"""Tables as they are found, whether they suit what a flow writes to them, and how it is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

from millrace_consumer.matching import Match, Matching
from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.holds import Hold
from millrace_consumer.sinks.sqlcolumns import PLAIN, SqlColumn
from millrace_consumer.sinks.sqlrows import Rows
from millrace_consumer.sinks.upserting import BY_LETTERS


class Found(NamedTuple):
    """A column that is there.

    `type` is as the database spells it, `default` an expression. `made` is true where the database fills it by itself:
    an identity, or a generated column.
    """

    type: str
    not_null: bool = False
    default: str | None = None
    made: bool = False
    category: str = ""
    """What kind of type it is, where the database tells."""
    base: str = ""
    """The type below any domain, where the database has those."""
    modifier: int = -1
    """What limits that type, as PostgreSQL numbers it."""


class Upsert(NamedTuple):
    """The columns that name a row, none where rows are only added, and that which says which of two is newer.

    `kind` is what that one holds, where it is known other than by the table.
    """

    key: Sequence[str] = ()
    version: str | None = None
    kind: Kind | None = None


class SqlTable(ABC):
    """One table; each database has a class of its own.

    `name` is as the flow says it, `unique` the columns of each unique index.
    """

    types: ClassVar[Mapping[Kind, str]]
    """The types that columns are made with."""

    def __init__(self, name: str, columns: Mapping[str, Found], unique: Collection[frozenset[str]]) -> None:
        self.name = name
        self.columns = columns
        self.unique = unique
        self._matchings: dict[tuple[str, ...], Matching] = {}

    @classmethod
    @abstractmethod
    def find(cls, connection: Any, name: str) -> Self | None:
        """The table as it is now; None where there is none."""

    @abstractmethod
    def staged(self, cells: dict[str, list[Any]]) -> Rows:
        """A batch's values by column, as `put` takes them. Raises RecordsRejected."""

    @abstractmethod
    def put(self, connection: Any, rows: Rows, upsert: Upsert) -> None:
        """Writes the rows, in a transaction that is under way."""

    def rounds(self, connection: Any, rows: Rows, upsert: Upsert) -> list[Rows]:
        """Return what `put` puts one after the other: see `Rows.rounds`."""
        if not upsert.key or not rows.has:
            return [rows]
        cells = [rows.cells[name] for name in upsert.key]
        if all(map(self.spells_alike, upsert.key, cells)):
            names: Sequence[Hashable] = list(zip(*cells, strict=True))
        else:
            names = self.ranks(connection, rows, upsert.key)
        return rows.rounds(names, merged=upsert.version is None)

    def spells_alike(self, name: str, values: Sequence[Any]) -> bool:
        """Return True where two of a column's values are one to the table only if they are to Python, too."""
        kinds = set(map(type, values))
        return kinds == {int} or (kinds == {str} and self.columns[name].type in self.texts)

    texts: ClassVar[Collection[str]] = ()
    """The types of text that differ where their letters do."""

    def ranks(self, connection: Any, rows: Rows, names: Sequence[str]) -> list[int]:
        """Return a number for each row, the same one for those that are alike in these columns to the table."""
        raise NotImplementedError

    def misfits(self, connection: Any, rows: Rows) -> dict[int, str]:  # noqa: ARG002 - most show when they are written
        """The rows that can't be written whatever else there is, by index, and why."""
        return {}

    @abstractmethod
    def why(self, error: Exception, row: Rows | None = None) -> str:
        """Why a row was refused; never what it holds, for reasons are shown."""

    @classmethod
    def type_of(cls, column: SqlColumn) -> str:
        """The type that a column is made with."""
        return cls.types[column.kind]

    @property
    @abstractmethod
    def json(self) -> Collection[str]:
        """The columns that take JSON text."""

    @property
    def arrays(self) -> Collection[str]:
        """The columns that take a list."""
        return ()

    @cached_property
    def holds(self) -> Mapping[str, Hold]:
        """What columns take without losing any of it, where the database itself would not say so."""
        found = {name: self.hold_of(column) for name, column in self.columns.items()}
        return {name: hold for name, hold in found.items() if hold is not None}

    @abstractmethod
    def hold_of(self, column: Found) -> Hold | None:
        """Return what a column takes; None where the database sees to it."""

    def takes(self, there: Found, column: SqlColumn) -> bool:  # noqa: ARG002 - where types are no more than a hint
        """Whether what `column` holds can be written to the column that is there."""
        return True

    def misordered(self, upsert: Upsert) -> str | None:
        """Return why versions are no order here, and how to mend it; None where they are one."""
        there = self.columns.get(upsert.version or "")
        if there is None:
            return f"has no column {upsert.version}, which version names: add it"
        if self.is_ordered(upsert):
            return None
        return f"has {there.type or 'no type'} in column {upsert.version}, its version, which {BY_LETTERS}"

    @abstractmethod
    def is_ordered(self, upsert: Upsert) -> bool:
        """Return True where of two versions the database takes that for the greater which is."""

    def unordered(self, upsert: Upsert, versions: Sequence[Any]) -> dict[int, str]:  # noqa: ARG002 - its types say it
        """Return the versions that have no place in an order with the others, by index, and why."""
        return {}

    def in_order(self, upsert: Upsert, version: str) -> str:  # noqa: ARG002 - by its type
        """Return a version as one that can be compared."""
        return version

    def drop_not_null(self, name: str) -> str:
        """The statement that lets a column take null."""
        return self.alter(f"ALTER COLUMN {quoted(name)} DROP NOT NULL")

    def is_plain(self, record_id: str | None) -> bool:
        """Whether it is a table as one is made for records without a model."""
        wanted = {name: self.type_of(column) for name, column in PLAIN.items()}
        return {name: column.type for name, column in self.columns.items() if name != record_id} == wanted

    def fillable(self) -> list[str]:
        """The columns that the database doesn't fill by itself."""
        return [name for name, column in self.columns.items() if not column.made]

    def matching(self, names: Sequence[str]) -> Matching:
        """Return how fields find these of the columns."""
        found = self._matchings.get(tuple(names))
        return found or self._matchings.setdefault(tuple(names), Matching(names))

    def spelled(self, name: str) -> str:
        """A column's name as the table has it; as it is given where there is none, or more than one that it may be."""
        match = self.matching(list(self.columns)).of([name])
        return next(iter(match.fields), name) if isinstance(match, Match) else name

    def sparse(self, names: Sequence[str], *, keeps: bool) -> list[str]:
        """The columns for which it counts whether a record has a value, or none: those with a default, or all."""
        return [name for name in names if keeps or self.columns[name].default is not None]

    def drift(self, wanted: Mapping[str, SqlColumn | None], key: Sequence[str]) -> str | None:
        """What must be mended before records with these columns can be written, and how; None where nothing must."""
        match = self.matching(list(self.columns)).of(wanted)
        if isinstance(match, str):
            return f"has several columns for one name: {match}"
        wanted = {column: wanted[name] for column, name in match.fields.items()} | {
            name: wanted[name] for name in match.left
        }
        key = [self.spelled(name) for name in key]
        if missing := [
            name for name in dict.fromkeys((*wanted, *key)) if name not in self.columns or name in match.left
        ]:
            mends = "; ".join(
                self.alter(f"ADD COLUMN {quoted(name)} {self._type_of(wanted.get(name))}") for name in missing
            )
            return f"has no column {', '.join(missing)}: {mends}"
        for name, column in wanted.items():
            there = self.columns[name]
            if there.made:
                return f"fills its column {name} by itself: leave that field out of the model (exclude=True)"
            if column is not None and not self.takes(there, column):
                kind = self.type_of(column)
                change = f"ALTER COLUMN {quoted(name)} TYPE {kind} USING {quoted(name)}::text::{kind}"
                return f"has {there.type} in column {name}, and {column.kind} are to go there: {self.alter(change)}"
        for name, there in self.columns.items():
            if there.not_null and there.default is None and not there.made and name not in wanted:
                return f"wants a value for its column {name}, and the flow's model has none: {self.drop_not_null(name)}"
        if key and frozenset(key) not in self.unique:
            columns = ", ".join(map(quoted, key))
            index = quoted(f"{self.name.rpartition('.')[2]}_by_{'_'.join(key)}"[:60])
            return f"has no unique index on ({columns}): CREATE UNIQUE INDEX {index} ON {self.quoted_name} ({columns})"
        return None

    def alter(self, change: str) -> str:
        """`ALTER TABLE` with this change."""
        return f"ALTER TABLE {self.quoted_name} {change}"

    @property
    def quoted_name(self) -> str:
        """The table's name as SQL has it."""
        return qualified(self.name)

    def insert(self, names: Sequence[str], select: str, upsert: Upsert, updated: Sequence[str] | None = None) -> str:
        """The statement that writes the rows of a query; of a row with the key that is there these are replaced."""
        into = f"INSERT INTO {self.quoted_name} AS there ({', '.join(map(quoted, names))}) {select}"
        key = upsert.key
        if not key:
            return into
        others = ", ".join(
            f"{quoted(name)} = excluded.{quoted(name)}"
            for name in (names if updated is None else updated)
            if name not in key
        )
        action = f"DO UPDATE SET {others}{self.newer(upsert, 'excluded')}" if others else "DO NOTHING"
        return f"{into} {self.on_conflict(key)} {action}"

    def on_conflict(self, key: Sequence[str]) -> str:
        """Return what begins the part of a statement for rows whose key is there."""
        return f"ON CONFLICT ({', '.join(map(quoted, key))})"

    def newer(self, upsert: Upsert, given: str, word: str = "WHERE") -> str:
        """The condition under which a row gives way to the one of this name; empty for none."""
        if upsert.version is None:
            return ""
        there, new = (self.in_order(upsert, f"{row}.{quoted(upsert.version)}") for row in ("there", given))
        return f" {word} ({there} IS NULL OR {new} >= {there})"

    def values(self, names: Sequence[str]) -> str:
        """Return what goes into these columns. A null gives way to a column's default where the column takes none."""
        return ", ".join(map(self.present, names))

    def present(self, name: str) -> str:
        """Return what goes into a column for what the record has."""
        column = self.columns[name]
        return self.or_default(self.value(name), name) if column.not_null else self.value(name)

    def or_default(self, value: str, name: str) -> str:
        """A value, or the column's default where it is null."""
        default = self.columns[name].default
        return value if default is None else f"coalesce({value}, {default})"

    def value(self, name: str) -> str:
        """What goes into a column where the record has a value for it."""
        return quoted(name)

    def _type_of(self, column: SqlColumn | None) -> str:
        return "text" if column is None else self.type_of(column)


def qualified(name: str) -> str:
    """`table` or `schema.table`, quoted."""
    return ".".join(map(quoted, name.split(".")))


def quoted(name: str) -> str:
    """A name, quoted."""
    return '"' + name.replace('"', '""') + '"'
