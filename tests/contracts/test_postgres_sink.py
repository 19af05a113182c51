"""What the postgres sink does besides the contract: tables, records that don't fit, and a server that misbehaves."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import AnyUrl, BaseModel, Field, ValidationError

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.holds import NO_TIME
from millrace_consumer.sinks.postgres import PostgresSink
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import ConfigError
from tests.contracts.sink_records import TIME, Thing, batch_of, bulk
from tests.faults.proxy import Proxy
from tests.postgres_server import PostgresServer

COMMIT = b"COMMIT\0"
"""As it is sent: not the words of another statement."""


class Schema:
    """A schema of the test's own."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name
        self.table = f"{name}.things"

    def sink(self, **options: Any) -> PostgresSink:
        return PostgresSink(**{"dsn": self.server.dsn, "table": self.table, **options})

    def run(self, statement: str) -> list[Any]:
        """One statement, with the schema first on the path; its rows."""
        with self.server.session() as session:
            session.execute(f"SET search_path = {self.name}")
            done = session.execute(statement)
            return done.fetchall() if done.description else []

    def rows(self, columns: str = "*", order: str = "1") -> list[Any]:
        return self.run(f"SELECT {columns} FROM things ORDER BY {order}")

    def types(self) -> dict[str, tuple[str, bool]]:
        """Each column's type, and whether it takes null."""
        found = self.run(
            "SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull FROM pg_attribute "
            "WHERE attrelid = 'things'::regclass AND attnum > 0 ORDER BY attnum"
        )
        return {name: (kind, nullable) for name, kind, nullable in found}


@pytest.fixture
def schema(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Schema]:
    name = re.sub(r"\W+", "_", request.node.name.lower())[-50:].strip("_")
    with postgres.session() as session:
        session.execute(f"CREATE SCHEMA s_{name}")
    yield Schema(postgres, f"s_{name}")
    with postgres.session() as session:
        session.execute(f"DROP SCHEMA s_{name} CASCADE")


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", postgres.port) as proxy:
        yield proxy


def through(proxy: Proxy) -> str:
    """The server's address, by way of the proxy; without TLS, so that it can read along."""
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable&gssencmode=disable"


def raw(*lines: str, id: str = "b") -> Batch:
    """A batch of these JSON texts, without a model."""
    envelopes = [Envelope(f"{id}-{i}", "s", "t", TIME, msgspec.Raw(line.encode())) for i, line in enumerate(lines)]
    return Batch(id, envelopes, flow="flow")


def reasons(sink: PostgresSink, batch: Batch) -> dict[int, str]:
    with pytest.raises(RecordsRejected) as rejection:
        sink.write(batch)
    return rejection.value.reasons


# ── A server that misbehaves ────────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_whose_reply_is_lost_is_found_in_the_ledger(schema: Schema, proxy: Proxy) -> None:
    sink = schema.sink(dsn=through(proxy))
    sink.write(batch_of("b0", bulk(2)))
    lost = proxy.lose_reply_to(COMMIT)
    with pytest.raises(SinkUnavailable):
        sink.write(batch_of("b1", bulk(3)))
    assert lost.wait(30)
    assert schema.run("SELECT count(*) FROM things") == [(5,)]
    for _ in range(2):
        sink.write(batch_of("b1", bulk(3)))
    assert schema.run("SELECT count(*) FROM things") == [(5,)]
    assert sink.has_batch("b1")


