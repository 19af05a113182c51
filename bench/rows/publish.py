"""Row 6: a whole producer service publishes Python dicts with checkpoints, and peers publish them without."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from bench import check
from bench.data import bare
from bench.lab import KEY, Lab
from bench.rounds import Beside, Figure, Goal, Row, Side, WrongAnswer

SLICE = 5_000


def ours(lab: Lab, count: int, *, beside: Beside = contextlib.nullcontext, **flow: Any) -> Side:
    """`millrace produce`, from the moment the source has its records until the last is on the list.

    `beside` is there, in the run's folder, before the first record is published.
    """

    def run() -> tuple[float, ...]:
        with lab.folder() as folder:
            lab.empty()
            source = {"type": "bench.ours.dicts:DictSource", "count": count, "folder": str(folder)}
            with lab.millrace(folder, "produce", "events", source=source, sink={"type": "stdout"}, **flow) as process:
                with beside(folder):
                    began = float(lab.await_file(folder / "began", process))
                    ended = lab.await_counter("published", count, process)
                process.wait()
            verify(lab, "millrace produce", count, published)
            if (position := lab.redis.hget(lab.keys.checkpoints, "events")) != b"%d" % count:
                raise WrongAnswer(f"millrace produce: the checkpoint is {position!r} after {count} records")
            return (count / (ended - began),)

    return run


def peer(lab: Lab, count: int, name: str, data_of: Callable[[bytes], bytes]) -> Side:
    """A peer's process, by its own account."""

    def run() -> tuple[float, ...]:
        with lab.folder() as folder:
            lab.empty()
            with lab.peer(folder, name, "produce", count, without="orjson") as process:
                began = float(lab.await_file(folder / "began", process))
                ended = float(lab.await_file(folder / "ended", process))
                process.wait()
            verify(lab, name, count, data_of)
            return (count / (ended - began),)

    return run


class _Wire(msgspec.Struct):
    data: msgspec.Raw


def published(line: bytes) -> bytes:
    """The data in an envelope of ours."""
    return bytes(msgspec.json.decode(line, type=_Wire).data)


def verify(lab: Lab, who: str, count: int, data_of: Callable[[bytes], bytes]) -> None:
    """Compares what stands on the list with what was put in."""

    def lines() -> Iterator[bytes]:
        for first in range(0, count + SLICE, SLICE):
            yield from map(data_of, lab.redis.lrange(KEY, first, first + SLICE - 1))  # type: ignore[arg-type]

    check.agree(who, check.total(lines(), check.as_json), lab.sum_of(bare, count, check.as_json))


def _unpacked(line: bytes) -> bytes:
    from faststream.redis.parser import BinaryMessageFormatV1

    return BinaryMessageFormatV1.parse(line)[0]


def _row(
    number: str, goal: float, name: str, module: str, size: tuple[int, int], data_of: Callable[[bytes], bytes]
) -> Row:
    @contextlib.contextmanager
    def sides(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
        yield ours(lab, count), peer(lab, count, module, data_of)

    figures = (Figure("records/s", Goal(goal)),)
    return Row(number, "publish dicts with checkpoints", "millrace produce", name, figures, size, sides)


ROWS = [
    _row("6a", 10, "one by one, json (the tutorial)", "seed", (50_000, 5_000), bytes),
    _row("6b", 2.5, "FastStream publish_batch", "faststream_batch", (100_000, 20_000), _unpacked),
]
