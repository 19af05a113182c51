"""The fast model of a model says what the model says: whatever it takes the model takes too, and makes the same of."""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    computed_field,
    field_validator,
    model_validator,
)

from bench.ours.change import Change
from flows import Quote, RecentChange
from millrace_consumer.batch import Batch
from millrace_consumer.fastmodel import fast_model_of
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import RecordsRejected
from millrace_pipeline.jsontext import encode_json


class Inner(BaseModel):
    a: int
    b: str | None = None


class Everything(BaseModel):
    """A field of every type that a fast model has."""

    model_config = ConfigDict(populate_by_name=True)

    text: str
    short: Annotated[str, Field(min_length=1, max_length=4)] = "x"
    whole: int = 0
    small: Annotated[int, Field(ge=-3, lt=5)] = 0
    share: float | None = None
    flag: bool = False
    when: datetime | None = None
    anything: Any = None
    words: list[str] = []
    counts: dict[str, int] = {}
    inner: Inner | None = None
    inners: list[Inner] = []
    by_alias: str | None = Field(None, alias="@alias")


NAMES = [field.alias or name for name, field in Everything.model_fields.items()] + ["by_alias", "unknown"]
NUMBERS = [
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1.5",
    "1e3",
    "1E400",
    "1e-400",
    "4",
    "5",
    "-4",
    f"{2**63}",
    f"{-(2**70)}",
    "1" * 400,
]
TIMES = [
    f'"{day}{between}{time}{zone}"'
    for day in ("2026-02-28", "2026-02-30", "0001-01-01", "9999-12-31")
    for between in "T t"
    for time in ("12:30:15", "23:59:60", "24:00:00", "12:30", "12:30:15.5", "12:30:15.999999", "12:30:15.9999995")
    for zone in ("", "Z", "z", "+05:30", "-00:00", "+24:00", "+0530")
]
TEXTS = [
    '""',
    '"1"',
    '"true"',
    '"abcd"',
    '"abcde"',
    '"\\u00e9\\ud83d\\ude00"',
    '"\\u0000"',
    '"\\ud800"',
    '"ü€😀"',
    "1x",
]
SCALARS = st.sampled_from(["null", "true", "false", *NUMBERS, *TEXTS]) | st.sampled_from(TIMES)


def _objects(names: list[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(st.sampled_from(names), values), max_size=6)
    return pairs.map(lambda members: "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}")


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]") | _objects(["a", "b"], inner),
    max_leaves=6,
)
RECORDS = _objects(NAMES, VALUES).map(lambda members: '{"text":"t"' + (f",{members[1:]}" if len(members) > 2 else "}"))


@settings(max_examples=1500, deadline=None)
@given(RECORDS | VALUES)
@example('{"text":"t","by_alias":"by name"}')
@example('{"text":"t","when":"2026-02-28T12:30:15.9999999Z"}')
@example('{"text":"t","text":"u"}')
@example('{"text":"t","unknown":"\\q"}')
@example('{"text":"t","whole":"1"}')
def test_what_a_twin_takes_its_model_takes_and_makes_the_same_of(record: str) -> None:
    text = record.encode()
    fast = fast_model_of(Everything)
    assert fast is not None
    if (row := fast.decode(text)) is not None:
        assert same(row, Everything.model_validate_json(text))


def test_a_twin_takes_nearly_all_that_is_ordinary() -> None:
    """Else the test before this one would show nothing."""
    fast = fast_model_of(Everything)
    assert fast is not None
    ordinary = Everything(
        text="t",
        whole=2**70,
        share=1.5,
        flag=True,
        when=datetime.fromisoformat("2026-11-28T12:00:00.123456Z"),
        anything={"a": [1, None]},
        words=["w"],
        counts={"n": 1},
        inner=Inner(a=1),
        inners=[Inner(a=2, b="b")],
        by_alias="x",
    )
    for text in (ordinary.model_dump_json(by_alias=True).encode(), b'{"text":"t"}', b' {"text":"t","unknown":[{}]}\n'):
        assert fast.decode(text) is not None


def test_recorded_events_are_the_same_by_twin_and_by_model(wikimedia_events: list[bytes]) -> None:
    for model in (RecentChange, Change):
        fast = fast_model_of(model)
        assert fast is not None
        rows = fast.decode_all(wikimedia_events)
        assert rows is not None
        assert all(same(row, model.model_validate_json(text)) for row, text in zip(rows, wikimedia_events, strict=True))