@pytest.mark.parametrize("point", [b"INSERT INTO", b"COPY", COMMIT], ids=["INSERT", "COPY", "COMMIT"])
def test_a_network_that_goes_silent_is_given_up_and_what_arrives_late_is_there_once(
    schema: Schema, proxy: Proxy, point: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace_consumer.sinks.pgsession.MARGIN", 0.0)
    sink = schema.sink(dsn=through(proxy), timeout=1)
    sink.write(batch_of("b0", bulk(2)))
    reached = proxy.stall_at(point)
    with pytest.raises(SinkUnavailable):
        sink.write(batch_of("b1", bulk(3)))
    assert reached.wait(30)
    proxy.stall(False)
    patient = schema.sink(timeout=30)  # waits for the old transaction's end, whichever that is
    patient.write(batch_of("b1", bulk(3)))
    assert schema.run("SELECT count(*) FROM things") == [(5,)]


def test_a_slow_server_is_waited_for(schema: Schema, proxy: Proxy) -> None:
    proxy.latency = 0.05
    sink = schema.sink(dsn=through(proxy))
    sink.write(batch_of("b1", bulk(3)))
    assert schema.run("SELECT count(*) FROM things") == [(3,)]


def test_a_server_that_is_down_takes_the_batch_when_it_is_back(schema: Schema, proxy: Proxy) -> None:
    sink = schema.sink(dsn=through(proxy))
    sink.write(batch_of("b0", bulk(2)))
    proxy.refuse()
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match=r"PostgreSQL at 127\.0\.0\.1:\d+, database postgres: "):
            sink.write(batch_of("b1", bulk(3)))
    assert sink.has_batch("nobody knows"), "a batch that may be there must not be split"
    proxy.refuse(False)
    sink.write(batch_of("b1", bulk(3)))
    assert schema.run("SELECT count(*) FROM things") == [(5,)]
    assert not sink.has_batch("nobody knows")


def test_a_connection_that_was_cut_between_two_batches_is_made_anew(schema: Schema, proxy: Proxy) -> None:
    sink = schema.sink(dsn=through(proxy))
    sink.write(batch_of("b0", bulk(2)))
    proxy.cut()
    with pytest.raises(SinkUnavailable):
        sink.write(batch_of("b1", bulk(3)))
    sink.write(batch_of("b1", bulk(3)))
    sink.close()
    sink.write(batch_of("b2", bulk(1)))
    assert schema.run("SELECT count(*) FROM things") == [(6,)]


def test_no_password_is_ever_said(postgres: PostgresServer) -> None:
    for dsn in (
        "postgresql://somebody:hunter22@127.0.0.1:{}/postgres",
        "host=127.0.0.1 port={} user=somebody password=hunter22",
    ):
        sink = PostgresSink.model_validate({"dsn": dsn.format(postgres.port), "table": "t"})
        with pytest.raises(SinkUnavailable) as refusal:
            sink.write(batch_of("b1", bulk(1)))
        said = f"{refusal.value!r} {refusal.value.__cause__!r} {sink!r} {sink} {sink.model_dump()}"
        assert "authentication failed" in said
        assert "look at user and password in dsn" in said
        assert "hunter22" not in said
        assert "somebody" not in said
    with pytest.raises(ValidationError) as invalid:
        PostgresSink.model_validate({"dsn": "postgresql//somebody:hunter22@host", "table": "t"})
    assert "hunter22" not in str(invalid.value)


# ── Consumers beside each other ─────────────────────────────────────────────────────────────────────────────────────


def test_two_consumers_that_write_the_same_batch_at_once_write_it_once(schema: Schema) -> None:
    together = threading.Barrier(4)
    failures: list[Exception] = []

    def write() -> None:
        sink = schema.sink()
        together.wait(60)
        try:
            sink.write(batch_of("b1", bulk(500)))
        except Exception as error:
            failures.append(error)

    in_threads(4, write)
    assert not failures
    assert schema.run("SELECT count(*) FROM things") == [(500,)]


def test_consumers_that_upsert_the_same_keys_at_once_lose_nothing(schema: Schema) -> None:
    tries: list[int] = []
    together = threading.Barrier(3)

    def write() -> None:
        number = len(tries)
        tries.append(number)
        sink = schema.sink(mode="upsert", key="id")
        together.wait(60)
        for turn in range(6):
            records = bulk(200, 10) if (number + turn) % 2 else bulk(200, 10)[::-1]
            batch = batch_of(f"b{number}-{turn}", records, Thing)
            while refusal := refused(sink, batch):  # a deadlock, say: the runner would try again, too
                assert "tried again" in refusal

    in_threads(3, write)
    assert schema.run("SELECT count(*), count(DISTINCT id) FROM things") == [(200, 200)]
    assert schema.run("SELECT count(*), sum(records) FROM millrace_ledger") == [(18, 3600)]


