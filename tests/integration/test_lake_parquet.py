"""`millrace lake compact` on directories of Parquet: the same rows in few files, whatever dies in the middle."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace_consumer.runner import Consumer
from millrace_consumer.sinks.compacting import compact
from millrace_pipeline.errors import SinkUnavailable
from millrace_pipeline.flows.flow import load
from tests.services import NOWHERE, Place

MODEL = "from pydantic import BaseModel\n\n\nclass Number(BaseModel):\n    n: int\n"


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.parquet"))


def rows(root: Path) -> list[int]:
    return sorted(n for file in files(root) for n in pq.ParquetFile(file).read()["n"].to_pylist())


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Two partitions with ten files each, of ten rows."""
    for day in range(2):
        folder = tmp_path / f"date=2018-01-0{day + 1}"
        folder.mkdir()
        for number in range(10):
            name = f"20261121T000000Z-0123456789-{number:06d}.parquet"
            pq.write_table(pa.table({"n": range(day * 100 + number * 10, day * 100 + number * 10 + 10)}), folder / name)
    return tmp_path


def test_few_files_hold_the_same_rows_in_their_partitions(many: Path) -> None:
    before = rows(many)
    done = compact(many, 1 << 20, 0, list)
    assert (done.files_before, done.files_after, len(files(many))) == (20, 2, 2)
    assert rows(many) == before == list(range(200))
    assert [sorted(one.name for one in folder.iterdir()) for folder in sorted(many.glob("date=*"))] == [
        ["20261121T000000Z-0123456789-000000.parquet"]
    ] * 2
    assert pq.read_metadata(files(many)[0]).num_row_groups == 1
    again = compact(many, 1 << 20, 0, list)
    assert (again.files_before, again.files_after) == (2, 2)


def test_what_is_in_flight_young_or_of_others_is_left_alone(many: Path) -> None:
    other = many / "date=2018-01-01" / "mine.parquet"
    pq.write_table(pa.table({"n": [999]}), other)
    held = "20261121T000000Z-0123456789-000003"
    compact(many, 1 << 20, 0, lambda: [f"{held}a"])
    assert other.exists()
    assert len([file for file in files(many) if file.stem == held]) == 2
    assert rows(many) == [*range(200), 999]
    assert compact(many, 1 << 20, 3600, list).files_after == 4


def test_files_of_other_columns_are_not_mixed(many: Path) -> None:
    odd = many / "date=2018-01-01" / "20261121T000000Z-0123456789-000005.parquet"
    pq.write_table(pa.table({"n": range(50, 60), "more": ["x"] * 10}), odd)
    compact(many, 1 << 20, 0, list)
    assert pq.read_schema(odd).names == ["n", "more"]
    assert rows(many) == list(range(200))


def test_two_do_not_compact_one_directory(many: Path) -> None:
    def meanwhile() -> Iterator[str]:
        with pytest.raises(SinkUnavailable, match="already"):
            compact(many, 1 << 20, 0, list)
        return iter(())

    compact(many, 1 << 20, 0, lambda: list(meanwhile()))


@pytest.mark.parametrize("point", ["lake.before_replace", "lake.after_replace", "lake.after_remove"])
def test_whoever_comes_after_a_kill_ends_what_was_begun(many: Path, point: str) -> None:
    child = os.fork()
    if child == 0:
        from millrace_pipeline import killpoints

        killpoints._name, killpoints._left = point, 1
        compact(many, 1 << 20, 0, list)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0, "it was to be killed"
    compact(many, 1 << 20, 0, list)
    assert rows(many) == list(range(200))
    assert len(files(many)) == 2
    assert not list(many.rglob(".compacting-*.json"))


def test_the_command_compacts_a_flow_s_files_and_verify_still_finds_each_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.module(MODEL)
    sink = {"type": "parquet", "path": "out"}
    place.flow(source={**NOWHERE, "key": "/n"}, sink=sink, model="theirs:Number")
    place.publish(range(50))
    never = threading.Event()
    flow = load(place.folder / "flows.yaml")["numbers"]
    out = place.folder / "out"
    monkeypatch.chdir(place.folder)
    Consumer(flow, place.redis_url, stopping=never, give_up=never, until_empty=True).run()
    assert len(files(out)) == 5
    done = place.start("lake", "compact", "--older-than", "0s", "--json")
    assert done.wait() == 0, done.said
    assert json.loads(done.printed)["numbers"]["files_after"] == 1
    assert rows(out) == list(range(50))
    verified = place.start("verify", "--sink")
    assert verified.wait() == 0, verified.said + verified.printed
    assert "50 records of 50 delivered: each once" in verified.printed
    nobody = place.start("lake", "compact", REDIS_URL="redis://127.0.0.1:9/0")
    assert nobody.wait() == 4, nobody.said
