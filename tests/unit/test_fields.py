"""What a source looks up in the bytes that it reads: the same as if it had read all of them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.jsontext import decode_json, encode_json
from millrace_pipeline.pointer import resolve
from millrace_producer.entries import Entries
from millrace_producer.sources.fields import Fields, as_key

TEXTS = [
    b'{"meta":{"id":"a","dt":"2026-11-28T12:00:00Z"},"id":5}',
    b'{"meta":{"id":""}}',
    b'{"meta":{"id":7,"id":8}}',
    b'{"meta":{"id":1},"meta":{"dt":0}}',
    b'{"meta":{"id":true,"dt":[]}}',
    b'{"meta":null,"id":"x"}',
    b'{"meta":["first",{"id":"in a list"}]}',
    b'{"meta":{"0":"in an object"}}',
    b'{"meta":"text"}',
    b'{"a/b":{"c~d":"escaped"}}',
    b'{"":"nameless"}',
    b"{}",
    b"[]",
    b'[{"id":"a"}]',
    b'"meta"',
    b"null",
    b' {"meta" : { "id":\n"spread out"}}\n',
]


@pytest.mark.parametrize(
    "pointer", ["/meta/id", "/meta/0", "/meta/1/id", "/0/id", "/meta", "meta", "id", "/a~1b/c~0d", "/"]
)
def test_a_key_is_what_the_pointer_finds(pointer: str) -> None:
    fields = Fields("json", pointer, "/meta/dt")
    for text in TEXTS:
        record = fields.record(text)
        assert isinstance(record, Record)
        assert record.key == as_key(resolve(pointer, decode_json(text))), text


def test_a_key_and_a_time_are_looked_for_at_once() -> None:
    record = Fields("json", "/meta/id", "/meta/dt").record(TEXTS[0], position=3, type="message")
    noon = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert record == Record(TEXTS[0], "a", 3, "message", noon, checked=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"meta":{"id":"a"}', "not JSON"),
        (b'{"meta":{"id":"a"},"skipped":"\xff"}', "not UTF-8: byte 0xff at offset 30"),
        (b'{"meta":{"id":"a"},"skipped":"\\q"}', "not JSON"),
        (b'{"meta":{"id":"a"},"skipped":01}', "not JSON"),
        (b'{"meta":{"id":"a"}} {}', "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_what_is_no_json_is_a_dead_letter_though_its_key_can_be_found(text: bytes, reason: str) -> None:
    letter = Fields("json", "/meta/id").record(text, position=9)
    assert isinstance(letter, DeadLetter)
    assert (letter.original, letter.position) == (text, 9)
    assert letter.reason.startswith(reason)


def test_a_number_beyond_python_hides_no_key_that_stands_beside_it() -> None:
    record = Fields("json", "/meta/id").record(b'{"meta":{"id":"a"},"n":1e999}')
    assert record == Record(b'{"meta":{"id":"a"},"n":1e999}', "a", checked=True)
    assert Fields("json", "/n").record(b'{"n":1e999}') == Record(b'{"n":1e999}', checked=True)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_is_none_in_utc_stops_no_producer(time: str) -> None:
    text = encode_json({"at": time})
    record = Fields("json", time="/at").record(text)
    assert isinstance(record, Record)
    assert record.time is None
    entry = Entries("s", mark="k", session="1").make(
        Record(text, time=datetime.fromisoformat(time))
    )  # by a source of the user's
    assert entry.dead is not None
    assert entry.dead.reason == "a time that is none in UTC, where the years are 1 to 9999"


@pytest.mark.parametrize("step", ["²", "9" * 5000, "18446744073709551616", "-1", "x", ""])
def test_a_step_that_no_list_has_finds_nothing(step: str) -> None:
    assert resolve(f"/{step}", [1, 2]) is None