@pytest.mark.parametrize("state", ["40P01", "40001"])
def test_a_deadlock_and_a_serialization_failure_are_nobodys_fault_and_tried_again(schema: Schema, state: str) -> None:
    sink = schema.sink()
    sink.write(batch_of("b0", bulk(2)))
    schema.run(
        f"CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE 'we met' USING ERRCODE = '{state}'; END $$"
    )
    schema.run(f"CREATE TRIGGER meet BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION {schema.name}.meet()")
    with pytest.raises(SinkUnavailable, match=r"we met \(another transaction was in the way: it is tried again\)"):
        sink.write(batch_of("b1", bulk(3)))
    schema.run("DROP TRIGGER meet ON things")
    sink.write(batch_of("b1", bulk(3)))
    assert schema.run("SELECT count(*) FROM things") == [(5,)]


def in_threads(count: int, work: Any) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
        assert not thread.is_alive()


# ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Colour(Enum):
    RED = "red"


class Inner(BaseModel):
    a: int
    when: datetime | None = None


class Everything(BaseModel):
    text: str
    whole: int
    real: float
    yes: bool
    raw: bytes
    money: Annotated[Decimal, Field(max_digits=12, decimal_places=2)]
    exact: Decimal
    instant: datetime
    day: date
    clock: time
    span: timedelta
    uuid: UUID
    url: AnyUrl
    colour: Colour
    nested: Inner
    tags: list[str]
    either: int | str
    maybe: str | None = None
    later: datetime | None = None


