"""Which events of a stream are records, and what a record shows of its event."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_producer.sources.sse import SseSource
from tests.integration.sse_server import OK, ScriptedServer

STREAM = (
    b":thump\n\n"
    b'event: update\nid: 1\ndata: {"id": "1", "text": "\xc5\xbe"}\n\n'
    b"event: ping\nid: 2\ndata:\n\n"
    b"event: delete\nid: 3\ndata: 1234\n\n"
    b"data:\n\n"
    b"data: [DONE]\n\n"
    b'event: odd\ndata: {"event": "mine"}\n\n'
    b"event: update\ndata: {}\n\n"
    b'id: 4\ndata: {"id": "4"}\n\n'
)


def came(stream: bytes = STREAM, **options: Any) -> list[Record | DeadLetter]:
    with ScriptedServer(OK + stream) as server:
        return list(SseSource(url=server.url, backoff_initial=0.01, **options).read(None))


def data(records: list[Record | DeadLetter]) -> list[bytes]:
    return [record.data if isinstance(record, Record) else record.original for record in records]


def test_events_are_chosen_by_their_names() -> None:
    records = came(events=["update", "delete"])
    assert data(records) == ['{"id": "1", "text": "ž"}'.encode(), b"1234", b"{}"]
    assert [record.position for record in records] == ["1", "3", "3"]
    assert data(came(events=["message"], skip=["", "[DONE]"])) == [b'{"id": "4"}']


def test_what_is_no_record_is_skipped_and_nothing_else() -> None:
    records = came(skip=["", "[DONE]"])
    assert all(isinstance(record, Record) for record in records)
    assert len(records) == 5
    assert len(came(skip=[{"event": "ping"}, {"event": "message"}])) == 4


def test_without_a_word_heartbeats_are_set_aside_and_not_left_out() -> None:
    records = came()
    assert [type(record) for record in records].count(DeadLetter) == 3


def test_an_events_name_can_stand_in_the_record() -> None:
    records = came(skip=["", "[DONE]"], event_field="event", key="/id")
    assert data(records) == [
        '{"event":"update","id": "1", "text": "ž"}'.encode(),
        b'{"event":"delete","value":1234}',
        b'{"event": "mine"}',
        b'{"event":"update"}',
        b'{"event":"message","id": "4"}',
    ]
    odd = records[2]
    assert isinstance(odd, DeadLetter)
    assert odd.reason == "has a field event already, which is to hold 'odd'"
    assert isinstance(records[0], Record)
    assert (records[0].key, records[0].type) == ("1", "update")


def test_what_is_no_json_stays_as_it_came_beside_a_name() -> None:
    letters = came(b"data: {bad\n\ndata: \xff\n\n", event_field="event")
    assert [(type(letter), letter.original) for letter in letters] == [(DeadLetter, b"{bad"), (DeadLetter, b"\xff")]  # type: ignore[union-attr]


@pytest.mark.parametrize("format", ["json", "text"])
def test_what_is_not_utf_8_is_set_aside_or_replaced_as_one_says(format: str) -> None:
    stream = b'data: "a\xffb\xed\xa0\xbd"\n\n'
    (letter,) = came(stream, format=format)
    assert isinstance(letter, DeadLetter)
    (record,) = came(stream, format=format, invalid_utf8="replace")
    assert isinstance(record, Record)
    expected = '"a\N{REPLACEMENT CHARACTER}b' + 3 * "\N{REPLACEMENT CHARACTER}" + '"'
    assert record.data == (expected.encode() if format == "json" else expected)


def test_where_to_begin_takes_the_place_of_what_the_url_says_and_all_else_stays() -> None:
    with ScriptedServer(OK + b"data: 1\n\n") as server:
        url = server.url + "?wanted=a&wanted=b&since=1999&x=%E9&flag"
        reading = SseSource(url=url, since="2026-03-01T10:00:00Z", backoff_initial=0.01).read(None)  # type: ignore[arg-type]
        assert len(list(reading)) == 1
        since = "since=2026-03-01T10%3A00%3A00.000000Z"
        lines = [asked.line.split()[1] for asked in server.asked]
        assert lines[0] == f"/events?wanted=a&wanted=b&{since}&x=%E9&flag"
        assert lines[1] == "/events?wanted=a&wanted=b&since=1999&x=%E9&flag"


@pytest.mark.parametrize("options", [{"events": []}, {"format": "text", "event_field": "event"}, {"skip": [{"x": 1}]}])
def test_choices_that_can_not_be_made_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SseSource(url="http://host/", **options)
