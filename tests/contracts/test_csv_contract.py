"""The csv sink keeps the sink contract, and its own claims."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, ValidationError, computed_field

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected
from millrace_consumer.sinks.csv import CsvSink
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.jsontext import encode_json
from tests.contracts.file_sink_contract import FileSinkContract, files_in
from tests.contracts.sink_records import Thing, batch_of

COLUMNS = ["id", "text", "number", "flag", "nested"]


def cell(value: Any) -> str:
    """What the cell of a value holds, said once more and independently."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"'{value}" if isinstance(value, str) and value[:1] in ("\n", "=", "@") else str(value)


class TestCsvSink(FileSinkContract):
    sink = "millrace_consumer.sinks.csv:CsvSink"
    unwritable: ClassVar[list[Any]] = [object(), ["not", "an", "object"], {"id": "x", "text": object()}]

    def options(self, destination: Path) -> dict[str, Any]:
        return {"path": str(destination), "columns": COLUMNS}

    def read_back(self, destination: Path) -> list[Any]:
        records = []
        for file in files_in(destination):
            header, *rows = read(file)
            assert header[: len(COLUMNS)] == COLUMNS
            records += [dict(zip(header, row, strict=True)) for row in rows]
        return records

    def expected(self, record: dict[str, Any]) -> Any:
        return {column: cell(record.get(column)) for column in COLUMNS}


class TestCsvSinkWithModel(TestCsvSink):
    model = Thing
    unwritable: ClassVar[list[Any]] = [Thing.model_construct(id="x", nested=[object()])]

    def options(self, destination: Path) -> dict[str, Any]:
        return {"path": str(destination)}

    def batch(self, id: str, records: list[Any]) -> Batch:
        models: list[BaseModel] = [r if isinstance(r, Thing) else Thing.model_validate(r) for r in records]
        return Batch(id, batch_of(id, [model.id for model in models]).envelopes, model=Thing, rows=models)


def read(file: Path) -> list[list[str]]:
    text = file.read_bytes().decode()
    assert text.endswith("\r\n"), "half a line"
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def written(records: list[Any], **options: Any) -> str:
    return b"".join(CsvSink.model_validate({"path": "unused"} | options).encode(batch_of("b", records))).decode()


HOSTILE = st.text(st.characters(codec="utf-8")) | st.text("=+-@\t\r\n\"',;\x00 ＝ \u200b\ufeff'a1")


@given(st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1))
@example([("'=1", "''@"), ("=1", "\t"), ("'", "' ="), ("'a", "\r\n")])
def test_any_text_comes_back_and_runs_nothing(rows: list[tuple[str, str]]) -> None:
    text = written([{"a": a, "b": b} for a, b in rows], columns=["a", "b"], header=False)
    found = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert all(not value.lstrip().startswith(("=", "+", "-", "@", "＝")) for row in found for value in row)
    assert all(value[:1] not in ("\t", "\r", "\n") for row in found for value in row)
    assert [tuple(map(unescaped, row)) for row in found] == rows


def unescaped(text: str) -> str:
    """What the docs tell a reader to do: drop one ' from what would be a formula (or quotes and a formula) after it."""
    rest = text.lstrip("'")
    skipped = rest.lstrip("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff" + "".join(map(chr, range(33))) + WHITE)
    formula = rest[:1] in ("\t", "\r", "\n") or skipped[:1] in tuple("=+-@＝＋－＠﹦﹢﹣﹫")
    return text[1:] if text.startswith("'") and formula and (rest or skipped) else text


WHITE = "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


@pytest.mark.parametrize(
    "formula",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1",
        "\u3000=1",
        "＝1",
        "﹦1",
        "\ufeff=1",
        "\u200b=1",
        "\x00=1",
    ],
)
def test_a_formula_is_escaped(formula: str) -> None:
    [[value]] = csv.reader(io.StringIO(written([{"a": formula}], columns=["a"], header=False), newline=""))
    assert value == f"'{formula}"
    [[value]] = csv.reader(
        io.StringIO(written([{"a": formula}], columns=["a"], header=False, escape_formulas=False), newline="")
    )
    assert value == formula


def test_a_negative_number_is_no_formula() -> None:
    assert written([{"a": -1}, {"a": -1.5}], columns=["a"]) == "a\r\n-1\r\n-1.5\r\n"


def test_columns_keep_their_order_and_may_be_pointers_or_have_names_of_their_own() -> None:
    record = {"z": 1, "meta": {"id": "7", "tags": ["x", "y"]}, "a/b": 2}
    assert (
        written([record], columns=["z", "/meta/id", "/meta/tags/1", "/a~1b"])
        == "z,meta.id,meta.tags.1,a/b\r\n1,7,y,2\r\n"
    )
    assert written([record], columns={"key": "/meta/id", "z": "z"}) == "key,z\r\n7,1\r\n"


