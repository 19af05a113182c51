"""Every sink with columns: how a place with certain columns is made for it, and what another reader finds there."""

from __future__ import annotations

import csv
import io
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from millrace_consumer.sinks.base import Sink
from millrace_consumer.sinks.csv import CsvSink
from millrace_consumer.sinks.delta import DeltaSink
from millrace_consumer.sinks.duckdb import DuckdbSink
from millrace_consumer.sinks.parquet import ParquetSink
from millrace_consumer.sinks.postgres import PostgresSink
from millrace_consumer.sinks.sqlite import SqliteSink
from tests.contracts.test_postgres_contract import schema_of
from tests.postgres_server import PostgresServer

ARROW = {"integer": pa.int64(), "text": pa.string()}


class TypedPlace(ABC):
    """A place of a test's own. Columns are of `integer` or `text`; `id integer` is the first and a key."""

    upserts: ClassVar[bool] = True
    """Whether its sink does."""
    by_columns: ClassVar[bool] = True
    """Whether records without a model go into the columns that are there."""

    def __init__(self, folder: Path, server: Callable[[], PostgresServer]) -> None:
        self.folder = folder
        self.server = server

    @abstractmethod
    def make(self, columns: Mapping[str, str]) -> None:
        """Somebody else makes the place."""

    @abstractmethod
    def sink(self, **options: Any) -> Sink:
        """A sink that writes there, as another consumer would make it."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """What is there, in the order of `id`, integers as such."""


class SqlPlace(TypedPlace):
    """A table of a database."""

    table: ClassVar[str] = "things"
    sees_tables: ClassVar[bool] = True
    """Whether its sink's `check` can see which tables there are."""

    def make(self, columns: Mapping[str, str]) -> None:
        first, *others = (f'"{name}" {kind}' for name, kind in columns.items())
        self.run(f"CREATE TABLE {self.table_name} ({', '.join([f'{first} PRIMARY KEY', *others])})")

    def rows(self) -> list[dict[str, Any]]:
        names, rows = self.run(f"SELECT * FROM {self.table_name} ORDER BY 1")
        return [dict(zip(names, row, strict=True)) for row in rows]

    @property
    def table_name(self) -> str:
        """The table, for SQL."""
        return self.table

    @abstractmethod
    def run(self, statement: str) -> tuple[list[str], list[Any]]:
        """Names and rows of what somebody else asks."""


class SqlitePlace(SqlPlace):
    def sink(self, **options: Any) -> Sink:
        return SqliteSink.model_validate({"path": self.folder / "a.db", "table": self.table, **options})

    def run(self, statement: str) -> tuple[list[str], list[Any]]:
        with closing(sqlite3.connect(self.folder / "a.db", isolation_level=None)) as connection:
            found = connection.execute(statement)
            return [column[0] for column in found.description or ()], found.fetchall()


class DuckdbPlace(SqlPlace):
    def sink(self, **options: Any) -> Sink:
        return DuckdbSink.model_validate({"path": self.folder / "a.duckdb", "table": self.table, **options})

    def run(self, statement: str) -> tuple[list[str], list[Any]]:
        with duckdb.connect(self.folder / "a.duckdb") as connection:
            found = connection.execute(statement)
            return [column[0] for column in found.description or ()], found.fetchall()


class PostgresPlace(SqlPlace):
    sees_tables = False

    @property
    def table_name(self) -> str:
        return f"{schema_of(self.server(), self.folder)}.{self.table}"

    def sink(self, **options: Any) -> Sink:
        return PostgresSink.model_validate({"dsn": self.server().dsn, "table": self.table_name, **options})

    def run(self, statement: str) -> tuple[list[str], list[Any]]:
        with self.server().session() as session:
            found = session.execute(statement)
            return [column.name for column in found.description or ()], found.fetchall() if found.description else []


class DeltaPlace(TypedPlace):
    by_columns = False

    def make(self, columns: Mapping[str, str]) -> None:
        schema = pa.schema([(name, ARROW[kind]) for name, kind in columns.items()])
        write_deltalake(self.folder / "delta", schema.empty_table())

    def sink(self, **options: Any) -> Sink:
        return DeltaSink.model_validate({"path": self.folder / "delta", **options})

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = pa.table(DeltaTable(self.folder / "delta").scan().read_all()).to_pylist()
        return sorted(found, key=lambda row: (row["id"] is None, row["id"]))


class CsvPlace(TypedPlace):
    upserts = False
    columns: Mapping[str, str] = {}

    def make(self, columns: Mapping[str, str]) -> None:
        self.columns = columns

    def sink(self, **options: Any) -> Sink:
        chosen = {"columns": list(self.columns)} if self.columns else {}
        return CsvSink.model_validate({"path": self.folder / "csv", **chosen, **options})

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for file in sorted((self.folder / "csv").glob("*.csv")):
            rows += csv.DictReader(io.StringIO(file.read_bytes().decode(), newline=""))
        return [{name: int(cell) if cell.isdigit() else cell or None for name, cell in row.items()} for row in rows]


class ParquetPlace(TypedPlace):
    upserts = False
    by_columns = False

    def make(self, columns: Mapping[str, str]) -> None:
        """Each file has the columns of the flow's model."""

    def sink(self, **options: Any) -> Sink:
        return ParquetSink.model_validate({"path": self.folder / "parquet", **options})

    def rows(self) -> list[dict[str, Any]]:
        files = sorted((self.folder / "parquet").glob("*.parquet"))
        return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


PLACES: dict[str, type[TypedPlace]] = {
    "sqlite": SqlitePlace,
    "duckdb": DuckdbPlace,
    "postgres": PostgresPlace,
    "delta": DeltaPlace,
    "csv": CsvPlace,
    "parquet": ParquetPlace,
}
WITH_COLUMNS = [name for name, place in PLACES.items() if place.by_columns]
UPSERTING = [name for name, place in PLACES.items() if place.upserts]


def place_for(request: pytest.FixtureRequest, name: str, folder: Path) -> TypedPlace:
    """The place of one sink's kind for a test."""
    folder.mkdir(exist_ok=True)
    return PLACES[name](folder, lambda: request.getfixturevalue("postgres"))
