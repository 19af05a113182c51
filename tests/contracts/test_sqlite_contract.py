"""The sqlite sink keeps the sink contract, and its own claims."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.sqlite import SqliteSink
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import ConfigError
from tests.contracts.sink_contract import SinkContract
from tests.contracts.sink_records import TIME, NarrowThing, Thing, batch_of, bulk
from tests.contracts.test_postgres_sink import EVERYTHING, Priced, of_models

COLUMNS = ("id", "text", "flag", "nested", "number")


class TestSqliteSink(SinkContract):
    """Without a model: `id`, `time` and `data`."""

    sink = "millrace_consumer.sinks.sqlite:SqliteSink"
    kill_points = ("sink.before_write", "sink.before_commit", "sink.after_commit")

    def options(self, destination: Path) -> dict[str, Any]:
        return {"path": str(destination / "things.db"), "table": "things"}

    def read_back(self, destination: Path) -> list[Any]:
        return [json.loads(row["data"]) for row in rows(destination / "things.db")]


class TestSqliteSinkWithModel(TestSqliteSink):
    """With typed columns."""

    model = NarrowThing
    unwritable: ClassVar[list[Any]] = [{"id": "wide", "number": 2**63}, {"id": "wider", "number": -(2**64)}]

    def read_back(self, destination: Path) -> list[Any]:
        found = rows(destination / "things.db")
        for row in found:
            row["nested"] = None if row["nested"] is None else json.loads(row["nested"])
        return found

    def expected(self, record: dict[str, Any]) -> Any:
        return {name: record.get(name) for name in COLUMNS}


class TestSqliteSinkUpserting(TestSqliteSinkWithModel):
    """By the record's id."""

    def options(self, destination: Path) -> dict[str, Any]:
        return {**super().options(destination), "mode": "upsert", "key": "id"}

    def wanted(self, *batches: list[dict[str, Any]]) -> list[Any]:
        """The last record of each id."""
        return super().wanted(list({record["id"]: record for records in batches for record in records}.values()))


def rows(path: Path, table: str = "things", order: str = "rowid") -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchone() is None:
            return []
        return [dict(row) for row in connection.execute(f'SELECT * FROM "{table}" ORDER BY {order}')]


def raw(*lines: str, id: str = "b") -> Batch:
    envelopes = [Envelope(f"{id}-{i}", "s", "t", TIME, msgspec.Raw(line.encode())) for i, line in enumerate(lines)]
    return Batch(id, envelopes, flow="flow")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.db"


@pytest.fixture
def run(path: Path) -> Callable[[str], list[Any]]:
    """One statement, by somebody else."""

    def run(statement: str) -> list[Any]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    return run


def reasons(sink: SqliteSink, batch: Batch) -> dict[int, str]:
    with pytest.raises(RecordsRejected) as rejection:
        sink.write(batch)
    return rejection.value.reasons


def test_a_table_is_made_of_the_flows_model(path: Path) -> None:
    SqliteSink(path=path, table="things").write(of_models("b", EVERYTHING))
    [row] = rows(path)
    assert row["exact"] == "0.1000000000000000000000000001"
    assert row["instant"] == "2026-11-20T20:00:00.123456Z"
    assert row["later"] == "2026-11-21T01:30:00.000000Z"
    assert (row["day"], row["clock"], row["span"]) == ("0001-01-01", "23:59:59.999999", "-PT23H59M59.999999S")
    assert row["uuid"] == "00000000-0000-0000-0000-000000000007"
    assert (row["yes"], row["whole"], row["raw"], row["colour"]) == (1, 2**63 - 1, b"\x00\xff", "red")
    assert json.loads(row["nested"]) == {"a": 1, "when": "2026-01-01T00:00:00Z"}
    assert json.loads(row["tags"]) == ["a", "b"]


def test_records_without_a_model_go_into_a_table_that_is_there_by_its_columns(
    path: Path, run: Callable[[str], list[Any]]
) -> None:
    run(
        "CREATE TABLE things (n INTEGER PRIMARY KEY, name TEXT NOT NULL, price NUMERIC, extra JSON TEXT, "
        "state TEXT NOT NULL DEFAULT 'new', twice GENERATED ALWAYS AS (price * 2))"
    )
    SqliteSink(path=path, table="things").write(
        raw('{"name": "a", "price": 1.5, "extra": {"a": 1.50}, "other": 1}', '{"name": "b", "n": 7, "state": "old"}')
    )
    assert run("SELECT * FROM things") == [(1, "a", 1.5, '{"a":1.50}', "new", 3.0), (7, "b", None, None, "old", None)]


def test_decimals_keep_their_digits_where_the_column_is_text(path: Path, run: Callable[[str], list[Any]]) -> None:
    run("CREATE TABLE things (price TEXT)")
    SqliteSink(path=path, table="things").write(raw('{"price": 1.0000000000000000000001}'))
    assert run("SELECT * FROM things") == [(str(Decimal("1.0000000000000000000001")),)]


def test_a_number_that_sqlite_would_make_infinity_of_is_named(path: Path, run: Callable[[str], list[Any]]) -> None:
    run("CREATE TABLE things (price NUMERIC, extra JSON, words TEXT)")
    lines = ['{"price": 1e400}', '{"extra": 1e400}', '{"words": 1e400}', '{"price": 1e40}', '{"extra": [1e400]}']
    assert list(reasons(SqliteSink(path=path, table="things"), raw(*lines))) == [0, 1]
    SqliteSink(path=path, table="things").write(raw(*lines[2:]))
    assert run("SELECT * FROM things") == [(None, None, "1E+400"), (1e40, None, None), (None, "[1E+400]", None)]


