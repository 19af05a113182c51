"""What columns of databases hold: all of a value, or it is a dead letter. docs/inputs.md says which, value by value."""

from __future__ import annotations

import re
from datetime import time
from pathlib import Path

import msgspec
import pytest
from pydantic import BaseModel

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, Sink
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope
from tests.contracts.sink_records import TIME
from tests.contracts.test_inputs import IN_COLUMNS, Row
from tests.contracts.typed_places import PLACES, SqlPlace, place_for

SQL = [name for name, place in PLACES.items() if issubclass(place, SqlPlace)]
_INTO = re.compile(r"(.*), into `(.*)`")

CASES = [(sink, row) for row in IN_COLUMNS for sink in row.to.partition(", into")[0].split(", ")]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> SqlPlace:
    found = place_for(request, request.param, tmp_path / "place")
    assert isinstance(found, SqlPlace)
    return found


each_place = pytest.mark.parametrize("place", SQL, indirect=True)


def of(*records: str, id: str = "b") -> Batch:
    envelopes = [Envelope(str(n), "s", "t", TIME, msgspec.Raw(record.encode())) for n, record in enumerate(records)]
    return Batch(id, envelopes, flow="flow")


def reasons(sink: Sink, batch: Batch) -> dict[int, str]:
    try:
        sink.write(batch)
    except RecordsRejected as rejected:
        return rejected.reasons
    return {}


@pytest.mark.parametrize(
    ("place", "row"), CASES, indirect=["place"], ids=[f"{sink} {row.comes} {row.to}" for sink, row in CASES]
)
def test_a_column_holds_all_of_a_value_or_it_is_a_dead_letter(place: SqlPlace, row: Row) -> None:
    _, kind = _INTO.fullmatch(row.to).groups()  # type: ignore[union-attr]
    place.make({"id": "integer", "v": kind})
    value = row.comes.strip("`")
    refused = reasons(place.sink(), of(f'{{"id": 1, "v": {value}}}'))
    if refused:
        assert row.becomes == "dead letter", refused
        told = refused[0].replace("true or false", "").replace("known", "")
        assert value.strip('"[]') not in told
        return
    text = "array_to_string(v, ', ')" if kind.endswith("[]") else "CAST(v AS text)"
    assert f"`{place.run(f'SELECT {text} FROM {place.table_name}')[1][0][0]}`" == row.becomes


@each_place
def test_one_value_that_a_column_does_not_hold_takes_none_of_its_batch_along(place: SqlPlace) -> None:
    place.make({"id": "integer", "v": "timestamp"})
    batch = of('{"id": 1, "v": "2026-01-01"}', '{"id": 2, "v": "now"}', '{"id": 3, "v": null}')
    assert list(reasons(place.sink(), batch)) == [1]
    place.sink().write(batch.pick([0, 2]))
    assert [row["id"] for row in place.rows()] == [1, 3]


@each_place
def test_a_batch_that_is_in_makes_no_dead_letter_when_its_table_became_narrower(place: SqlPlace) -> None:
    place.make({"id": "integer", "v": "text"})
    batch, sink = of('{"id": 1, "v": "01/02/2026"}', '{"id": 2, "v": "2026-01-02"}'), place.sink()
    sink.write(batch)
    place.run(f"DROP TABLE {place.table_name}")
    place.make({"id": "integer", "v": "timestamp"})
    other = place.sink()
    assert list(reasons(other, of('{"id": 1, "v": "01/02/2026"}', id="new"))) == [0]
    for again in (sink, other):
        again.write(batch)
    assert place.rows() == []


@each_place
def test_of_a_batch_that_is_in_the_same_records_are_refused_when_its_table_became_narrower(place: SqlPlace) -> None:
    place.make({"id": "integer", "v": "text"})
    batch, sink = of('{"id": 1, "v": "01/02/2026"}', "[2]", '{"id": 3, "v": "now"}'), place.sink()
    first = reasons(sink, batch)
    assert list(first) == [1]
    sink.write(batch.pick([0, 2]))
    place.run(f"DROP TABLE {place.table_name}")
    place.make({"id": "integer", "v": "timestamp"})
    assert reasons(place.sink(), batch) == first
    place.sink().write(batch.pick([0, 2]))
    assert place.rows() == []


