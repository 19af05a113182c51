"""The options of the files source, and the small parts that it is made of."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.jsontext import decode_json, encode_json
from millrace_producer.sources.files import FilesSource
from millrace_producer.sources.reading.csv import names_of
from millrace_producer.sources.reading.files import glob_pattern


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"path": "in/*"}, "say format"),
        ({"path": "in/*.json"}, "say format"),
        ({"path": "a.xml"}, "which elements are records"),
        ({"path": "a.csv", "columns": ["a", "b", "a"]}, "columns: a stands there twice"),
        ({"path": "a.csv", "records": "/a"}, "records is for format json or xml"),
        ({"path": "a.json", "format": "json", "records": "features"}, "expected /features"),
        ({"path": "a.geojson", "mode": "tail"}, "mode tail"),
        ({"path": "http://x/a.csv"}, "s3://, gs://, az://"),
        ({"path": "s3://me:geheim@bucket/a.csv"}, "credentials go into `store`"),
        ({"path": "s3://bucket"}, "names of objects"),
        ({"path": "a.csv", "store": {}}, None),
        ({"path": "a.csv", "store": {"region": "x"}}, "store is for"),
        ({"path": "gs://b/a.csv", "store": {"region": "x"}}, "region is for s3"),
        ({"path": "s3://b/a.csv", "store": {"endpoint": "http://x"}}, "allow_http"),
        ({"path": "s3://b/a.csv", "store": {"access_key_id": "x"}}, "belong together"),
        ({"path": "*.csv", "mode": "tail"}, "one file on a disk"),
        ({"path": "a.csv.gz", "mode": "tail"}, "not packed"),
        ({"path": "a.parquet", "mode": "tail"}, "of text"),
        ({"path": "s3://b/a.csv", "mode": "tail"}, "on a disk"),
        ({"path": "a.log", "key": "/id"}, "format is text"),
        ({"path": "a.jsonl", "columns": ["a"]}, "are for format csv"),
        ({"path": "a.csv", "encoding": "cp500"}, "a line ends as in ASCII"),
        ({"path": "a.csv", "encoding": "utf-16", "mode": "tail"}, "UTF-16"),
        ({"path": "a.csv", "encoding": "klingon"}, "no such encoding"),
        ({"path": "a.csv", "encoding": "base64"}, "no such encoding"),
        ({"path": "a.csv", "delimiter": ";;"}, "at most 1 character"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_the_reason(options: dict[str, Any], why: str | None) -> None:
    with pytest.raises(ValidationError, match=re.escape(why or "store is for")) as caught:
        FilesSource.model_validate(options)
    assert "geheim" not in str(caught.value)


def rows(tmp_path: Path, text: bytes, name: str = "a.csv", **options: Any) -> list[Any]:
    (tmp_path / name).write_bytes(text)
    came = list(FilesSource(path=str(tmp_path / name), settle=0, **options).read(None))
    return [record.data if isinstance(record, Record) else record for record in came]


def test_csv_in_the_manners_that_it_comes_in(tmp_path: Path) -> None:
    assert rows(tmp_path, b"a;b\r\n'x;y';2\r\n", delimiter=";", quote="'") == [{"a": "x;y", "b": "2"}]
    assert rows(tmp_path, b'a\tb\n"x\t2\n', name="a.tsv", quote=None) == [{"a": '"x', "b": "2"}]
    assert rows(tmp_path, b"1,2\n3,4", columns=["a", "b"]) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert rows(tmp_path, "name\nŽluťák\n".encode("cp1250"), encoding="cp1250") == [{"name": "Žluťák"}]
    assert rows(tmp_path, "\ufeffname\nŽ\n".encode()) == [{"name": "Ž"}]
    assert rows(tmp_path, b'a\n5" disk\n\n"6"" disk"\n') == [{"a": '5" disk'}, {"a": '6" disk'}]
    assert rows(tmp_path, b"a,b\n") == rows(tmp_path, b"") == []


def test_rows_that_are_none_are_dead_letters_with_their_exact_bytes(tmp_path: Path) -> None:
    came = rows(tmp_path, b'a,b\n1\n1,2,3\n"open,2\n3,4\n\xff,5\n"6\n\xff",7\n8,9\n')
    letters = [(letter.original, letter.reason) for letter in came if isinstance(letter, DeadLetter)]
    assert letters == [
        (b"1", "1 fields, where the header has 2"),
        (b"1,2,3", "3 fields, where the header has 2"),
        (b'"open,2', "a quote is opened here, and a line within it is not UTF-8: byte 0xff at offset 0"),
        (b"\xff,5", "not UTF-8: byte 0xff at offset 0"),
        (b'"6', "a quote is opened here, and a line within it is not UTF-8: byte 0xff at offset 0"),
        (b'\xff",7', "not UTF-8: byte 0xff at offset 0"),
    ]
    assert [row for row in came if isinstance(row, dict)] == [{"a": "3", "b": "4"}, {"a": "8", "b": "9"}]


def test_an_open_quote_costs_its_own_line_only(tmp_path: Path) -> None:
    text = b"n\n" + b'"bad\n' + b"".join(b"%d\n" % number for number in range(3000))
    letter, *good = rows(tmp_path, text, max_line_bytes=1000)
    assert letter.original == b'"bad'
    assert "closed" in letter.reason
    assert good == [{"n": str(number)} for number in range(3000)]
    letter, *good = rows(tmp_path, text)  # found out at the end of the file
    assert letter.original == b'"bad'
    assert good == [{"n": str(number)} for number in range(3000)]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(TEXT, TEXT), max_size=6))
def test_what_pythons_csv_writes_is_read_and_resumed_at_every_row(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, str]]
) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *table])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(text.getvalue().encode())
    source = FilesSource(path=str(path), settle=0)
    came = list(source.read(None))
    expected = [{"a": a, "b": b} for a, b in table]
    assert [record.data for record in came if isinstance(record, Record)] == expected
    for count, record in enumerate(came, 1):
        position = decode_json(encode_json(record.position))
        assert [again.data for again in source.read(position) if isinstance(again, Record)] == expected[count:]


def test_a_header_gives_each_column_a_name_of_its_own() -> None:
    assert names_of(["a", "", " b ", "a", "a", "a_2"]) == ["a", "column_2", "b", "a_2", "a_3", "a_2_2"]


def test_json_in_another_encoding_is_said_in_utf_8(tmp_path: Path) -> None:
    text = '{"n": "é"}\n'.encode("latin-1")
    assert rows(tmp_path, text, name="a.jsonl", encoding="latin-1") == ['{"n": "é"}'.encode()]
    (letter,) = rows(tmp_path, text, name="a.jsonl")
    assert letter.original == text.rstrip()


def test_a_line_that_is_too_long_is_a_dead_letter_and_the_next_is_read(tmp_path: Path) -> None:
    text = b"1\n" + b'"' + b"x" * 5_000_000 + b'"\n2\n'
    for name in ("a.jsonl", "a.txt"):
        one, letter, two = rows(tmp_path, text, name=name, max_line_bytes=1000)
        assert (bytes(str(one), "ascii") if name == "a.txt" else one, two) in ((b"1", b"2"), (b"1", "2"))
        assert "longer than max_line_bytes, 1000" in letter.reason
        assert text[2:].startswith(letter.original)
        assert 500 < len(letter.original) < 2000


def test_keys_and_times_are_found_in_every_format(tmp_path: Path) -> None:
    moment = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)
    (tmp_path / "a.jsonl").write_text('{"id": 7, "at": "2026-11-21T01:30:00Z"}\n')
    (tmp_path / "a.csv").write_text("id,at\n7,2026-11-21T01:30:00Z\n")
    pq.write_table(pa.table({"id": [7], "at": [moment]}), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        (record,) = FilesSource(path=str(tmp_path / name), settle=0, key="/id", time="at").read(None)
        assert isinstance(record, Record)
        assert (record.key, record.time) == ("7", moment)
        same, again = (
            next(iter(FilesSource(path=str(tmp_path / name), settle=0, key="content").read(None))) for _ in range(2)
        )
        assert isinstance(same, Record)
        assert isinstance(again, Record)
        assert same.key
        assert same.key == again.key


def test_what_parquet_holds_can_be_said_in_json(tmp_path: Path) -> None:
    nanoseconds = pa.timestamp("ns", "UTC")
    table = pa.table(
        {
            "money": pa.array([Decimal("1.10")], pa.decimal128(5, 2)),
            "bytes": pa.array([b"\xff"]),
            "at": pa.array([1], nanoseconds),
            "deep": pa.array([[{"at": 1}]], pa.list_(pa.struct([("at", nanoseconds)]))),
            "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            "nothing": pa.nulls(1),
            "nan": pa.array([float("nan")]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (record,) = FilesSource(path=str(tmp_path / "a.parquet"), settle=0).read(None)
    assert isinstance(record, Record)
    assert decode_json(encode_json(record.data)) == {
        "money": "1.10",
        "bytes": "/w==",
        "at": "1970-01-01T00:00:00Z",
        "deep": [{"at": "1970-01-01T00:00:00Z"}],
        "map": [["a", 1]],
        "nothing": None,
        "nan": None,
    }


def test_a_parquet_row_that_python_cannot_hold_is_a_dead_letter(tmp_path: Path) -> None:
    pq.write_table(pa.table({"at": pa.array([0, 2**52, 0], pa.timestamp("ms"))}), tmp_path / "a.parquet")
    source = FilesSource(path=str(tmp_path / "a.parquet"), settle=0)
    kinds = [type(record) for record in source.read(None)]
    assert kinds == [Record, DeadLetter, Record]
    assert len(list(source.read(decode_json(encode_json(list(source.read(None))[1].position))))) == 1


@pytest.mark.parametrize(
    ("pattern", "fits", "doesnt"),
    [
        ("a/*.csv", ["a/x.csv", "a/x.y.csv"], ["a/b/x.csv", "a/.x.csv", "x.csv", "a/x.csv.gz"]),
        ("a/**/*.csv", ["a/x.csv", "a/b/x.csv", "a/b/c/x.csv"], ["x.csv", "a/.b/x.csv", "b/x.csv"]),
        ("**/x.csv", ["x.csv", "a/x.csv"], ["a/xx.csv", "y.csv"]),
        ("a/**", ["a/x", "a/b/x"], ["a", "b/x", "a/.x"]),
        ("day=?/[a-c]*", ["day=1/a", "day=2/cx"], ["day=12/a", "day=1/d", "day=1/a/b"]),
        ("[!a]x", ["bx"], ["ax", "/x", "x"]),
        ("a+b(c).csv", ["a+b(c).csv"], ["aab(c).csv", "abc.csv"]),
        ("[", ["["], ["x"]),
    ],
)
def test_patterns_fit_objects_as_they_fit_files(pattern: str, fits: list[str], doesnt: list[str]) -> None:
    found = re.compile(glob_pattern(pattern)).fullmatch
    assert [name for name in fits if not found(name)] == []
    assert [name for name in doesnt if found(name)] == []


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("*a" * 30 + "b", "a" * 1024), ("**/a/" * 20 + "b", "a/" * 500), ("**/*a*a*a/" * 9 + "b", "aaaa/" * 200)],
)
def test_no_name_of_an_object_makes_a_pattern_take_for_ever(pattern: str, name: str) -> None:
    imports = "import re\nfrom millrace_producer.sources.reading.files import glob_pattern\n"
    code = f"{imports}re.fullmatch(glob_pattern({pattern!r}), {name!r})"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True, cwd=Path(__file__).resolve().parents[2])
