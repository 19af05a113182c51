"""`millrace lake` and `millrace verify --sink` on real Delta tables."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner

from millrace.cli import lake, verify
from millrace_consumer.runner import Consumer
from millrace_consumer.sinks.delta import DeltaSink
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import load
from tests.contracts.object_store import ObjectStore, object_store
from tests.contracts.sink_records import batch_of, bulk
from tests.services import NOWHERE, Place

MODEL = """
from pydantic import BaseModel


class Number(BaseModel):
    n: int
"""


class Lake:
    """A flow whose 30 records are in a Delta table, three batches of ten."""

    def __init__(self, place: Place, **sink: Any) -> None:
        self.place = place
        self.path = place.folder / "out"
        place.module(MODEL)
        options = {"type": "delta", "path": str(self.path), **sink}
        place.flow(source={**NOWHERE, "key": "/n"}, sink=options, model="theirs:Number")
        self.deliver(range(30))

    def deliver(self, numbers: range) -> None:
        self.place.publish(numbers)
        never = threading.Event()
        flow = load(self.place.folder / "flows.yaml")["numbers"]
        Consumer(flow, self.place.redis_url, stopping=never, give_up=never, until_empty=True).run()

    def __call__(self, command: str, *arguments: str, code: int = 0) -> str:
        app = {"verify": verify.app}.get(command, lake.app)
        words = [
            *([] if app is verify.app else [command]),
            *arguments,
            "--flows",
            str(self.place.folder / "flows.yaml"),
        ]
        done = CliRunner().invoke(app, words, env={"REDIS_URL": self.place.redis_url, "COLUMNS": "200"})
        assert done.exit_code == code, (done.output, done.exception)
        return done.stdout

    @property
    def files(self) -> list[Path]:
        return sorted(self.path.rglob("*.parquet"))


@pytest.fixture
def place(tmp_path: Path, redis_url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "theirs", raising=False)
    with Place(tmp_path, redis_url, key) as place:
        yield place
    __import__("sys").modules.pop("theirs", None)


def test_a_table_is_read_again_and_holds_what_was_delivered(place: Place) -> None:
    flow = Lake(place)
    said = flow("verify", "--sink")
    assert "1 table, 30 records of 30 delivered: each once (by its /n)" in said
    found = json.loads(flow("verify", "--sink", "--json"))["numbers"]["sink"]
    assert (found["records"], found["batches"], found["twice"], found["differs"]) == (30, 3, 0, False)


def test_rows_that_are_missing_or_there_twice_are_told(place: Place) -> None:
    flow = Lake(place)
    DeltaTable(flow.path).delete("n = 7")
    assert "29 records of 30 delivered: 1 missing" in flow("verify", "--sink", code=1)
    write_deltalake(flow.path, pa.table({"n": [8, 9]}), mode="append")
    said = flow("verify", "--sink", code=1)
    assert "2 twice" in said
    assert "1 more than delivered" in said


def test_a_file_that_was_deleted_makes_the_table_damaged(place: Place) -> None:
    flow = Lake(place)
    flow.files[0].unlink()
    assert "damaged: " in flow("verify", "--sink", code=1)


def test_of_an_upsert_each_key_is_there_once(place: Place) -> None:
    flow = Lake(place, mode="upsert", key="n")
    flow.deliver(range(20, 40))
    assert "40 records of 50 delivered: each key once (by its n)" in flow("verify", "--sink")
    write_deltalake(flow.path, pa.table({"n": [8]}), mode="append")
    assert "1 twice" in flow("verify", "--sink", code=1)


@pytest.mark.parametrize("point", ["sink.after_commit:2", "consumer.after_write:2"])
def test_a_consumer_killed_after_its_commit_leaves_every_record_once(place: Place, point: str) -> None:
    place.flow(source={**NOWHERE, "key": "/n"}, sink={"type": "delta", "path": "out"})
    place.publish(range(30))
    assert place.consume(MILLRACE_KILLPOINT=point).wait() < 0
    assert DeltaTable(place.folder / "out").count() == 20
    assert place.books().delivered == 10
    place.deliver_the_rest()
    rows = pa.table(DeltaTable(place.folder / "out").scan().read_all()).to_pylist()
    assert sorted(json.loads(row["data"])["n"] for row in rows) == list(range(30))
    verify = place.start("verify", "--sink")
    assert verify.wait() == 0, verify.said
    assert "1 table, 30 records of 30 delivered: each once (by its envelope id)" in verify.printed


def test_small_files_become_large_ones_and_no_row_changes(place: Place) -> None:
    flow = Lake(place)
    assert flow("compact").startswith("numbers: 3 files of 0.0 MB are now 1 file of 0.0 MB")
    assert "30 records of 30 delivered: each once" in flow("verify", "--sink")
    assert json.loads(flow("compact", "--json"))["numbers"]["files_after"] == 1


def test_what_no_version_needs_is_removed_and_what_may_be_written_now_stays(place: Place) -> None:
    flow = Lake(place)
    dead, living = flow.path / "part-of-a-killed-consumer.parquet", flow.path / "part-being-written.parquet"
    for file in (dead, living):
        file.write_bytes(b"PAR1")
    os.utime(dead, (time.time() - 7200,) * 2)
    said = flow("vacuum", "--keep", "1h", "--dry-run")
    assert "numbers: 1 file to remove" in said
    assert dead.name in said
    assert dead.exists()
    assert "numbers: 1 file removed" in flow("vacuum", "--keep", "1h")
    assert not dead.exists()
    assert living.exists()
    assert "each once" in flow("verify", "--sink")


def test_compacting_beside_consumers_loses_nothing(tmp_path: Path) -> None:
    sink = DeltaSink.model_validate({"path": tmp_path})
    sink.write(batch_of("first", bulk(5)))

    def deliver(consumer: int) -> None:
        mine = DeltaSink.model_validate({"path": tmp_path})
        for number in range(6):
            mine.write(batch_of(f"b-{consumer}-{number}", bulk(5)))

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(deliver, consumer) for consumer in range(2)]
        while not all(done.done() for done in running):
            sink.table.compact(1 << 20)
        for done in running:
            done.result()
    assert DeltaTable(tmp_path).count() == 65


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vacuum", "--keep", "30m"], "1h or more"),
        (["vacuum", "--keep", "soon"], "--keep soon: expected a duration"),
        (["compact", "--target", "big"], "--target big: expected a size"),
        (["compact", "plain"], "plain writes to no Delta table: its sink is jsonl"),
    ],
)
def test_what_cannot_be_done_is_said(place: Place, arguments: list[str], said: str) -> None:
    place.flow("plain")
    done = CliRunner().invoke(lake.app, [*arguments, "--flows", str(place.folder / "flows.yaml")])
    assert isinstance(done.exception, ConfigError), done.output
    assert said in str(done.exception)


def test_flows_without_a_table_are_nothing_to_keep_in_order(place: Place) -> None:
    place.flow("plain")
    done = CliRunner().invoke(lake.app, ["compact", "--flows", str(place.folder / "flows.yaml")])
    assert "no flow writes to a Delta table" in str(done.exception)


def test_a_table_in_a_bucket_is_verified_compacted_and_vacuumed(place: Place) -> None:
    with object_store() as store:
        flow = Lake(place, path=store.url(place.folder), store=store.options(endpoint=store.direct))
        assert "30 records of 30 delivered: each once" in flow("verify", "--sink")
        assert "3 files" in flow("compact")
        assert "numbers: 0 files removed" in flow("vacuum")
        assert sorted(row["n"] for row in _rows(store, place)) == list(range(30))


def _rows(store: ObjectStore, place: Place) -> list[dict[str, Any]]:
    from millrace_consumer.sinks.deltatable import storage_options
    from millrace_consumer.sinks.places.store import Store

    options = storage_options(Store.model_validate(store.options(endpoint=store.direct)))
    table = DeltaTable(store.url(place.folder), storage_options=options)
    return list(pa.table(table.scan().read_all()).to_pylist())
