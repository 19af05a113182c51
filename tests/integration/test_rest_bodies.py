"""What a rest source reads of a body: in whatever form and encoding, and one bad record keeps no other from coming."""

from __future__ import annotations

import codecs
import json
from typing import Any

import pytest
from pydantic import ValidationError

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_producer.sources.rest import RestSource
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer

FAST: dict[str, Any] = {"max_failures": 2, "backoff_initial": 0.01, "backoff_max": 0.1}


def came(body: bytes, content_type: str = "application/json", **options: Any) -> list[Record | DeadLetter]:
    with ApiServer(lambda asked: Answer(200, body, {"Content-Type": content_type})) as server:
        return list(RestSource(url=server.url, **{**FAST, **options}).read(None))


def data(records: list[Record | DeadLetter]) -> list[Any]:
    assert all(isinstance(record, Record) for record in records), records
    return [json.loads(record.data) for record in records if isinstance(record, Record)]


TEXT = '[{"name": "Žižkov – é"}]'


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (codecs.BOM_UTF8 + TEXT.encode(), "application/json"),
        (codecs.BOM_UTF8 + TEXT.encode(), "application/json; charset=ISO-8859-1"),
        (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), "application/json"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "application/json"),
        (TEXT.encode("utf-16-le"), "application/json; charset=utf-16le"),
        (TEXT.encode("cp1250"), 'application/json; charset="Windows-1250"'),
        (TEXT.encode(), "application/json; charset=UTF-8"),
        (TEXT.encode(), "application/json; charset="),
    ],
)
def test_a_body_is_read_in_the_encoding_that_it_says(body: bytes, content_type: str) -> None:
    assert data(came(body, content_type)) == json.loads(TEXT)


def test_latin_1_is_heeded() -> None:
    (record,) = came('["é"]'.encode("latin-1"), "application/json; charset=ISO-8859-1")
    assert isinstance(record, Record)
    assert record.data == '"é"'.encode()


def test_an_encoding_that_nobody_knows_is_refused() -> None:
    with pytest.raises(SourceRefused, match="'klingon', an encoding"):
        came(b"[]", "application/json; charset=klingon")


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", '{"n": [1, NaN]}', '{"text": "a\nb"}'])
@pytest.mark.parametrize("pointer", ["", "/data/items"])
def test_one_record_that_is_no_json_is_set_aside_alone(bad: str, pointer: str) -> None:
    texts = [f'{{"n": {number}, "big": 18446744073709551616.0000000000000001}}' for number in range(1000)]
    texts[500] = bad
    body = "[" + " ,\n".join(texts) + "]"
    if pointer:
        body = f'{{"odd": NaN, "data": {{"items": {body}, "next": null}}}}'
    records = came(body.encode(), records=pointer, key=None)
    assert len(records) == 1000
    assert isinstance(records[500], DeadLetter)
    assert records[500].original == bad.encode()
    good = [record.data for record in records if isinstance(record, Record)]
    assert good == [text.encode() for text in (*texts[:500], *texts[501:])]


def test_a_last_record_with_a_nan_does_not_end_the_pages() -> None:
    def route(asked: Asked) -> Answer:
        if asked.query:
            return json_answer({"data": [{"id": 2}], "more": False})
        return Answer(200, b'{"data": [{"id": 1, "x": NaN}], "more": true}')

    with ApiServer(route) as server:
        pagination: Any = {"type": "cursor", "record": "/id", "more": "/more"}
        bad, good = RestSource(url=server.url, records="/data", pagination=pagination, **FAST).read(None)
        assert isinstance(bad, DeadLetter)
        assert isinstance(good, Record)


@pytest.mark.parametrize("body", [b"[1, 2", b"[1 2]", b"[NaN", b'{"a": NaN', b"NaNNaN", b"[NaN]]", b"'a'", b"[,]"])
def test_what_is_no_json_as_a_whole_is_a_failure(body: bytes) -> None:
    with pytest.raises(SourceUnavailable, match="not JSON"):
        came(body)


