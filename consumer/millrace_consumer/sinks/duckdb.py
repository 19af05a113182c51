"""Records as rows of a DuckDB table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field

from millrace_consumer.sinks.places.writable import check_file
from millrace_consumer.sinks.sql import SqlSink
from millrace_consumer.sinks.sqldatabase import Database
from millrace_consumer.sinks.sqloptions import Wait
from millrace_pipeline.extras import Extra


class DuckdbSink(SqlSink):
    """Exactly once: a batch's records and its id in a ledger, in one transaction of DuckDB.

    The file is open only while a batch is written, so consumers take turns, and others can read it between. A record
    that the table refuses is found and named, and the others are written.
    """

    path: Annotated[Path, Field(description="The database file; made where there is none.")]
    timeout: Annotated[Wait, Field(description="How long to wait until no other process has the file open.")] = 60

    extra: ClassVar[Extra | None] = Extra("duckdb", module="duckdb")
    longest_name: ClassVar[int] = 1000
    in_a_file: ClassVar[bool] = True

    def check(self, model: type[BaseModel] | None) -> None:
        """Refuses a path that can't be written."""
        super().check(model)
        check_file(self.path)

    def connect(self) -> Database:
        from millrace_consumer.sinks.duckdbdatabase import DuckdbDatabase  # not before it is used: it is an extra

        return DuckdbDatabase(self.path, self.timeout)