def test_delimiter_null_and_header_are_options() -> None:
    records = [{"a": "x;y", "b": None}, {"a": ""}]
    text = written(records, columns=["a", "b"], delimiter=";", null="NULL", header=False)
    assert text == '"x;y";NULL\r\n;NULL\r\n'


def test_without_columns_or_model_the_check_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"columns: \[\.\.\.\].*model"):
        CsvSink(path=tmp_path).check(None)
    CsvSink(path=tmp_path).check(Thing)
    CsvSink(path=tmp_path, columns=["id"]).check(None)


def test_a_model_without_named_fields_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no named fields"):
        CsvSink(path=tmp_path).check(RootModel[list[int]])


@pytest.mark.parametrize(
    "options",
    [{"columns": []}, {"columns": ["a", "a"]}, {"columns": ["/a/b", "a.b"]}, {"delimiter": '"'}, {"delimiter": ";;"}],
)
def test_options_that_make_no_table_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CsvSink.model_validate({"path": "x"} | options)


class Colour(Enum):
    RED = "=red"


class Typed(BaseModel):
    when: datetime
    price: Decimal
    key: UUID
    colour: Colour
    tags: set[str]
    raw: bytes
    thing: Thing
    secret: str = Field("hidden", exclude=True)

    @computed_field
    def double(self) -> Decimal:
        return self.price * 2


def test_typed_values_are_written_as_such(tmp_path: Path) -> None:
    key = "6f1d2f1e-0000-4000-8000-000000000000"
    data = {"when": "2026-11-21T01:30:00Z", "price": "-1.50", "key": key, "colour": "=red", "tags": ["b", "a"]}
    data |= {"raw": "=1", "thing": {"id": "1"}}
    envelopes = [Envelope("1", "s", "t", None, msgspec.Raw(encode_json(data)))]
    outcome = apply(envelopes, model=Typed)
    CsvSink(path=tmp_path).write(Batch("b", outcome.envelopes, model=Typed, rows=outcome.rows))
    [header, row] = read(tmp_path / "b.csv")
    assert header == ["when", "price", "key", "colour", "tags", "raw", "thing", "double"]
    thing = '{"id":"1","text":null,"number":null,"flag":null,"nested":null}'
    assert row == ["2026-11-21T01:30:00+00:00", "-1.50", key, "'=red", '["a","b"]', "'=1", thing, "-3.00"]


def test_columns_can_choose_among_a_models_fields(tmp_path: Path) -> None:
    sink = CsvSink(path=tmp_path, columns=["text", "/nested/a"])
    sink.write(batch_of("b", [{"id": "1", "text": "t", "nested": {"a": 5}}], Thing))
    assert read(tmp_path / "b.csv") == [["text", "nested.a"], ["t", "5"]]


def test_a_number_that_python_does_not_print_names_its_record(tmp_path: Path) -> None:
    envelopes = [
        Envelope(str(i), "s", "t", None, msgspec.Raw(b'{"a":%s}' % n)) for i, n in enumerate([b"1", b"9" * 5000])
    ]
    with pytest.raises(RecordsRejected) as rejection:
        CsvSink(path=tmp_path, columns=["a"]).write(Batch("b", envelopes))
    assert list(rejection.value.reasons) == [1]


def test_half_a_surrogate_pair_is_the_replacement_character(tmp_path: Path) -> None:
    envelopes = [Envelope(str(i), "s", "t", None, {"a": text}) for i, text in enumerate(["fine", "\ud800"])]
    CsvSink(path=tmp_path, columns=["a"]).write(Batch("b", envelopes))
    assert read(tmp_path / "b.csv") == [["a"], ["fine"], ["\ufffd"]]


@pytest.mark.parametrize("text", ["1.0000000000000000000001", "1e400", "1e-400", "1E+5", "-0.0"])
def test_a_number_keeps_all_its_digits(text: str, tmp_path: Path) -> None:
    envelopes = [Envelope("1", "s", "t", None, msgspec.Raw(f'{{"a":{text},"b":[{text}]}}'.encode()))]
    CsvSink(path=tmp_path, columns=["a", "b"], escape_formulas=False).write(Batch("b", envelopes))
    [_, [alone, nested]] = read(tmp_path / "b.csv")
    assert [Decimal(alone), Decimal(nested.strip("[]"))] == [Decimal(text)] * 2


def test_real_events_come_back(tmp_path: Path, wikimedia_events: list[bytes]) -> None:
    events = [json.loads(event) for event in wikimedia_events]
    columns = ["title", "user", "comment", "bot", "/meta/id", "length"]
    CsvSink(path=tmp_path, columns=columns, escape_formulas=False).write(batch_of("b", events))
    _header, *rows = read(tmp_path / "b.csv")
    for event, (title, user, comment, bot, key, length) in zip(events, rows, strict=True):
        assert (title, user, comment, key) == (event["title"], event["user"], event["comment"], event["meta"]["id"])
        assert bot == str(event["bot"]).lower()
        assert (json.loads(length) if length else None) == event.get("length")
