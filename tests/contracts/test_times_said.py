"""Times: each source reads them by one function, and whatever path a record takes, one that can't be read is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace_consumer.arrow import table_of_envelopes
from millrace_consumer.batch import Batch
from millrace_consumer.reader import _message
from millrace_consumer.sinks.jsonl import JsonlSink
from millrace_consumer.sinks.sqlcells import plain_cells
from millrace_pipeline.envelope import Envelope, Record, decode
from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.flows.component import Component
from millrace_pipeline.process.repeats import repeats
from millrace_producer.entries import Entries
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source
from millrace_producer.sources.recordoptions import TimeOptions
from tests.waysin import WAYS, Ways


@pytest.fixture
def ways(tmp_path: Path, redis_url: str) -> Iterator[Ways]:
    with Ways(tmp_path, redis_url) as ways:
        yield ways


def test_every_source_with_a_time_is_among_the_ways() -> None:
    with_time = {name for name in SOURCES if issubclass(Component(type=name).find(SOURCES, Source), TimeOptions)}
    with_time -= {"scrapy"}  # its items are no JSON yet: tests/integration/test_item_times.py
    assert with_time == {way.partition("_")[0] for way in WAYS} - {"document"}  # which is files, too


UNITS = [
    ("auto", 1_538_352_000, 2018),
    ("auto", 1_538_352_000_123, 2018),
    ("auto", "1538352000123456", 2018),
    ("s", 94_694_400, 1973),
    ("ms", 94_694_400_000, 1973),
    ("us", 94_694_400_000_000, 1973),
    ("ns", "94694400000000000", 1973),
]


@pytest.mark.parametrize("way", WAYS)
def test_time_unit_says_what_a_number_counts_in_every_source(ways: Ways, way: str) -> None:
    for unit, number, year in UNITS:
        (record,) = ways.read(way, [json.dumps({"a": {"t": number}}).encode()], time="/a/t", time_unit=unit)
        assert isinstance(record, Record)
        assert record.time is not None
        assert record.time.year == year, (unit, number)


def test_time_unit_counts_for_csv_and_entries_whose_cells_are_texts(ways: Ways) -> None:
    how: dict[str, Any] = {"time": "/t", "time_unit": "ms"}
    for came in (
        ways.file(b"t\n94694400000\n", ".csv", **how),
        ways.body(b"t\n94694400000\n", "text/csv", format="csv", **how),
        ways.entries([{"t": b"94694400000"}], **how),
        ways.file(b"<a><t>94694400000</t></a>", ".xml", records="a", **how),
    ):
        (record,) = came
        assert record.time == datetime(1973, 1, 1, tzinfo=UTC)  # type: ignore[union-attr]


HAVE_THEIR_OWN = ("redis_list", "redis_stream", "kafka", "sqs")


@pytest.mark.parametrize("text", [b'{"t": "yesterday"}', b'{"n": 1e999, "t": "yesterday"}', b'{"t": 1e999}'])
@pytest.mark.parametrize("way", WAYS)
def test_a_time_that_cannot_be_read_is_said_by_every_source(ways: Ways, way: str, text: bytes) -> None:
    with repeats.heard() as heard:
        (record,) = ways.read(way, [text], time="/t")
    assert isinstance(record, Record)
    assert record.time is None or way in HAVE_THEIR_OWN
    assert [(event, fields["time"]) for event, fields in heard] == [("time_not_understood", "/t")]


@pytest.mark.parametrize("way", WAYS)
def test_a_number_that_python_cannot_hold_hides_no_key_and_no_time(ways: Ways, way: str) -> None:
    text = b'{"big": 1e999, "id": "a", "x/y": {"t": "2018-10-10"}}'
    with repeats.heard() as heard:
        (record,) = ways.read(way, [text], key="/id", time="/x~1y/t")
    assert isinstance(record, Record)
    assert (record.key, record.time) == ("a", datetime(2018, 10, 10, tzinfo=UTC))
    assert heard == []


def made(time: Any) -> tuple[str | None, list[str]]:
    entries = Entries("flow", mark="list", session="s")
    with repeats.heard() as heard:
        entry = entries.make(Record({"n": 1}, time=time))
    assert entry.dead is None
    return json.loads(entry.line)["time"], [event for event, _ in heard]


@pytest.mark.parametrize(
    "time", [date(2018, 10, 10), "2018-10-10", 1_539_129_600, "1539129600000", "Wed, 10 Oct 2018 00:00:00 GMT"]
)
def test_a_source_of_ones_own_may_say_a_time_in_any_form(time: Any) -> None:
    assert made(time) == ("2018-10-10T00:00:00Z", [])


@pytest.mark.parametrize("time", ["yesterday", 5, True, [2018]])
def test_what_is_no_time_in_a_source_of_ones_own_is_said(time: Any) -> None:
    published, heard = made(time)
    assert published is not None
    assert published[:4] >= "2026"
    assert heard == ["time_not_understood"]


def of_table(envelope: Envelope) -> Any:
    return table_of_envelopes([envelope], [envelope.text]).column("time")[0].as_py()


READERS = {
    "arrow": of_table,
    "tables": lambda envelope: plain_cells(Batch("b", [envelope]))["time"][0],
    "partitions": lambda envelope: JsonlSink(path="out").moments(Batch("b", [envelope]))(0),
    "a reader": lambda envelope: _message(envelope, None, None).time,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_time_of_an_envelope_by_others_is_read_as_any_or_said(reader: str) -> None:
    for time, expected, said in (
        ("Wed, 10 Oct 2018 00:00:00 GMT", datetime(2018, 10, 10, tzinfo=UTC), []),
        ("yesterday", None, ["time_not_understood"]),
        (None, None, []),
    ):
        with repeats.heard() as heard:
            assert READERS[reader](Envelope("i", "s", "t", time, msgspec.Raw(b"{}"))) == expected
        assert [event for event, _ in heard] == said


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("time", "expected", "said"),
    [
        ("1538352000", datetime(2018, 10, 1, tzinfo=UTC), []),
        ("1538352000123", datetime(2018, 10, 1, 0, 0, 0, 123000, tzinfo=UTC), []),
        ("1538352000.25", datetime(2018, 10, 1, 0, 0, 0, 250000, tzinfo=UTC), []),
        ('"1538352000"', datetime(2018, 10, 1, tzinfo=UTC), []),
        ("null", None, []),
        ("5", None, ["time_not_understood"]),
        ("2018101020", None, ["time_not_understood"]),
        (r'"\ud83d"', None, ["time_not_understood"]),
    ],
)
def test_an_envelope_by_others_may_count_its_time(
    reader: str, time: str, expected: datetime | None, said: list[str]
) -> None:
    line = f'{{"specversion":"1.0","id":"i","source":"s","type":"t","time":{time},"data":{{}}}}'.encode()
    with repeats.heard() as heard:
        assert READERS[reader](decode(line, foreign_id=str)) == expected
    assert [event for event, _ in heard] == said


@pytest.mark.parametrize("time", ["true", "[1]", "{}", "1e999"])
def test_an_envelope_whose_time_is_neither_text_nor_number_says_so(time: str) -> None:
    line = f'{{"specversion":"1.0","id":"i","source":"s","type":"t","time":{time},"data":{{}}}}'.encode()
    with pytest.raises(EnvelopeError, match="time"):
        decode(line, foreign_id=str)


def test_a_bare_object_may_have_any_time() -> None:
    assert decode(b'{"time":true}', foreign_id=lambda: "n").bare