EVERYTHING = Everything(
    text="Zażółć 🎡 \\ \t\n",
    whole=2**63 - 1,
    real=0.1,
    yes=True,
    raw=b"\x00\xff",
    money=Decimal("1234567890.12"),
    exact=Decimal("0.1000000000000000000000000001"),
    instant=datetime(2026, 11, 21, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    day=date(1, 1, 1),
    clock=time(23, 59, 59, 999999),
    span=timedelta(days=-1, microseconds=1),
    uuid=UUID(int=7),
    url=AnyUrl("https://example.com/a"),
    colour=Colour.RED,
    nested=Inner(a=1, when=datetime(2026, 1, 1, tzinfo=UTC)),
    tags=["a", "b"],
    either=5,
    later=datetime(2026, 11, 21, 1, 30),
)


def of_models(id: str, *models: BaseModel) -> Batch:
    envelopes = [Envelope(f"{id}-{i}", "s", "t", TIME, msgspec.Raw(b"{}")) for i in range(len(models))]
    return Batch(id, envelopes, flow="flow", model=type(models[0]), rows=list(models))


def test_a_table_is_made_of_the_flows_model(schema: Schema) -> None:
    schema.sink().write(of_models("b", EVERYTHING))
    assert schema.types() == {
        "text": ("text", False),
        "whole": ("bigint", False),
        "real": ("double precision", False),
        "yes": ("boolean", False),
        "raw": ("bytea", False),
        "money": ("numeric(12,2)", False),
        "exact": ("numeric", False),
        "instant": ("timestamp with time zone", False),
        "day": ("date", False),
        "clock": ("time without time zone", False),
        "span": ("interval", False),
        "uuid": ("uuid", False),
        "url": ("text", False),
        "colour": ("text", False),
        "nested": ("jsonb", False),
        "tags": ("jsonb", False),
        "either": ("jsonb", False),
        "maybe": ("text", True),
        "later": ("timestamp with time zone", True),
    }


def test_every_type_comes_back_as_it_was(schema: Schema) -> None:
    schema.sink().write(of_models("b", EVERYTHING))
    with schema.server.session() as session:
        session.execute("SET TimeZone = 'UTC'")
        with session.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            row = cursor.execute(f"SELECT * FROM {schema.table}").fetchone()
    assert row
    expected = EVERYTHING.model_dump()
    expected |= {"url": "https://example.com/a", "colour": "red", "later": datetime(2026, 11, 21, 1, 30, tzinfo=UTC)}
    expected["nested"] = {"a": 1, "when": "2026-01-01T00:00:00Z"}
    assert row == expected
    assert str(row["exact"]) == "0.1000000000000000000000000001"


def test_records_without_a_model_go_into_a_table_that_is_there_by_its_columns(schema: Schema) -> None:
    schema.run(
        "CREATE TABLE things (n integer GENERATED ALWAYS AS IDENTITY, name text NOT NULL, price numeric, "
        "born timestamptz, tags text[], extra json, state text NOT NULL DEFAULT 'new', "
        "twice numeric GENERATED ALWAYS AS (price * 2) STORED)"
    )
    schema.sink().write(
        raw(
            '{"name": "a", "price": 1.0000000000000000000001, "born": "2026-11-21T01:30:00+05:30", '
            '"tags": ["x", "y \\"z"], "extra": {"z":  1.50, "a": [null]}, "other": 1, "n": 7}',
            '{"name": "b", "price": "12", "state": "old", "born": "2016-12-31T23:59:60Z"}',
        )
    )
    first, second = schema.rows("n, name, price, born AT TIME ZONE 'UTC', tags, extra::text, state, twice")
    assert first[:3] == (1, "a", Decimal("1.0000000000000000000001"))
    assert first[3:5] == (datetime(2026, 11, 20, 20), ["x", 'y "z'])
    assert first[5:7] == ('{"z":1.50,"a":[null]}', "new")
    # A leap second is the one before it, as in all times of Millrace.
    assert second == (2, "b", Decimal(12), datetime(2016, 12, 31, 23, 59, 59), None, None, "old", Decimal(24))


def test_a_model_and_a_table_may_each_have_columns_that_the_other_fills(schema: Schema) -> None:
    schema.run(
        "CREATE TABLE things (n serial PRIMARY KEY, id varchar(20), number integer, nested json, text text, flag bool)"
    )
    schema.sink(record_id="id_of_envelope", create=False)
    schema.sink().write(batch_of("b", [{"id": "x", "number": 5, "nested": [1], "flag": True}], Thing))
    assert schema.rows() == [(1, "x", 5, [1], None, True)]


def test_an_upsert_keeps_the_last_record_of_a_key(schema: Schema) -> None:
    sink = schema.sink(mode="upsert", key=["id"], record_id="envelope")
    sink.write(batch_of("b1", [{"id": "a", "number": 1}, {"id": "b", "number": 1}, {"id": "a", "number": 2}], Thing))
    assert schema.rows("id, number, envelope") == [("a", 2, "b1-2"), ("b", 1, "b1-1")]
    sink.write(batch_of("b2", [{"id": "b", "number": 3}], Thing))
    sink.write(batch_of("b1", [{"id": "a", "number": 1}, {"id": "b", "number": 1}, {"id": "a", "number": 2}], Thing))
    assert schema.rows("id, number, envelope") == [("a", 2, "b1-2"), ("b", 3, "b2-0")]


class Priced(BaseModel):
    id: str | None
    at: int | None = None
    price: int = 0


def test_an_upsert_with_a_version_never_goes_back(schema: Schema) -> None:
    sink = schema.sink(mode="upsert", key="id", version="at")
    sink.write(of_models("b1", Priced(id="a", at=5, price=50), Priced(id="a", at=4, price=40), Priced(id="b", price=1)))
    sink.write(of_models("b2", Priced(id="a", at=3, price=30), Priced(id="b", at=1, price=2)))
    assert schema.rows() == [("a", 5, 50), ("b", 1, 2)]
    sink.write(of_models("b3", Priced(id="a", at=5, price=55)))
    assert schema.rows() == [("a", 5, 55), ("b", 1, 2)]


def test_an_upsert_rejects_a_record_without_a_key(schema: Schema) -> None:
    sink = schema.sink(mode="upsert", key="id")
    found = reasons(sink, of_models("b", Priced(id="a"), Priced(id=None)))
    assert found == {1: "id: null, and an upsert needs it to name the row"}


def test_replace_leaves_only_the_last_batch(schema: Schema) -> None:
    sink = schema.sink(mode="replace")
    sink.write(batch_of("b1", bulk(3)))
    sink.write(batch_of("b2", bulk(2)))
    sink.write(batch_of("b1", bulk(3)))
    assert schema.rows("id") == [("b2-0",), ("b2-1",)]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("CREATE TABLE things (id text, number bigint, flag boolean)", "has no column text, nested: "),
        (
            "CREATE TABLE things (id text, text text, number float, flag boolean, nested json, owner text NOT NULL)",
            "wants a value for its column owner, and the flow's model has none: ",
        ),
        (
            "CREATE TABLE things (id text, text text, number float, flag boolean, nested json)",
            r"has no unique index on \(\"id\"\): ",
        ),
        (
            "CREATE TABLE things (id text PRIMARY KEY, text text, number float, flag int, nested json)",
            "has integer in column flag, and booleans are to go there: ",
        ),
    ],
)
def test_a_table_that_does_not_suit_is_told_with_the_statement_that_mends_it(
    schema: Schema, table: str, said: str
) -> None:
    schema.run(table)
    sink = schema.sink(mode="upsert", key="id")
    told = ""
    while refusal := refused(sink, batch_of("b", bulk(2), Thing)):  # one thing is said at a time
        assert f"table {schema.table} " in refusal
        told += refusal
        schema.run(refusal[re.search("ALTER TABLE|CREATE UNIQUE INDEX", refusal).start() :])  # type: ignore[union-attr]
        assert told.count("table ") < 5
    assert re.search(said, told)
    assert schema.rows("id") == [("0",), ("1",)]


