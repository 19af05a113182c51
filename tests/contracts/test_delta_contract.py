"""The delta sink keeps the sink contract, on disk and in a bucket, and its own claims."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema, write_deltalake
from pydantic import BaseModel, ValidationError

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.delta import DeltaSink
from millrace_consumer.sinks.deltatable import BATCH, storage_options
from millrace_consumer.sinks.places.store import Store
from millrace_pipeline.errors import ConfigError
from tests.conftest import eventually
from tests.contracts.file_sink_contract import HOSTILE_VALUES
from tests.contracts.object_store import ObjectStore
from tests.contracts.sink_contract import ROOT, SinkContract, as_nobody, no_room_for_files
from tests.contracts.sink_records import NarrowThing, batch_of, bulk


class DeltaTableSink(SinkContract):
    """A delta sink, and how its table is read."""

    sink = "millrace_consumer.sinks.delta:DeltaSink"
    kill_points: ClassVar[tuple[str, ...]] = ("sink.before_write", "sink.after_commit", "sink.after_write")

    def rows(self, destination: Path) -> list[dict[str, Any]]:
        """What another reader finds, in the order of the commits."""
        table = self.table(destination)
        return [] if table is None else pa.table(table.scan().read_all()).to_pylist()

    def table(self, destination: Path) -> DeltaTable | None:
        return DeltaTable(destination) if DeltaTable.is_deltatable(str(destination)) else None

    def read_back(self, destination: Path) -> list[Any]:
        return [json.loads(row["data"]) for row in self.rows(destination)]

    def commits(self, destination: Path) -> list[str]:
        table = self.table(destination)
        assert table
        return [commit[BATCH] for commit in reversed(table.history()) if BATCH in commit]

    def make(self, destination: Path, **options: Any) -> DeltaSink:
        return DeltaSink.model_validate(self.options(destination) | options)

    @contextmanager
    def full(self, destination: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
        with no_room_for_files() as free:
            yield destination, free


class DeltaSinkContract(DeltaTableSink):
    """The claims about any Delta table."""

    def test_a_batch_is_one_commit_that_names_it_and_says_its_size(self, tmp_path: Path) -> None:
        sink = self.make(tmp_path)
        batches = [self.batch(f"batch-{n}", bulk(10)) for n in range(3)]
        for batch in batches:
            sink.write(batch)
        assert self.commits(tmp_path) == ["batch-0", "batch-1", "batch-2"]
        table = self.table(tmp_path)
        assert table
        assert sum(batch.written for batch in batches) == sum(
            pa.table(table.get_add_actions())["size_bytes"].to_pylist()
        )

    def test_two_consumers_with_the_same_batch_commit_it_once(self, tmp_path: Path) -> None:
        sinks = [self.make(tmp_path) for _ in range(4)]  # the table isn't there yet
        barrier = threading.Barrier(len(sinks))

        def deliver(sink: DeltaSink) -> None:
            for number in range(3):
                barrier.wait()
                sink.write(self.batch(f"batch-{number}", bulk(5)))

        with ThreadPoolExecutor(len(sinks)) as pool:
            for _ in pool.map(deliver, sinks):
                pass
        assert self.commits(tmp_path) == ["batch-0", "batch-1", "batch-2"]
        assert self.found(tmp_path) == self.wanted(*[bulk(5)] * 3)

    def test_consumers_that_write_at_the_same_time_lose_nothing(self, tmp_path: Path) -> None:
        def deliver(consumer: int) -> None:
            sink = self.make(tmp_path)
            for number in range(4):
                sink.write(self.batch(f"batch-{consumer}-{number}", bulk(3)))

        with ThreadPoolExecutor(3) as pool:
            for _ in pool.map(deliver, range(3)):
                pass
        assert len(self.commits(tmp_path)) == len(set(self.commits(tmp_path))) == 12
        assert self.found(tmp_path) == self.wanted(*[bulk(3)] * 12)

    def test_what_is_committed_is_held_and_nothing_else(self, tmp_path: Path) -> None:
        sink = self.make(tmp_path)
        assert not sink.has_batch("batch-1")
        sink.write(self.batch("batch-1", bulk(2)))
        assert sink.has_batch("batch-1")
        assert self.make(tmp_path).has_batch("batch-1")
        assert not sink.has_batch("batch-2")


class TestDeltaSink(DeltaSinkContract):
    def test_a_process_killed_at_any_moment_commits_whole_batches_once(self, tmp_path: Path) -> None:
        """By SIGKILL at moments that are not ours to choose, also in the middle of the library's own work."""
        command = [sys.executable, "-m", "tests.contracts.delta_writer", str(tmp_path)]
        for _ in range(3):
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert process.stdout
            for _ in range(5):
                assert process.stdout.readline() == "written\n"
            process.send_signal(signal.SIGKILL)
            process.wait()
        commits = self.commits(tmp_path)
        assert len(set(commits)) == len(commits) >= 15
        sink = self.make(tmp_path)
        for batch in commits:
            sink.write(batch_of(batch, bulk(50)))
        assert len(self.rows(tmp_path)) == 50 * len(commits)

    def test_a_directory_that_it_may_not_write_to_makes_it_unavailable_until_it_may(self, tmp_path: Path) -> None:
        destination = tmp_path / "closed"
        destination.mkdir(mode=0o555)
        sink = self.make(destination)
        with as_nobody(), pytest.raises(SinkUnavailable, match="closed"):
            sink.write(self.batch("batch-1", bulk(5)))
        destination.chmod(0o755)
        sink.write(self.batch("batch-1", bulk(5)))
        assert self.found(destination) == self.wanted(bulk(5))


