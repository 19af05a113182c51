"""The duckdb sink keeps the sink contract, and its own claims."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pytest

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.duckdb import DuckdbSink
from millrace_consumer.sinks.holds import NO_TIME
from millrace_pipeline.errors import ConfigError
from tests.contracts.sink_contract import SinkContract, no_room_for_files
from tests.contracts.sink_records import NarrowThing, Thing, batch_of, bulk
from tests.contracts.test_postgres_sink import EVERYTHING, Priced, of_models, raw

COLUMNS = ("id", "text", "flag", "nested", "number")


class TestDuckdbSink(SinkContract):
    """Without a model: `id`, `time` and `data`."""

    sink = "millrace_consumer.sinks.duckdb:DuckdbSink"
    kill_points = ("sink.before_write", "sink.before_commit", "sink.after_commit", "sink.after_close")

    def options(self, destination: Path) -> dict[str, Any]:
        return {"path": str(destination / "things.duckdb"), "table": "things"}

    def read_back(self, destination: Path) -> list[Any]:
        return [json.loads(data) for (data,) in rows(destination / "things.duckdb", "data")]


class TestDuckdbSinkWithModel(TestDuckdbSink):
    """With typed columns."""

    model = NarrowThing
    unwritable: ClassVar[list[Any]] = [{"id": "wide", "number": 2**63}, {"id": "wider", "number": -(2**64)}]

    def read_back(self, destination: Path) -> list[Any]:
        found = [
            dict(zip(COLUMNS, row, strict=True)) for row in rows(destination / "things.duckdb", ", ".join(COLUMNS))
        ]
        for row in found:
            row["nested"] = None if row["nested"] is None else json.loads(row["nested"])
        return found

    def expected(self, record: dict[str, Any]) -> Any:
        return {name: record.get(name) for name in COLUMNS}


class TestDuckdbSinkUpserting(TestDuckdbSinkWithModel):
    """By the record's id."""

    def options(self, destination: Path) -> dict[str, Any]:
        return {**super().options(destination), "mode": "upsert", "key": "id", "record_id": "envelope"}

    def read_back(self, destination: Path) -> list[Any]:
        """In the order of the envelopes: an upsert takes rows by their key."""
        path = destination / "things.duckdb"
        order = [int(id.rpartition("-")[2]) for (id,) in rows(path, "envelope")]
        found = super().read_back(destination)
        return [found[place] for place in sorted(range(len(found)), key=order.__getitem__)]

    def wanted(self, *batches: list[dict[str, Any]]) -> list[Any]:
        """The last record of each id."""
        return super().wanted(list({record["id"]: record for records in batches for record in records}.values()))


def rows(path: Path, columns: str = "*", order: str = "rowid") -> list[Any]:
    if not path.exists():
        return []
    with duckdb.connect(path) as connection:
        if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'things'").fetchall():
            return []
        return connection.execute(f"SELECT {columns} FROM things ORDER BY {order}").fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.duckdb"


@pytest.fixture
def run(path: Path) -> Callable[[str], list[Any]]:
    """Statements by somebody else."""

    def run(statement: str) -> list[Any]:
        with duckdb.connect(path) as connection:
            return connection.execute(statement).fetchall()

    return run


def reasons(sink: DuckdbSink, batch: Batch) -> dict[int, str]:
    with pytest.raises(RecordsRejected) as rejection:
        sink.write(batch)
    return rejection.value.reasons


def test_a_table_is_made_of_the_flows_model(path: Path, run: Callable[[str], list[Any]]) -> None:
    sink = DuckdbSink(path=path, table="things")
    why = "more than the 18 decimal places of DECIMAL(38,18)"
    assert reasons(sink, of_models("b", EVERYTHING)) == {0: f"exact: {why}"}
    sink.write(of_models("b", EVERYTHING.model_copy(update={"exact": Decimal("0.1")})))
    types = dict(run("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'things'"))
    assert types["money"] == "DECIMAL(12,2)"
    assert types["instant"] == "TIMESTAMP WITH TIME ZONE"
    assert (types["uuid"], types["nested"], types["raw"], types["span"]) == ("UUID", "JSON", "BLOB", "INTERVAL")
    [row] = rows(path, "text, whole, real, yes, raw, money, epoch_us(instant), day, clock, span, uuid, colour")
    assert row[6] == round(EVERYTHING.instant.timestamp() * 10**6)
    assert row == (
        EVERYTHING.text,
        2**63 - 1,
        0.1,
        True,
        b"\x00\xff",
        Decimal("1234567890.12"),
        row[6],
        EVERYTHING.day,
        EVERYTHING.clock,
        EVERYTHING.span,
        EVERYTHING.uuid,
        "red",
    )
    assert run("SELECT nested->>'a', tags->>1, epoch_us(later) FROM things") == [("1", "b", 1795224600 * 10**6)]


