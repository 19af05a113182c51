"""A table as it is found, and whether it suits what a flow writes to it; each database has a class of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from millrace_consumer.sinks.sqlcolumns import PLAIN, SqlColumn


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


class SqlTable(ABC):
    """One table. `name` is as the flow says it, `unique` the columns of each unique index."""

    def __init__(self, name: str, columns: Mapping[str, Found], unique: Collection[frozenset[str]]) -> None:
        self.name = name
        self.columns = columns
        self.unique = unique

    @staticmethod
    @abstractmethod
    def type_of(column: SqlColumn) -> str:
        """The type that a column is made with."""

    @staticmethod
    @abstractmethod
    def quoted(name: str) -> str:
        """A name, quoted."""

    @property
    @abstractmethod
    def json(self) -> Collection[str]:
        """The columns that take JSON text."""

    @property
    def arrays(self) -> Collection[str]:
        """The columns that take a list."""
        return ()

    def takes(self, there: Found, column: SqlColumn) -> bool:  # noqa: ARG002 - where types are no more than a hint
        """Whether what `column` holds can be written to the column that is there."""
        return True

    def drop_not_null(self, name: str) -> str:
        """The statement that lets a column take null."""
        return self.alter(f"ALTER COLUMN {self.quoted(name)} DROP NOT NULL")

    def is_plain(self, record_id: str | None) -> bool:
        """Whether it is a table as one is made for records without a model."""
        wanted = {name: self.type_of(column) for name, column in PLAIN.items()}
        return {name: column.type for name, column in self.columns.items() if name != record_id} == wanted

    def fillable(self) -> list[str]:
        """The columns that the database doesn't fill by itself."""
        return [name for name, column in self.columns.items() if not column.made]

    def drift(self, wanted: Mapping[str, SqlColumn | None], key: Sequence[str]) -> str | None:
        """What must be mended before records with these columns can be written, and how; None where nothing must."""
        if missing := [name for name in dict.fromkeys((*wanted, *key)) if name not in self.columns]:
            mends = "; ".join(
                self.alter(f"ADD COLUMN {self.quoted(name)} {self._type_of(wanted.get(name))}") for name in missing
            )
            return f"has no column {', '.join(missing)}: {mends}"
        for name, column in wanted.items():
            there = self.columns[name]
            if there.made:
                return f"fills its column {name} by itself: leave that field out of the model (exclude=True)"
            if column is not None and not self.takes(there, column):
                kind = self.type_of(column)
                change = f"ALTER COLUMN {self.quoted(name)} TYPE {kind} USING {self.quoted(name)}::text::{kind}"
                return f"has {there.type} in column {name}, and {column.kind} are to go there: {self.alter(change)}"
        for name, there in self.columns.items():
            if there.not_null and there.default is None and not there.made and name not in wanted:
                return f"wants a value for its column {name}, and the flow's model has none: {self.drop_not_null(name)}"
        if key and frozenset(key) not in self.unique:
            columns = ", ".join(map(self.quoted, key))
            index = self.quoted(f"{self.name.rpartition('.')[2]}_by_{'_'.join(key)}"[:60])
            return f"has no unique index on ({columns}): CREATE UNIQUE INDEX {index} ON {self.quoted_name} ({columns})"
        return None

    def alter(self, change: str) -> str:
        """`ALTER TABLE` with this change."""
        return f"ALTER TABLE {self.quoted_name} {change}"

    @property
    def quoted_name(self) -> str:
        """The table's name as SQL has it."""
        return ".".join(map(self.quoted, self.name.split(".")))

    def _type_of(self, column: SqlColumn | None) -> str:
        return "text" if column is None else self.type_of(column)


def beside(table: str, name: str) -> str:
    """The name of another table in the schema of this one."""
    schema, _, _ = table.rpartition(".")
    return f"{schema}.{name}" if schema else name
