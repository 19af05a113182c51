"""Consumers that upsert the same rows at once: where one comes between the steps of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from millrace_consumer.sinks import delta
from tests.conftest import eventually
from tests.contracts.test_upserts import KEYED, Cookie, of, row
from tests.contracts.typed_places import DeltaPlace, PostgresPlace, place_for
from tests.postgres_server import PostgresServer

THERE = "CREATE TABLE {table} (id integer PRIMARY KEY, item text, flavor text, v integer)"
GATE = 7
"""An advisory lock that the test holds, and the statements of the sink wait for."""


@pytest.fixture
def table(request: pytest.FixtureRequest, tmp_path: Path) -> PostgresPlace:
    place = place_for(request, "postgres", tmp_path / "place")
    assert isinstance(place, PostgresPlace)
    place.run(THERE.format(table=place.table_name))
    return place


@contextmanager
def closed_gate(table: PostgresPlace, server: PostgresServer) -> Iterator[Callable[[], bool]]:
    """The sink stands still once the rows that its update sees are settled. Gives what tells whether it does."""
    gate = f"{table.table_name}_gate"
    table.run(
        f"CREATE FUNCTION {gate}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF current_setting('application_name') = 'millrace' THEN PERFORM pg_advisory_xact_lock({GATE}); END IF; "
        "RETURN NULL; END $$"
    )
    table.run(f"CREATE TRIGGER gate BEFORE UPDATE ON {table.table_name} FOR EACH STATEMENT EXECUTE FUNCTION {gate}()")
    with server.session() as keeper:
        keeper.execute(f"SELECT pg_advisory_lock({GATE})")
        waiting = f"SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = {GATE} AND NOT granted"
        yield lambda: keeper.execute(waiting).rowcount == 1


@pytest.mark.parametrize("model", [Cookie, None], ids=["model", "plain"])
@pytest.mark.parametrize("version", [None, "v"], ids=["last", "newest"])
def test_a_row_that_comes_between_the_steps_of_an_upsert_loses_no_field(
    table: PostgresPlace, postgres: PostgresServer, version: str | None, model: Any
) -> None:
    with ThreadPoolExecutor(1) as pool, postgres.session() as other:
        with closed_gate(table, postgres) as shut:
            sink = table.sink(**KEYED, version=version)
            writing = pool.submit(sink.write, of("b1", {"id": 1, "item": "cake"}, {"id": 2, "v": 3}, model=model))
            eventually(shut)
            other.execute(f"INSERT INTO {table.table_name} VALUES (1, NULL, 'plum', NULL), (2, 'pie', 'fig', 4)")
        writing.result(60)
        sink.close()
    newer = row(2, "pie", "fig", 4 if version else 3)
    assert table.rows() == [row(1, "cake", "plum"), newer]


def test_a_commit_that_comes_between_the_steps_of_an_upsert_loses_no_field(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_for(request, "delta", tmp_path / "place")
    assert isinstance(place, DeltaPlace)
    place.make({"id": "integer", "item": "text", "flavor": "text", "v": "integer"})
    merge = delta.upsert

    def once_the_other_is_through(*arguments: Any) -> None:
        monkeypatch.setattr(delta, "upsert", merge)
        place.sink(**KEYED).write(of("b2", {"id": 1, "flavor": "plum"}))
        merge(*arguments)

    monkeypatch.setattr(delta, "upsert", once_the_other_is_through)
    place.sink(**KEYED).write(of("b1", {"id": 1, "item": "cake"}))
    assert place.rows() == [row(1, "cake", "plum")]