def test_records_without_a_model_go_into_a_table_that_is_there_by_its_columns(
    path: Path, run: Callable[[str], list[Any]]
) -> None:
    run(
        "CREATE TABLE things (name VARCHAR NOT NULL, price DECIMAL(38, 30), born TIMESTAMPTZ, tags VARCHAR[], "
        "extra STRUCT(a INTEGER, b VARCHAR), state VARCHAR DEFAULT 'new', twice AS (price * 2))"
    )
    DuckdbSink(path=path, table="things").write(
        raw(
            '{"name": "a", "price": 1.0000000000000000000001, "born": "2026-11-21T01:30:00+05:30", "tags": ["x", "y"], '
            '"extra": {"a": 1, "b": "z"}, "other": 1}',
            '{"name": "b", "price": 5, "state": "old"}',
        )
    )
    assert rows(path, "name, price::VARCHAR, epoch(born), tags, extra, state") == [
        ("a", "1.000000000000000000000100000000", 1795204800.0, ["x", "y"], {"a": 1, "b": "z"}, "new"),
        ("b", "5.000000000000000000000000000000", None, None, None, "old"),
    ]


def test_records_that_do_not_fit_are_named_and_the_same_are_named_again(
    path: Path, run: Callable[[str], list[Any]]
) -> None:
    run(
        "CREATE TABLE things (n INTEGER UNIQUE, positive INTEGER CHECK (positive > 0), born DATE, id UUID, "
        "name VARCHAR NOT NULL DEFAULT 'x')"
    )
    batch = raw(
        '{"n": 1}',
        '{"n": 1}',
        '{"positive": -5}',
        '{"n": 2147483648}',
        '{"born": "2026-02-30-secret"}',
        '{"id": "no-secret"}',
        '{"n": 2}',
    )
    sink = DuckdbSink(path=path, table="things")
    first = reasons(sink, batch)
    assert sorted(first) == [1, 2, 3, 4, 5]
    assert "secret" not in str(first)
    assert "UNIQUE" in first[1]
    assert "CHECK" in first[2]
    assert first[3] == "n: not something that INTEGER can hold"
    assert first[4] == f"born: {NO_TIME}"
    sink.write(batch.pick([0, 6]))
    other = DuckdbSink(path=path, table="things")
    assert reasons(other, batch) == first
    other.write(batch.pick([0, 6]))
    assert run("SELECT count(*) FROM things") == [(2,)]


def test_a_fraction_is_not_rounded_to_a_whole_number(path: Path, run: Callable[[str], list[Any]]) -> None:
    run("CREATE TABLE things (n INTEGER)")
    found = reasons(DuckdbSink(path=path, table="things"), raw('{"n": 1.0}', '{"n": 1.5}'))
    assert found == {1: "n: no whole number, and INTEGER holds nothing else"}


def test_an_upsert_with_a_version_never_goes_back(path: Path) -> None:
    sink = DuckdbSink(path=path, table="things", mode="upsert", key=["id"], version="at")
    sink.write(of_models("b1", Priced(id="a", at=5, price=50), Priced(id="a", at=4, price=40), Priced(id="b", price=1)))
    sink.write(of_models("b2", Priced(id="a", at=3, price=30), Priced(id="b", at=1, price=2)))
    assert rows(path, order="id") == [("a", 5, 50), ("b", 1, 2)]
    sink.write(of_models("b3", Priced(id="a", at=5, price=51), Priced(id="a", at=5, price=55)))
    assert rows(path, order="id") == [("a", 5, 55), ("b", 1, 2)]
    assert reasons(sink, of_models("b4", Priced(id=None))) == {0: "id: null, and an upsert needs it to name the row"}


