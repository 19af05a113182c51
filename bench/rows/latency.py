"""Row 9: how long a record takes from its push to the sink, beside a bare BLMOVE consumer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import check
from bench.data import bare, id_of, number_of
from bench.lab import Lab
from bench.rounds import Figure, Goal, Row, Side

RATE = 1_000


def ours(lab: Lab, count: int, *, rate: float = RATE, **flow: Any) -> Side:
    """`millrace consume` of records that come at this rate: median and 99th percentile, in milliseconds."""

    def run() -> tuple[float, ...]:
        with lab.folder() as folder:
            lab.empty()
            sink = {"type": "bench.ours.arrivals:ArrivalSink", "path": "arrivals"}
            with lab.millrace(folder, "consume", batch={"linger": "0s"}, sink=sink, **flow) as consumer:
                lab.await_idle(consumer)
                _push(lab, folder, count, rate)
                lab.await_counter("delivered", count, consumer)
                consumer.stop()
            return _latencies(lab, folder, "millrace consume", count)

    return run


def _bare(lab: Lab, count: int) -> Side:
    def run() -> tuple[float, ...]:
        with lab.folder() as folder:
            lab.empty()
            with lab.peer(folder, "bare_blmove", count) as consumer:
                lab.await_idle(consumer)
                _push(lab, folder, count, RATE)
                consumer.wait()
            return _latencies(lab, folder, "the bare consumer", count)

    return run


def _push(lab: Lab, folder: Path, count: int, rate: float) -> None:
    with lab.peer(folder, "pulse", count, rate) as pulse:
        pulse.wait()


def _latencies(lab: Lab, folder: Path, who: str, count: int) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds."""
    sent = list(map(float, (folder / "sent").read_text().split()))
    arrivals = [line.split(b"\t", 1) for line in (folder / "arrivals").read_bytes().splitlines()]
    check.agree(who, check.total(line for _, line in arrivals), lab.sum_of(bare, count))
    taken = sorted((float(moment) - sent[number_of(id_of(line))]) * 1000 for moment, line in arrivals)
    return taken[count // 2], taken[count * 99 // 100]


@contextlib.contextmanager
def _sides(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
    yield ours(lab, count), _bare(lab, count)


ROWS = [
    Row(
        "9",
        f"latency at {RATE:,}/s",
        "millrace consume, linger 0",
        "a bare BLMOVE consumer",
        (Figure("ms", Goal(2, at_least=False), "p50"), Figure("ms", Goal(3, at_least=False), "p99")),
        (10_000, 2_000),
        _sides,
    )
]