def test_a_record_that_does_not_fit_is_named_and_the_same_is_named_again(
    path: Path, run: Callable[[str], list[Any]]
) -> None:
    run("CREATE TABLE things (n INTEGER UNIQUE, positive INTEGER CHECK (positive > 0), name TEXT NOT NULL DEFAULT '')")
    batch = raw(
        '{"n": 1}',
        '{"n": 1}',
        '{"positive": -5}',
        f'{{"n": {2**63}}}',
        '{"n": 2}',
    )
    found = {
        1: "UNIQUE constraint failed: things.n",
        2: "CHECK constraint failed: positive > 0",
        3: "n: too large for SQLite, whose integers have 64 bits",
    }
    sink = SqliteSink(path=path, table="things")
    first = reasons(sink, batch)
    assert first == found
    kept = [index for index in range(len(batch)) if index not in first]
    sink.write(batch.pick(kept))
    sink.close()
    other = SqliteSink(path=path, table="things")
    assert reasons(other, batch) == first
    other.write(batch.pick(kept))
    assert run("SELECT count(*) FROM things") == [(len(kept),)]


def test_an_upsert_with_a_version_never_goes_back(path: Path, run: Callable[[str], list[Any]]) -> None:
    sink = SqliteSink(path=path, table="things", mode="upsert", key=["id"], version="at")
    sink.write(of_models("b1", Priced(id="a", at=5, price=50), Priced(id="a", at=4, price=40), Priced(id="b", price=1)))
    sink.write(of_models("b2", Priced(id="a", at=3, price=30), Priced(id="b", at=1, price=2)))
    assert run("SELECT * FROM things ORDER BY id") == [("a", 5, 50), ("b", 1, 2)]
    assert reasons(sink, of_models("b3", Priced(id=None))) == {0: "id: null, and an upsert needs it to name the row"}


def test_replace_leaves_only_the_last_batch(path: Path) -> None:
    sink = SqliteSink(path=path, table="things", mode="replace")
    sink.write(batch_of("b1", bulk(3)))
    sink.write(batch_of("b2", bulk(2)))
    sink.write(batch_of("b1", bulk(3)))
    assert [row["id"] for row in rows(path)] == ["b2-0", "b2-1"]


def test_old_batches_leave_the_ledger_and_stay_in_its_sum(path: Path, run: Callable[[str], list[Any]]) -> None:
    for turn in range(3):
        SqliteSink(path=path, table="things").write(batch_of(f"b{turn}", bulk(2)))
        run("UPDATE millrace_ledger SET written_at = written_at - 31 * 86400 WHERE batch_id LIKE 'b%'")
    SqliteSink(path=path, table="things").write(batch_of("b3", bulk(2)))
    assert run("SELECT batch_id, records FROM millrace_ledger ORDER BY 1") == [("b3", 2), ("pruned:", 6)]


def test_a_file_that_somebody_else_is_writing_to_is_waited_for_and_then_tried_again(path: Path) -> None:
    sink = SqliteSink(path=path, table="things", timeout=0.1)
    sink.write(batch_of("b0", bulk(2)))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkUnavailable, match="database is locked: somebody else"):
            sink.write(batch_of("b1", bulk(2)))
        other.execute("ROLLBACK")
    sink.write(batch_of("b1", bulk(2)))
    assert len(rows(path)) == 4
    assert sink.has_batch("b1")
    assert not sink.has_batch("b2")


def test_a_table_that_does_not_suit_is_told_with_the_statement_that_mends_it(
    path: Path, run: Callable[[str], list[Any]]
) -> None:
    run("CREATE TABLE things (id TEXT, text TEXT, number, flag)")
    sink = SqliteSink(path=path, table="things", mode="upsert", key=["id"])
    with pytest.raises(SinkUnavailable, match="has no column nested: ALTER") as refusal:
        sink.write(batch_of("b", bulk(2), Thing))
    run(str(refusal.value).partition("nested: ")[2])
    with pytest.raises(SinkUnavailable, match="CREATE UNIQUE INDEX") as refusal:
        sink.write(batch_of("b", bulk(2), Thing))
    run(str(refusal.value).partition("): ")[2])
    sink.write(batch_of("b", bulk(2), Thing))
    assert len(rows(path)) == 2


def test_what_is_no_database_is_said(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(SinkUnavailable, match=r"my\.db: file is not a database"):
        SqliteSink(path=path, table="things").write(batch_of("b", bulk(2)))


def test_a_field_of_50_mb_is_written(path: Path, run: Callable[[str], list[Any]]) -> None:
    SqliteSink(path=path, table="things").write(batch_of("b", [{"id": "large", "text": "x" * 50_000_000}], Thing))
    assert run("SELECT length(text) FROM things") == [(50_000_000,)]


@pytest.mark.parametrize(("options", "said"), [({"table": "a.b"}, "no schemas"), ({"path": "/"}, "is a directory")])
def test_what_sqlite_has_not_is_refused_when_the_flow_is_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SqliteSink.model_validate({"path": "x.db", "table": "t", **options}).check(Thing)
