"""Encodings: what UTF-16 and UTF-32 become in every source, with a byte order mark and without; never another text."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from millrace.testing import value_of
from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_producer.sources import stdin
from millrace_producer.sources.files import FilesSource
from millrace_producer.sources.sse import SseSource
from tests.integration.sse_server import OK, ScriptedServer
from tests.waysin import WAYS, Came, Ways

WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
NAME = "Žižkov 水車 🦆\u0a0d\u0d0a"  # whose bytes look like line ends
LINES = [{"n": 1, "name": NAME}, {"n": 2, "name": "b"}]
JSONL = f'{{"n":1,"name":"{NAME}"}}\r\n{{"n":2,"name":"b"}}\n'
JSON = f'[{{"n":1,"name":"{NAME}"}},{{"n":2,"name":"b"}}]'
CSV = f"n,name\n1,{NAME}\n2,b\n"
ELEMENTS = f"<r><n>1</n><name>{NAME}</name></r><r><n>2</n><name>b</name></r>"
XML = f'<?xml version="1.0" encoding="UTF-16"?><all>{ELEMENTS}</all>'
ROWS = [{"n": "1", "name": NAME}, {"n": "2", "name": "b"}]


@pytest.fixture
def ways(tmp_path: Path, redis_url: str) -> Iterator[Ways]:
    with Ways(tmp_path, redis_url) as ways:
        yield ways


READERS = {
    "files jsonl": (JSONL, LINES, lambda ways, raw, **how: ways.file(raw, ".jsonl", **how)),
    "files json": (JSON, LINES, lambda ways, raw, **how: ways.file(raw, ".json", format="json", **how)),
    "files csv": (CSV, ROWS, lambda ways, raw, **how: ways.file(raw, ".csv", **how)),
    "files text": ("a\nb\n", ["a", "b"], lambda ways, raw, **how: ways.file(raw, ".txt", **how)),
    "files xml": (XML, ROWS, lambda ways, raw, **how: ways.file(raw, ".xml", records="r", **how)),
    "stdin json": (JSONL, LINES, lambda ways, raw, **how: ways.input(raw, **how)),
    "stdin text": ("a\nb\n", ["a", "b"], lambda ways, raw, **how: ways.input(raw, format="text", **how)),
    "rest json": (JSON, LINES, lambda ways, raw, **how: of_answer(ways, raw, "application/json", **how)),
    "rest jsonl": (JSONL, LINES, lambda ways, raw, **how: of_answer(ways, raw, "application/jsonl", **how)),
    "rest csv": (CSV, ROWS, lambda ways, raw, **how: of_answer(ways, raw, "text/csv", **how)),
}
SEEN_BY_THEMSELVES = [name for name in READERS if "text" not in name and "csv" not in name]
"""JSON and XML have no zeros, so without a mark it is known what they are."""


def of_answer(ways: Ways, raw: bytes, kind: str, encoding: str = "") -> Came:
    said = f"{kind}; charset={encoding}" if encoding else kind
    return ways.body(raw, said, format=kind.rpartition("/")[2])


@pytest.mark.parametrize("encoding", [*WIDE, "utf-8"])
@pytest.mark.parametrize("reader", READERS)
def test_a_byte_order_mark_says_how_a_text_is_read(ways: Ways, reader: str, encoding: str) -> None:
    text, expected, read = READERS[reader]
    raw = MARKS[encoding] + text.replace("UTF-16", encoding).encode(encoding)
    assert [value_of(record) for record in read(ways, raw)] == expected
    if "xml" not in reader:  # which says the same itself, in ASCII
        assert [value_of(record) for record in read(ways, raw, encoding="latin-1")] == expected


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("reader", READERS)
def test_a_text_without_a_mark_is_read_as_it_is_said_to_be(ways: Ways, reader: str, encoding: str) -> None:
    text, expected, read = READERS[reader]
    raw = text.encode(encoding)
    assert [value_of(record) for record in read(ways, raw, encoding=encoding)] == expected
    assert [value_of(record) for record in read(ways, raw, encoding=encoding[:6])] == expected


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("reader", READERS)
def test_without_a_mark_or_a_word_it_is_known_or_refused(ways: Ways, reader: str, encoding: str) -> None:
    text, expected, read = READERS[reader]
    raw = text.encode(encoding)
    if reader in SEEN_BY_THEMSELVES:
        assert [value_of(record) for record in read(ways, raw)] == expected
        return
    try:
        (letter,) = read(ways, raw)
        assert isinstance(letter, DeadLetter)
        reason = letter.reason
    except (SourceRefused, SourceUnavailable) as error:
        reason = str(error)
    assert f"looks like {encoding.upper()}" in reason
    assert encoding in reason


@pytest.mark.parametrize("reader", READERS)
def test_a_text_that_ends_within_a_character_is_said_to(ways: Ways, reader: str) -> None:
    text, expected, read = READERS[reader]
    raw = codecs.BOM_UTF16_LE + text.encode("utf-16-le") + b"\x0a"
    try:
        *before, letter = read(ways, raw)
        assert isinstance(letter, DeadLetter)
        reason = letter.reason
        assert [value_of(record) for record in before] == ([] if reader == "files json" else expected)
    except (SourceRefused, SourceUnavailable) as error:
        reason = str(error)
    assert "within a character" in reason


@pytest.mark.parametrize("reader", [name for name in READERS if "json" in name])
def test_half_a_character_of_utf_16_is_the_escape_that_json_has(ways: Ways, reader: str) -> None:
    text, _, read = READERS[reader]
    raw = (codecs.BOM_UTF16_LE + text.encode("utf-16-le")).replace("🦆".encode("utf-16-le"), b"\x3d\xd8")
    first, last = read(ways, raw)
    assert value_of(first)["name"] == NAME.replace("🦆", "\ud83d")
    assert value_of(last) == LINES[1]


BYTES = [way for way in WAYS if way not in ("files", "document", "stdin", "rest", "rest_lines", "sse", "sqs")]
"""Ways on which a message is bytes, and UTF-8 or nothing; what SQS takes is text."""


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize("way", BYTES)
def test_a_message_that_is_not_utf_8_is_a_dead_letter_as_it_came(ways: Ways, way: str, format: str) -> None:
    for encoding in WIDE:
        for raw in ('{"n": 1}'.encode(encoding), MARKS[encoding] + '{"n": 1}'.encode(encoding)):
            (letter,) = ways.read(way, [raw], format=format)
            assert isinstance(letter, DeadLetter)
            assert letter.original == raw


@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("encoding", WIDE)
def test_an_event_stream_that_is_not_utf_8_is_refused(ways: Ways, encoding: str, mark: bool) -> None:
    raw = (MARKS[encoding] if mark else b"") + 'data: {"n": 1}\n\n'.encode(encoding)
    with ScriptedServer(OK + raw) as server, pytest.raises(SourceRefused, match=encoding.upper()):
        list(SseSource(url=server.url).read(None))


def test_a_file_in_utf_16_is_read_on_from_any_record_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    texts = [f'{{"n": {n}, "name": "{NAME * 9}"}}\n' for n in range(6)]
    path.write_bytes(codecs.BOM_UTF16_LE + "".join(texts[:4]).encode("utf-16-le"))
    source = FilesSource(path=str(path), settle=0)
    positions = [record.position for record in source.read(None)]
    with path.open("ab") as file:
        file.write("".join(texts[4:]).encode("utf-16-le"))
    for count, position in enumerate(positions, 1):
        assert [value_of(record)["n"] for record in source.read(position)] == list(range(6))[count:]


def test_a_file_in_utf_16_that_is_followed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(codecs.BOM_UTF16_LE + "a\nb\n".encode("utf-16-le"))
    with pytest.raises(SourceRefused, match="mode: watch"):
        next(iter(FilesSource(path=str(path), mode="tail").read(None)))
    with pytest.raises(ValueError, match="not packed and not in UTF-16"):
        FilesSource(path=str(path), mode="tail", encoding="utf-16")


@pytest.mark.parametrize("name", [".gz", ".zst"])
def test_a_packed_file_in_utf_16_is_read(ways: Ways, name: str) -> None:
    raw = codecs.BOM_UTF16_BE + JSONL.encode("utf-16-be")
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, {".gz": "gzip", ".zst": "zstd"}[name]) as packed:
        packed.write(raw)
    assert [value_of(record) for record in ways.file(sink.getvalue().to_pybytes(), ".jsonl" + name)] == LINES


@pytest.mark.parametrize("encoding", [*WIDE, "utf-8"])
def test_standard_input_in_single_bytes_is_read_the_same(
    ways: Ways, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdin, "READ_BYTES", 1)
    for mark in (MARKS[encoding], b""):
        assert [value_of(record) for record in ways.input(mark + JSONL.encode(encoding))] == LINES
