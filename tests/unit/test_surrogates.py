"""Half a character (`\\ud83d`) on its way: JSON keeps it as the escape that it is, and no part fails on it."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import pytest
import structlog
from pydantic import BaseModel

from millrace_consumer.batch import Batch
from millrace_consumer.readback import WHOLE as WHOLE_RECORD
from millrace_consumer.sinks import jsonl
from millrace_consumer.transforms import apply
from millrace_pipeline import fitting
from millrace_pipeline.envelope import Record, decode, decode_published, encode
from millrace_pipeline.errors import EnvelopeError, RecordError
from millrace_pipeline.jsontext import checked_text, decode_json, encode_json
from millrace_pipeline.process.repeats import Repeats
from millrace_pipeline.surrogates import well_formed
from millrace_producer.sources.crawlprocess import Item, message_of
from millrace_producer.sources.fields import as_key

LONE = [
    rb'"\ud83d"',
    rb'"\ude00\ud83d"',
    rb'{"a": "x\uD83D", "n": 1.0000000000000000000001}',
    rb'{"a\udfff": [1]}',
    rb'"\\\ud83d"',
    rb'"\ud83d\ud83d\ude00"',
]
WHOLE = [rb'"\ud83d\ude00"', rb'"\\ud83d"', rb'"\u00e9"', b"{}"]


class Cut(BaseModel):
    a: str


@pytest.mark.parametrize("text", LONE)
def test_half_a_character_comes_through_the_queue_as_it_stood(text: bytes) -> None:
    checked_text(text)
    line = encode(Record(text, key="k"), id="i", source="s", mark="m")
    assert decode_published([line], "m") is None  # the fast way has no place for it
    found = decode(line, foreign_id=str)
    assert found.text == text
    assert found.value == json.loads(text)
    assert json.loads(encode_json(found.value)) == json.loads(text)
    assert apply([found], [lambda record: record]).envelopes[0].text == text


@pytest.mark.parametrize("text", WHOLE)
def test_whole_characters_and_escaped_backslashes_are_left_alone(text: bytes) -> None:
    assert well_formed(text) is text


@pytest.mark.parametrize("text", [rb'{"a": "\ud83d", "b": NaN}', rb'"\ud83d', rb'"\ud83d" 1', rb'"\ud8"'])
def test_what_is_no_json_otherwise_is_none_with_half_a_character_either(text: bytes) -> None:
    with pytest.raises(RecordError):
        checked_text(text)
    with pytest.raises(EnvelopeError):
        decode_json(text)


@pytest.mark.parametrize(
    "line",
    [
        rb'{"specversion":"1.0","x":"\ud83d","data":"\ud83d","id":"1","source":"s","type":"t","y":"\ud83d"}',
        rb'{"specversion":"1.0","x":"\ufffd","data":"\ud83d","id":"1","source":"s","type":"t","y":"\ufffd"}',
    ],
)
def test_the_data_of_anyones_envelope_is_found_again(line: bytes) -> None:
    assert decode(line, foreign_id=str).text == rb'"\ud83d"'


def test_a_bare_object_with_half_a_character_is_a_record() -> None:
    assert decode(rb'{"x": "\ud83d"}', foreign_id=lambda: "i").text == rb'{"x": "\ud83d"}'


def test_a_crawls_item_with_half_a_character_comes_through_the_pipe() -> None:
    line = msgspec.json.encode(Item(msgspec.Raw(rb'{"a":"\ud83d"}'), key="k")) + b"\n"
    message = message_of(line)
    assert isinstance(message, Item)
    assert (bytes(message.data), message.key) == (rb'{"a":"\ud83d"}', "k")


def test_where_a_text_must_be_unicode_the_replacement_stands_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "repeats", repeats := Repeats())
    line = encode(Record(rb'{"a":"x\ud83d"}', key="k"), id="i", source="s", mark="m")
    envelopes = [decode(line, foreign_id=str)] * 2
    replaced: Any = {"a": "x\ufffd"}
    with structlog.testing.capture_logs() as logs:
        outcome = apply(envelopes, model=Cut)
        assert outcome.rejected == {}
        assert [row.a for row in outcome.rows or ()] == ["x\ufffd"] * 2
        batch = Batch("b", envelopes)
        assert batch.records == [replaced] * 2
        assert batch.unicode_lines == [rb'{"a":"x\ufffd"}'] * 2
        assert batch.lines == [rb'{"a":"x\ud83d"}'] * 2
        repeats.summarise()
    assert [log["event"] for log in logs] == ["lone_surrogate_replaced"] * 2
    assert logs[1]["more_like_this"] == 5


def test_a_record_that_only_partly_fits_has_the_replacement_too() -> None:
    line = encode(Record(rb'{"a":{"b":"\ud83d"}}', key="k"), id="i", source="s", mark="m")
    outcome = apply([decode(line, foreign_id=str)], model=Cut, evolves=True)
    assert [row.a for row in outcome.rows or ()] == [{"b": "\ufffd"}]


@pytest.mark.parametrize(("by", "identity"), [(WHOLE_RECORD, rb'{"a":"\ud83d"}'), ("/a", rb"\ud83d")])
def test_a_file_with_half_a_character_is_read_back_whole(by: str, identity: bytes) -> None:
    file = io.BytesIO(rb'{"a":"\ud83d"}' + b"\n")
    assert list(jsonl._identities(by, "f.jsonl", file)) == [identity]
    assert as_key("\ud83d") == r"\ud83d"  # so that the two are compared as one
