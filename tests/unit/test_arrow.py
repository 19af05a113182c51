"""Arrow columns of each type that a model can have."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import (
    AwareDatetime,
    BaseModel,
    Field,
    HttpUrl,
    IPvAnyAddress,
    PositiveInt,
    RootModel,
    computed_field,
    create_model,
)
from typing_extensions import TypedDict

from millrace_consumer.arrow import PLAIN, schema_of
from millrace_consumer.batch import Batch
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import RecordsRejected
from millrace_pipeline.jsontext import encode_json

UTC_INSTANT = pa.timestamp("us", tz="UTC")
KEY = "6f1d2f1e-0000-4000-8000-000000000000"


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Mixed(Enum):
    A = 1
    B = "b"


class Inner(BaseModel):
    a: int
    tags: list[str] = []


class Open(BaseModel, extra="allow"):
    a: int


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Words(RootModel[list[str]]):
    pass


class Loose(TypedDict):
    a: int


Score = NewType("Score", int)

JSON = pa.string()
TYPES: list[tuple[Any, pa.DataType, Any, Any]] = [
    (str, pa.string(), "é", "é"),
    (int, pa.int64(), 2**63 - 1, 2**63 - 1),
    (float, pa.float64(), 1.5, 1.5),
    (bool, pa.bool_(), True, True),
    (bytes, pa.binary(), "é", "é".encode()),
    (dt.datetime, UTC_INSTANT, "2026-11-21T01:30:00+01:00", dt.datetime(2026, 11, 21, 0, 30, tzinfo=dt.UTC)),
    (dt.datetime, UTC_INSTANT, "2026-11-21T01:30:00", dt.datetime(2026, 11, 21, 1, 30, tzinfo=dt.UTC)),
    (AwareDatetime, UTC_INSTANT, "2026-11-21T01:30:00Z", dt.datetime(2026, 11, 21, 1, 30, tzinfo=dt.UTC)),
    (dt.date, pa.date32(), "2026-11-21", dt.date(2026, 11, 21)),
    (dt.timedelta, pa.duration("us"), "PT1.5S", dt.timedelta(seconds=1.5)),
    (dt.time, pa.string(), "01:30:00Z", "01:30:00+00:00"),
    (Decimal, pa.decimal128(38, 18), "1.10", Decimal("1.1")),
    (Annotated[Decimal, Field(max_digits=6, decimal_places=2)], pa.decimal128(6, 2), "1234.56", Decimal("1234.56")),
    (UUID, pa.string(), KEY, KEY),
    (HttpUrl, pa.string(), "https://example.com/", "https://example.com/"),
    (IPvAnyAddress, pa.string(), "10.0.0.1", "10.0.0.1"),
    (IPv4Address, pa.string(), "10.0.0.1", "10.0.0.1"),
    (Path, pa.string(), "a/b", "a/b"),
    (Colour, pa.string(), "red", "red"),
    (Level, pa.int64(), 3, 3),
    (Mixed, JSON, "b", '"b"'),
    (Literal["a", "b"], pa.string(), "b", "b"),
    (Literal[1, 2], pa.int64(), 2, 2),
    (Literal["a", 1], JSON, 1, "1"),
    (PositiveInt, pa.int64(), 5, 5),
    (Score, pa.int64(), 5, 5),
    (Optional[int], pa.int64(), 5, 5),  # noqa: UP045 - the old spelling is another type
    (int | None, pa.int64(), None, None),
    (list[int | None], pa.list_(pa.int64()), [1, None], [1, None]),
    (list[list[dt.date]], pa.list_(pa.list_(pa.date32())), [["2026-11-21"]], [[dt.date(2026, 11, 21)]]),
    (set[str], pa.list_(pa.string()), ["b", "a"], ["a", "b"]),
    (tuple[int, ...], pa.list_(pa.int64()), [1, 2], [1, 2]),
    (tuple[int, str], JSON, [1, "a"], '[1,"a"]'),
    (dict[str, Decimal | None], pa.map_(pa.string(), pa.decimal128(38, 18)), {"a": None}, [("a", None)]),
    (dict[str, Inner], pa.map_(pa.string(), pa.struct([("a", pa.int64()), ("tags", pa.list_(pa.string()))])),
     {"k": {"a": 1, "tags": ["x"]}}, [("k", {"a": 1, "tags": ["x"]})]),
    (Inner | None, pa.struct([("a", pa.int64()), ("tags", pa.list_(pa.string()))]), {"a": 1}, {"a": 1, "tags": []}),
    (Words, pa.list_(pa.string()), ["x"], ["x"]),
    (Open, JSON, {"a": 1, "b": 2}, '{"a":1,"b":2}'),
    (Tree, pa.struct([("name", pa.string()), ("children", JSON)]), {"name": "a", "children": [{"name": "b"}]},
     {"name": "a", "children": '[{"name":"b","children":[]}]'}),
    (Loose, JSON, {"a": 1}, '{"a":1}'),
    (dict[int, str], JSON, {"1": "a"}, '{"1":"a"}'),
    (dict[str, Any], JSON, {"a": [1, None]}, '{"a":[1,null]}'),
    (list[Any], JSON, [1, "a"], '[1,"a"]'),
    (list, JSON, [1], "[1]"),
    (dict, JSON, {"a": 1}, '{"a":1}'),
    (Any, JSON, "a", '"a"'),
    (Any, JSON, None, None),
    (int | str, JSON, 2**70, str(2**70)),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "arrow", "given", "found"), TYPES)
def test_a_field_of_each_type_comes_back_from_parquet(
    tmp_path: Path, annotation: Any, arrow: pa.DataType, given: Any, found: Any
) -> None:
    model = create_model("Model", field=(annotation, ...))
    table = typed(model, {"field": given}).table
    assert table.schema.field("field").type == arrow
    pq.write_table(table, tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet")["field"].to_pylist() == [found]


def typed(model: type[BaseModel], *records: Any) -> Batch:
    envelopes = [Envelope(str(i), "s", "t", None, msgspec.Raw(encode_json(r))) for i, r in enumerate(records)]
    outcome = apply(envelopes, model=model)
    assert not outcome.rejected, outcome.rejected
    return Batch("b", outcome.envelopes, model=model, rows=outcome.rows)


def test_a_type_that_holds_itself_has_an_end() -> None:
    assert schema_of(Tree).field("children").type == pa.string()


def test_computed_fields_are_columns_and_excluded_fields_are_not() -> None:
    class Order(BaseModel):
        price: Decimal
        secret: str = Field("s", exclude=True)

        @computed_field
        def cents(self) -> int:
            return int(self.price * 100)

    assert typed(Order, {"price": "1.5"}).table.to_pylist() == [{"price": Decimal("1.5"), "cents": 150}]


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, 1, 2**63),
        (int, 1, -(2**63) - 1),
        (list[int], [1], [2**63]),
        (dict[str, int], {"a": 1}, {"a": 2**64}),
        (Decimal, "1", "1e30"),
        (Decimal, "1", "0." + "0" * 30 + "1"),
        (bytes | None, None, None),
    ],
)
def test_exactly_the_records_that_do_not_fit_a_column_are_named(annotation: Any, good: Any, bad: Any) -> None:
    model = create_model("Model", field=(annotation, ...), other=(int, ...))
    values = [good, bad, good, bad]
    records = [{"field": value, "other": 1 if n < 3 else 2**65} for n, value in enumerate(values)]
    with pytest.raises(RecordsRejected) as rejection:
        _ = typed(model, *records).table
    assert list(rejection.value.reasons) == ([1, 3] if bad is not None else [3])
    assert "does not fit" in rejection.value.reasons[3]


def test_without_a_model_the_columns_are_id_time_and_text() -> None:
    moments = ["2026-11-21T01:30:00.5Z", None, "no time"]
    batch = Batch(
        "b", [Envelope(str(i), "s", "t", when, msgspec.Raw(b'{"n":1e999}')) for i, when in enumerate(moments)]
    )
    table = batch.table
    assert table.schema == PLAIN
    assert table["time"].to_pylist() == [dt.datetime(2026, 11, 21, 1, 30, 0, 500000, dt.UTC), None, None]
    assert table["data"].to_pylist() == ['{"n":1e999}'] * 3


def test_an_empty_batch_has_the_columns_of_its_model() -> None:
    assert Batch("b", [], model=Inner, rows=[]).table.schema == schema_of(Inner)


def test_a_set_has_the_same_order_in_every_process() -> None:
    program = (
        "from pydantic import create_model;"
        "from millrace_consumer.batch import Batch;"
        "from millrace_pipeline.envelope import Envelope; M = create_model('M', f=(set[str], ...));"
        "print(Batch('b', [Envelope('1', 's', 't')], model=M, rows=[M(f=set('abcdef'))]).table.to_pylist())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


class Outer(BaseModel):
    n: int
    inner: Inner | None = None


def test_a_column_of_structs_within_structs_tells_what_is_null_from_what_is_empty() -> None:
    class Model(BaseModel):
        f: Outer | None = None

    given = [None, {"n": 1}, {"n": 2, "inner": {"a": 3, "tags": ["x"]}}, None]
    table = typed(Model, *({"f": value} for value in given)).table
    assert table["f"].null_count == 2
    assert table["f"].to_pylist() == [
        None,
        {"n": 1, "inner": None},
        {"n": 2, "inner": {"a": 3, "tags": ["x"]}},
        None,
    ]
    assert typed(Model, {"f": None}).table["f"].type == table["f"].type


def test_a_record_is_named_for_what_is_deep_in_its_struct() -> None:
    class Model(BaseModel):
        f: Outer | None = None

    with pytest.raises(RecordsRejected) as rejection:
        _ = typed(Model, {"f": None}, {"f": {"n": 1}}, {"f": {"n": 2**64}}).table
    assert list(rejection.value.reasons) == [2]
    assert "f: does not fit struct<" in rejection.value.reasons[2]