def refused(sink: PostgresSink, batch: Batch) -> str | None:
    """What is said of a batch that can't be taken now; None once it was written."""
    try:
        sink.write(batch)
    except SinkUnavailable as error:
        return str(error)
    return None


def test_a_table_is_not_made_unasked(schema: Schema) -> None:
    with pytest.raises(SinkUnavailable, match=r"there is no table .*: create it, or set create: true"):
        schema.sink(create=False).write(batch_of("b", bulk(2)))


def test_a_column_that_went_away_while_the_sink_was_at_work_is_told(schema: Schema) -> None:
    sink = schema.sink()
    sink.write(batch_of("b1", bulk(2), Thing))
    schema.run("ALTER TABLE things DROP COLUMN flag")
    with pytest.raises(SinkUnavailable):
        sink.write(batch_of("b2", bulk(2), Thing))
    with pytest.raises(SinkUnavailable, match=r"has no column flag: ALTER TABLE .* ADD COLUMN \"flag\" boolean"):
        sink.write(batch_of("b2", bulk(2), Thing))


def test_a_database_that_knows_no_encoding_gets_utf_8(schema: Schema) -> None:
    name = f"ascii_{schema.name}"[:60]
    with schema.server.session() as session:
        session.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING SQL_ASCII LOCALE 'C'")
    dsn = schema.server.dsn.removesuffix("postgres") + name
    sink = schema.sink(dsn=dsn, table="things")
    sink.write(batch_of("b", [{"id": "1", "text": "Zażółć"}], Thing))
    with psycopg.connect(dsn, client_encoding="UTF8") as session:
        assert session.execute("SELECT text FROM things").fetchall() == [("Zażółć",)]
    sink.close()
    with schema.server.session() as session:
        session.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize(
    ("theirs", "ours"), [("off", "on"), ("on", "on"), ("local", "local"), ("remote_apply", "remote_apply")]
)
def test_a_commit_waits_for_the_disk_whatever_the_server_has_for_others(schema: Schema, theirs: str, ours: str) -> None:
    schema.run("CREATE TABLE things (n integer, how text DEFAULT current_setting('synchronous_commit'))")
    sink = schema.sink(dsn=make_conninfo(schema.server.dsn, options=f"-c synchronous_commit={theirs}"))
    sink.write(batch_of("b", [{"n": 1}]))
    assert schema.rows() == [(1, ours)]


