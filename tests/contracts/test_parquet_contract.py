"""The parquet sink keeps the sink contract, and its own claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, RootModel

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected
from millrace_consumer.sinks.parquet import ParquetSink
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import ConfigError
from tests.contracts.file_sink_contract import FileSinkContract, files_in
from tests.contracts.sink_records import NarrowThing, batch_of, bulk


class TestParquetSink(FileSinkContract):
    sink = "millrace_consumer.sinks.parquet:ParquetSink"

    def read_back(self, destination: Path) -> list[Any]:
        tables = [pq.ParquetFile(file).read() for file in files_in(destination)]
        return [json.loads(text) for table in tables for text in table["data"].to_pylist()]


class TestParquetSinkWithModel(FileSinkContract):
    sink = "millrace_consumer.sinks.parquet:ParquetSink"
    model = NarrowThing
    unwritable: ClassVar[list[Any]] = [{"id": "wide", "number": 2**63}, {"id": "wider", "number": -(2**64)}]

    def read_back(self, destination: Path) -> list[Any]:
        return [row for file in files_in(destination) for row in pq.ParquetFile(file).read().to_pylist()]

    def expected(self, record: dict[str, Any]) -> Any:
        row = {column: record.get(column) for column in ("id", "text", "flag", "nested", "number")}
        if row["nested"] is not None:  # any JSON: kept as its text
            row["nested"] = json.dumps(row["nested"], ensure_ascii=False, separators=(",", ":"))
        return row


def test_files_are_zstd_and_typed(tmp_path: Path) -> None:
    ParquetSink(path=tmp_path).write(batch_of("b", bulk(3)))
    file = pq.ParquetFile(tmp_path / "b.parquet")
    group = file.metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"ZSTD"}
    assert file.schema_arrow.names == ["id", "time", "data"]
    assert file.schema_arrow.field("time").type == pa.timestamp("us", tz="UTC")
    assert file.read()["time"][0].as_py().isoformat() == "2026-11-21T01:30:00.123456+00:00"


def test_an_integer_beyond_64_bits_names_its_record_and_its_column(tmp_path: Path) -> None:
    with pytest.raises(RecordsRejected) as rejection:
        ParquetSink(path=tmp_path).write(batch_of("b", [{"id": "0"}, {"id": "1", "number": 2**64}], NarrowThing))
    assert list(rejection.value.reasons) == [1]
    assert rejection.value.reasons[1].startswith("number: does not fit int64")


def test_a_model_without_named_fields_is_refused(tmp_path: Path) -> None:
    for model in (RootModel[list[int]], type("Nothing", (BaseModel,), {})):
        with pytest.raises(ConfigError, match="no named fields"):
            ParquetSink(path=tmp_path).check(model)


def test_a_directory_with_hidden_leftovers_reads_as_one_dataset_by_date(tmp_path: Path) -> None:
    sink = ParquetSink(path=tmp_path, partition=["date"])
    sink.write(batch_of("b1", bulk(3)))
    sink.write(batch_of("b2", bulk(4)))
    (tmp_path / "date=2026-11-21" / ".b3.parquet.tmp-0123abcd").write_bytes(b"PAR1half")
    assert pq.read_table(tmp_path).num_rows == 7
    dataset = pyarrow.dataset.dataset(tmp_path, partitioning="hive")
    assert dataset.to_table().column("date").to_pylist() == ["2026-11-21"] * 7


def test_partition_values_are_read_back_as_they_were(tmp_path: Path) -> None:
    values = [
        "..",
        "a/b",
        "x=y",
        "%2F",
        "é",
        "e\u0301",
        "trailing.",
        "\n",
        "A",
        "a",
        "__HIVE_DEFAULT_PARTITION__ ",
        '"',
    ]
    records = [{"id": str(n), "place": value} for n, value in enumerate(values)]
    ParquetSink(path=tmp_path, partition=["place"]).write(batch_of("b", records))
    table = pyarrow.dataset.dataset(tmp_path, partitioning="hive").to_table()
    found = {json.loads(row["data"])["place"]: row["place"] for row in table.to_pylist()}
    assert found == {value: value for value in values}


class Change(BaseModel):
    title: str
    user: str
    bot: bool
    timestamp: int
    length: dict[str, int | None] | None = None
    meta: dict[str, Any]


def test_real_events_come_back_as_typed_columns(tmp_path: Path, wikimedia_events: list[bytes]) -> None:
    envelopes = [Envelope(str(i), "s", "t", None, msgspec.Raw(event)) for i, event in enumerate(wikimedia_events)]
    outcome = apply(envelopes, model=Change)
    assert not outcome.rejected
    ParquetSink(path=tmp_path).write(Batch("b", outcome.envelopes, model=Change, rows=outcome.rows))
    table = pq.read_table(tmp_path / "b.parquet")
    assert table.schema.field("length").type == pa.map_(pa.string(), pa.int64())
    for row, text in zip(table.to_pylist(), wikimedia_events, strict=True):
        event = json.loads(text)
        assert (row["title"], row["user"], row["bot"]) == (event["title"], event["user"], event["bot"])
        assert row["timestamp"] == event["timestamp"]
        assert json.loads(row["meta"]) == event["meta"]
        assert (None if row["length"] is None else dict(row["length"])) == event.get("length")
