"""`check --connect` looks at the table of each sink that is asked in SQL, and leaves everything as it was."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from millrace.cli.probing import probe_all
from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.sql import SqlSink
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.flows.reference import load_object
from tests.postgres_server import PostgresServer

KINDS = ("postgres", "sqlite", "duckdb")
MAKE = "CREATE TABLE probed (id TEXT)"
HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


def told(options: dict[str, Any]) -> tuple[str, str]:
    flow = Flow.model_validate({"name": "a", "source": {"type": "stdin"}, "sink": options})
    (found,) = [one for one in probe_all([flow]) if one.part.startswith("sink ")]
    return found.level, found.message


def contents(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir()}


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The options of a sink in whose database there is one table, `probed`."""
    kind = request.param
    if kind == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.session() as session:
            session.execute(MAKE)
            yield {"type": kind, "dsn": server.dsn}
            session.execute("DROP TABLE probed")
        return
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path) if kind == "sqlite" else duckdb.connect(path)) as connection:
        connection.execute(MAKE)
    yield {"type": kind, "path": str(path)}


def test_every_sink_that_is_asked_in_sql_is_looked_at_here() -> None:
    assert {name for name, path in SINKS.items() if issubclass(load_object(path), SqlSink)} == set(KINDS)


def test_a_table_is_told_as_there_as_to_be_made_or_as_missing(made: dict[str, Any], tmp_path: Path) -> None:
    before = contents(tmp_path)
    level, message = told({**made, "table": "probed"})
    assert (level, message.rpartition(": ")[2]) == ("ok", "table probed is there")
    level, message = told({**made, "table": "other"})
    assert (level, message.rpartition(": ")[2]) == ("ok", "it will be made")
    level, message = told({**made, "table": "other", "create": False})
    assert level == "error"
    assert "there is no table other: create it, or set create: true" in message
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_file_that_is_no_database_is_an_error(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("a text, which is no database by any means\n" * 1000)
    level, message = told({"type": kind, "path": str(tmp_path / "a.db"), "table": "probed"})
    assert level == "error", message
    assert "a.db" in message


def test_a_duckdb_that_somebody_writes_to_now_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        level, message = told({"type": "duckdb", "path": str(path), "table": "probed"})
        assert (level, message) == ("ok", f"{path} is there, and somebody writes to it now")
        holder.communicate()


def test_a_right_to_a_table_of_postgres_that_is_lacking_is_an_error(postgres: PostgresServer) -> None:
    with postgres.session() as session:
        session.execute(MAKE)
        session.execute("CREATE ROLE prober LOGIN PASSWORD 'secret'")
        dsn = postgres.dsn.replace("postgres@", "prober:secret@")
        options = {"type": "postgres", "dsn": dsn, "table": "probed"}
        try:
            for right in ("INSERT", "SELECT"):
                level, message = told(options)
                assert level == "error"
                assert f"no right to {right} on probed: GRANT it" in message
                session.execute(f"GRANT {right} ON probed TO prober")
            assert told(options)[0] == "ok"
        finally:
            session.execute("DROP TABLE probed")
            session.execute("DROP ROLE prober")
