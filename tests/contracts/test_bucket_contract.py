"""Every file sink keeps the sink contract in a bucket too, and what is claimed of objects."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest

from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.files import FileSink
from tests.contracts.file_sink_contract import HOSTILE_VALUES
from tests.contracts.object_store import ObjectStore
from tests.contracts.sink_contract import SinkContract
from tests.contracts.sink_records import ORDINARY, bulk
from tests.contracts.test_csv_contract import COLUMNS, cell


class BucketSink(SinkContract):
    """A file sink whose path is in a bucket."""

    kill_points: ClassVar[tuple[str, ...]] = ("sink.before_write", "sink.before_put", "sink.after_put")
    store: ObjectStore
    more: ClassVar[dict[str, Any]] = {}
    """Options of the sink's besides its path and store."""

    @pytest.fixture(autouse=True)
    def _in_a_bucket(self, store: ObjectStore) -> None:
        self.store = store

    def options(self, destination: Path, **store: Any) -> dict[str, Any]:
        return {"path": self.store.url(destination), "store": self.store.options(**store), **self.more}

    def parse(self, body: bytes) -> list[Any]:
        raise AssertionError("a sink's test says how to read an object")

    def read_back(self, destination: Path) -> list[Any]:
        return [record for body in self.store.objects(destination).values() for record in self.parse(body)]

    @contextmanager
    def full(self, destination: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
        with self.store.full() as free:
            yield destination, free

    def make(self, destination: Path, **options: Any) -> FileSink:
        sink = super().make(destination)
        assert isinstance(sink, FileSink)
        return sink.model_validate(self.options(destination) | options)


class BucketSinkContract(BucketSink):
    """The claims about objects."""

    def test_a_batch_is_one_object_named_by_its_id_and_says_its_size(self, tmp_path: Path) -> None:
        batch = self.batch("batch-1", self.ordinary)
        self.make(tmp_path).write(batch)
        [(name, body)] = self.store.objects(tmp_path).items()
        assert name.split(".")[0] == "batch-1"
        assert batch.written == len(body) > 0

    def test_what_is_there_under_a_batchs_name_is_not_replaced(self, tmp_path: Path) -> None:
        sink = self.make(tmp_path)
        name = f"batch-1{sink.suffix}"
        self.store.put(tmp_path, name, b"put by the delivery before")
        sink.write(self.batch("batch-1", self.ordinary))
        assert self.store.objects(tmp_path) == {name: b"put by the delivery before"}

    def test_a_put_whose_reply_is_lost_is_there_once(self, tmp_path: Path) -> None:
        lost = self.store.proxy.lose_reply_to(b"PUT /")
        self.make(tmp_path).write(self.batch("batch-1", self.ordinary))
        assert lost.is_set()
        assert self.found(tmp_path) == self.wanted(self.ordinary)

    def test_a_put_that_timed_out_and_arrives_later_is_there_once(self, tmp_path: Path) -> None:
        sink = self.make(tmp_path, store=self.store.options(timeout="2s"))
        reached = self.store.proxy.stall_at(b"PUT /")
        try:
            with pytest.raises(SinkUnavailable, match="batch-1"):
                sink.write(self.batch("batch-1", self.ordinary))
            assert reached.is_set()
        finally:
            self.store.proxy.stall(False)
        self.make(tmp_path).write(self.batch("batch-1", self.ordinary))
        assert self.found(tmp_path) == self.wanted(self.ordinary)

    def test_a_connection_cut_in_the_middle_leaves_no_half_object(self, tmp_path: Path) -> None:
        records = bulk(300)
        cut = self.store.proxy.cut_after(50_000)
        self.make(tmp_path).write(self.batch("batch-1", records))  # tried again by itself
        assert cut.is_set()
        assert self.found(tmp_path) == self.wanted(records)

    def test_a_store_that_is_down_takes_the_batch_once_it_is_back(self, tmp_path: Path) -> None:
        self.store.proxy.refuse()
        try:
            with pytest.raises(SinkUnavailable, match=f"can't .*{tmp_path.name}"):
                self.make(tmp_path).write(self.batch("batch-1", self.ordinary))
        finally:
            self.store.proxy.refuse(False)
        self.make(tmp_path).write(self.batch("batch-1", self.ordinary))
        assert self.found(tmp_path) == self.wanted(self.ordinary)

    def test_two_consumers_with_one_batch_make_one_object(self, tmp_path: Path) -> None:
        sinks = [self.make(tmp_path) for _ in range(4)]
        with ThreadPoolExecutor(len(sinks)) as pool:
            for _ in pool.map(lambda sink: sink.write(self.batch("batch-1", self.ordinary)), sinks):
                pass
        assert self.found(tmp_path) == self.wanted(self.ordinary)

    def test_killed_between_two_of_its_objects_it_is_whole_when_delivered_again(self, tmp_path: Path) -> None:
        records = bulk(40, 10)
        self.__dict__["more"] = {**self.more, "partition": ["id"]}
        self.write_and_be_killed(tmp_path, "sink.before_put:30", "batch-1", records)
        assert 0 < len(self.read_back(tmp_path)) < 40
        assert self.make(tmp_path).has_batch("batch-1")
        self.write(tmp_path, "batch-1", records)
        assert self.found(tmp_path) == self.wanted(records)

    def test_what_a_batch_has_put_is_held_and_nothing_else(self, tmp_path: Path) -> None:
        sink = self.make(tmp_path)
        assert not sink.has_batch("batch-1")
        sink.write(self.batch("batch-1", self.ordinary))
        assert sink.has_batch("batch-1")
        assert not sink.has_batch("batch-")
        assert not sink.has_batch("batch-2")

    def test_no_partition_value_leaves_the_prefix_or_loses_a_record(self, tmp_path: Path) -> None:
        destination = tmp_path / "in" / "side"
        records = [{"id": f"{n}", "text": value} for n, value in enumerate([*HOSTILE_VALUES, "A", "a", "%41"])]
        for _ in range(2):
            self.make(destination, partition=["text", "date"]).write(self.batch("batch-1", records))
        assert self.found(destination) == self.wanted(records)
        assert list(self.store.objects(tmp_path)) == [f"in/side/{name}" for name in self.store.objects(destination)]

    def test_partitions_that_make_too_long_a_name_are_a_reason_to_reject_the_record(self, tmp_path: Path) -> None:
        records: list[dict[str, Any]] = [{"id": "1", "text": "x" * 300, "nested": "y" * 300}, {"id": "2"}]
        deep = tmp_path / "/".join(["deep" * 10] * 15)
        with pytest.raises(RecordsRejected) as rejection:
            self.make(deep, partition=["text", "/nested"]).write(self.batch("batch-1", records))
        assert list(rejection.value.reasons) == [0]
        assert self.store.objects(deep) == {}

    def test_records_rejected_in_one_partition_hold_back_all_of_them(self, tmp_path: Path) -> None:
        good = bulk(3, 10)
        mixed = [good[0], self.unwritable[-1], good[1], good[2]]
        with pytest.raises(RecordsRejected) as rejection:
            self.make(tmp_path, partition=["id"]).write(self.batch("batch-1", mixed))
        assert list(rejection.value.reasons) == [1]
        assert self.store.objects(tmp_path) == {}


class TestJsonlInABucket(BucketSinkContract):
    sink = "millrace_consumer.sinks.jsonl:JsonlSink"

    def parse(self, body: bytes) -> list[Any]:
        assert body.endswith(b"\n"), "half a line"
        return [json.loads(line) for line in body.splitlines()]


class TestCsvInABucket(BucketSink):
    sink = "millrace_consumer.sinks.csv:CsvSink"
    unwritable: ClassVar[list[Any]] = [object(), ["not", "an", "object"], {"id": "x", "text": object()}]
    more: ClassVar[dict[str, Any]] = {"columns": COLUMNS}

    def parse(self, body: bytes) -> list[Any]:
        assert body.endswith(b"\r\n"), "half a line"
        return list(csv.DictReader(io.StringIO(body.decode(), newline=""), strict=True))

    def expected(self, record: dict[str, Any]) -> Any:
        return {column: cell(record.get(column)) for column in COLUMNS}


class TestParquetInABucket(BucketSink):
    sink = "millrace_consumer.sinks.parquet:ParquetSink"

    def parse(self, body: bytes) -> list[Any]:
        return [json.loads(text) for text in pq.ParquetFile(io.BytesIO(body)).read()["data"].to_pylist()]


class Large(TestJsonlInABucket):
    """What is ordinary here has 11 MB, and goes in parts."""

    __test__ = False
    ordinary: ClassVar[list[dict[str, Any]]] = [*ORDINARY, *({"id": f"{n}", "text": "x" * 10**6} for n in range(11))]

    def options(self, destination: Path, **store: Any) -> dict[str, Any]:
        return super().options(destination, multipart_from="5MiB", **store)


@pytest.fixture
def large(store: ObjectStore) -> Large:
    large = Large()
    large.store = store
    return large


def test_killed_between_the_parts_of_an_object_it_is_whole_when_delivered_again(tmp_path: Path, large: Large) -> None:
    for point in ("sink.mid_write:2", "sink.mid_write:3", "sink.after_put"):
        destination = tmp_path / point
        large.write_and_be_killed(destination, point, "batch-1", large.ordinary)
        assert bool(large.store.objects(destination)) == (point == "sink.after_put")
        large.write(destination, "batch-1", large.ordinary)
        assert large.found(destination) == large.wanted(large.ordinary)


def test_an_upload_whose_completion_had_no_reply_is_there_once(tmp_path: Path, large: Large) -> None:
    lost = large.store.proxy.lose_reply_to(b"uploadId=")
    sink = large.make(tmp_path)
    try:
        sink.write(large.batch("batch-1", large.ordinary))
    except SinkUnavailable:
        sink.write(large.batch("batch-1", large.ordinary))
    assert lost.is_set()
    assert large.found(tmp_path) == large.wanted(large.ordinary)


def test_an_object_in_parts_that_is_there_is_not_replaced(tmp_path: Path, large: Large) -> None:
    large.store.put(tmp_path, "batch-1.jsonl", b"put by the delivery before")
    large.write(tmp_path, "batch-1", large.ordinary)
    assert large.store.objects(tmp_path) == {"batch-1.jsonl": b"put by the delivery before"}
