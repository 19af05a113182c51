"""An upsert's version is compared as what it is, a number or a time, or is refused: in every sink that upserts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pydantic import BaseModel, create_model

from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_pipeline.errors import ConfigError
from tests.contracts.test_upserts import KEYED, of
from tests.contracts.typed_places import PLACES, UPSERTING, DeltaPlace, SqlPlace, TypedPlace, place_for

OPTIONS = {**KEYED, "version": "v"}

ORDERED: dict[str, tuple[Any, list[Any]]] = {
    "int": (int, [9, 10]),
    "float": (float, [9.5, 10.25]),
    "negative": (int, [-10, -9]),
    "date": (date, ["0999-12-31", "2026-01-01"]),
    "datetime": (datetime, ["2026-01-01T09:00:00+09:00", "2026-01-01T01:00:00Z"]),
    "fraction": (datetime, ["2026-01-01T01:00:00Z", "2026-01-01T01:00:00.5Z"]),
    "uuid": (UUID, [str(UUID(int=9)), str(UUID(int=10))]),
    "decimal": (Decimal, ["9.5", "10.25"]),
}
"""What a model says of a version, and the lesser and the greater of two."""
REFUSED: dict[str, Any] = {"str": str, "literal": Literal["a", "b"], "any": Any, "list": list[int], "either": int | str}
NOT_EVERYWHERE = {("sqlite", "decimal"), ("sqlite", "duration")}
"""Text in this sink, so refused."""


@pytest.fixture(params=UPSERTING)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> TypedPlace:
    return place_for(request, request.param, tmp_path / "place")


@pytest.fixture(params=[name for name in UPSERTING if issubclass(PLACES[name], SqlPlace)])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> SqlPlace:
    place = place_for(request, request.param, tmp_path / "place")
    assert isinstance(place, SqlPlace)
    return place


def model_of(kind: Any) -> type[BaseModel]:
    return create_model("Versioned", id=(int, ...), v=(kind | None, None), item=(str | None, None))


def name_of(place: TypedPlace) -> str:
    return next(name for name, kind in PLACES.items() if type(place) is kind)


@pytest.mark.parametrize("kind", ORDERED)
def test_the_greater_of_two_versions_counts(place: TypedPlace, kind: str) -> None:
    type, (less, greater) = ORDERED[kind]
    model, sink = model_of(type), place.sink(**OPTIONS)
    if (name_of(place), kind) in NOT_EVERYWHERE:
        with pytest.raises(ConfigError, match="goes by its letters"):
            sink.check(model)
        return
    sink.check(model)
    batches = [
        [{"id": 1, "v": greater, "item": "new"}, {"id": 2, "v": less, "item": "old"}],
        [{"id": 1, "v": less, "item": "old"}, {"id": 2, "v": greater, "item": "new"}],
    ]
    for number, records in enumerate(batches):
        sink.write(of(f"b{number}", *records, model=model))
    one_batch = [{"id": 3, "v": greater, "item": "new"}, {"id": 3, "v": less, "item": "old"}]
    sink.write(of("b2", *one_batch, model=model))
    assert [row["item"] for row in place.rows()] == ["new"] * 3


@pytest.mark.parametrize("kind", REFUSED)
def test_check_refuses_a_version_that_would_go_by_its_letters(place: TypedPlace, kind: str) -> None:
    with pytest.raises(ConfigError, match="version: "):
        place.sink(**OPTIONS).check(model_of(REFUSED[kind]))


def test_a_duration_is_no_version_where_it_is_text(place: TypedPlace) -> None:
    sink, model = place.sink(**OPTIONS), model_of(timedelta)
    if name_of(place) in ("sqlite", "delta"):  # where there is no column for it
        with pytest.raises(ConfigError):
            sink.check(model)
    else:
        sink.check(model)


@pytest.mark.parametrize("kind", [int, datetime])
def test_a_table_with_text_in_that_column_waits_for_somebody_to_mend_it(place: TypedPlace, kind: Any) -> None:
    place.make({"id": "integer", "item": "text", "v": "text"})
    if name_of(place) == "sqlite" and kind is datetime:
        return  # has times as text, all of one form: see the test above
    batch = of("b1", {"id": 1, "v": 9 if kind is int else "2026-01-01T00:00:00Z"}, model=model_of(kind))
    with pytest.raises(SinkUnavailable, match='goes by its letters, "9" after "10": make it a number or a time'):
        place.sink(**OPTIONS).write(batch)
    assert place.rows() == []


def test_text_is_no_version_without_a_model_either(table: SqlPlace) -> None:
    table.make({"id": "integer", "item": "text", "v": "text"})
    with pytest.raises(SinkUnavailable, match="goes by its letters"):
        table.sink(**OPTIONS).write(of("b1", {"id": 1, "v": "9"}, model=None))


def test_a_version_that_the_table_lacks_is_told(table: SqlPlace) -> None:
    table.make({"id": "integer", "item": "text"})
    with pytest.raises(SinkUnavailable, match="has no column v, which version names: add it"):
        table.sink(**OPTIONS).write(of("b1", {"id": 1}, model=None))


TIMES = [
    "2026-01-01T09:00:00+09:00",
    "Thu, 01 Jan 2026 00:30:00 GMT",
    "2026-01-01 01:00:00",
    "2026-01-01T01:00:00.5Z",
    "2025-12-31T20:30:00-05:00",
]
"""Each later than the one before, and in no order by their letters."""


@pytest.mark.parametrize("type", ["timestamp", "datetime", "timestamp with time zone"])
def test_times_as_text_are_versions_where_the_column_is_one_of_times(table: SqlPlace, type: str) -> None:
    if type == "datetime" and name_of(table) == "postgres":
        return  # which has no such type
    times = TIMES if name_of(table) == "sqlite" else [time for time in TIMES if "GMT" not in time]
    table.run(f"CREATE TABLE {table.table_name} (id integer PRIMARY KEY, item text, v {type})")
    sink = table.sink(**OPTIONS)
    for place in range(len(times) - 1):
        earlier, later = times[place : place + 2]
        sink.write(of(f"a{place}", {"id": place, "v": later, "item": "new"}, model=None))
        sink.write(of(f"b{place}", {"id": place, "v": earlier, "item": "old"}, model=None))
        sink.write(of(f"c{place}", {"id": place, "v": later, "item": "again"}, model=None))
    assert [row["item"] for row in table.rows()] == ["again"] * (len(times) - 1)


@pytest.mark.parametrize("type", ["integer", "timestamp"])
def test_what_is_no_version_is_set_aside(table: SqlPlace, type: str) -> None:
    table.run(f"CREATE TABLE {table.table_name} (id integer PRIMARY KEY, v {type})")
    good = 9 if type == "integer" else "2026-01-01T00:00:00Z"
    with pytest.raises(RecordsRejected) as rejection:
        table.sink(**OPTIONS).write(of("b1", {"id": 1, "v": good}, {"id": 2, "v": "soon"}, {"id": 3}, model=None))
    assert list(rejection.value.reasons) == [1]


@pytest.mark.parametrize("text", ["inf", "1_000", "nan", "10 apples", ""])
def test_text_that_sqlite_makes_no_number_of_is_no_version(request: Any, tmp_path: Path, text: str) -> None:
    table = place_for(request, "sqlite", tmp_path / "place")
    table.make({"id": "integer", "v": "integer"})
    with pytest.raises(RecordsRejected, match="rejected"):
        table.sink(**OPTIONS).write(of("b1", {"id": 1, "v": text}, model=None))
    table.sink(**OPTIONS).write(of("b1", {"id": 1, "v": "9"}, {"id": 1, "v": "10.0"}, {"id": 1, "v": 9}, model=None))
    assert table.rows() == [{"id": 1, "v": 10}]


def test_a_delta_tables_own_text_is_no_version(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place = place_for(request, "delta", tmp_path / "place")
    assert isinstance(place, DeltaPlace)
    schema = pa.schema([("id", pa.int64()), ("V", pa.string()), ("item", pa.string())])
    write_deltalake(place.folder / "delta", schema.empty_table())
    with pytest.raises(SinkUnavailable, match=r"column V of the table at .*, its version, is string, which goes by"):
        place.sink(**OPTIONS).write(of("b1", {"id": 1, "v": datetime.now(UTC).isoformat()}, model=model_of(datetime)))
