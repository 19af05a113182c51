"""An upsert takes from a record what it has, and keeps the rest: in every sink that upserts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, computed_field

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, Sink, SinkUnavailable
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.jsontext import encode_json
from tests.conftest import eventually
from tests.contracts.sink_records import TIME
from tests.contracts.typed_places import PLACES, UPSERTING, SqlPlace, TypedPlace, place_for

KEYED = {"mode": "upsert", "key": "id"}
COLUMNS = {"id": "integer", "item": "text", "flavor": "text", "v": "integer"}


class Cookie(BaseModel):
    id: int
    item: str | None = None
    flavor: str | None = None
    v: int | None = None


class Baked(BaseModel):
    id: int
    item: str = "cookie"
    flavor: str | None = None

    @computed_field
    def sweet(self) -> str:
        return f"{self.item} of {self.flavor}"


@pytest.fixture(params=UPSERTING)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> TypedPlace:
    return place_for(request, request.param, tmp_path / "place")


@pytest.fixture(params=[name for name in UPSERTING if issubclass(PLACES[name], SqlPlace)])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> SqlPlace:
    place = place_for(request, request.param, tmp_path / "place")
    assert isinstance(place, SqlPlace)
    return place


def of(id: str, *records: dict[str, Any], model: type[BaseModel] | None = Cookie) -> Batch:
    envelopes = [
        Envelope(f"{id}-{n}", "s", "t", TIME, msgspec.Raw(encode_json(data))) for n, data in enumerate(records)
    ]
    outcome = apply(envelopes, model=model)
    assert not outcome.rejected, outcome.rejected
    return Batch(id, outcome.envelopes, flow="flow", model=model, rows=outcome.rows)


def row(id: int, item: str | None = None, flavor: str | None = None, v: int | None = None) -> dict[str, Any]:
    return {"id": id, "item": item, "flavor": flavor, "v": v}


CAKE = {"id": 1, "item": "cake", "flavor": "lemon"}


def test_what_a_record_lacks_is_kept_and_null_is_null(place: TypedPlace) -> None:
    sink = place.sink(**KEYED)
    sink.write(of("b1", CAKE, {"id": 2, "item": "cake", "flavor": "plum"}))
    sink.write(of("b2", {"id": 1, "item": "cookie"}, {"id": 2, "flavor": None}, {"id": 3, "flavor": "fig"}))
    assert place.rows() == [row(1, "cookie", "lemon"), row(2, "cake"), row(3, None, "fig")]


def test_what_a_record_lacks_becomes_null_where_the_option_says_so(place: TypedPlace) -> None:
    sink = place.sink(**KEYED, absent="null")
    sink.write(of("b1", CAKE))
    sink.write(of("b2", {"id": 1, "item": "cookie"}))
    assert place.rows() == [row(1, "cookie")]


def test_records_of_one_key_in_a_batch_add_up_in_their_order(place: TypedPlace) -> None:
    sink = place.sink(**KEYED)
    sink.write(of("b1", {"id": 1, "item": "a"}, {"id": 1, "item": "b", "flavor": "x"}, {"id": 1, "item": "c"}))
    assert place.rows() == [row(1, "c", "x")]


def test_an_older_record_changes_no_column_of_a_newer_row(place: TypedPlace) -> None:
    sink = place.sink(**KEYED, version="v")
    sink.write(
        of("b1", {"id": 1, "item": "a", "v": 5}, {"id": 1, "flavor": "old", "v": 4}, {"id": 1, "flavor": "none"})
    )
    assert place.rows() == [row(1, "a", None, 5)]
    sink.write(of("b2", {"id": 1, "flavor": "old", "v": 4}, {"id": 2, "item": "new"}))
    sink.write(of("b3", {"id": 1, "flavor": "x", "v": 6}, {"id": 2, "flavor": "y"}))
    assert place.rows() == [row(1, "a", "x", 6), row(2, "new", "y")]


def test_a_models_default_is_for_new_rows_and_computed_fields_for_all(place: TypedPlace) -> None:
    sink = place.sink(**KEYED)
    sink.write(of("b1", {"id": 1, "item": "cake", "flavor": "lemon"}, model=Baked))
    sink.write(of("b2", {"id": 1, "flavor": "plum"}, {"id": 2, "flavor": "fig"}, model=Baked))
    assert place.rows() == [
        {"id": 1, "item": "cake", "flavor": "plum", "sweet": "cookie of plum"},
        {"id": 2, "item": "cookie", "flavor": "fig", "sweet": "cookie of fig"},
    ]


def test_a_function_of_a_model_keeps_apart_what_is_absent_and_what_is_null(place: TypedPlace) -> None:
    def sour(cookie: Cookie) -> Cookie:
        cookie.item = f"sour {cookie.item}"
        return cookie

    sink = place.sink(**KEYED)
    sink.write(of("b1", CAKE, {"id": 2, "item": "pie", "flavor": "fig"}))
    given = of("b2", {"id": 1, "item": "cookie"}, {"id": 2, "item": "tart", "flavor": None}).envelopes
    outcome = apply(given, [sour], Cookie)
    sink.write(Batch("b2", outcome.envelopes, model=Cookie, rows=outcome.rows))
    assert place.rows() == [row(1, "sour cookie", "lemon"), row(2, "sour tart")]


def records(ids: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"id": ids},
        optional={
            "item": st.sampled_from([None, "a", "b"]),
            "flavor": st.sampled_from([None, "x", "y"]),
            "v": st.sampled_from([None, 1, 2, 10]),
        },
    )


def batches_of(records: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[list[dict[str, Any]]]]:
    return st.lists(st.lists(records, min_size=1, max_size=8), min_size=1, max_size=3)


NUMBERS = st.integers(0, 2)
SPELLED = NUMBERS | st.sampled_from(["0", "01", "2", "002"])
"""One key in several spellings, as the table that it goes to takes them."""

BEHIND_A_NULL = [[{"id": 1, "v": 1}], [{"id": 1, "v": None, "flavor": "x"}, {"id": 1, "v": 1}]]
BEHIND_AN_OLDER_ONE = [[{"id": 1, "v": 2}], [{"id": 1, "v": 1, "flavor": "x"}, {"id": 1, "v": 2, "item": "a"}]]
EQUAL = [[{"id": 1, "v": 2, "item": "a"}, {"id": 1, "v": 2, "item": "b"}], [{"id": 1, "v": 2, "flavor": "x"}]]
TWO_SPELLINGS = [[{"id": 1, "item": "a", "v": 1}, {"id": "01", "flavor": "x", "v": 1}]]


def summed(batches: list[list[dict[str, Any]]], version: str | None, absent: str) -> list[dict[str, Any]]:
    """What the records come to, one after the other: docs/sinks/postgres.md says it in words."""
    rows: dict[int, dict[str, Any]] = {}
    for record in (record for batch in batches for record in batch):
        id = int(record["id"])
        there = rows.get(id)
        has = record if absent == "keep" else row(id) | record
        if there is None:
            rows[id] = row(id) | has | {"id": id}
        elif version is None or there["v"] is None or (record.get("v") or 0) >= there["v"]:
            there.update(has | {"id": id})
    return [rows[id] for id in sorted(rows)]


@pytest.mark.parametrize("model", [Cookie, None], ids=["model", "plain"])
@pytest.mark.parametrize("version", [None, "v"], ids=["last", "newest"])
def test_rows_are_what_their_records_come_to(
    place: TypedPlace, version: str | None, model: type[BaseModel] | None, tmp_path: Path
) -> None:
    if model is None and not place.by_columns:
        return
    tries = iter(range(1000))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(batches_of(records(NUMBERS if model else SPELLED)), st.sampled_from(["keep", "null"]))
    @example(BEHIND_A_NULL, "keep")
    @example(BEHIND_AN_OLDER_ONE, "keep")
    @example(EQUAL, "keep")
    @example(EQUAL, "null")
    @example(TWO_SPELLINGS, "keep")
    def comes_to(batches: list[list[dict[str, Any]]], absent: str) -> None:
        place.folder = tmp_path / f"try-{next(tries)}"
        place.folder.mkdir()
        place.make(COLUMNS)
        sink = place.sink(**KEYED, version=version, absent=absent)
        for number, batch in enumerate(batches):
            sink.write(of(f"b{number}", *batch, model=model))
        sink.close()
        assert place.rows() == summed(batches, version, absent)

    comes_to()


# ── Tables with defaults and without nulls ──────────────────────────────────────────────────────────────────────────


def test_a_column_without_nulls_is_kept_where_a_row_has_it(table: SqlPlace) -> None:
    table.run(f"CREATE TABLE {table.table_name} (id integer PRIMARY KEY, item text NOT NULL, flavor text)")
    sink = table.sink(**KEYED)
    sink.write(of("b1", CAKE, model=None))
    batch = of("b2", {"id": 1, "flavor": "plum"}, {"id": 2, "flavor": "fig"}, {"id": 3, "item": "pie"}, model=None)
    with pytest.raises(RecordsRejected) as rejection:
        sink.write(batch)
    assert list(rejection.value.reasons) == [1]
    sink.write(batch.pick([0, 2]))
    assert table.rows() == [{"id": 1, "item": "cake", "flavor": "plum"}, {"id": 3, "item": "pie", "flavor": None}]


@pytest.mark.parametrize("model", [Cookie, None], ids=["model", "plain"])
@pytest.mark.parametrize("options", [{}, KEYED], ids=["append", "upsert"])
def test_what_a_record_lacks_is_the_tables_default_and_null_is_null(
    table: SqlPlace, options: dict[str, Any], model: type[BaseModel] | None
) -> None:
    columns = "id integer PRIMARY KEY, item text NOT NULL DEFAULT 'pie', flavor text DEFAULT 'plain', v integer"
    table.run(f"CREATE TABLE {table.table_name} ({columns})")
    sink = table.sink(**options)
    sink.write(of("b1", {"id": 1}, {"id": 2, "flavor": None, "item": None}, {"id": 3, "v": 7}, model=model))
    assert table.rows() == [row(1, "pie", "plain"), row(2, "pie"), row(3, "pie", "plain", 7)]
    if options:
        sink.write(of("b2", {"id": 2, "v": 1}, {"id": 1, "flavor": "x"}, {"id": 4, "flavor": "y"}, model=model))
        assert table.rows()[:2] == [row(1, "pie", "x"), row(2, "pie", None, 1)]
        assert table.rows()[3] == row(4, "pie", "y")


def test_a_batch_of_hundreds_of_sets_of_fields_is_written(table: SqlPlace) -> None:
    names = [f"c{number}" for number in range(9)]
    table.make({"id": "integer", **dict.fromkeys(names, "integer")})
    records = [
        {"id": number, **{name: number for place, name in enumerate(names) if number >> place & 1}}
        for number in range(512)
    ]
    sink = table.sink(**KEYED)
    sink.write(of("b0", *({"id": number, **dict.fromkeys(names, -1)} for number in range(0, 512, 2)), model=None))
    sink.write(of("b1", *records, model=None))
    before = [-1 if number % 2 == 0 else None for number in range(512)]
    assert table.rows() == [{"id": n, **{name: records[n].get(name, before[n]) for name in names}} for n in range(512)]


def test_two_consumers_that_know_different_fields_lose_neither(place: TypedPlace) -> None:
    place.make(COLUMNS)
    start = threading.Barrier(2)

    def write(field: str, ids: list[int]) -> None:
        sink = place.sink(**KEYED)
        for round in range(ROUNDS):
            start.wait(60)
            batch = of(f"{field}{round}", *({"id": round * 100 + id, field: field} for id in ids))
            eventually(partial(written, sink, batch), 60)
        sink.close()

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(write, "item", list(range(100))), pool.submit(write, "flavor", list(range(99, -1, -1)))]
        for future in done:
            future.result()
    assert place.rows() == [row(id, "item", "flavor") for id in range(ROUNDS * 100)]


ROUNDS = 4


def written(sink: Sink, batch: Batch) -> bool:
    try:
        sink.write(batch)
    except SinkUnavailable:  # another transaction was in the way
        return False
    return True


@pytest.mark.parametrize("kind", UPSERTING)
def test_absent_is_refused_where_nothing_is_upserted(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="absent is for mode upsert"):
        place_for(request, kind, tmp_path / "place").sink(absent="keep")


@pytest.mark.parametrize("key", ["id", "ID", "data", "sku"])
def test_an_upsert_without_a_model_is_refused_where_the_table_would_have_the_envelopes_columns(
    place: TypedPlace, key: str
) -> None:
    sink = place.sink(mode="upsert", key=key)
    refusals = []
    try:
        sink.check(None)
        refusals.append(sink.doubt(None))  # of a server's tables nothing is known before it is asked
    except ConfigError as error:
        refusals.append(str(error))
    for number, record in enumerate(({"id": 1}, {"id": "1"}, {"ID": 2})):
        with pytest.raises(SinkUnavailable) as refusal:
            sink.write(of(f"b{number}", record, model=None))
        refusals.append(str(refusal.value))
    assert all("Add a model" in (refusal or "") for refusal in refusals)


def test_an_upsert_without_a_model_into_a_table_of_whole_records_is_refused(table: SqlPlace) -> None:
    table.sink().write(of("b1", CAKE, model=None))
    upserting = table.sink(**KEYED)
    if table.sees_tables:
        with pytest.raises(ConfigError, match="Add a model"):
            upserting.check(None)
    with pytest.raises(SinkUnavailable, match="has the columns of the envelope"):
        upserting.write(of("b2", CAKE, model=None))


def test_an_upsert_without_a_model_into_a_table_with_the_records_columns_passes(table: SqlPlace) -> None:
    table.make(COLUMNS)
    sink = table.sink(**KEYED)
    sink.check(None)
    assert bool(sink.doubt(None)) is not table.sees_tables
    assert table.sink(**KEYED, create=False).doubt(None) is None
    sink.write(of("b1", {"id": 1, "item": "a"}, {"id": 1, "item": "b"}, model=None))
    assert table.rows() == [row(1, "b")]
