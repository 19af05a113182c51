"""Values at the ends of their types, in every sink that has types: each is written or set aside, and no sink stops."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from pydantic import BaseModel

from millrace_consumer.batch import Batch
from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.base import Sink
from millrace_consumer.sinks.csv import CsvSink
from millrace_consumer.sinks.duckdb import DuckdbSink
from millrace_consumer.sinks.jsonl import JsonlSink
from millrace_consumer.transforms.chain import apply
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import RecordsRejected
from tests.contracts.outlets import OUTLETS


class Typed(BaseModel):
    money: Decimal | None = None
    count: int | None = None
    share: float | None = None
    at: datetime | None = None
    day: date | None = None
    hour: time | None = None
    anything: Any = None
    many: list[Decimal] | None = None


NAMES = list(Typed.model_fields)

WITH_OPTIONS: dict[str, Callable[[Path], Sink]] = {
    "partitions": lambda folder: JsonlSink(path=folder / "out", partition=["money", "at", "anything"]),
    "csv": lambda folder: CsvSink(path=folder / "out", columns=NAMES),
}
"""Sinks that don't take records whole."""

DECIMALS = ["1e999999999", "-1e9999999", "1e-999999999", "0e-999999999", "0e999999999", "1e-57", "NaN", "Infinity"]
VALUES = [
    *(f'{{"money":"{text}"}}' for text in [*DECIMALS, "9" * 4300, "1e30"]),
    *(f'{{"many":["1","{text}"]}}' for text in DECIMALS),
    *(f'{{"count":{text}}}' for text in ["9" * 4300, "-" + "9" * 4300, "1e300", '"' + "9" * 4300 + '"']),
    *(f'{{"share":{text}}}' for text in ["1e308", "1e-400", "9" * 4300, '"1e999"']),
    *(f'{{"at":"{text}"}}' for text in ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01"]),
    *(f'{{"at":{text}}}' for text in ["1e11", "253402300799", "-62135596800"]),
    *(f'{{"day":"{text}"}}' for text in ["0001-01-01", "9999-12-31"]),
    '{"hour":"23:59:59.999999+14:00"}',
    *(f'{{"anything":{"[" * depth}{"]" * depth}}}' for depth in (190, 254, 256, 600, 900)),
    *(f'{{"anything":{text}}}' for text in ["9" * 4300, "1e308", r'"\u0000"', '{"":{}}']),
]


@pytest.mark.parametrize("evolves", [False, True], ids=["fits", "evolves"])
@pytest.mark.parametrize("model", [Typed, None], ids=["typed", "plain"])
@pytest.mark.parametrize("kind", [*OUTLETS, *WITH_OPTIONS])
def test_an_extreme_value_is_written_or_set_aside(
    kind: str, model: type[BaseModel] | None, evolves: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    outlet = OUTLETS[kind](request) if kind in OUTLETS else None
    with outlet.contract.reaching(tmp_path) if outlet and outlet.contract else nullcontext():
        sink = outlet.make(tmp_path) if outlet else WITH_OPTIONS[kind](tmp_path)
        sink.check(model)
        takes_each(sink, model, evolves=evolves)


def takes_each(sink: Sink, model: type[BaseModel] | None, *, evolves: bool) -> None:
    for number, text in enumerate(VALUES):
        given = Envelope(str(number), "s", "t", "2026-11-21T00:00:00Z", msgspec.Raw(text.encode()))
        found = apply([given], (), model, evolves=evolves)
        batch = Batch(f"20261121T000000Z-0123456789-{number:06d}", found.envelopes, model=model, rows=found.rows)
        assert rejected_by(sink, batch) <= {0}, text
    sink.close()


def rejected_by(sink: Sink, batch: Batch) -> set[int]:
    try:
        sink.write(batch)
    except RecordsRejected as rejected:
        return set(rejected.reasons)
    return set()


@pytest.mark.parametrize("text", ["1e30", "1e999999999", "1e-999999999"])
def test_a_number_of_any_size_is_no_trouble_for_a_column_of_integers(text: str, tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "out.db") as connection:
        connection.execute("CREATE TABLE t (count BIGINT)")
    given = Envelope("1", "s", "t", None, msgspec.Raw(b'{"count":%s}' % text.encode()))
    with pytest.raises(RecordsRejected) as rejected:
        DuckdbSink(path=tmp_path / "out.db", table="t").write(Batch("20261121T000000Z-0123456789-000001", [given]))
    assert list(rejected.value.reasons) == [0]


def test_every_sink_is_among_them(request: pytest.FixtureRequest) -> None:
    tried = {OUTLETS[kind](request).sink for kind in OUTLETS} | {"millrace_consumer.sinks.csv:CsvSink"}
    assert set(SINKS.values()) - tried == {SINKS["null"]}
