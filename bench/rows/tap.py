"""Row 20: what it costs that somebody listens to a flow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.lab import Lab
from bench.rounds import Figure, Goal, Row, Side
from bench.rows import drain, publish

Sides = Callable[[Lab, int], contextlib.AbstractContextManager[tuple[Side, Side]]]


@contextlib.contextmanager
def _consuming(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
    verify = drain.verifying(lab, "row 20a", count)
    yield (
        drain.ours(lab, count, verify, beside=lambda folder: _listening(lab, folder, "out")),
        drain.ours(lab, count, verify),
    )


@contextlib.contextmanager
def _producing(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
    yield (
        publish.ours(lab, count, beside=lambda folder: _listening(lab, folder, "in")),
        publish.ours(lab, count),
    )


@contextlib.contextmanager
def _listening(lab: Lab, folder: Path, place: str) -> Iterator[None]:
    """`millrace tap` beside a run, from before its clock starts until it is over."""
    tap = lab.keys.tap_in if place == "in" else lab.keys.tap_out
    with lab.again(folder, "tap", "events", f"--{place}") as process:
        lab.await_key(tap, process)
        yield
        lab.await_words('"became"', process)
        process.stop()


def _row(number: str, what: str, ours: str, sides: Sides) -> Row:
    figures = (Figure("records/s", Goal(0.98)),)
    return Row(number, what, ours, "the same, nobody listens", figures, (400_000, 50_000), sides)


ROWS = [
    _row("20a", "consume to JSONL, tapped", "millrace consume, millrace tap --out", _consuming),
    _row("20b", "publish dicts, tapped", "millrace produce, millrace tap --in", _producing),
]
