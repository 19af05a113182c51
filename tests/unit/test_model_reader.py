"""What a record's values are in a model: read by Millrace's own rules, where pydantic takes them for something else."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NaiveDatetime,
    RootModel,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    create_model,
    field_validator,
)

from flows import Quote, RecentChange
from millrace_consumer.evolving import coerce_partially
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.fitting import all_fitted, fitted
from millrace_pipeline.modelreader import reader_of
from millrace_producer.contract import Contract


class Colour(Enum):
    RED = "red"
    BLUE = 1


class Number(IntEnum):
    ONE = 1
    TWO = 2


OCTOBER = datetime(2018, 10, 10, tzinfo=UTC)
AT = datetime(2018, 10, 10, 20, 19, 24, tzinfo=UTC)
NO: Any = "is no value of the type"

VALUES: list[tuple[Any, str, Any]] = [
    (datetime, "20181010", OCTOBER),
    (datetime, '"20181010"', OCTOBER),
    (datetime, "20181010201924", AT),
    (datetime, "1539202764", AT),
    (datetime, '"1539202764"', AT),
    (datetime, "1539202764.5", AT + timedelta(seconds=0.5)),
    (datetime, "1539202764000", AT),
    (datetime, "1539202764000000", AT),
    (datetime, "1539202764000000000", AT),
    (datetime, "0", datetime(1970, 1, 1, tzinfo=UTC)),
    (datetime, "5", NO),
    (datetime, "2018", NO),
    (datetime, '"2018"', NO),
    (datetime, "1.5", NO),
    (datetime, '"+5"', NO),
    (datetime, "true", NO),
    (datetime, '"2018-10-10T20:19:24Z"', AT),
    (datetime, '"2018-10-10 20:19:24"', AT.replace(tzinfo=None)),
    (datetime, '"2018-10-10"', OCTOBER.replace(tzinfo=None)),
    (datetime, '"20181010T201924Z"', AT),
    (datetime, '"Wed, 10 Oct 2018 20:19:24 +0000"', AT),
    (datetime, '"Wed Oct 10 20:19:24 +0000 2018"', AT),
    (datetime, '"2018-10-10 20:19:24 UTC"', AT),
    (datetime, '"2016-12-31T23:59:60Z"', datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
    (datetime, '"yesterday"', NO),
    (AwareDatetime, "1539202764", AT),
    (AwareDatetime, '"2018-10-10 20:19:24"', NO),
    (NaiveDatetime, '"2018-10-10 20:19:24"', AT.replace(tzinfo=None)),
    (date, "20181010", OCTOBER.date()),
    (date, '"20181010"', OCTOBER.date()),
    (date, "1539129600", OCTOBER.date()),
    (date, "86400", NO),
    (date, "1539202764", NO),
    (date, '"2018-10-10"', OCTOBER.date()),
    (date, '"2018-10-10T00:00:00Z"', OCTOBER.date()),
    (date, '"2018-10-10T20:19:24Z"', NO),
    (date, '"Wed, 10 Oct 2018 00:00:00 GMT"', OCTOBER.date()),
    (time, "3600", NO),
    (time, "1.5", NO),
    (time, '"12:30"', time(12, 30)),
    (timedelta, "5", timedelta(seconds=5)),
    (timedelta, '"PT5S"', timedelta(seconds=5)),
    (timedelta, "true", NO),
    (bool, "1", True),
    (bool, '"yes"', True),
    (bool, '"off"', False),
    (bool, "2", NO),
    (bool, '"maybe"', NO),
    (int, "true", NO),
    (int, '"1"', 1),
    (int, "1.0", 1),
    (int, "1.5", NO),
    (int, '"1_000"', NO),
    (int, '"\u0663"', NO),
    (float, "true", NO),
    (float, '"1.5"', 1.5),
    (float, '"1_000"', NO),
    (Decimal, "1.1", Decimal("1.1")),
    (Decimal, "12345678901234567890.12", Decimal("12345678901234567890.12")),
    (Decimal, "1.0000000000000000000001", Decimal("1.0000000000000000000001")),
    (Decimal, "1.10", Decimal("1.1")),
    (Decimal, '"1.10"', Decimal("1.10")),
    (Decimal, "7", Decimal(7)),
    (Decimal, '"1_0"', NO),
    (Decimal, '"\u0663"', NO),
    (Decimal, "true", NO),
    (Decimal, '"NaN"', NO),
    (Colour, '"red"', Colour.RED),
    (Colour, "1", Colour.BLUE),
    (Colour, "true", NO),
    (Number, "1", Number.ONE),
    (Number, "true", NO),
    (Literal[1, "a"], "1", 1),
    (Literal[1, "a"], "true", NO),
    (Literal[True], "true", True),
    (Literal[True], "1", NO),
    (bytes, '"aGk="', b"aGk="),
    (str, "1", NO),
    (int | str, '"1"', "1"),
    (int | str, "1", 1),
    (int | float, "1.0", 1.0),
    (int | float, "1", 1),
    (int | float, "true", NO),
    (int | bool, "true", True),
    (datetime | int, "20181010", 20181010),
    (datetime | str, "20181010", OCTOBER),
    (datetime | str, '"20181010"', "20181010"),
    (datetime | bool, "5", NO),
    (date | datetime, "20181010", OCTOBER),
    (Decimal | str, "12345678901234567890.12", Decimal("12345678901234567890.12")),
    (Any, "20181010", 20181010),
]
AROUND: dict[str, Any] = {
    "a field": lambda kind: (kind, "{}", lambda value: value),
    "an optional one": lambda kind: (kind | None, "{}", lambda value: value),
    "a list": lambda kind: (list[kind], "[{}]", lambda value: value[0]),
    "a mapping": lambda kind: (dict[str, kind], '{{"a": {}}}', lambda value: value["a"]),
    "a tuple": lambda kind: (tuple[int, kind], "[1, {}]", lambda value: value[1]),
    "a model within": lambda kind: (create_model("Inner", a=(kind, ...)), '{{"a": {}}}', lambda value: value.a),
    "a constraint": lambda kind: (Annotated[kind, Field(description="x")], "{}", lambda value: value),
}


def ways(model: type[BaseModel], text: bytes) -> dict[str, Any]:
    """What each way of fitting a record makes of it: a model, or None where it doesn't fit."""
    one = fitted(text, model)
    all_of_them = all_fitted([text, text], model)
    outcome = apply([Envelope("i", "s", "t", None, msgspec.Raw(text))], [], model)
    line = b'{"specversion":"1.0","id":"i","source":"s","type":"t","data":%b}' % text
    misfit = Contract("freeze", model, flow="f").misfit(line)
    return {
        "one": None if isinstance(one, str) else one,
        "all": all_of_them and all_of_them[1],
        "flow": outcome.rows[0] if outcome.rows else None,
        "contract": None if misfit else "fits",
    }


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize(("kind", "said", "expected"), VALUES)
def test_a_value_is_in_a_model_what_it_says_on_every_way(around: str, kind: Any, said: str, expected: Any) -> None:
    annotation, form, inner = AROUND[around](kind)
    model = create_model("Row", x=(annotation, ...))
    for way, found in ways(model, b'{"x": %b}' % form.format(said).encode()).items():
        if expected is NO:
            assert found is None, way
        elif way == "contract":
            assert found == "fits"
        else:
            assert found is not None, way
            value = inner(found.x)
            assert (value, type(value)) == (expected, type(expected)), way
            if isinstance(value, datetime):
                assert (value.tzinfo is None) == (expected.tzinfo is None), way


