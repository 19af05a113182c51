"""Row 13: what a waiting record takes in Redis beyond its bytes, and whether a consumer grows as it delivers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bench.data import chunks, enveloped
from bench.lab import Lab
from bench.rounds import Figure, Goal, Row, Side, WrongAnswer
from bench.rows.drain import BATCH, JSONL, verifying
from bench.usage import resident_bytes
from tests.queues import Queue

LISTS = 20


@contextlib.contextmanager
def _in_redis(lab: Lab, count: int) -> Iterator[tuple[Side, None]]:
    """Published as a producer publishes, with a checkpoint."""

    def run() -> tuple[float, ...]:
        lab.empty()
        before = _used(lab)
        queue = Queue(lab.url, "MEMORY")
        size = 0
        with contextlib.closing(queue):
            for number, chunk in enumerate(chunks(enveloped(lab.events.some(count)), BATCH)):
                queue.publish(chunk, checkpoint=("events", number))
                size += sum(map(len, chunk))
            used = _used(lab) - before - size
        found = lab.redis.llen("MEMORY")
        if found != count:
            raise WrongAnswer(f"{found:,} records on the list instead of {count:,}")
        return (used / count,)

    yield run, None


def _used(lab: Lab) -> int:
    return int(lab.redis.info("memory")["used_memory"])


@contextlib.contextmanager
def _in_a_consumer(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
    """One consumer that is given a list again and again; its memory after the first of them, and after the last."""
    chunk = count // LISTS
    after: list[int] = []

    def deliver() -> None:
        with lab.folder() as folder:
            lab.fill(enveloped, chunk)
            verify = verifying(lab, "row 13", chunk)
            options = {"batch": {"records": BATCH}, "sink": JSONL}
            with lab.millrace(folder, "consume", **options) as consumer:
                for number in range(1, LISTS + 1):
                    lab.say(f"row 13b: {number * chunk:,} records")
                    lab.await_idle(consumer)
                    lab.release()
                    lab.await_counter("delivered", number * chunk, consumer)
                    lab.await_idle(consumer)
                    after.append(resident_bytes(consumer.pid))
                    verify(folder)
                    for path in (folder / "output").iterdir():
                        path.unlink()
                    if number < LISTS:
                        lab.fill_again(enveloped, chunk)
                consumer.stop()

    def last() -> tuple[float, ...]:
        deliver()
        return (after[-1] / 2**20,)

    def first() -> tuple[float, ...]:
        return (after[0] / 2**20,)

    yield last, first


ROWS = [
    Row(
        "13a",
        "memory of Redis a waiting record, beyond its bytes",
        "Redis",
        "",
        (Figure("B", Goal(64, "B", at_least=False)),),
        (500_000, 50_000),
        _in_redis,
        once=True,
    ),
    Row(
        "13b",
        "memory of a consumer after {size:,} records",
        "after them all",
        "after the first twentieth",
        (Figure("MiB", Goal(1.1, at_least=False)),),
        (2_000_000, 200_000),
        _in_a_consumer,
        once=True,
    ),
]