def test_json_lines_are_a_record_a_line() -> None:
    body = codecs.BOM_UTF8 + b'{"n": 1}\r\n\n{"n": 2 }\n{"n": NaN}\n{"n": 3}'
    one, two, bad, three = came(body, "application/x-ndjson", format="jsonl", key="/n")
    assert [record.data for record in (one, two, three)] == [b'{"n": 1}', b'{"n": 2 }', b'{"n": 3}']  # type: ignore[union-attr]
    assert isinstance(one, Record)
    assert one.key == "1"
    assert isinstance(bad, DeadLetter)
    assert bad.original == b'{"n": NaN}'


def test_a_csv_is_a_record_a_row() -> None:
    body = 'id;name\r\n1;"a\nb; c"\r\n2;é;3\r\n4;d'.encode("latin-1")
    one, bad, four = came(body, "text/csv; charset=ISO-8859-1", format="csv", delimiter=";", key="/id")
    assert data([one, four]) == [{"id": "1", "name": "a\nb; c"}, {"id": "4", "name": "d"}]
    assert isinstance(bad, DeadLetter)
    assert "3 fields, where the header has 2" in bad.reason


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_pages_of_them_are_read_to_the_end(format: str) -> None:
    def route(asked: Asked) -> Answer:
        page = int(asked.query["page"])
        head = "n\n" if format == "csv" else ""
        return Answer(200, (head + f"{page}\n" if page < 4 else head).encode())

    with ApiServer(route) as server:
        source = RestSource(url=server.url, format=format, pagination={"type": "page"}, **FAST)  # type: ignore[arg-type]
        assert len(list(source.read(None))) == 3
        assert len(server.asked) == 4


def test_a_map_of_records_is_a_record_a_name() -> None:
    body = (
        b'{"items": {"a/1": {"n": 1.50}, "b": {"id": "b", "n": 2}, "c": {"id": "x"}, "d": {}, "e": 7, "\\u00e9": null}}'
    )
    a, b, bad, d, e, other = came(body, records="/items", map_key="id", key="/id")
    good = [record.data for record in (a, b, d, e, other) if isinstance(record, Record)]
    assert good == [
        b'{"id":"a/1","n": 1.50}',
        b'{"id": "b", "n": 2}',
        b'{"id":"d"}',
        b'{"id":"e","value":7}',
        '{"id":"é","value":null}'.encode(),
    ]
    assert isinstance(a, Record)
    assert a.key == "a/1"
    assert isinstance(bad, DeadLetter)
    assert (bad.original, bad.reason) == (b'{"id": "x"}', "has a field id already, which is to hold 'c'")


def test_a_name_that_is_half_a_surrogate_pair_stays_the_escape_that_it_is() -> None:
    (record,) = came(b'{"\\ud83d": {"n": 1}}', map_key="id")
    assert (record.data if isinstance(record, Record) else record.original) == b'{"id":"\\ud83d","n": 1}'


def test_of_a_map_no_name_that_stands_twice_is_lost() -> None:
    assert len(came(b'{"a": {"n": 1}, "a": {"n": 2}}', map_key="id")) == 2
    assert came(b"{}", map_key="id") == []


@pytest.mark.parametrize(
    "options",
    [
        {"format": "csv", "records": "/data"},
        {"format": "jsonl", "pagination": {"type": "next"}},
        {"format": "jsonl", "pagination": {"type": "page", "more": "/more"}},
        {"format": "csv", "map_key": "id"},
    ],
)
def test_pointers_into_what_is_no_json_are_refused(options: Any) -> None:
    with pytest.raises(ValidationError, match="point into JSON"):
        RestSource(url="http://host/", **options)


def test_a_csv_may_have_another_quote_or_none() -> None:
    for quote, cell in (("'", "x,y"), (None, "'x")):
        with ApiServer(lambda asked: Answer(200, b"a\n'x,y'\n" if quote else b"a\n'x\n")) as server:  # noqa: B023
            (record,) = RestSource(url=server.url, format="csv", quote=quote).read(None)
        assert isinstance(record, Record)
        assert json.loads(record.data) == {"a": cell}
