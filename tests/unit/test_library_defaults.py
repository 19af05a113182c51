"""Defaults of libraries that what files hold depends on: each set, and in docs/decisions/0017-library-defaults.md."""

from __future__ import annotations

import datetime
import gzip
import inspect
import io
from pathlib import Path
from typing import Any

import boto3
import polars
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import structlog
from deltalake import write_deltalake
from redis.connection import AbstractConnection, Connection
from websockets.sync.client import connect

from millrace.testing import read
from millrace_consumer.sinks.parquet import ParquetSink
from millrace_consumer.sinks.parquetwriting import WRITING
from millrace_pipeline.process.repeats import Repeats
from millrace_producer.sources.files import FilesSource
from millrace_producer.sources.reading import parquet
from millrace_producer.sources.reading.parquet import DEFAULTS
from tests.contracts.sink_records import batch_of

PAGE = Path("docs/decisions/0017-library-defaults.md").read_text()
TIMES = [
    datetime.datetime(9999, 12, 31, 23, 59, 59, 999999),
    datetime.datetime(1000, 1, 1),
    datetime.datetime(2026, 1, 1, 1, 2, 3, 456789),
    datetime.datetime(1, 1, 1),
]


def rows_of(table: pa.Table, folder: Path, **options: Any) -> list[Any]:
    pq.write_table(table, folder / "f.parquet", **options)
    return read(FilesSource(path=str(folder / "f.parquet"), settle=0))


@pytest.mark.parametrize("nested", [False, True])
def test_times_of_spark_are_those_that_it_wrote(nested: bool, tmp_path: Path) -> None:
    times: Any = pa.array(TIMES, pa.timestamp("us"))
    table = pa.table({"t": pa.StructArray.from_arrays([times], names=["at"]) if nested else times})
    rows = rows_of(table, tmp_path, use_deprecated_int96_timestamps=True)
    assert [(row["t"]["at"] if nested else row["t"]) for row in rows] == [time.isoformat() for time in TIMES]


def test_every_parameter_of_the_parquet_reader_is_decided_on() -> None:
    names = set(inspect.signature(pq.ParquetFile.__init__).parameters) - {"self", "source"}
    assert names >= set(DEFAULTS)
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


CALLS: dict[str, Any] = {
    "parquet writer": pq.ParquetWriter.__init__,
    "parquet table": pq.write_table,
    "delta": write_deltalake,
    "websockets": connect,
    "psycopg": psycopg.connect,
    "polars": polars.from_dicts,
    "polars of arrow": polars.from_arrow,
    "pandas": pa.Table.to_pandas,
    "redis": AbstractConnection.__init__,
    "redis by TCP": Connection.__init__,
    "boto3": boto3.session.Session.client,
    "gzip": gzip.open,
}


@pytest.mark.parametrize("call", CALLS)
def test_every_parameter_of_a_call_is_decided_on(call: str) -> None:
    """Python's `sqlite3.connect` is C, and says none of its parameters."""
    parameters = inspect.signature(CALLS[call]).parameters.values()
    named = {one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
    ours = {"self", "where", "schema", "table", "table_or_uri", "data", "uri", "conninfo", "filename"}
    assert {name for name in named - ours if f"`{name}`" not in PAGE} == set()


def test_what_the_parquet_writer_is_told_it_knows() -> None:
    assert set(WRITING) <= set(inspect.signature(pq.ParquetWriter.__init__).parameters)


def test_a_page_of_ours_that_is_damaged_is_no_record(tmp_path: Path) -> None:
    records = [{"n": f"{n:04}"} for n in range(1000)]
    piece = b"".join(map(bytes, ParquetSink(path=str(tmp_path)).encode(batch_of("b", records))))
    (tmp_path / "f.parquet").write_bytes(piece)
    assert len(read(FilesSource(path=str(tmp_path / "f.parquet"), settle=0))) == len(records)
    place = len(piece) // 3  # within a page: the footer is at the end
    (tmp_path / "f.parquet").write_bytes(piece[:place] + bytes([piece[place] ^ 1]) + piece[place + 1 :])
    (letter,) = FilesSource(path=str(tmp_path / "f.parquet"), settle=0).read(None)
    assert "is damaged" in letter.reason  # type: ignore[union-attr]


def test_a_page_whose_checksum_is_wrong_is_no_record(tmp_path: Path) -> None:
    table, written = pa.table({"n": [7_777_777_777] * 10}), io.BytesIO()
    pq.write_table(
        table, written, write_page_checksum=True, compression="none", use_dictionary=False, write_statistics=False
    )
    damaged = written.getvalue().replace((7_777_777_777).to_bytes(8, "little"), (7_777_777_778).to_bytes(8, "little"))
    (tmp_path / "f.parquet").write_bytes(damaged)
    (letter,) = FilesSource(path=str(tmp_path / "f.parquet"), settle=0).read(None)
    assert "is damaged" in letter.reason  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "of",
    [pa.list_, pa.large_list, lambda kind: pa.list_(kind, 1), lambda kind: pa.struct([("at", kind)])],
    ids=["list", "large", "fixed", "struct"],
)
def test_nanoseconds_are_cut_off_wherever_they_are(of: Any, tmp_path: Path) -> None:
    kind = of(pa.timestamp("ns"))
    value: Any = {"at": TIMES[2]} if pa.types.is_struct(kind) else [TIMES[2]]
    (row,) = rows_of(pa.table({"t": pa.array([value], kind)}), tmp_path)
    assert row["t"] == ({"at": TIMES[2].isoformat()} if pa.types.is_struct(kind) else [TIMES[2].isoformat()])


def test_of_columns_of_one_name_none_is_lost(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3]), pa.array([4])], ["a", "a_2", "a", "b"])
    assert rows_of(table, tmp_path) == [{"a": 1, "a_2": 2, "a_3": 3, "b": 4}]


def test_nan_in_a_column_becomes_null_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "repeats", Repeats())
    table = pa.table({"x": pa.array([1.5, float("nan"), None]), "h": pa.array([1.0, 2.0, 3.0], pa.float16())})
    with structlog.testing.capture_logs() as logs:
        assert [row["x"] for row in rows_of(table, tmp_path)] == [1.5, None, None]
    assert [(log["event"], log["reason"]) for log in logs] == [
        ("number_became_null", "x has NaN or an infinity, which is null in JSON")
    ]


def test_every_parameter_of_the_csv_reader_is_decided_on(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text('a,b\n"x""y", "z"\n"p"q,\\n\n')
    assert read(FilesSource(path=str(tmp_path / "f.csv"), settle=0)) == [
        {"a": 'x"y', "b": ' "z"'},
        {"a": "pq", "b": "\\n"},
    ]
    for name in ("doublequote", "escapechar", "skipinitialspace", "strict"):
        assert f"`{name}`" in PAGE