class TestDeltaSinkWithModel(DeltaTableSink):
    model = NarrowThing
    unwritable: ClassVar[list[Any]] = [{"id": "wide", "number": 2**63}, {"id": "wider", "number": -(2**64)}]

    def read_back(self, destination: Path) -> list[Any]:
        return self.rows(destination)

    def expected(self, record: dict[str, Any]) -> Any:
        row = {column: record.get(column) for column in ("id", "text", "flag", "nested", "number")}
        if row["nested"] is not None:
            row["nested"] = json.dumps(row["nested"], ensure_ascii=False, separators=(",", ":"))
        return row


class TestDeltaSinkInABucket(DeltaSinkContract):
    store: ObjectStore

    @pytest.fixture(autouse=True)
    def _in_a_bucket(self, store: ObjectStore) -> None:
        self.store = store

    def options(self, destination: Path, **store: Any) -> dict[str, Any]:
        return {"path": self.store.url(destination), "store": self.store.options(**store)}

    def table(self, destination: Path) -> DeltaTable | None:
        options = storage_options(Store.model_validate(self.store.options(endpoint=self.store.direct)))
        url = self.store.url(destination)
        return DeltaTable(url, storage_options=options) if DeltaTable.is_deltatable(url, options) else None

    @contextmanager
    def full(self, destination: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
        with self.store.full() as free:
            yield destination, free

    def test_a_commit_whose_reply_is_lost_is_there_once(self, tmp_path: Path) -> None:
        sink = self.make(tmp_path)
        sink.write(self.batch("batch-0", bulk(2)))
        lost = self.store.proxy.lose_reply_to(b"00002.json")
        sink.write(self.batch("batch-1", bulk(5)))
        assert lost.is_set()
        assert self.commits(tmp_path) == ["batch-0", "batch-1"]
        assert self.found(tmp_path) == self.wanted(bulk(2), bulk(5))

    def test_a_consumer_killed_while_its_commit_is_on_the_way_commits_once_or_not_at_all(self, tmp_path: Path) -> None:
        self.write(tmp_path, "batch-0", bulk(2))
        reached = self.store.proxy.stall_at(b"00002.json")
        sink = self.make(tmp_path)
        job = {"options": json.loads(json.dumps(self.options(tmp_path))), "id": "batch-1"}
        command = [sys.executable, "-m", "tests.contracts.delta_writer", json.dumps(job)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            assert reached.wait(60)
        finally:
            process.kill()
            process.wait()
            self.store.proxy.stall(False)  # what was sent may still arrive
        sink.write(self.batch("batch-1", bulk(50)))
        assert self.commits(tmp_path) == ["batch-0", "batch-1"]
        assert self.found(tmp_path) == self.wanted(bulk(2), bulk(50))

    def test_a_store_that_is_down_takes_the_batch_once_it_is_back(self, tmp_path: Path) -> None:
        sink = self.make(tmp_path)
        self.store.proxy.refuse()
        try:
            with pytest.raises(SinkUnavailable, match=tmp_path.name):
                sink.write(self.batch("batch-1", bulk(5)))
        finally:
            self.store.proxy.refuse(False)
        sink.write(self.batch("batch-1", bulk(5)))
        assert self.found(tmp_path) == self.wanted(bulk(5))


class Row(BaseModel):
    id: str | None
    n: int | None = None
    place: str | None = None


class Wider(Row):
    more: str | None = None


def write(path: Path, id: str, records: list[dict[str, Any]], model: type[BaseModel] = Row, **options: Any) -> None:
    sink = DeltaSink.model_validate({"path": path, **options})
    sink.check(model)
    sink.write(batch_of(id, records, model))


def rows(path: Path) -> list[dict[str, Any]]:
    return sorted(pa.table(DeltaTable(path).scan().read_all()).to_pylist(), key=repr)


def ids(path: Path) -> dict[str, Any]:
    return {row["id"]: row["n"] for row in rows(path)}


UPSERT = {"mode": "upsert", "key": "id"}


def test_an_upsert_replaces_the_row_of_its_key_also_within_a_batch(tmp_path: Path) -> None:
    write(tmp_path, "b1", [{"id": "a", "n": 1}, {"id": "b", "n": 1}, {"id": "a", "n": 2}], **UPSERT)
    assert ids(tmp_path) == {"a": 2, "b": 1}
    write(tmp_path, "b2", [{"id": "b", "n": 0}, {"id": "c", "n": 3}], **UPSERT)
    assert ids(tmp_path) == {"a": 2, "b": 0, "c": 3}
    write(tmp_path, "b1", [{"id": "a", "n": 1}, {"id": "b", "n": 1}, {"id": "a", "n": 2}], **UPSERT)
    assert ids(tmp_path) == {"a": 2, "b": 0, "c": 3}, "an older batch again"


def test_an_upsert_with_a_version_never_goes_back(tmp_path: Path) -> None:
    options = {**UPSERT, "version": "n"}
    write(tmp_path, "b1", [{"id": "a", "n": 5}, {"id": "a", "n": 4}, {"id": "b", "n": None}], **options)
    assert ids(tmp_path) == {"a": 5, "b": None}
    write(tmp_path, "b2", [{"id": "a", "n": 3}, {"id": "b", "n": 1}, {"id": "c", "n": None}], **options)
    assert ids(tmp_path) == {"a": 5, "b": 1, "c": None}


def test_consumers_that_upsert_at_the_same_time_keep_one_row_a_key(tmp_path: Path) -> None:
    def deliver(consumer: int) -> None:
        sink = DeltaSink.model_validate({"path": tmp_path, **UPSERT, "version": "n"})
        for number in range(3):
            values = [{"id": str(key), "n": 10 * number + consumer} for key in range(20)]
            batch = batch_of(f"b-{consumer}-{number}", values, Row)
            eventually(lambda batch=batch: taken(sink, batch), 60)

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(deliver, range(2)):
            pass
    assert ids(tmp_path) == {str(key): 21 for key in range(20)}
    assert len(rows(tmp_path)) == 20


def taken(sink: DeltaSink, batch: Batch) -> bool:
    """As the runner does it: a batch that is put off is offered again."""
    try:
        sink.write(batch)
    except SinkUnavailable:
        return False
    return True


def test_a_record_without_its_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordsRejected) as rejection:
        write(tmp_path, "b", [{"id": "a"}, {"id": None}, {"id": "a"}], **UPSERT)
    assert rejection.value.reasons == {1: "its key (id) is null"}
    assert not (tmp_path / "_delta_log").exists()


@pytest.mark.parametrize("mode", [{}, UPSERT], ids=["append", "upsert"])
def test_a_column_that_the_table_lacks_is_added_and_one_that_records_lack_is_null(
    tmp_path: Path, mode: dict[str, Any]
) -> None:
    write(tmp_path, "b1", [{"id": "a", "n": 1}], **mode)
    write(tmp_path, "b2", [{"id": "b", "n": 2, "more": "x"}], Wider, **mode)
    write(tmp_path, "b3", [{"id": "c", "n": 3}], **mode)
    assert [(row["id"], row["more"]) for row in rows(tmp_path)] == [("a", None), ("b", "x"), ("c", None)]


def test_a_table_that_gets_no_columns_added_keeps_the_batch_waiting_for_its_column(tmp_path: Path) -> None:
    write(tmp_path, "b1", [{"id": "a", "n": 1}])
    with pytest.raises(SinkUnavailable, match="has no column more: add it"):
        write(tmp_path, "b2", [{"id": "b"}], Wider, add_columns=False)
    DeltaTable(tmp_path).alter.add_columns(Schema.from_arrow(pa.schema([("more", pa.string())])).fields)
    write(tmp_path, "b2", [{"id": "b"}], Wider, add_columns=False)
    assert [row["id"] for row in rows(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("mode", [{}, UPSERT], ids=["append", "upsert"])
def test_in_a_table_of_others_a_value_that_does_not_fit_names_its_record(tmp_path: Path, mode: dict[str, Any]) -> None:
    write_deltalake(tmp_path, pa.table({"id": ["0"], "n": pa.array([0], pa.int16())}))
    with pytest.raises(RecordsRejected) as rejection:
        write(tmp_path, "b", [{"id": "a", "n": 1}, {"id": "a", "n": 2}, {"id": "b", "n": 2**20}], **mode)
    assert list(rejection.value.reasons) == [2]
    assert rejection.value.reasons[2].startswith("n: does not fit the table's int16")
    write(tmp_path, "b", [{"id": "a", "n": 1}, {"id": "a", "n": 2}], **mode)
    assert ids(tmp_path) == {"0": 0, "a": 2}


def test_a_table_whose_column_is_another_thing_keeps_the_batch_waiting(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": ["0"], "n": pa.array([[0]], pa.list_(pa.int64()))}))
    with pytest.raises(SinkUnavailable, match="column n of the table"):
        write(tmp_path, "b", [{"id": "a", "n": 1}])


def test_hostile_partition_values_lose_no_record(tmp_path: Path) -> None:
    destination = tmp_path / "in" / "side"
    records = [{"id": f"{n}", "place": value} for n, value in enumerate([*HOSTILE_VALUES, "A", "a", "%41"])]
    with pytest.raises(RecordsRejected) as rejection:
        write(destination, "b", records, partition="place")
    assert [len(records[index]["place"]) for index in rejection.value.reasons] == [300, 300]
    records = [record for index, record in enumerate(records) if index not in rejection.value.reasons]
    for _ in range(2):
        write(destination, "b", records, partition="place")
    # The protocol knows no empty text as a partition: it may be read as null.
    found = {row["id"]: row["place"] or None for row in rows(destination)}
    assert found == {record["id"]: record["place"] or None for record in records}
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
    assert [entry.name for entry in (tmp_path / "in").iterdir()] == ["side"]


def test_many_partitions_take_few_open_files(tmp_path: Path) -> None:
    write(tmp_path / "warm", "b", [{"id": "1"}])
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 40, before[1]))
    try:
        write(tmp_path / "many", "b", [{"id": f"{n}", "place": f"{n}"} for n in range(500)], partition="place")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(rows(tmp_path / "many")) == 500


def test_day_and_hour_of_the_event_become_columns(tmp_path: Path) -> None:
    sink = DeltaSink.model_validate({"path": tmp_path, "partition": ["date", "hour"]})
    sink.check(None)
    sink.write(batch_of("b", bulk(2)))
    assert [(str(row["date"]), row["hour"]) for row in rows(tmp_path)] == [("2026-11-21", 1)] * 2
    assert DeltaTable(tmp_path).metadata().partition_columns == ["date", "hour"]


class Odd(BaseModel):
    id: str
    took: timedelta


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (Odd, {}, r"no duration\[us\] for column took"),
        (Row, {"mode": "upsert", "key": "nobody"}, "key: there is no column 'nobody'; there are id, n, place"),
        (Row, {"partition": "nobody"}, "partition: there is no column"),
        (Row, {**UPSERT, "version": "revision"}, "version: there is no column"),
    ],
)
def test_what_the_table_cannot_have_is_refused_when_the_flow_is_checked(
    tmp_path: Path, model: type[BaseModel] | None, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        DeltaSink.model_validate({"path": tmp_path, **options}).check(model)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "upsert"},
        {"key": "id"},
        {"version": "n"},
        {"partition": ["a", "a"]},
        {"path": "s3://b/t", "store": {"conditional_put": False}},
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DeltaSink.model_validate({"path": "x"} | options)


def test_the_log_is_opened_anew_from_a_checkpoint_before_it_grows_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace_consumer.sinks.deltatable.REOPEN_AFTER", 3)
    sink = DeltaSink.model_validate({"path": tmp_path})
    for number in range(8):
        sink.write(batch_of(f"b{number}", bulk(2)))
        sink.write(batch_of(f"b{number}", bulk(2)))
    assert len(rows(tmp_path)) == 16
    assert 0 < sink.table._opened_at <= 8
