"""Records as rows of a SQLite table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field

from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.places.writable import check_file
from millrace_consumer.sinks.sql import SqlSink
from millrace_consumer.sinks.sqldatabase import Database
from millrace_consumer.sinks.sqlitedatabase import SqliteDatabase
from millrace_consumer.sinks.sqloptions import Wait
from millrace_pipeline.errors import ConfigError


class SqliteSink(SqlSink):
    """Exactly once: a batch's records and its id in a ledger, in one transaction of SQLite.

    Consumers take turns: one writes at a time, and the others wait for it. A record that the table refuses is found and
    named, and the others are written.
    """

    path: Annotated[Path, Field(description="The database file; made where there is none.")]
    timeout: Annotated[Wait, Field(description="How long to wait for the turn to write.")] = 60

    longest_name: ClassVar[int] = 1000
    in_a_file: ClassVar[bool] = True
    by_letters: ClassVar[frozenset[Kind]] = SqlSink.by_letters | {Kind.DECIMAL, Kind.DURATION}

    def check(self, model: type[BaseModel] | None) -> None:
        """Refuses a path that can't be written, and a table in a schema, which SQLite has none of."""
        super().check(model)
        check_file(self.path)
        if "." in self.table:
            raise ConfigError(f"table: SQLite has no schemas: name a table such as {self.table.rpartition('.')[2]}")

    def connect(self) -> Database:
        return SqliteDatabase(self.path, self.timeout)