@pytest.mark.parametrize(("kind", "said", "expected"), [row for row in VALUES if row[0] in (datetime, date, Decimal)])
def test_strict_models_and_evolving_records_are_read_the_same(kind: Any, said: str, expected: Any) -> None:
    text = b'{"x": %b}' % said.encode()
    strict = create_model("Strict", __config__=ConfigDict(strict=True), x=(kind, ...))
    found = fitted(text, strict)
    assert isinstance(found, str) if expected is NO else found.x == expected  # type: ignore[union-attr]
    kept = coerce_partially(text, create_model("Row", x=(kind, ...)))
    assert kept is not None
    if expected is not NO:
        assert kept.x == expected  # type: ignore[attr-defined]


class Validated(BaseModel):
    at: datetime
    n: int = Field(gt=0)
    calls: int = 0

    @field_validator("at")
    @classmethod
    def _in_this_century(cls, at: datetime) -> datetime:
        if at.year < 2000:
            raise ValueError("before this century")
        return at


class Tree(BaseModel):
    at: datetime
    children: list[Tree] = []


def test_validators_constraints_and_models_that_hold_themselves_are_as_they_were() -> None:
    row = fitted(b'{"at": 20181010, "n": 3}', Validated)
    assert row == Validated(at=OCTOBER, n=3)
    assert type(row) is Validated
    assert row.model_fields_set == {"at", "n"}
    assert "before this century" in str(fitted(b'{"at": 0, "n": 3}', Validated))
    assert "greater than 0" in str(fitted(b'{"at": 20181010, "n": 0}', Validated))
    tree = fitted(b'{"at": 20181010, "children": [{"at": "20181010", "children": []}]}', Tree)
    assert tree == Tree(at=OCTOBER, children=[Tree(at=OCTOBER)])
    assert "no time" in str(fitted(b'{"at": 20181010, "children": [{"at": 5}]}', Tree))
    assert fitted(b"[20181010]", RootModel[list[datetime]]).root == [OCTOBER]  # type: ignore[union-attr]