MAPS = [
    ("MAP(INT, VARCHAR)", '{"1": "x"}', '{"a": "x"}', "{1=x}"),
    ("MAP(INT, VARCHAR)", '{"01": "x", "2": null}', '{"1": "x", "01": "y"}', "{1=x, 2=NULL}"),
    ("MAP(TINYINT, INT)", '{"7": 1}', '{"300": 1}', "{7=1}"),
    ("MAP(DATE, INT)", '{"2026-02-01T00:30+02:00": 1}', '{"01/02/2026": 1}', "{2026-01-31=1}"),
    ("MAP(TIMESTAMP, INT)", '{"1538352000": 1}', '{"now": 1}', "{'2018-10-01 00:00:00'=1}"),
    ("MAP(BOOLEAN, INT)", '{"yes": 1}', '{"2": 1}', "{true=1}"),
    ("MAP(DECIMAL(4,1), INT)", '{"1.20": 5}', '{"1.25": 5}', "{1.2=5}"),
    ("MAP(UUID, INT)", '{"8e5a1f0e-0000-4000-8000-000000000001": 5}', '{"x": 5}', None),
    ("STRUCT(m MAP(INT, INT))", '{"m": {"1": 2}}', '{"m": {"a": 2}}', "{'m': {1=2}}"),
    ("MAP(INT, INT)[]", '[{"1": 2}]', '[{"1": 2}, {"a": 2}]', "[{1=2}]"),
]


@pytest.mark.parametrize(("kind", "good", "bad", "there"), MAPS, ids=[f"{kind} {bad}" for kind, _, bad, _ in MAPS])
@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
def test_a_key_of_a_map_is_held_as_its_values_are(
    place: SqlPlace, kind: str, good: str, bad: str, there: str | None
) -> None:
    place.make({"id": "integer", "m": kind})
    batch = of(f'{{"id": 1, "m": {good}}}', f'{{"id": 2, "m": {bad}}}', '{"id": 3}')
    told = reasons(place.sink(), batch)
    assert list(told) == [1]
    assert told[1].startswith("m: ")
    place.sink().write(batch.pick([0, 2]))
    rows = place.run(f"SELECT id, CAST(m AS text) FROM {place.table_name} ORDER BY id")[1]
    assert [row[0] for row in rows] == [1, 3]
    if there is not None:
        assert rows[0][1] == there


SPELT = [
    ("STRING", '"01234"', None),
    ("STRING", '"1e5"', None),
    ("STRING", '"1e99999999999999999999999"', None),
    ("STRING", '"+7"', None),
    ("STRING", '"1.50"', None),
    ("STRING", '" 7 "', None),
    ("STRING", '".5"', None),
    ("STRING", '"-0"', None),
    ("STRING", '"12345678901234567890"', None),
    ("STRING", f'"{"0" * 5000}"', None),
    ("STRING", '"7"', 7),
    ("STRING", '"-1.5"', -1.5),
    ("STRING", '"0"', 0),
    ("STRING", '"1e5x"', "1e5x"),
    ("STRING", '"\\u00a07"', "\xa07"),
    ("STRING", "1.50", 1.5),
    ("UUID", '"0007"', None),
    ("ANY", '"007"', None),
    ("DATE", '"20181010"', 20181010),
    ("TIMESTAMP", '"1538352000.50"', None),
    ("TIMESTAMP", '"2018-10-10T00:00:00Z"', "2018-10-10T00:00:00Z"),
    ("INTEGER", '"007"', 7),
    ("BIGINT", '" 7 "', 7),
    ("UNSIGNED BIG INT", '"07"', 7),
    ("REAL", '"1.50"', 1.5),
    ("DOUBLE PRECISION", '"1e5"', 100000.0),
    ("NUMERIC", '"1.50"', 1.5),
    ("DECIMAL(6,2)", '"007"', 7),
    ("TEXT", '"007"', "007"),
    ("BLOB", '"007"', "007"),
]


@pytest.mark.parametrize(("kind", "value", "there"), SPELT, ids=[f"{kind} {value[:30]}" for kind, value, _ in SPELT])
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_text_that_sqlite_would_spell_otherwise_is_a_dead_letter(
    place: SqlPlace, kind: str, value: str, there: object
) -> None:
    place.make({"id": "integer", "v": kind})
    told = reasons(place.sink(), of(f'{{"id": 1, "v": {value}}}'))
    assert [row["v"] for row in place.rows()] == ([] if told else [there])
    assert (there is None) == bool(told)
    if told:
        assert f"{kind} has numeric affinity" in told[0]
        assert "TEXT" in told[0]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_ids_that_sqlite_would_make_one_of_stay_apart(place: SqlPlace) -> None:
    place.make({"id": "STRING", "v": "text"})
    batch = of('{"id": "007", "v": "a"}', '{"id": "7", "v": "b"}', '{"id": "7e0", "v": "c"}')
    assert list(reasons(place.sink(mode="upsert", key=["id"]), batch)) == [0, 2]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_strict_table_keeps_text_in_a_column_of_any(place: SqlPlace) -> None:
    place.run(f"CREATE TABLE {place.table_name} (id INTEGER PRIMARY KEY, v ANY) STRICT")
    assert not reasons(place.sink(), of('{"id": 1, "v": "007"}', '{"id": 2, "v": "1e400"}'))
    assert [row["v"] for row in place.rows()] == ["007", "1e400"]


