"""Every option `time` has a `time_unit` beside it, and reads a number by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pydantic import BaseModel

from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.base import Sink
from millrace_pipeline.flows.reference import load_object
from millrace_producer.sources import SOURCES
from tests.contracts.sink_records import batch_of

DATED = ["jsonl", "csv", "parquet", "delta"]
MILLISECONDS = 1_000_000_000  # 12 January 1970; of seconds the year 2001


class At(BaseModel):
    id: str
    at: int


def of(kind: str, folder: Path, **options: Any) -> Sink:
    sink: Sink = load_object(SINKS[kind]).model_validate({"path": folder / "out", "partition": ["date"], **options})
    return sink


def days(kind: str, folder: Path) -> set[str]:
    if kind == "delta":
        return {str(day) for day in pa.table(DeltaTable(folder / "out").scan().read_all())["date"].to_pylist()}
    return {path.name.partition("=")[2] for path in (folder / "out").glob("date=*")}


@pytest.mark.parametrize("family", [SINKS, SOURCES], ids=["sinks", "sources"])
def test_wherever_a_time_is_named_its_unit_can_be(family: dict[str, str]) -> None:
    fields = {name: load_object(path).model_fields for name, path in family.items()}
    timed = {name for name, options in fields.items() if "time" in options}
    assert timed
    assert {name for name in timed if "time_unit" not in fields[name]} == set()
    if family is SINKS:
        assert timed == set(DATED)


@pytest.mark.parametrize("kind", DATED)
@pytest.mark.parametrize(
    ("options", "day"),
    [
        ({"time_unit": "ms"}, "1970-01-12"),
        ({"time_unit": "s"}, "2001-09-09"),
        ({"time_unit": "us"}, "1970-01-01"),
        ({}, "2001-09-09"),
    ],
    ids=["ms", "s", "us", "auto"],
)
def test_a_number_is_read_by_its_unit(kind: str, options: dict[str, str], day: str, tmp_path: Path) -> None:
    sink = of(kind, tmp_path, time="at", **options)
    sink.write(batch_of("b1", [{"id": "1", "at": MILLISECONDS}], At))
    sink.close()
    assert days(kind, tmp_path) == {day}


@pytest.mark.parametrize("kind", DATED)
def test_a_time_by_which_nothing_is_parted_is_doubted(kind: str, tmp_path: Path) -> None:
    assert "there are none here" in (of(kind, tmp_path, time="at", partition=[]).doubt(At) or "")
    for partition in (["date"], ["hour"]):
        assert of(kind, tmp_path, time="at", partition=partition).doubt(At) is None
    assert of(kind, tmp_path, partition=[]).doubt(At) is None
