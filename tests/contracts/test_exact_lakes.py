"""Typed columns of parquet and delta: each value is there as it was, or its record is a dead letter that says why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
import pyarrow as pa
import pytest
from annotated_types import Gt
from deltalake import DeltaTable, write_deltalake
from pydantic import BaseModel, create_model, field_validator

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, Sink, SinkUnavailable
from millrace_consumer.sinks.delta import DeltaSink
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.moment import NOT_IN_UTC
from tests.contracts.sink_records import TIME, batch_of
from tests.contracts.test_inputs import PAGE
from tests.contracts.typed_places import TypedPlace, place_for

LAKES = ["parquet", "delta"]


class Row(NamedTuple):
    """A value, the type that the model says, that of the table's column, and what becomes of it there."""

    value: str
    model: str
    column: str
    becomes: str


def rows_of_page() -> list[Row]:
    head = "| a value | the model says | the table's column is | it becomes |\n|---|---|---|---|\n"
    table = PAGE.partition(head)[2].partition("\n\n")[0]
    return [Row(*(cell.strip(" `") for cell in re.split(r" \| ", line[2:-2]))) for line in table.splitlines()]


MODELS: Mapping[str, Any] = {
    kind.__name__: kind for kind in (str, int, float, bool, bytes, datetime, date, Decimal)
} | {"list[float]": list[float], "dict[str, int]": dict[str, int]}
COLUMNS: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "smallint": pa.int16(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "timestamp_ntz": pa.timestamp("us"),
    "date": pa.date32(),
    "decimal(6,2)": pa.decimal128(6, 2),
    "array<float>": pa.list_(pa.float32()),
    "map<string,double>": pa.map_(pa.string(), pa.float64()),
}


