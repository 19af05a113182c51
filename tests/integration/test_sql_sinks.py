"""Flows into tables: real consumers beside each other, killed ones, and `millrace verify --sink` afterwards."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from millrace.cli import verify
from millrace_consumer.runner import Consumer
from millrace_pipeline.flows.flow import load
from tests.conftest import eventually
from tests.postgres_server import PostgresServer
from tests.services import NOWHERE, PATIENCE, Place

KEYED = {**NOWHERE, "key": "/n"}
MODEL = """
from pydantic import BaseModel


class Number(BaseModel):
    n: int
    filler: str | None = None
"""


class Table:
    """A table that a flow writes to: the sink's options, and a way to it for somebody else."""

    def __init__(self, options: dict[str, Any], run: Callable[[str], list[Any]]) -> None:
        self.options = options
        self.run = run

    def numbers(self) -> list[int]:
        """The `n` of every row, as often as it is there."""
        return sorted(number for (number,) in self.run("SELECT n FROM numbers"))


@pytest.fixture(params=["postgres", "sqlite", "duckdb"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        schema = f"flow_{tmp_path.name}".lower()
        with server.session() as session:
            session.execute(f'CREATE SCHEMA "{schema}"')
            session.execute(f'SET search_path = "{schema}"')

            def on_the_server(statement: str) -> list[Any]:
                done = session.execute(statement)
                return done.fetchall() if done.description else []

            yield Table({"type": "postgres", "dsn": server.dsn, "table": f"{schema}.numbers"}, on_the_server)
            session.execute(f'DROP SCHEMA "{schema}" CASCADE')
    elif request.param == "duckdb":

        def while_nobody_writes(statement: str) -> list[Any]:
            with duckdb.connect(tmp_path / "numbers.duckdb") as connection:
                return connection.execute(statement).fetchall()

        options = {"type": "duckdb", "path": str(tmp_path / "numbers.duckdb"), "table": "numbers"}
        yield Table(options, while_nobody_writes)
    else:
        path = tmp_path / "numbers.db"

        def in_the_file(statement: str) -> list[Any]:
            with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
                return connection.execute(statement).fetchall()

        yield Table({"type": "sqlite", "path": str(path), "table": "numbers"}, in_the_file)


@pytest.fixture
def place(tmp_path: Path, redis_url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)  # another test's
    with Place(tmp_path, redis_url, key) as place:
        place.module(MODEL)
        yield place
    sys.modules.pop("theirs", None)


def deliver(place: Place) -> None:
    """Delivers all there is, by a consumer in this process."""
    never = threading.Event()
    flow = load(place.folder / "flows.yaml")["numbers"]
    Consumer(flow, place.redis_url, stopping=never, give_up=never, until_empty=True).run()


def verified(place: Place, *arguments: str, code: int) -> str:
    environ = {"REDIS_URL": place.redis_url, "COLUMNS": "200"}
    done = CliRunner().invoke(verify.app, ["--sink", *arguments], env=environ)
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def test_two_consumers_that_share_a_table_write_each_record_once(place: Place, table: Table) -> None:
    place.flow(sink=table.options, model="theirs:Number", source=KEYED)
    consumers = [place.consume() for _ in range(2)]
    published = 0
    for consumer in consumers:
        consumer.await_event("service_started")
    while not all(consumer.events("batch_delivered") for consumer in consumers):
        place.publish(range(published, published + 100))
        published += 100
        eventually(lambda: place.books().lag == 0, PATIENCE)
    for consumer in consumers:
        assert consumer.terminate() == 0, consumer.said
        assert not consumer.events("sink_unavailable"), "it waits for its turn"
        assert not consumer.events("record_dead_lettered")
    assert table.numbers() == list(range(published))
    assert f"{published:,} records of {published:,} delivered: each once (by its /n)" in verified(place, code=0)


def test_a_consumer_that_is_killed_behind_its_commit_leaves_each_record_once(place: Place, table: Table) -> None:
    place.flow(sink=table.options, model="theirs:Number", source=KEYED)
    place.publish(range(60))
    assert place.consume(MILLRACE_KILLPOINT="sink.after_commit:3").wait() == -9
    place.deliver_the_rest()
    assert table.numbers() == list(range(60))
    verified(place, code=0)


def test_verify_reads_the_table_and_the_ledger(place: Place, table: Table) -> None:
    place.flow(sink=table.options, model="theirs:Number", source=KEYED)
    place.publish(range(30))
    deliver(place)
    found = json.loads(verified(place, "--json", code=0))["numbers"]["sink"]
    assert (found["unit"], found["files"], found["records"], found["batches"]) == ("table", 1, 30, 3)
    assert (found["twice"], found["missing"], found["surplus"], found["by"]) == (0, 0, 0, "/n")

    table.run("INSERT INTO numbers (n) VALUES (1000)")  # somebody else's
    assert "not written by a consumer: 1 rows, which the ledger doesn't count" in verified(place, code=0)
    table.run("UPDATE numbers SET n = 7 WHERE n = 1000")
    said = verified(place, code=1)
    assert "1 twice (by its /n)" in said
    assert "2 times: 7 in " in said
    table.run("DELETE FROM numbers WHERE n IN (7, 8, 9)")
    assert "3 missing" in verified(place, code=1)


def test_verify_tells_records_apart_by_the_envelopes_id(place: Place, table: Table) -> None:
    place.flow(sink=table.options)  # without a model: id, time, data
    place.publish(range(30))
    deliver(place)
    assert "1 table, 30 records of 30 delivered: each once (by its envelope id)" in verified(place, code=0)


def test_verify_goes_by_the_ledger_where_an_upsert_makes_one_row_of_several(place: Place, table: Table) -> None:
    place.flow(sink={**table.options, "mode": "upsert", "key": "n"}, model="theirs:Number", source=KEYED)
    for _ in range(2):
        place.publish(range(30))
    deliver(place)
    assert table.numbers() == list(range(30))
    assert "60 records of 60 delivered: each once (by its batch in the ledger)" in verified(place, code=0)
    table.run("DELETE FROM millrace_ledger WHERE batch_id = (SELECT min(batch_id) FROM millrace_ledger)")
    assert "10 missing" in verified(place, code=1)


def test_verify_of_a_table_that_is_not_there_yet_finds_nothing(place: Place, table: Table) -> None:
    place.flow(sink=table.options)
    place.deliver_the_rest()  # a consumer has been here, and found nothing
    assert "0 records of 0 delivered" in verified(place, code=0)
