"""Row 19: what it costs to go by Redis' disk (`queue.fsync`), on a server with an append-only file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.data import KEY
from bench.lab import Lab
from bench.rounds import Figure, Goal, Row, Side, WrongAnswer
from bench.rows import latency
from bench.rows.drain import ours as consume
from bench.rows.drain import verifying
from bench.rows.parquet import verifying as verifying_parquet
from bench.rows.publish import published, verify

SHIPPED_BATCH = 5_000
"""As in the flow of Wikimedia's stream that is shipped."""

RATE = 20


_CONSUMING = (Figure("records/s", Goal(0.9)),)
FIRST = 0.05
"""The first batches of a list wait for the disk, which takes seconds however long the list is: row 19d tells how many.
Throughput is what comes behind them."""


def _queue(fsync: str) -> dict[str, Any]:
    return {"queue": {"key": KEY, "fsync": fsync}}


def _publish(lab: Lab, count: int, fsync: str) -> Side:
    """`millrace produce`, on a fresh server each time: what was published before is in the server's file."""

    def run() -> tuple[float, ...]:
        with lab.durable() as durable, durable.folder() as folder:
            source = {"type": "bench.ours.receipts:ReceiptSource", "count": count, "folder": str(folder)}
            options = {"source": source, "sink": {"type": "stdout"}, **_queue(fsync)}
            with durable.millrace(folder, "produce", "events", **options) as process:
                began = float(durable.await_file(folder / "began", process))
                ended = durable.await_counter("published", count, process)
                process.wait()
            verify(durable, f"row 19, fsync {fsync}", count, published)
            told = (folder / "told").read_text()
            if told != str(count):
                raise WrongAnswer(f"fsync {fsync}: the source was told of {told} published records instead of {count}")
            return (count / (ended - began),)

    return run


@contextlib.contextmanager
def _publishing(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
    yield _publish(lab, count, "acknowledge"), _publish(lab, count, "off")


def _consuming(
    verifying: Callable[[Lab, str, int], Callable[[Path], None]], **flow: Any
) -> Callable[[Lab, int], contextlib.AbstractContextManager[tuple[Side, Side]]]:
    @contextlib.contextmanager
    def sides(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
        with lab.durable() as durable:
            verify = verifying(durable, "row 19", count)
            write, off = (
                consume(durable, count, verify, behind=FIRST, **flow, **_queue(fsync)) for fsync in ("write", "off")
            )
            yield write, off

    return sides


@contextlib.contextmanager
def _waiting(lab: Lab, count: int) -> Iterator[tuple[Side, None]]:
    """Seconds from a record's push to the sink's `write`, where few come."""
    with lab.durable() as durable:
        run = latency.ours(durable, count, rate=RATE, **_queue("write"))
        yield lambda: tuple(milliseconds / 1000 for milliseconds in run()), None


ROWS = [
    Row(
        "19a",
        "publish, told once it is on Redis' disk",
        "fsync: acknowledge",
        "fsync: off",
        (Figure("records/s", Goal(0.95)),),
        (600_000, 50_000),
        _publishing,
    ),
    Row(
        "19b",
        f"typed Parquet of what is on Redis' disk, batches of {SHIPPED_BATCH:,}",
        "fsync: write",
        "fsync: off",
        _CONSUMING,
        (1_000_000, 50_000),
        _consuming(
            verifying_parquet,
            batch=SHIPPED_BATCH,
            model="bench.ours.change:Change",
            sink={"type": "parquet", "path": "output"},
        ),
    ),
    Row(
        "19c",
        "JSONL of what is on Redis' disk, batches of 500",
        "fsync: write",
        "fsync: off",
        _CONSUMING,
        (1_000_000, 50_000),
        _consuming(verifying, sink={"type": "jsonl", "path": "output"}),
    ),
    Row(
        "19d",
        f"from the push to the sink with fsync: write, {RATE} a second",
        "millrace consume, linger 0",
        "",
        (Figure("s", Goal(3, "s", at_least=False), "p50"), Figure("s", Goal(3.5, "s", at_least=False), "p99")),
        (200, 60),
        _waiting,
    ),
]
