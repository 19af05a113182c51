"""No value vanishes for want of a column: each typed sink writes it, sets its record aside, or says what it dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from structlog.testing import capture_logs

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, Sink, SinkUnavailable
from millrace_consumer.sinks.csv import CsvSink
from millrace_consumer.sinks.delta import DeltaSink
from millrace_consumer.sinks.duckdb import DuckdbSink
from millrace_consumer.sinks.sqlite import SqliteSink
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.process.repeats import Repeats
from tests.contracts.typed_places import PLACES, WITH_COLUMNS, TypedPlace, place_for

COLUMNS = {"id": "integer", "userid": "text", "note": "text"}


@pytest.fixture(params=WITH_COLUMNS)
def columns(request: pytest.FixtureRequest, tmp_path: Path) -> TypedPlace:
    """A place of each sink that writes records without a model by the columns that are there."""
    place = place_for(request, request.param, tmp_path / "place")
    place.make(COLUMNS)
    return place


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> TypedPlace:
    """A place of each sink with columns."""
    return place_for(request, request.param, tmp_path / "place")


def of(*lines: str, id: str = "b", model: type[BaseModel] | None = None, evolves: bool = False) -> Batch:
    envelopes = [
        Envelope(f"{id}-{n}", "s", "t", "2026-11-21T00:00:00Z", msgspec.Raw(line.encode()))
        for n, line in enumerate(lines)
    ]
    outcome = apply(envelopes, model=model, evolves=evolves)
    assert not outcome.rejected, outcome.rejected
    return Batch(id, outcome.envelopes, flow="flow", model=model, rows=outcome.rows)


def rejected(sink: Sink, batch: Batch) -> dict[int, str]:
    """Why which records are set aside; the others are written."""
    with pytest.raises(RecordsRejected) as rejection:
        sink.write(batch)
    sink.write(batch.pick([index for index in range(len(batch)) if index not in rejection.value.reasons]))
    return rejection.value.reasons


def said(batch: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is said of fields that are not written, the counts at the end included."""
    fresh = Repeats()
    monkeypatch.setattr("millrace_consumer.sinks.columned.repeats", fresh)
    with capture_logs() as logs:
        batch()
        fresh.summarise()
    return [dict(log) for log in logs if log["event"] == "fields_not_written"]


# ── Without a model ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_field_finds_its_column_in_other_letters(columns: TypedPlace) -> None:
    columns.sink().write(of('{"id": 1, "userId": "a"}', '{"ID": 2, "USERID": "b", "Note": "c"}', '{"id": 3}'))
    assert columns.rows() == [
        {"id": 1, "userid": "a", "note": None},
        {"id": 2, "userid": "b", "note": "c"},
        {"id": 3, "userid": None, "note": None},
    ]


def test_the_exact_name_goes_before_one_in_other_letters(columns: TypedPlace) -> None:
    columns.sink().write(of('{"id": 1, "userId": "a", "userid": "b", "USERID": "c"}'))
    assert columns.rows() == [{"id": 1, "userid": "b", "note": None}]


def test_of_two_fields_that_may_be_one_column_both_are_named(columns: TypedPlace) -> None:
    found = rejected(columns.sink(), of('{"id": 1, "userId": "a", "USERID": "b"}', '{"id": 2}'))
    assert list(found) == [0]
    assert found[0].startswith("fields userId, USERID could all be column userid")
    assert [row["id"] for row in columns.rows()] == [2]


def test_a_record_of_which_nothing_has_a_column_is_set_aside(columns: TypedPlace) -> None:
    found = rejected(columns.sink(), of('{"user": 7, "": 1}', '{"id": 2}'))
    reason = "none of its fields has a column: it has user, '', and there are id, userid, note"
    assert found == {0: reason}
    assert [row["id"] for row in columns.rows()] == [2]