def test_a_reason_never_holds_the_value() -> None:
    for kind, said, expected in VALUES:
        if expected is NO and len(said) > 4:
            assert said.strip('"') not in str(fitted(b'{"x": %b}' % said.encode(), create_model("Row", x=(kind, ...))))


class Prices(BaseModel):
    a: Decimal
    b: Decimal
    c: float = 0.0


def test_decimals_that_are_one_float_are_told_apart_or_refused() -> None:
    row = fitted(b'{"a": 0.30000000000000000001, "b": 0.5}', Prices)
    assert (row.a, row.b) == (Decimal("0.30000000000000000001"), Decimal("0.5"))  # type: ignore[union-attr]
    assert "two numbers of the record differ" in str(fitted(b'{"a": 0.30000000000000000001, "b": 0.3}', Prices))
    apart = [b'{"a": 0.30000000000000000001, "b": 1.5}', b'{"a": 0.3, "b": 1.5}']
    outcome = apply([Envelope(f"i{n}", "s", "t", None, msgspec.Raw(text)) for n, text in enumerate(apart)], [], Prices)
    assert outcome.rows is not None
    assert [row.a for row in outcome.rows] == [Decimal("0.30000000000000000001"), Decimal("0.3")]
    assert "no float holds" in str(fitted(b'{"a": 0.5, "b": 1, "c": 1e999}', Prices))


@pytest.mark.parametrize("model", [Quote, RecentChange, Validated, Tree, Prices])
def test_models_of_flows_keep_their_schema(model: type[BaseModel]) -> None:
    assert TypeAdapter(model).json_schema() == model.model_json_schema()
    with pytest.raises(ValidationError):
        model.model_validate_json(b"[]")


class Inner(BaseModel):
    amount: Decimal


MAPPINGS: list[tuple[Any, str, Any]] = [
    (dict[int, str], '{"1":"a","01":"b"}', NO),
    (dict[int, str], '{"1":"a","02":"b"}', {1: "a", 2: "b"}),
    (dict[int, str], '{"1":"a","1":"b"}', {1: "b"}),
    (dict[int, str] | None, '{"1":"a","+1":"b"}', NO),
    (list[dict[int, str]], '[{"1":"a"},{"1":"a"}]', [{1: "a"}, {1: "a"}]),
    (dict[str, dict[int, str]], '{"x":{"1":"a","01":"b"}}', NO),
    (dict[datetime, int], '{"2018-10-10T20:19:24Z":1,"2018-10-10T22:19:24+02:00":2}', NO),
    (dict[datetime, int], '{"2018-10-10T20:19:24Z":1,"20181010T201925Z":2}', {AT: 1, AT + timedelta(seconds=1): 2}),
    (dict[bool, int], '{"yes":1,"true":2}', NO),
    (dict[Annotated[str, StringConstraints(to_lower=True)], int], '{"A":1,"a":2}', NO),
    (dict[str, int], '{"A":1,"a":2}', {"A": 1, "a": 2}),
    (dict[int, Decimal], '{"1":12345678901234567890.12}', {1: Decimal("12345678901234567890.12")}),
    (dict[int, Inner], '{"1":{"amount":0.10000000000000000001}}', {1: Inner(amount=Decimal("0.10000000000000000001"))}),
]


@pytest.mark.parametrize(("kind", "said", "expected"), MAPPINGS)
def test_keys_that_become_one_are_no_mapping(kind: Any, said: str, expected: Any) -> None:
    model = create_model("Row", by=(kind, ...))
    text = b'{"by": %b}' % said.encode()
    found = {way: value for way, value in ways(model, text).items() if way != "contract"}
    if expected is NO:
        assert not any(found.values())
        assert "by" in str(fitted(text, model))
    else:
        assert [value.by for value in found.values()] == [expected] * 3


def test_what_is_strict_within_a_mapping_takes_from_json_what_it_took() -> None:
    inner = create_model("Inner", __config__=ConfigDict(strict=True), of=(set[int], ...), at=(date, ...))
    model = create_model("Row", by=(dict[int, inner], ...))  # type: ignore[valid-type]
    for found in ways(model, b'{"by":{"1":{"of":[1],"at":"2018-10-10"}}}').values():
        assert found == "fits" or found.by[1].of == {1}


def test_a_field_within_a_mapping_that_its_model_does_not_know_is_still_refused() -> None:
    model = create_model("Row", by=(dict[int, Inner], ...))
    text = b'{"by":{"1":{"amount":1,"more":2}}}'
    with pytest.raises(ValidationError, match="more"):
        reader_of(model).read(text, extra="forbid")
