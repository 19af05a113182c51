"""A time keeps its instant in whatever column it comes into: one without a zone has it in UTC."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from datetime import time as clock
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pydantic import BaseModel

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.jsontext import encode_json
from tests.contracts.sink_records import TIME
from tests.contracts.typed_places import DeltaPlace, SqlPlace, place_for

INSTANT = datetime(2025, 12, 31, 22, 30, 0, tzinfo=UTC)
NAIVE = INSTANT.replace(tzinfo=None)
SAID = {
    "offset": "2026-01-01T00:30:00+02:00",
    "blank": "2026-01-01 00:30:00+02",
    "z": "2025-12-31T22:30:00Z",
    "none": "2025-12-31T22:30:00",
}
TYPED = [SAID["offset"], SAID["z"], SAID["none"]]
"""What a model takes of these."""
COLUMNS = {
    "postgres": {
        **dict.fromkeys(("timestamp", "timestamp(3)"), NAIVE),
        "timestamptz": INSTANT,
        "date": date(2025, 12, 31),
        "time": clock(22, 30),
        "timestamp[]": [NAIVE],
        "date[]": [date(2025, 12, 31)],
    },
    "duckdb": {
        **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS"), NAIVE),
        "TIMESTAMPTZ": INSTANT,
        "DATE": date(2025, 12, 31),
        "TIME": clock(22, 30),
        "TIMESTAMP[]": [NAIVE],
        'STRUCT("DATE" TIMESTAMP, day DATE)': {"DATE": NAIVE, "day": date(2025, 12, 31)},
    },
    "sqlite": dict.fromkeys(("TEXT", "TIMESTAMP", "DATETIME"), INSTANT),
}
CASES = [(kind, type) for kind, types in COLUMNS.items() for type in types]


class Happened(BaseModel):
    id: int
    born: datetime


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On a machine whose own zone isn't UTC."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    del os.environ["TZ"]
    time.tzset()


def of(id: str, *records: dict[str, Any], model: type[BaseModel] | None = None) -> Batch:
    envelopes = [
        Envelope(f"{id}-{n}", "s", "t", TIME, msgspec.Raw(encode_json(data))) for n, data in enumerate(records)
    ]
    outcome = apply(envelopes, model=model)
    return Batch(id, outcome.envelopes, flow="flow", model=model, rows=outcome.rows)


def within(type: str, said: str) -> Any:
    """A time as the value of a column of that type."""
    if type.startswith("STRUCT"):
        return {"DATE": said, "day": said}
    return [said] if type.endswith("[]") else said


def found(kind: str, value: Any) -> Any:
    if kind != "sqlite":
        return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@pytest.mark.parametrize("options", [{}, {"mode": "upsert", "key": "id"}], ids=["append", "upsert"])
@pytest.mark.parametrize(("kind", "type"), CASES)
def test_a_time_as_text_is_its_instant(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, type: str, options: dict[str, Any]
) -> None:
    place = place_for(request, kind, tmp_path / "place")
    assert isinstance(place, SqlPlace)
    place.run(f"CREATE TABLE {place.table_name} (id integer PRIMARY KEY, born {type})")
    sink = place.sink(**options)
    sink.write(of("b1", *({"id": n, "born": within(type, said)} for n, said in enumerate(SAID.values()))))
    rows = place.rows()
    assert [found(kind, row["born"]) for row in rows] == [COLUMNS[kind][type]] * len(SAID)


@pytest.mark.parametrize(("kind", "type"), [case for case in CASES if within(case[1], "") == ""])
def test_a_models_time_is_its_instant(request: pytest.FixtureRequest, tmp_path: Path, kind: str, type: str) -> None:
    place = place_for(request, kind, tmp_path / "place")
    assert isinstance(place, SqlPlace)
    place.run(f"CREATE TABLE {place.table_name} (id integer PRIMARY KEY, born {type})")
    place.sink().write(of("b1", *({"id": n, "born": said} for n, said in enumerate(TYPED)), model=Happened))
    assert [found(kind, row["born"]) for row in place.rows()] == [COLUMNS[kind][type]] * len(TYPED)


@pytest.mark.parametrize(("kind", "type"), [case for case in CASES if case[1].startswith(("timestamp", "TIMESTAMP"))])
def test_two_spellings_of_an_instant_are_one_key(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, type: str
) -> None:
    if type.endswith("[]") or kind == "sqlite":
        return
    place = place_for(request, kind, tmp_path / "place")
    assert isinstance(place, SqlPlace)
    place.run(f"CREATE TABLE {place.table_name} (born {type} PRIMARY KEY, a text, b text)")
    sink = place.sink(mode="upsert", key="born")
    sink.write(of("b1", {"born": SAID["offset"], "a": "x"}, {"born": SAID["z"], "b": "y"}))
    sink.write(of("b2", {"born": SAID["blank"], "b": "z"}))
    assert [found(kind, row["born"]) for row in place.rows()] == [COLUMNS[kind][type]]
    assert [(row["a"], row["b"]) for row in place.rows()] == [("x", "z")]


def test_nanoseconds_are_kept_where_an_offset_is_heeded(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place = place_for(request, "duckdb", tmp_path / "place")
    assert isinstance(place, SqlPlace)
    place.run(f"CREATE TABLE {place.table_name} (id integer, born TIMESTAMP_NS)")
    place.sink().write(of("b1", {"id": 1, "born": "2026-01-01T00:30:00.123456789+02:00"}))
    _, rows = place.run(f"SELECT CAST(born AS VARCHAR) FROM {place.table_name}")
    assert rows == [("2025-12-31 22:30:00.123456789",)]


@pytest.mark.parametrize("kind", ["postgres", "duckdb"])
@pytest.mark.parametrize("said", ["12:30:00+02:00", "12:30Z", "12:30:00.5 UTC", "12:30:00 Europe/Berlin"])
def test_a_time_of_day_with_a_zone_is_set_aside(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, said: str
) -> None:
    place = place_for(request, kind, tmp_path / "place")
    assert isinstance(place, SqlPlace)
    place.run(f"CREATE TABLE {place.table_name} (id integer, born time)")
    with pytest.raises(RecordsRejected) as rejection:
        place.sink().write(of("b1", {"id": 1, "born": said}, {"id": 2, "born": "12:30:00.25"}))
    assert rejection.value.reasons == {0: "born: a time of day with a time zone: make it a datetime"}


def test_a_delta_tables_times_without_a_zone_are_in_utc(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place = place_for(request, "delta", tmp_path / "place")
    assert isinstance(place, DeltaPlace)
    schema = pa.schema([("id", pa.int64()), ("born", pa.timestamp("us"))])
    write_deltalake(place.folder / "delta", schema.empty_table())
    place.sink().write(of("b1", *({"id": n, "born": said} for n, said in enumerate(TYPED)), model=Happened))
    assert [row["born"] for row in place.rows()] == [NAIVE] * len(TYPED)
