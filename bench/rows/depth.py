"""Row 12: what a claim and its ack take on a long list, beside a short one."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator

from bench.data import chunks, enveloped, id_of, unique_id
from bench.lab import Lab
from bench.rounds import Figure, Goal, Row, Side, WrongAnswer
from bench.rows.publish import published
from tests.queues import Queue

BATCH = 500
SHALLOW = 1_000
CLAIMS = 100


class List:
    """A list that is kept at its depth: what was claimed and acked goes back to its head, untimed."""

    def __init__(self, lab: Lab, depth: int) -> None:
        self._lab = lab
        self._depth = depth
        self._key = f"DEPTH-{depth}"
        self._queue = Queue(lab.url, self._key)
        self._claimed = 0
        lab.say(f"filling a list of {depth:,} records")
        for chunk in chunks(enveloped(lab.events.some(depth), self._key), 500):
            lab.redis.lpush(self._key, *chunk)

    def claims(self) -> tuple[float, ...]:
        """Microseconds of a claim and its ack: the median of some."""
        return (statistics.median(self._claim() for _ in range(CLAIMS)) * 1e6,)

    def close(self) -> None:
        self._queue.close_all()

    def _claim(self) -> float:
        began = time.perf_counter()
        claim = self._queue.claim(BATCH)
        claimed = time.perf_counter()
        if claim is None or len(claim.lines) != BATCH:
            raise WrongAnswer(f"a claim on a list of {self._depth} records gave {claim and len(claim.lines)}")
        for place in (0, BATCH - 1):
            expected = unique_id((self._claimed + place) % self._depth)
            if id_of(published(claim.lines[place])) != expected:
                raise WrongAnswer(f"a claim on a list of {self._depth} records gave other records than the oldest")
        self._claimed += BATCH
        acking = time.perf_counter()
        self._queue.ack(claim, delivered=BATCH)
        acked = time.perf_counter()
        if self._lab.redis.lpush(self._key, *claim.lines) != self._depth:
            raise WrongAnswer(f"a list of {self._depth} records has another length after a claim and its ack")
        return claimed - began + acked - acking


@contextlib.contextmanager
def _sides(lab: Lab, depth: int) -> Iterator[tuple[Side, Side]]:
    deep, shallow = List(lab, depth), List(lab, SHALLOW)
    with contextlib.closing(deep), contextlib.closing(shallow):
        yield deep.claims, shallow.claims


ROWS = [
    Row(
        "12",
        "claim and ack, {size:,} waiting",
        "the long list",
        f"{SHALLOW:,} waiting",
        (Figure("µs", Goal(1.3, at_least=False)),),
        (2_000_000, 100_000),
        _sides,
    )
]
