"""Row 11: a consumer that writes typed Parquet, beside Arrow's own reader and writer on the same bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from bench import check
from bench.data import enveloped
from bench.lab import Lab
from bench.rounds import Figure, Goal, Row, Side
from bench.rows.drain import ours, peer

BATCH = 10_000


class _Meta(msgspec.Struct):
    id: str
    domain: str | None = None


class _Change(msgspec.Struct):
    """The columns of `bench.ours.change:Change`, decoded by neither side's code."""

    meta: _Meta
    type: str
    title: str | None = None
    user: str | None = None
    bot: bool | None = None
    wiki: str | None = None
    timestamp: int | None = None


def verifying(lab: Lab, who: str, count: int) -> Callable[[Path], None]:
    """Compares the rows of all Parquet files with what was put in."""
    decoder = msgspec.json.Decoder(_Change)
    expected = check.total(lab.events.some(count), lambda line: msgspec.json.encode(decoder.decode(line)))

    def verify(folder: Path) -> None:
        check.agree(who, check.total(_rows(folder)), expected)

    return verify


def _rows(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*.parquet")):
        for row in pq.ParquetFile(path).read().to_pylist():
            yield msgspec.json.encode(msgspec.convert(row, _Change))


@contextlib.contextmanager
def _sides(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
    sink = {"type": "parquet", "path": "output"}
    verify = verifying(lab, "row 11", count)
    yield (
        ours(lab, count, verify, batch=BATCH, model="bench.ours.change:Change", sink=sink),
        peer(lab, enveloped, count, verify, "bare_pyarrow", count, BATCH),
    )


ROWS = [
    Row(
        "11",
        f"typed Parquet, batches of {BATCH:,}",
        "millrace consume",
        "RPOP and bare pyarrow",
        (Figure("records/s", Goal(0.8)),),
        (200_000, 50_000),
        _sides,
    )
]
