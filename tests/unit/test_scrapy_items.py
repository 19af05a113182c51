"""Items as records: every kind that Scrapy knows, and the key that names them."""

from __future__ import annotations

import collections
import dataclasses
import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import attrs
import lxml.html
import numpy
import pytest
import scrapy
import structlog
from itemadapter import ItemAdapter
from pydantic import BaseModel
from scrapy.exporters import JsonLinesItemExporter

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.process.repeats import Repeats
from millrace_producer import keys
from millrace_producer.entries import Entries
from millrace_producer.itemfields import ItemFields
from millrace_producer.items import record_of


class Field(scrapy.Item):
    name = scrapy.Field()


class Priced(scrapy.Item):
    price = scrapy.Field(serializer=float)
    name = scrapy.Field()


@dataclasses.dataclass
class PricedData:
    price: Any = dataclasses.field(metadata={"serializer": float})
    name: str = ""


@attrs.define
class PricedAttrs:
    price: Any = attrs.field(metadata={"serializer": float})
    name: str = ""


@dataclasses.dataclass
class Data:
    name: str


@attrs.define
class Attrs:
    name: str


class Model(BaseModel):
    name: str


def record(item: Any, key: str | None = "content") -> Record:
    made = record_of(item, ItemFields(key))
    assert isinstance(made, Record), made
    return made


@pytest.mark.parametrize("kind", [dict, Field, Data, Attrs, Model])
def test_every_kind_of_item_gives_the_same_json_and_key_and_its_class_as_type(kind: Any) -> None:
    made = record(kind(name="Zoë"))
    assert made.data == '{"name":"Zoë"}'.encode()
    assert made.key == record({"name": "Zoë"}).key
    assert made.type == (None if kind is dict else kind.__name__)


def test_items_nest() -> None:
    item = Field(
        name=[
            Data("a"),
            {"b": Attrs("c"), "d": Model(name="e")},
            (ItemAdapter(Data("f")),),
            {Decimal("1.50"), datetime(2026, 1, 2, tzinfo=UTC)},
        ]
    )
    assert json.loads(record(item).data) == {
        "name": [
            {"name": "a"},
            {"b": {"name": "c"}, "d": {"name": "e"}},
            [{"name": "f"}],
            ["1.50", "2026-01-02T00:00:00Z"],
        ]
    }


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"a": object()}, "object is not something JSON can say"),
        ({"a": {"b": [b"bytes"]}}, "bytes are not JSON"),
        ({"a": {1: "x", "1": "y"}}, "two names of a dict are the same in JSON"),
        (Priced(price="x"), "could not convert"),
        (17, "int item"),
    ],
)
def test_an_item_that_json_cannot_say_becomes_a_dead_letter_that_shows_it(item: Any, reason: str) -> None:
    made = record_of(item, ItemFields())
    assert isinstance(made, DeadLetter)
    assert reason in made.reason
    assert made.original.decode() == repr(item).encode(errors="backslashreplace").decode()


@pytest.mark.parametrize("kind", [Priced, PricedData, PricedAttrs])
def test_a_serializer_of_a_field_is_heeded_as_by_scrapys_own_export(kind: Any) -> None:
    item = kind(price="1.50", name="Z")
    exported = io.BytesIO()
    exporter = JsonLinesItemExporter(exported)
    exporter.export_item(item)
    assert json.loads(record(item).data) == json.loads(exported.getvalue()) == {"price": 1.5, "name": "Z"}
    assert json.loads(record({"in": item}).data) == {"in": {"price": 1.5, "name": "Z"}}


class Text(str):
    """As BeautifulSoup's NavigableString and lxml's _ElementUnicodeResult are."""

    def __str__(self) -> str:
        return "another"


class Whole(int): ...


class Fraction(float): ...


def test_subclasses_are_what_they_are_subclasses_of() -> None:
    soup = lxml.html.fromstring("<p title='T'>text</p>")
    item = {
        Text("name"): Text("a\ud83d"),
        "xpath": soup.xpath("//p/text()")[0],
        "attribute": soup.xpath("//p/@title")[0],
        "whole": Whole(7),
        "fraction": Fraction(1.5),
        "mapping": collections.OrderedDict(a=1),
        "proxy": MappingProxyType({"a": 1}),
        "list": collections.deque([Text("x")]),
        "tuple": collections.namedtuple("Pair", "a b")(1, 2),
        "number": numpy.int64(3),
    }
    text = record(item).data
    assert json.loads(text) == {
        "name": "a\ud83d",
        "xpath": "text",
        "attribute": "T",
        "whole": 7,
        "fraction": 1.5,
        "mapping": {"a": 1},
        "proxy": {"a": 1},
        "list": ["x"],
        "tuple": [1, 2],
        "number": 3,
    }


def test_half_a_character_stays_the_escape_that_it_is_and_makes_no_two_keys_one() -> None:
    assert record({"a": "\ud83d"}).data == b'{"a":"\\ud83d"}'
    for key in ("content", "/a"):
        assert record({"a": "\ud83d"}, key).key != record({"a": "\ud83e"}, key).key
    assert record({"a": "\ud83d", "b": 1}).key == record({"b": 1, "a": "\ud83d"}).key


@pytest.mark.parametrize(("key", "mend"), [("meta.id", "/meta/id"), ("/none", "is the pointer right")])
def test_a_key_that_finds_nothing_is_said(key: str, mend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_entries = Entries("s", mark="m", session="i", key=key).make
    for make in (lambda: record({"meta": {"id": 1}}, key), lambda: by_entries(Record({"meta": {"id": 1}}))):
        monkeypatch.setattr(keys, "repeats", Repeats())
        with structlog.testing.capture_logs() as logs:
            make()
        assert [(log["event"], log["key"]) for log in logs] == [("record_without_key", key)]
        assert mend in logs[0]["mend"]


def test_a_number_that_json_lacks_becomes_null_and_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "repeats", Repeats())
    with structlog.testing.capture_logs() as logs:
        assert record({"a": float("nan")}).data == b'{"a":null}'
    assert [log["event"] for log in logs] == ["number_became_null"]


def test_an_item_within_itself_becomes_a_dead_letter() -> None:
    item: dict[str, Any] = {}
    item["self"] = item
    assert isinstance(record_of(item, ItemFields()), DeadLetter)


def test_the_content_key_does_not_depend_on_the_order_of_fields_but_on_every_value() -> None:
    assert record({"a": 1, "b": [1, 2]}).key == record({"b": [1, 2], "a": 1}).key
    assert record({"a": 1, "b": [1, 2]}).key != record({"a": 1, "b": [2, 1]}).key
    assert record({"a": 1}).key != record({"a": "1"}).key


def test_the_content_key_of_a_set_is_the_same_in_every_process() -> None:
    items = "{'s': {'a', 'b', 'c', 'd', 'e'}}"
    code = f"""if True:
        from millrace_producer.itemfields import ItemFields
        from millrace_producer.items import record_of
        print(record_of({items}, ItemFields()).key)"""
    keys = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("pointer", "key"),
    [("/id", "x1"), ("id", "x1"), ("/deep/0/n", "7"), ("/none", None), ("/empty", None), (None, None)],
)
def test_a_pointer_names_the_key(pointer: str | None, key: str | None) -> None:
    assert record({"id": "x1", "deep": [{"n": 7}], "empty": ""}, pointer).key == key