@pytest.fixture(params=LAKES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> TypedPlace:
    return place_for(request, request.param, tmp_path / "place")


def typed(model: type[BaseModel], *records: Any, evolves: bool = False) -> Batch:
    envelopes = [
        Envelope(str(n), "s", "t", TIME, msgspec.Raw(record if isinstance(record, bytes) else encode_json(record)))
        for n, record in enumerate(records)
    ]
    outcome = apply(envelopes, model=model, evolves=evolves)
    assert not outcome.rejected, outcome.rejected
    return Batch("b", outcome.envelopes, model=model, rows=outcome.rows)


def reasons(sink: Sink, batch: Batch) -> dict[int, str]:
    try:
        sink.write(batch)
    except RecordsRejected as rejected:
        return rejected.reasons
    return {}


@pytest.mark.parametrize("row", rows_of_page(), ids=" ".join)
def test_a_column_of_a_table_that_is_there_holds_all_of_a_value_or_it_is_a_dead_letter(
    tmp_path: Path, row: Row
) -> None:
    write_deltalake(tmp_path, pa.schema([("id", pa.string()), ("v", COLUMNS[row.column])]).empty_table())
    model = create_model("Model", id=(str, ...), v=(MODELS[row.model] | None, None))
    batch = typed(model, b'{"id":"a"}', b'{"id":"b","v":%s}' % row.value.encode())
    sink = DeltaSink.model_validate({"path": tmp_path})
    refused = reasons(sink, batch)
    if refused:
        assert row.becomes == "dead letter", refused
        assert list(refused) == [1]
        assert refused[1].startswith("v: does not fit the table's ")
        batch = batch.pick([0])
        sink.write(batch)
    found = {one["id"]: one["v"] for one in pa.table(DeltaTable(tmp_path).scan().read_all()).to_pylist()}
    assert found.pop("a") is None
    assert [str(value) for value in found.values()] == ([] if refused else [row.becomes])


def test_the_page_has_rows_of_each_kind_of_column() -> None:
    assert {row.column for row in rows_of_page()} == set(COLUMNS)


def test_numbers_in_narrower_nested_places_are_held_or_name_their_field(tmp_path: Path) -> None:
    class Inner(BaseModel):
        share: float | None = None
        at: int | None = None

    class Model(BaseModel):
        id: str
        inner: Inner

    there = pa.struct([("share", pa.float32()), ("at", pa.timestamp("us", "UTC"))])
    write_deltalake(tmp_path, pa.schema([("id", pa.string()), ("inner", there)]).empty_table())
    sink = DeltaSink.model_validate({"path": tmp_path})
    inners = [{"share": 0.1, "at": 1538352000}, {"share": 1e50}, {"at": 5}, {}]
    batch = batch_of("b", [{"id": str(n), "inner": inner} for n, inner in enumerate(inners)], Model)
    refused = reasons(sink, batch)
    assert list(refused) == [1, 2]
    assert "share: a number that float can't hold" in refused[1]
    assert "at: no time that is known" in refused[2]
    sink.write(batch.pick([0, 3]))
    found = pa.table(DeltaTable(tmp_path).scan().read_all()).to_pylist()
    assert [round(row["inner"]["share"], 6) for row in found if row["id"] == "0"] == [0.1]
    assert [row["inner"]["at"] for row in found if row["id"] == "0"] == [datetime(2018, 10, 1, tzinfo=UTC)]


def test_an_upsert_holds_to_its_columns_too(tmp_path: Path) -> None:
    class Model(BaseModel):
        id: str
        v: bool | None = None

    write_deltalake(tmp_path, pa.table({"id": ["a"], "v": pa.array([7], pa.int64())}))
    sink = DeltaSink.model_validate({"path": tmp_path, "mode": "upsert", "key": "id"})
    batch = batch_of("b", [{"id": "a", "v": True}, {"id": "b"}], Model)
    assert reasons(sink, batch) == {0: "v: does not fit the table's int64: true or false, and int64 holds numbers"}
    sink.write(batch.pick([1]))
    found = pa.table(DeltaTable(tmp_path).scan().read_all()).to_pylist()
    assert {row["id"]: row["v"] for row in found} == {"a": 7, "b": None}


def test_what_can_be_no_value_of_a_column_keeps_the_batch_waiting(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.schema([("id", pa.string()), ("v", pa.binary())]).empty_table())
    model = create_model("Model", id=(str, ...), v=(int, ...))
    with pytest.raises(SinkUnavailable, match="column v of the table"):
        DeltaSink.model_validate({"path": tmp_path}).write(batch_of("b", [{"id": "a", "v": 1}], model))


class Colour(Enum):
    RED = "red"


class Inner(BaseModel):
    items: int


PLUS_FIVE = timezone(timedelta(hours=5))
NOT_MEANT: list[tuple[Any, Any]] = [
    (int, 3.7),
    (int, True),
    (int, Decimal("3.7")),
    (float, True),
    (float, 2**53 + 1),
    (float, 10**400),
    (Literal[1, 2], True),
    (str, b"x"),
    (datetime, 5),
    (datetime, 1538352000.5),
    (datetime, Decimal(5)),
    (date, 5),
    (date, datetime(2026, 1, 1, 12)),
    (UUID, 5),
    (UUID, {"a": 1}),
    (Path, True),
    (list[int], [1, 3.7]),
    (list[str], "abc"),
    (list[str], {"a": 1}),
    (dict[str, float], {"a": True}),
    (Inner, {"items": 1}),
    (Inner, Inner.model_construct(items=1.5)),
    (list[Inner], [Inner.model_construct(items=True)]),
    (datetime, datetime(1, 1, 1, tzinfo=PLUS_FIVE)),
    (datetime, datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=5)))),
    (list[datetime], [datetime(1, 1, 1, tzinfo=PLUS_FIVE)]),
    (dict[str, datetime], {"a": datetime(1, 1, 1, tzinfo=PLUS_FIVE)}),
]
"""Of a field's type and a value that nobody has validated: what is none of that type."""


@pytest.mark.parametrize(("kind", "value"), NOT_MEANT, ids=repr)
def test_a_value_that_is_not_what_its_field_says_is_a_dead_letter_alone(
    place: TypedPlace, kind: Any, value: Any
) -> None:
    model = create_model("Model", id=(int, ...), v=(kind | None, None))
    rows = [model(id=0), model.model_construct(id=1, v=value), model(id=2)]
    sink = place.sink()
    sink.check(model)
    batch = Batch("b", batch_of("b", [{"id": n} for n in range(3)]).envelopes, model=model, rows=rows)
    refused = reasons(sink, batch)
    assert list(refused) == [1]
    assert refused[1].startswith("v: does not fit ")
    sink.write(batch.pick([0, 2]))
    assert [row["id"] for row in place.rows()] == [0, 2]