def test_names_that_need_quotes_are_quoted(schema: Schema) -> None:
    sink = schema.sink(table=f"{schema.name}.Odd; name", ledger="The ledger", record_id='a "quoted" id')
    sink.write(batch_of("b", bulk(2), Thing))
    assert schema.run('SELECT "a ""quoted"" id" FROM "Odd; name" ORDER BY 1') == [("b-0",), ("b-1",)]
    assert sink.has_batch("b")


# ── Records that don't fit ──────────────────────────────────────────────────────────────────────────────────────────

NARROW = (
    "CREATE TABLE things (n integer, name varchar(5), price numeric(4, 2), born date, at timestamptz, id uuid, "
    "extra jsonb, tags text[], positive integer CHECK (positive > 0), parent integer REFERENCES parents, "
    "rank integer UNIQUE)"
)
MISFITS = [
    ('{"n": 2147483648}', "n: too large for integer, which holds 32 bits"),
    ('{"n": "x-secret"}', "n: no number, and integer holds nothing else"),
    ('{"n": 1.5}', "n: no whole number, and integer holds nothing else"),
    ('{"name": "longer-secret"}', "name: value too long for type character varying(5)"),
    ('{"name": "a\\u0000b"}', "name: holds the character NUL, which PostgreSQL can't"),
    ('{"extra": {"deep": ["a\\u0000b"]}}', "extra: holds the character NUL, which PostgreSQL can't"),
    ('{"price": 100.00}', "price: numeric field overflow"),
    ('{"born": "2026-02-30"}', f"born: {NO_TIME}"),
    ('{"at": "yesterday-secret"}', f"at: {NO_TIME}"),
    ('{"id": "no-secret-uuid"}', "id: invalid input syntax for type uuid"),
    ('{"positive": -5}', "violates check constraint things_positive_check"),
    ('{"parent": 5}', "violates foreign key constraint things_parent_fkey"),
    ('{"rank": 1}', "duplicate key value violates unique constraint things_rank_key"),
    ('{"tags": "a secret"}', "tags: malformed array literal"),
    ("[1]", "not an object, so it has no fields for the table's columns"),
]


@pytest.fixture
def narrow(schema: Schema) -> Schema:
    schema.run("CREATE TABLE parents (id integer PRIMARY KEY)")
    schema.run(NARROW)
    return schema


@pytest.mark.parametrize(("line", "reason"), MISFITS)
def test_a_record_that_does_not_fit_is_named_and_said_why(narrow: Schema, line: str, reason: str) -> None:
    good = ['{"n": 1, "rank": 1}', *(f'{{"n": {n}, "extra": {{"back": "\\\\\\\\u0000"}}}}' for n in range(2, 9))]
    batch = raw(*good[:5], line, *good[5:])
    sink = narrow.sink()
    found = reasons(sink, batch)
    assert list(found) == [5]
    assert found[5].endswith(reason)
    assert "secret" not in found[5]
    assert narrow.rows() == []
    sink.write(batch.pick([0, 1, 2, 3, 4, 6, 7, 8]))
    assert [n for (n,) in narrow.rows("n")] == list(range(1, 9))


def test_all_records_that_do_not_fit_are_named_at_once(narrow: Schema) -> None:
    lines = [line for line, _ in MISFITS[:-1]]
    good = [f'{{"n": {n}, "rank": {n}}}' for n in range(1, 30)]
    found = reasons(narrow.sink(), raw(*good, *lines))
    assert sorted(found) == list(range(29, 29 + len(lines)))


def test_a_batch_that_comes_again_names_the_same_records_again(narrow: Schema) -> None:
    batch = raw('{"n": 1}', '{"rank": 5}', '{"rank": 5}', '{"born": "x"}', '{"n": 2}', '{"name": "too long"}')
    sink = narrow.sink()
    first = reasons(sink, batch)
    assert sorted(first) == [2, 3, 5]
    sink.write(batch.pick([0, 1, 4]))
    other = narrow.sink()  # whose consumer was not the one that wrote it
    assert reasons(other, batch) == first
    other.write(batch.pick([0, 1, 4]))
    assert narrow.run("SELECT count(*) FROM things") == [(3,)]
    assert narrow.run("SELECT records FROM millrace_ledger") == [(3,)]


