"""Documents of JSON and XML: which of their parts are records, and what those hold."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from millrace.testing import value_of
from millrace_pipeline.envelope import DeadLetter, Record
from millrace_producer.sources.files import FilesSource

FEED = """<?xml version="1.0" encoding="ISO-8859-1"?>
<!DOCTYPE feed [<!ENTITY who "Zoe &amp; co">]>
<feed xmlns="http://a.example/" xmlns:m="http://m.example/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <title>not a record</title>
  <entry id="1" m:rank="2" xml:lang="de"><title>caf\u00e9 &who;</title><m:title>other</m:title><!-- no -->
    <tag>a</tag><tag>b</tag><n xsi:nil="true"/><empty/><p>text <b>bold</b> tail</p></entry>
  <m:entry>of another prefix</m:entry>
  <entry><tag><![CDATA[<one>]]></tag><entry>within</entry></entry>
</feed>"""


def came(folder: Path, name: str, text: bytes, **options: Any) -> list[Record | DeadLetter]:
    (folder / name).write_bytes(text)
    return list(FilesSource(path=str(folder / name), settle=0, **options).read(None))


def values(folder: Path, name: str, text: bytes, **options: Any) -> list[Any]:
    return [value_of(record) for record in came(folder, name, text, **options)]


@pytest.mark.parametrize(
    ("text", "records", "expected"),
    [
        (b'[{"a": 1}, 2]', None, [{"a": 1}, 2]),
        (b'{"a": 1}', None, [{"a": 1}]),
        (b'\xef\xbb\xbf{"x": {"y": [1]}}', "/x/y", [1]),
        (b'{"x": null}', "/x", []),
        (b"[]", None, []),
        (b" \n", None, []),
    ],
)
def test_records_of_json_are_where_the_pointer_says(
    text: bytes, records: str | None, expected: list[Any], tmp_path: Path
) -> None:
    assert values(tmp_path, "f.json", text, format="json", records=records) == expected
    assert values(tmp_path, "f.json.gz", gzip.compress(text), format="json", records=records) == expected


def test_a_record_of_json_stays_as_it_stands_there_and_has_its_key_and_time(tmp_path: Path) -> None:
    text = b'{"features": [{"id": 7, "at": 1538352000123,\n  "n": 1.0000000000000000000001}]}'
    (record,) = came(tmp_path, "f.geojson", text, key="/id", time="/at")
    assert isinstance(record, Record)
    assert record.data == b'{"id": 7, "at": 1538352000123,\n  "n": 1.0000000000000000000001}'
    assert (record.key, str(record.time)) == ("7", "2018-10-01 00:00:00.123000+00:00")


@pytest.mark.parametrize(
    ("text", "options", "why"),
    [
        (b'{"a": 1}\n{"a": 2}\n', {}, "a record a line is format jsonl"),
        (b'{"a": ', {}, "not JSON"),
        (b'{"a": 1}', {"records": "/b"}, "there is nothing at /b"),
        (b"[1,2,3]", {"max_file_bytes": 3}, "more than max_file_bytes, 3"),
    ],
)
def test_what_is_no_such_document_is_one_dead_letter(
    text: bytes, options: dict[str, Any], why: str, tmp_path: Path
) -> None:
    (letter,) = came(tmp_path, "f.json", text, format="json", **options)
    assert isinstance(letter, DeadLetter)
    assert why in letter.reason
    assert list(FilesSource(path=f"{tmp_path}/f.json", format="json", settle=0).read(_saved(letter))) == []


def _saved(record: Record | DeadLetter) -> Any:
    import msgspec

    return msgspec.json.decode(msgspec.json.encode(record.position))


def test_elements_of_xml_are_mappings(tmp_path: Path) -> None:
    first, second = values(tmp_path, "f.xml", FEED.encode("latin-1"), records="entry", key="/@id")[:2]
    assert first == {
        "@id": "1",
        "@m:rank": "2",
        "@xml:lang": "de",
        "title": "caf\u00e9 Zoe & co",
        "m:title": "other",
        "tag": ["a", "b"],
        "n": None,
        "empty": None,
        "p": {"b": "bold", "#text": "text  tail"},
    }
    assert second == {"#text": "of another prefix"}


def test_a_tag_with_a_prefix_is_only_that_and_lists_are_always_lists(tmp_path: Path) -> None:
    assert values(tmp_path, "f.xml", FEED.encode("latin-1"), records="m:entry") == [{"#text": "of another prefix"}]
    last = values(tmp_path, "f.xml", FEED.encode("latin-1"), records="entry", lists=["tag", "entry"])[-1]
    assert last == {"tag": ["<one>"], "entry": ["within"]}


def test_xml_asks_for_nothing_outside_and_is_set_aside_where_it_breaks(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    outside = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]><a><r>1</r><r>&x;</r></a>'
    *_, letter = came(tmp_path, "f.xml", outside.encode(), records="r")
    assert isinstance(letter, DeadLetter)
    assert "s3cret" not in str(came(tmp_path, "f.xml", outside.encode(), records="r"))
    first, letter = came(tmp_path, "f.xml", b"<a><r>1</r><r>2</a>", records="r")
    assert value_of(first) == {"#text": "1"}
    assert isinstance(letter, DeadLetter)
    assert "not XML" in letter.reason