MEANT: list[tuple[Any, Any, Any]] = [
    (int, 3.0, 3),
    (float, 3, 3.0),
    (float, 0.1, 0.1),
    (Decimal, 3, Decimal(3)),
    (datetime, datetime(2026, 1, 1, 12), datetime(2026, 1, 1, 12, tzinfo=UTC)),
    (datetime, datetime(1, 1, 1), datetime(1, 1, 1, tzinfo=UTC)),
    (datetime, datetime.max, datetime.max.replace(tzinfo=UTC)),
    (Colour, Colour.RED, "red"),
    (UUID, UUID(int=5), str(UUID(int=5))),
    (list[float], [1, None, 1.5], [1.0, None, 1.5]),
    (list[int], {3}, [3]),
    (Inner, Inner(items=7), {"items": 7}),
]


@pytest.mark.parametrize(("kind", "value", "found"), MEANT, ids=repr)
def test_a_value_that_is_another_spelling_of_the_same_is_written(
    place: TypedPlace, kind: Any, value: Any, found: Any
) -> None:
    model = create_model("Model", id=(int, ...), v=(kind | None, None))
    batch = Batch("b", batch_of("b", [{"id": 1}]).envelopes, model=model, rows=[model.model_construct(id=1, v=value)])
    place.sink().write(batch)
    assert place.rows() == [{"id": 1, "v": found}]


def test_what_a_model_that_evolves_leaves_as_it_came_is_held_or_a_dead_letter(place: TypedPlace) -> None:
    class Model(BaseModel):
        id: int
        at: datetime | None = None
        flag: Annotated[int, Gt(0)] | None = None
        tags: list[str] | None = None

    came: list[dict[str, Any]] = [{"at": 5}, {"flag": True}, {"flag": -3}, {"tags": "abc"}, {"flag": 1.5}]
    batch = typed(Model, *({"id": n, **fields} for n, fields in enumerate(came)), evolves=True)
    sink = place.sink()
    refused = reasons(sink, batch)
    assert {index: reason.partition(":")[0] for index, reason in refused.items()} == {
        0: "at",
        1: "flag",
        3: "tags",
        4: "flag",
    }
    sink.write(batch.pick([2]))
    assert [(row["id"], row["flag"]) for row in place.rows()] == [(2, -3)]


def test_what_a_models_own_function_returns_or_a_default_says_is_looked_at(place: TypedPlace) -> None:
    class Doubled(BaseModel):
        id: int
        v: int = 0

        @field_validator("v", mode="after")
        @classmethod
        def _halved(cls, value: int) -> Any:
            return value / 2

    class Defaulted(BaseModel):
        id: int
        v: int = 1.5  # type: ignore[assignment]

    for model, records in (
        (Doubled, [{"id": 0, "v": 3}, {"id": 1, "v": 4}]),
        (Defaulted, [{"id": 0}, {"id": 1, "v": 2}]),
    ):
        refused = reasons(place.sink(), typed(model, *records))
        assert refused == {0: "v: does not fit int64: no whole number"}


def time_in(record: Callable[[str], Any]) -> Batch:
    class Place(BaseModel):
        at: datetime

    class Model(BaseModel):
        id: int
        at: datetime
        inner: Place
        many: list[datetime] = []

    return typed(Model, *(json.loads(json.dumps({"id": n} | record(text))) for n, text in enumerate(TEXTS)))


GOOD = "2026-01-01T00:00:00Z"
TEXTS = [GOOD, "0001-01-01T00:00:00+05:00", "9999-12-31T23:00:00-05:00", "0001-01-01T00:00:00Z"]


@pytest.mark.parametrize(
    ("field", "record"),
    [
        ("at", lambda text: {"at": text, "inner": {"at": GOOD}}),
        ("inner", lambda text: {"at": GOOD, "inner": {"at": text}}),
        ("many", lambda text: {"at": GOOD, "inner": {"at": GOOD}, "many": [GOOD, text]}),
    ],
)
def test_a_time_that_is_none_in_utc_is_a_dead_letter_and_the_others_are_written(
    place: TypedPlace, field: str, record: Callable[[str], Any]
) -> None:
    batch = time_in(record)
    sink = place.sink()
    refused = reasons(sink, batch)
    assert list(refused) == [1, 2]
    assert all(reason.startswith(f"{field}: ") and reason.endswith(NOT_IN_UTC) for reason in refused.values())
    sink.write(batch.pick([0, 3]))
    assert sorted(row["id"] for row in place.rows()) == [0, 3]
