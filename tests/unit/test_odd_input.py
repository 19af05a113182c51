"""What everybody reads is read: byte order marks, blanks, empty cells; of a bad line nothing beside it is set aside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from pydantic import BaseModel

from millrace.testing import value_of
from millrace_consumer.batch import Batch
from millrace_consumer.sinks.csv import CsvSink
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import DeadLetter, Envelope, Record
from millrace_pipeline.jsontext import encode_json
from millrace_producer.sources.base import Source
from millrace_producer.sources.fields import Fields
from millrace_producer.sources.files import FilesSource
from millrace_producer.sources.stdin import StdinSource

BOM = b"\xef\xbb\xbf"

Read = Callable[[bytes, str], list[Record | DeadLetter]]


def of_files(text: bytes, format: str, tmp_path: Path) -> list[Record | DeadLetter]:
    (tmp_path / "f").write_bytes(text)
    return read(FilesSource(path=str(tmp_path / "f"), format={"json": "jsonl"}.get(format, format), settle=0))  # type: ignore[arg-type]


def read(source: Source) -> list[Record | DeadLetter]:
    return list(source.read(None))


@pytest.fixture(params=["files", "stdin", "message"])
def reading(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Read]:
    """Each way in which bytes come that Fields makes records of: lines of files and stdin, messages of the others."""
    before = os.dup(0)

    def of_stdin(text: bytes, format: str) -> list[Record | DeadLetter]:
        (tmp_path / "stdin").write_bytes(text)
        with (tmp_path / "stdin").open("rb") as file:
            os.dup2(file.fileno(), 0)
        return read(StdinSource(format=format))  # type: ignore[arg-type]

    def of_messages(text: bytes, format: str) -> list[Record | DeadLetter]:
        fields = Fields(format)  # type: ignore[arg-type]
        return [fields.record(line) for line in text.splitlines() if line.strip(b"\n")]

    yield {
        "files": lambda text, format: of_files(text, format, tmp_path),
        "stdin": of_stdin,
        "message": of_messages,
    }[request.param]
    os.dup2(before, 0)
    os.close(before)


def test_a_byte_order_mark_is_passed_over(reading: Read) -> None:
    records = reading(BOM + b'{"a": 1}\n' + BOM + b"2\n", "json")  # two files behind each other
    assert [value_of(record) for record in records] == [{"a": 1}, 2]


def test_of_three_lines_the_one_with_nan_alone_is_set_aside(reading: Read) -> None:
    first, letter, last = reading(b'{"a": 1}\n{"a": NaN}\n{"a": 3}\n', "json")
    assert [value_of(first), value_of(last)] == [{"a": 1}, {"a": 3}]
    assert isinstance(letter, DeadLetter)
    assert letter.original == b'{"a": NaN}'


@pytest.mark.parametrize("kind", ["files", "stdin"])
def test_blanks_of_a_line_stay_and_lines_without_json_pass(kind: str, tmp_path: Path) -> None:
    source: dict[str, Callable[[bytes, str], list[Record | DeadLetter]]] = {
        "files": lambda text, format: of_files(text, format, tmp_path),
        "stdin": lambda text, format: _piped(text, format),
    }
    records = source[kind](b"  a \t\r\n\n   \nb\r\r\n\x0c\n", "text")
    assert [value_of(record) for record in records] == ["  a \t", "   ", "b\r", "\x0c"]
    records = source[kind](b'  {"a":  1}  \r\n \t\r\n\n\x0c\n', "json")
    assert isinstance(records[0], Record)
    assert records[0].data == b'  {"a":  1}  '
    assert [type(record) for record in records[1:]] == [DeadLetter]


def _piped(text: bytes, format: str) -> list[Record | DeadLetter]:
    before = os.dup(0)
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)
    try:
        return read(StdinSource(format=format))  # type: ignore[arg-type]
    finally:
        os.dup2(before, 0)
        os.close(before)


class Kept(BaseModel):
    n: int | None = None
    x: float | None = None


def test_what_our_csv_sink_wrote_for_null_reads_back(tmp_path: Path) -> None:
    rows = [{"n": 1, "x": None}, {"n": None, "x": 0.5}]
    given = [Envelope(f"i{n}", "s", "t", None, msgspec.Raw(encode_json(row))) for n, row in enumerate(rows)]
    outcome = apply(given, model=Kept)
    CsvSink(path=str(tmp_path / "out")).write(Batch("b", outcome.envelopes, model=Kept, rows=outcome.rows))
    source = FilesSource(path=f"{tmp_path}/out/**/*.csv", settle=0).for_model(Kept)
    back = [Kept.model_validate_json(encode_json(value_of(record))) for record in read(source)]
    assert back == [Kept(**row) for row in rows]  # type: ignore[arg-type]