def test_replace_leaves_only_the_last_batch(path: Path, run: Callable[[str], list[Any]]) -> None:
    run("CREATE TABLE things (id VARCHAR PRIMARY KEY)")
    sink = DuckdbSink(path=path, table="things", mode="replace")
    for ids in ("abc", "ab", "abc"):
        sink.write(raw(*(f'{{"id": "{id}"}}' for id in ids), id=ids))
    assert rows(path) == [("a",), ("b",)]


def test_old_batches_leave_the_ledger_and_stay_in_its_sum(path: Path, run: Callable[[str], list[Any]]) -> None:
    for turn in range(3):
        DuckdbSink(path=path, table="things").write(batch_of(f"b{turn}", bulk(2)))
        run("UPDATE millrace_ledger SET written_at = written_at - 31 * 86400 WHERE batch_id LIKE 'b%'")
    DuckdbSink(path=path, table="things").write(batch_of("b3", bulk(2)))
    assert run("SELECT batch_id, records FROM millrace_ledger ORDER BY 1") == [("b3", 2), ("pruned:", 6)]


def test_a_file_that_another_process_has_open_is_waited_for_and_then_tried_again(path: Path) -> None:
    sink = DuckdbSink(path=path, table="things", timeout=0.1)
    sink.write(batch_of("b0", bulk(2)))
    program = f"import duckdb, sys; c = duckdb.connect({str(path)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == "open\n"
        with pytest.raises(SinkUnavailable, match=r"my\.duckdb: IO Error: Could not set lock on file"):
            sink.write(batch_of("b1", bulk(2)))
        assert sink.has_batch("b2"), "a batch that may be there must not be split"
        other.stdin.close()
        assert other.wait(60) == 0
    sink.write(batch_of("b1", bulk(2)))
    assert len(rows(path, "id")) == 4
    assert sink.has_batch("b1")
    assert not sink.has_batch("b2")


def test_consumers_take_turns_by_a_lock_of_their_own_which_outlasts_the_closing_of_the_file(path: Path) -> None:
    sink = DuckdbSink(path=path, table="things", timeout=0.1)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as another consumer holds it, from before it opens until it has closed
        with pytest.raises(SinkUnavailable, match=r"my\.duckdb: other consumers have it open"):
            sink.write(batch_of("b1", bulk(2)))
        fcntl.flock(lock, fcntl.LOCK_UN)
        sink.write(batch_of("b1", bulk(2)))
        with sink.reading() as one, sink.reading() as other:
            assert one is not None
            assert other is not None, "readers share it"
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert len(rows(path, "id")) == 2


def test_a_disk_that_fills_up_takes_the_batch_once_it_has_room(path: Path) -> None:
    sink = DuckdbSink(path=path, table="things")
    sink.write(batch_of("b0", bulk(2)))
    with no_room_for_files() as free:
        for _ in range(2):
            with pytest.raises(SinkUnavailable):
                sink.write(batch_of("b1", bulk(2)))
        free()
        sink.write(batch_of("b1", bulk(2)))
    assert len(rows(path, "id")) == 4


def test_a_table_that_does_not_suit_is_told_with_the_statement_that_mends_it(
    path: Path, run: Callable[[str], list[Any]]
) -> None:
    run("CREATE TABLE things (id VARCHAR, text VARCHAR, number DOUBLE, flag BOOLEAN, owner VARCHAR NOT NULL)")
    sink = DuckdbSink(path=path, table="things", mode="upsert", key=["id"])
    for said in (
        "has no column nested: ",
        "wants a value for its column owner, and the flow's model has none: ",
        "): ",
    ):
        with pytest.raises(SinkUnavailable) as refusal:
            sink.write(batch_of("b", bulk(2), Thing))
        assert said in str(refusal.value)
        run(str(refusal.value).partition(said)[2])
    sink.write(batch_of("b", bulk(2), Thing))
    assert len(rows(path, "id")) == 2


def test_a_field_of_50_mb_is_written(path: Path) -> None:
    DuckdbSink(path=path, table="things").write(batch_of("b", [{"id": "large", "text": "x" * 50_000_000}], Thing))
    assert rows(path, "length(text)") == [(50_000_000,)]


def test_a_path_that_is_a_directory_is_refused_when_the_flow_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        DuckdbSink(path=tmp_path, table="t").check(Thing)