PG_KINDS = [
    ("name", f'"{"a" * 63}"', "a" * 63),
    ("name", f'"{"a" * 64}"', None),
    ("name", f'"{"é" * 32}"', None),
    ("name", "1" * 64, None),
    ("name", f'["{"a" * 64}"]', None),
    ("name", "true", "true"),
    ("name[]", f'["{"a" * 64}"]', None),
    ('"char"', '"a"', "a"),
    ('"char"', '"abc"', None),
    ('"char"', '"é"', None),
    ('"char"', "12", None),
    ('"char"', "true", None),
    ("time(0)", '"23:59:59.9"', None),
    ("time(0)", '"23:59:59.0"', "23:59:59"),
    ("time(0)", '"12:30"', "12:30:00"),
    ("time(3)", '"12:30:00.1239"', None),
    ("time(3)", '"12:30:00.123"', "12:30:00.123"),
    ("time(0)", '"2026-01-01T12:30:00.5Z"', None),
    ("time", '"23:59:59.9999999"', "23:59:59.999999"),
    ("timetz(0)", '"23:59:59.9"', None),
    ("timestamp(0)", '"2026-01-01T23:59:59.9"', "2026-01-01 23:59:59"),
    ("timestamptz(0)", '"2026-01-01T23:59:59.9"', "2026-01-01 23:59:59+00"),
    ("timestamp(0)[]", '["2026-01-01T23:59:59.9"]', '{"2026-01-01 23:59:59"}'),
    ("oid", "-1", None),
    ("oid", '"-1"', None),
    ("oid", "4294967296", None),
    ("oid", "4294967295", "4294967295"),
    ("oid", "1.5", None),
    ("bytea", "true", None),
    ("bytea", "7", None),
    ("bytea", "1.5", None),
    ("bytea", '"a"', "\\x61"),
]


@pytest.mark.parametrize(
    ("kind", "value", "there"), PG_KINDS, ids=[f"{kind} {value[:40]}" for kind, value, _ in PG_KINDS]
)
@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_postgres_cuts_and_rounds_nothing_in_its_rarer_types(
    place: SqlPlace, kind: str, value: str, there: str | None
) -> None:
    place.make({"id": "integer", "v": kind})
    told = reasons(place.sink(), of(f'{{"id": 1, "v": {value}}}'))
    rows = place.run(f"SELECT CAST(v AS text) FROM {place.table_name}")[1]
    assert [found for (found,) in rows] == ([] if there is None else [there])
    assert (there is None) == (list(told) == [0])


CLOCKS = [
    ("{}", '"12:30+02:00"', "12:30:00+02"),
    ("{}", '"12:30:00.5 -0330"', "12:30:00.5-03:30"),
    ("{}", '"12:30"', "12:30:00+00"),
    ("{}", '"2026-01-01T12:30+02:00"', "10:30:00+00"),
    ("{}", '"25:00+02:00"', None),
    ("{}", '"now"', None),
    ("{}[]", '["12:30+02:00", null, "12:30"]', "12:30:00+02, 12:30:00+00"),
]


@pytest.mark.parametrize(("kind", "value", "there"), CLOCKS, ids=[value for _, value, _ in CLOCKS])
@pytest.mark.parametrize("place", ["postgres", "duckdb"], indirect=True)
def test_a_time_of_day_keeps_its_zone_in_a_column_that_has_one(
    place: SqlPlace, kind: str, value: str, there: str | None
) -> None:
    place.make({"id": "integer", "v": kind.format("time with time zone")})
    told = reasons(place.sink(), of(f'{{"id": 1, "v": {value}}}'))
    text = "array_to_string(v, ', ')" if kind.endswith("[]") else "CAST(v AS text)"
    rows = place.run(f"SELECT {text} FROM {place.table_name}")[1]
    assert [found for (found,) in rows] == ([] if there is None else [there])
    assert (there is None) == (list(told) == [0])


class Opening(BaseModel):
    id: int
    v: time


@pytest.mark.parametrize("place", ["postgres", "duckdb"], indirect=True)
def test_a_models_time_of_day_keeps_its_zone_too(place: SqlPlace) -> None:
    place.make({"id": "integer", "v": "time with time zone"})
    outcome = apply(of('{"id": 1, "v": "12:30+02:00"}', '{"id": 2, "v": "12:30"}').envelopes, model=Opening)
    place.sink().write(Batch("b", outcome.envelopes, flow="flow", model=Opening, rows=outcome.rows))
    rows = place.run(f"SELECT CAST(v AS text) FROM {place.table_name} ORDER BY id")[1]
    assert [found for (found,) in rows] == ["12:30:00+02", "12:30:00+00"]