def test_fields_without_a_column_are_said_once_and_counted(
    columns: TypedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = of(*(f'{{"id": {n}, "user": 7, "more": 1}}' for n in range(3)))
    logs = said(lambda: columns.sink().write(batch), monkeypatch)
    assert [(log["fields"], log["flow"], log.get("more_like_this")) for log in logs] == [
        ("user, more", "flow", None),
        ("user, more", "flow", 2),
    ]
    assert len(columns.rows()) == 3


def test_fields_without_a_column_are_rejected_where_the_option_says_so(columns: TypedPlace) -> None:
    found = rejected(columns.sink(extra_fields="reject"), of('{"id": 1, "user": 7}', '{"id": 2, "note": "x"}'))
    assert found == {0: "fields without a column, user: extra_fields: reject"}
    assert [row["id"] for row in columns.rows()] == [2]


def test_columns_that_only_letters_tell_apart_want_the_exact_name(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for name in ("postgres", "csv"):  # the others have no such columns
        place = place_for(request, name, tmp_path / name)
        place.make({"id": "integer", "userId": "text", "userid": "text"})
        found = rejected(place.sink(), of('{"id": 1, "USERID": "x"}', '{"id": 2, "userId": "y"}'))
        assert found == {0: "field USERID could be column userId, userid: spell it as one of them"}
        assert place.rows() == [{"id": 2, "userId": "y", "userid": None}]


# ── With a model ────────────────────────────────────────────────────────────────────────────────────────────────────


class User(BaseModel):
    id: int | None = None
    userId: str | None = None


class Open(User):
    model_config = ConfigDict(extra="allow")


class Aliased(BaseModel):
    id: int | None = Field(None, alias="$id")
    when: str | None = "never"


class Inner(BaseModel):
    a: int | None = None


class Outer(BaseModel):
    id: int
    inner: Inner | None = None


def test_a_models_field_finds_its_column_in_other_letters(place: TypedPlace) -> None:
    place.make({"id": "integer", "userid": "text"})
    sink = place.sink(**({"columns": ["id", "userId"]} if isinstance(place.sink(), CsvSink) else {}))
    for number in (1, 2):
        sink.write(of(f'{{"id": {number}, "userId": "a"}}', id=f"b{number}", model=User))
    values = [(row["id"], row.get("userid", row.get("userId"))) for row in place.rows()]
    assert values == [(1, "a"), (2, "a")]


@pytest.mark.parametrize("evolves", [False, True])
@pytest.mark.parametrize("model", [User, Aliased, Open])
def test_what_a_model_knows_nothing_of_makes_no_row_of_nulls(
    place: TypedPlace, model: type[BaseModel], evolves: bool
) -> None:
    lines = ['{"user": 7, "x": null}', "{}", '{"id": 3, "$id": 3}', '{"id": "no number", "$id": "none"}']
    lines = lines[: 4 if evolves and isinstance(place.sink(), CsvSink) else 3]
    envelopes = [Envelope(f"b-{n}", "s", "t", None, msgspec.Raw(line.encode())) for n, line in enumerate(lines)]
    outcome = apply(envelopes, model=model, evolves=evolves)
    batch = Batch("b", outcome.envelopes, model=model, rows=outcome.rows)
    if model is not Open and not evolves:
        assert list(outcome.rejected) == [0]
        reason = outcome.rejected[0]
    else:
        found = rejected(place.sink(), batch)
        assert list(found) == [0]
        reason = found[0]
    names = "$id, when" if model is Aliased else "id, userId"
    assert reason == f"model {model.__name__} knows none of its fields, user, x: it has {names}"


def test_fields_that_a_model_drops_are_said_once_and_counted(
    place: TypedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = of(*(f'{{"id": {n}, "more": 1, "inner": {{"a": 1, "b": 2}}}}' for n in range(3)), model=Outer)
    logs = said(lambda: place.sink().write(batch), monkeypatch)
    assert [(log["fields"], log.get("more_like_this")) for log in logs] == [
        ("inner.b, more", None),
        ("inner.b, more", 2),
    ]
    assert len(place.rows()) == 3


def test_a_model_that_says_it_ignores_others_is_heeded_without_a_word(
    place: TypedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = type("Quiet", (User,), {"model_config": ConfigDict(extra="ignore"), "__module__": __name__})
    batch = of('{"id": 1, "more": 1}', model=quiet)
    assert said(lambda: place.sink().write(batch), monkeypatch) == []
    assert len(place.rows()) == 1


def test_fields_that_a_model_drops_are_rejected_where_the_option_says_so(place: TypedPlace) -> None:
    lines = ['{"id": 1, "more": 1}', '{"id": 2, "inner": {"b": 1}}', '{"id": 3, "inner": {"a": 1}}']
    found = rejected(place.sink(extra_fields="reject"), of(*lines, model=Outer))
    assert found == {
        0: "fields without a column, more: the model has none, extra_fields: reject",
        1: "fields without a column, inner.b: the model has none, extra_fields: reject",
    }
    assert [row["id"] for row in place.rows()] == [3]


def test_a_function_of_a_model_gets_no_record_that_it_knows_nothing_of() -> None:
    def keep(user: User) -> dict[str, Any]:
        return user.model_dump()

    envelopes = [Envelope(str(n), "s", "t", None, msgspec.Raw(text)) for n, text in enumerate([b'{"user": 7}', b"{}"])]
    outcome = apply(envelopes, [keep])
    assert list(outcome.rejected) == [0]
    assert "model User knows none of its fields, user" in outcome.rejected[0]


class Twice(BaseModel):
    userId: str | None = None
    userid: str | None = None


@pytest.mark.parametrize("sink", [DuckdbSink, SqliteSink, DeltaSink])
def test_fields_that_only_letters_tell_apart_are_refused_for_what_cannot(sink: type[Sink], tmp_path: Path) -> None:
    made = sink.model_validate({"path": tmp_path / "x", **({} if sink is DeltaSink else {"table": "t"})})
    with pytest.raises(ConfigError, match=r"capital letters: userId, userid"):
        made.check(Twice)


def test_csv_columns_that_the_model_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model User has no field /userid: it has id, userId"):
        CsvSink(path=tmp_path, columns=["id", "/userid"]).check(User)


# ── Within nested types ─────────────────────────────────────────────────────────────────────────────────────────────


class Wide(BaseModel):
    A: int | None = None
    b: int | None = None


class Deep(BaseModel):
    id: int
    s: Wide | None = None
    many: list[Wide] | None = None


class Loose(BaseModel):
    id: int | None = None


class Taking(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: int


NARROW = pa.struct([("a", pa.int64())])
RECORDS = ['{"id": 1, "s": {"A": 1, "b": 2}, "many": [{"A": 3, "b": 4}]}', '{"id": 2, "s": {"A": 5}}']


@pytest.mark.parametrize("options", [{}, {"mode": "upsert", "key": "id"}], ids=["append", "upsert"])
def test_a_field_of_a_nested_type_that_a_delta_table_lacks_is_added(tmp_path: Path, options: dict[str, Any]) -> None:
    there = {"id": [9], "s": pa.array([{"a": 9}], NARROW), "many": pa.array([[{"a": 9}]], pa.list_(NARROW))}
    write_deltalake(tmp_path, pa.table(there))
    sink = DeltaSink.model_validate({"path": tmp_path, **options})
    sink.write(of(*RECORDS, model=Deep))
    rows = sorted(pa.table(DeltaTable(tmp_path).scan().read_all()).to_pylist(), key=lambda row: row["id"])
    assert rows == [
        {"id": 1, "s": {"a": 1, "b": 2}, "many": [{"a": 3, "b": 4}]},
        {"id": 2, "s": {"a": 5, "b": None}, "many": None},
        {"id": 9, "s": {"a": 9, "b": None}, "many": [{"a": 9, "b": None}]},
    ]


def test_a_delta_table_that_gets_no_fields_added_keeps_the_batch_waiting(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [9], "s": pa.array([{"a": 9}], NARROW)}))
    with pytest.raises(SinkUnavailable, match=r"has no column s\.b, many: add it"):
        DeltaSink.model_validate({"path": tmp_path, "add_columns": False}).write(of(*RECORDS, model=Deep))


def test_extra_fields_takes_ignore_or_reject(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        CsvSink.model_validate({"path": tmp_path, "extra_fields": "keep"})


def test_each_field_without_a_column_is_named_once(columns: TypedPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = columns.sink()

    def write() -> None:
        sink.write(of('{"id": 1, "x": 1}', '{"id": 2, "y1": 1}', '{"id": 3, "x": 1}'))
        sink.write(of('{"id": 4, "y2": 9, "y1": 1}', '{"id": 5, "y2": 1}', id="c"))

    logs = said(write, monkeypatch)
    assert [(log["fields"], log.get("more_like_this")) for log in logs] == [
        ("x", None),
        ("y1", None),
        ("y2", None),
        ("y2", 2),
    ]


def test_each_field_that_a_model_drops_is_named_once(place: TypedPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    records = ['{"id": 1, "item": 1, "many": [{"z": 1}]}', '{"id": 2, "many": [{}, {"z": 1}], "s": {"z": 1}}']
    logs = said(lambda: place.sink().write(of(*records, model=Deep)), monkeypatch)
    assert [sorted(log["fields"].split(", ")) for log in logs] == [["item", "many.0.z"], ["s.z"]]


def test_a_models_fields_are_found_by_the_letter() -> None:
    outcome = apply([Envelope("1", "s", "t", None, msgspec.Raw(b'{"ID": 1}'))], model=Loose)
    assert outcome.rejected == {0: "model Loose knows none of its fields, ID: it has id"}


def test_a_field_that_a_model_takes_beside_its_own_is_named(place: TypedPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    place.make({"id": "integer"})
    logs = said(lambda: place.sink().write(of('{"id": 1, "more": 2}', model=Taking)), monkeypatch)
    assert [log["fields"] for log in logs] == ["more"]


def test_an_element_of_a_list_without_a_column_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = CsvSink(path=tmp_path, columns=["/0", "/1"])
    (log,) = said(lambda: sink.write(of("[1, 2, 3]", "[4, 5]")), monkeypatch)
    assert log["fields"] == "/2"
    strict = sink.model_copy(update={"extra_fields": "reject"})
    assert list(rejected(strict, of("[1, 2, 3]", "[4, 5]", id="c"))) == [0]


def test_a_list_is_a_row_where_columns_are_places(tmp_path: Path) -> None:
    sink = CsvSink(path=tmp_path, columns=["/0", "/1/a"])
    assert list(rejected(sink, of('["x", {"a": 2}]', '["y"]', "[]", '{"a": 1}', "7"))) == [3, 4]
    assert (tmp_path / "b.csv").read_text() == "0,1.a\nx,2\ny,\n,\n"