def test_shipped_models_have_twins() -> None:
    assert fast_model_of(RecentChange)
    assert fast_model_of(Quote)


class Tree(BaseModel):
    children: list[Tree] = []


class Root(RootModel[list[int]]):
    pass


class Checked(BaseModel):
    a: int

    @field_validator("a")
    @classmethod
    def _positive(cls, value: int) -> int:
        return abs(value)


class CheckedWhole(BaseModel):
    a: int

    @model_validator(mode="before")
    @classmethod
    def _any(cls, value: Any) -> Any:
        return value


class Computed(BaseModel):
    a: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def b(self) -> int:
        return self.a


class AfterInit(BaseModel):
    a: int

    def model_post_init(self, _context: Any) -> None:
        self.a = -self.a


class Init(BaseModel):
    a: int

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    a: int


class Forbids(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int


class Allows(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Trims(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    a: str


class Either(BaseModel):
    a: int | str


class Choices(BaseModel):
    a: int = Field(validation_alias=AliasChoices("a", "b"))


class Pattern(BaseModel):
    a: str = Field(pattern="^x")


class Made(BaseModel):
    a: list[int] = Field(default_factory=lambda: [1])


class Unhashable(BaseModel):
    a: list[int] = [1]


class Day(BaseModel):
    a: date


class OneOf(BaseModel):
    a: Literal["x", "y"]


class Swapped(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    a: int = Field(alias="b")
    b: int = Field(alias="a")


@pytest.mark.parametrize(
    "model",
    [
        *(
            Tree,
            Root,
            Checked,
            CheckedWhole,
            Computed,
            AfterInit,
            Init,
            Strict,
            Forbids,
            Allows,
            Trims,
            Either,
            Choices,
        ),
        *(Pattern, Made, Unhashable, Day, OneOf, Swapped),
    ],
)
def test_a_model_that_says_more_than_a_struct_can_has_no_fast_model(model: type[BaseModel]) -> None:
    assert fast_model_of(model) is None


def test_what_only_the_model_takes_is_fitted_by_the_model_and_the_others_go_on() -> None:
    texts = [b'{"a":1}', b'{"a":"2"}', b'{"a":"x"}', b'{"a":4,"b":"b"}']
    outcome = apply([Envelope(f"{n}", "s", "t", None, msgspec.Raw(text)) for n, text in enumerate(texts)], [], Inner)
    assert list(outcome.rejected) == [2]
    assert outcome.rows is not None
    assert [(row.a, row.b) for row in outcome.rows] == [(1, None), (2, None), (4, "b")]
    batch = Batch("b", outcome.envelopes, model=Inner, rows=outcome.rows)
    assert batch.models == [Inner(a=1), Inner(a=2), Inner(a=4, b="b")]
    assert batch.records == [{"a": 1, "b": None}, {"a": 2, "b": None}, {"a": 4, "b": "b"}]
    assert batch.table.column("a").to_pylist() == [1, 2, 4]
    assert batch.pick([2]).models == [Inner(a=4, b="b")]


def test_what_only_the_twin_takes_is_rejected_once_somebody_wants_the_model() -> None:
    deep = b'{"a":1,"unknown":' + b"[" * 300 + b"]" * 300 + b"}"
    outcome = apply([Envelope("0", "s", "t", None, msgspec.Raw(text)) for text in (b'{"a":0}', deep)], [], Inner)
    batch = Batch("b", outcome.envelopes, model=Inner, rows=outcome.rows)
    assert len(batch.lines) == 2
    with pytest.raises(RecordsRejected) as rejected:
        _ = batch.records
    assert list(rejected.value.reasons) == [1]


def same(row: Any, model: Any) -> bool:
    """Whether a struct and a model hold the same, type by type."""
    if isinstance(model, BaseModel):
        if isinstance(row, BaseModel):
            return row == model
        return all(same(getattr(row, name), getattr(model, name)) for name in type(model).model_fields)
    if isinstance(model, list):
        return len(row) == len(model) and all(map(same, row, model))
    if isinstance(model, dict):
        return list(row) == list(model) and all(same(row[key], model[key]) for key in model)
    if isinstance(model, datetime):
        return bool(row == model and row.utcoffset() == model.utcoffset())
    if isinstance(model, float) and math.isnan(model):
        return bool(math.isnan(row))
    return type(row) is type(model) and repr(row) == repr(model)


def test_the_models_of_these_tests_refuse_what_they_should() -> None:
    with pytest.raises(ValidationError):
        Everything.model_validate_json(encode_json({"text": "t", "small": 5}))
