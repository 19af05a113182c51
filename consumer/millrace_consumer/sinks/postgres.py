"""Records as rows of a PostgreSQL table."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, SecretStr, field_validator

from millrace_consumer.sinks.sql import SqlSink
from millrace_consumer.sinks.sqldatabase import Database
from millrace_consumer.sinks.sqloptions import Wait
from millrace_pipeline.extras import Extra


class PostgresSink(SqlSink):
    """Exactly once: a batch's records and its id in a ledger, in one transaction of PostgreSQL.

    They are copied to a temporary table and moved from there. A COMMIT whose reply is lost is looked up in the ledger.
    A record that the table refuses is found and named, and the others are written.
    """

    dsn: Annotated[
        SecretStr,
        Field(
            description="Where the database is: postgresql://user:password@host:5432/database, or libpq's key=value."
        ),
    ]
    connect_timeout: Annotated[Wait, Field(description="How long to wait for a connection.")] = 10
    timeout: Annotated[
        Wait, Field(description="How long a batch may take; the server gives a statement no longer, either.")
    ] = 300

    extra: ClassVar[Extra | None] = Extra("postgres", module="psycopg")
    folds_case: ClassVar[bool] = False
    longest_name: ClassVar[int] = 63

    @field_validator("dsn")
    @classmethod
    def _an_address(cls, dsn: SecretStr) -> SecretStr:
        from millrace_consumer.sinks.pgsession import checked_dsn  # not before it is used: it is an extra

        checked_dsn(dsn.get_secret_value())
        return dsn

    def connect(self) -> Database:
        from millrace_consumer.sinks.pgdatabase import PgDatabase

        return PgDatabase(self.dsn.get_secret_value(), connect_timeout=self.connect_timeout, timeout=self.timeout)
