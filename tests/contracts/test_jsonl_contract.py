"""The jsonl sink keeps the sink contract, and its own claims."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.jsonl import JsonlSink
from millrace_pipeline.envelope import Envelope, decode
from millrace_pipeline.jsontext import encode_json
from tests.contracts.file_sink_contract import FileSinkContract, files_in
from tests.contracts.sink_records import batch_of, bulk


class TestJsonlSink(FileSinkContract):
    sink = "millrace_consumer.sinks.jsonl:JsonlSink"

    def read_back(self, destination: Path) -> list[Any]:
        return [record for file in files_in(destination) for record in read(file.read_bytes())]


class TestJsonlSinkWithEnvelopes(TestJsonlSink):
    def options(self, destination: Path) -> dict[str, Any]:
        return {"path": str(destination), "envelope": True}

    def read_back(self, destination: Path) -> list[Any]:
        return [envelope["data"] for envelope in super().read_back(destination)]


def read(text: bytes) -> list[Any]:
    assert text.endswith(b"\n"), "half a line"
    return [json.loads(line) for line in text.splitlines()]


def raw_batch(*lines: bytes) -> Batch:
    return Batch("b", [Envelope(str(i), "s", "t", None, msgspec.Raw(line)) for i, line in enumerate(lines)])


def test_every_published_byte_is_kept(tmp_path: Path) -> None:
    lines = [
        b'{"a":1,"a":2}',
        b"18446744073709551616",
        b"1.0000000000000000000001",
        b"1e999",
        rb'"\ud800"',
        b"[" * 1000 + b"]" * 1000,
        '{ "é" : "\\u00e9\u2028" }'.encode(),
    ]
    JsonlSink(path=tmp_path).write(raw_batch(*lines))
    assert (tmp_path / "b.jsonl").read_bytes().split(b"\n") == [*lines, b""]


def test_line_breaks_between_tokens_do_not_break_the_line(tmp_path: Path) -> None:
    JsonlSink(path=tmp_path).write(raw_batch(b'{"a":\r\n1,\n"b":2}'))
    assert read((tmp_path / "b.jsonl").read_bytes()) == [{"a": 1, "b": 2}]


def test_real_events_come_back_byte_for_byte(tmp_path: Path, wikimedia_events: list[bytes]) -> None:
    JsonlSink(path=tmp_path, partition=["date"]).write(raw_batch(*wikimedia_events))
    [file] = files_in(tmp_path)
    assert file.parent.name == "date=__HIVE_DEFAULT_PARTITION__"
    assert file.read_bytes() == b"".join(event + b"\n" for event in wikimedia_events)


def test_real_events_are_partitioned_by_the_time_they_happened(tmp_path: Path, wikimedia_events: list[bytes]) -> None:
    sink = JsonlSink(path=tmp_path, partition=["date", "hour", "/meta/domain"], time="/meta/dt")
    sink.write(raw_batch(*wikimedia_events))
    count = 0
    for file in files_in(tmp_path):
        for event in read(file.read_bytes()):
            day, hour = event["meta"]["dt"][:10], event["meta"]["dt"][11:13]
            place = file.parent.relative_to(tmp_path).as_posix()
            assert place == f"date={day}/hour={hour}/domain={event['meta']['domain']}"
            count += 1
    assert count == len(wikimedia_events)


def test_an_envelope_line_is_the_envelope_that_was_published(tmp_path: Path) -> None:
    line = b'{"specversion":"1.0","id":"7","source":"s","type":"t","time":"2026-11-21T01:30:00Z","data":{"n":1.10}}'
    JsonlSink(path=tmp_path, envelope=True).write(Batch("b", [decode(line, foreign_id=str)]))
    assert (tmp_path / "b.jsonl").read_bytes() == line + b"\n"


@pytest.mark.parametrize(("compression", "suffix"), [("gzip", ".jsonl.gz"), ("zstd", ".jsonl.zst")])
def test_a_compressed_file_holds_the_same_lines_and_the_same_bytes_each_time(
    tmp_path: Path, compression: str, suffix: str
) -> None:
    contents = []
    for _ in range(2):
        JsonlSink.model_validate({"path": tmp_path, "compression": compression}).write(batch_of("b", bulk(2000)))
        contents.append((tmp_path / f"b{suffix}").read_bytes())
    assert contents[0] == contents[1]
    unpacked = gzip.decompress(contents[0]) if compression == "gzip" else unpack_zstd(tmp_path / f"b{suffix}")
    assert read(unpacked) == bulk(2000)


def unpack_zstd(file: Path) -> bytes:
    with pa.input_stream(str(file), compression="zstd") as stream:
        return bytes(stream.read())


def test_a_record_that_a_transform_made_is_encoded(tmp_path: Path) -> None:
    JsonlSink(path=tmp_path).write(Batch("b", [Envelope("1", "s", "t", None, {"made": [1, None]})]))
    assert (tmp_path / "b.jsonl").read_bytes() == encode_json({"made": [1, None]}) + b"\n"


def test_a_consumer_of_json_lines_loads_no_arrow(tmp_path: Path) -> None:
    program = (
        "import sys; from millrace_consumer.sinks import SINKS;"
        "from tests.contracts.sink_records import batch_of, sink_of;"
        f"sink_of(SINKS['jsonl'], {{'path': {str(tmp_path)!r}}}).write(batch_of('b', [{{'id': '1'}}]));"
        "sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False).returncode == 0