def test_a_record_whose_very_id_does_not_fit_is_remembered_all_the_same(schema: Schema) -> None:
    batch = Batch("b", [Envelope(id, "s", "t", TIME, msgspec.Raw(b"{}")) for id in ("a", "n\0l", "c")], flow="flow")
    sink = schema.sink()
    for writer in (sink, schema.sink()):
        assert reasons(writer, batch) == {1: "id: holds the character NUL, which PostgreSQL can't"}
        writer.write(batch.pick([0, 2]))
    assert schema.rows("id") == [("a",), ("c",)]


def test_a_trigger_that_refuses_a_record_is_quoted(schema: Schema) -> None:
    schema.run("CREATE TABLE things (n integer)")
    schema.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF new.n = 3 THEN RAISE 'three is not welcome'; END IF; RETURN new; END $$"
    )
    schema.run(
        f"CREATE CONSTRAINT TRIGGER t AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED "
        f"FOR EACH ROW EXECUTE FUNCTION {schema.name}.refuse()"
    )
    assert reasons(schema.sink(), raw('{"n": 1}', '{"n": 3}')) == {1: "three is not welcome"}


def test_a_field_of_50_mb_is_written(schema: Schema) -> None:
    text = "x" * 50_000_000
    schema.sink().write(batch_of("b", [{"id": "large", "text": text, "nested": [text[:1000]]}], Thing))
    assert schema.rows("length(text)") == [(50_000_000,)]


# ── The ledger ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_old_batches_leave_the_ledger_and_stay_in_its_sum(schema: Schema) -> None:
    schema.sink().write(raw('{"n": 1}', '{"n": 2}', id="old-1"))
    schema.sink().write(raw('{"n": 3}', id="old-2"))
    for turn in range(2):
        schema.run("UPDATE millrace_ledger SET written_at = now() - interval '31 days' WHERE batch_id LIKE 'old-%'")
        schema.sink().write(raw('{"n": 4}', id=f"new-{turn}"))
        assert (
            schema.run("SELECT batch_id, flow, records FROM millrace_ledger ORDER BY batch_id")
            == [
                *((f"new-{n}", "flow", 1) for n in range(turn + 1)),
                ("pruned:flow", "flow", 3 + turn),
            ][: turn + 2]
            or turn
        )
        schema.sink().write(raw('{"n": 5}', id="old-3"))
    assert schema.run("SELECT sum(records) FROM millrace_ledger") == schema.run("SELECT count(*) FROM things")
    assert not schema.sink().has_batch("old-1")


def test_two_tables_share_a_ledger_and_not_their_batches(schema: Schema) -> None:
    schema.sink().write(batch_of("b", bulk(2)))
    schema.sink(table=f"{schema.name}.others").write(batch_of("b", bulk(2)))
    assert schema.run("SELECT count(*) FROM others") == [(2,)]


# ── Options ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "upsert"}, "add `key"),
        ({"key": "id"}, "key and version are for mode upsert"),
        ({"mode": "upsert", "key": ["a", "a"]}, "twice"),
        ({"table": "a.b.c"}, "pattern"),
        ({"ledger_keep": "1h"}, "greater than or equal"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PostgresSink.model_validate({"dsn": "postgresql://host/db", "table": "t", **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "upsert", "key": "nr"}, "model Thing has no field nr: name one of id, text"),
        ({"record_id": "id"}, "model Thing has a field id"),
        ({"table": "t" * 64}, "longer than 63 bytes"),
    ],
)
def test_options_that_do_not_suit_the_model_are_refused(options: dict[str, Any], said: str) -> None:
    sink = PostgresSink.model_validate({"dsn": "postgresql://host/db", "table": "t", **options})
    with pytest.raises(ConfigError, match=said):
        sink.check(Thing)
