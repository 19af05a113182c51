"""Rows 1 to 5 and 10: a whole consumer service empties a list, and a peer does, or fewer of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import check
from bench.data import Form, bare, enveloped
from bench.lab import Lab
from bench.rounds import Beside, Figure, Goal, Row, Side

BATCH = 500
MODEL = "flows:RecentChange"
JSONL = {"type": "jsonl", "path": "output"}


def ours(
    lab: Lab,
    count: int,
    verify: Callable[[Path], None],
    *,
    consumers: int = 1,
    batch: int = BATCH,
    behind: float = 0.0,
    form: Form = enveloped,
    beside: Beside = contextlib.nullcontext,
    **flow: Any,
) -> Side:
    """`millrace consume`, from the moment a full list is there until every record is counted as delivered.

    The records are there in that `form`. `behind` is the share of the records behind which the clock starts, to tell
    how fast it is once it runs. `beside` is there, in the run's folder, meanwhile.
    """

    def run() -> tuple[float, ...]:
        with lab.folder() as folder, contextlib.ExitStack() as stack:
            lab.fill(form, count)
            options = {"batch": {"records": batch, "bytes": "64MiB"}, "sink": JSONL, **flow}
            started = [stack.enter_context(lab.millrace(folder, "consume", **options)) for _ in range(consumers)]
            lab.await_idle(*started)
            with beside(folder):
                began = lab.release()
                first = int(count * behind)
                if first:
                    began = lab.await_counter("delivered", first, *started)
                ended = lab.await_counter("delivered", count, *started)
            for process in started:
                process.stop()
            verify(folder)
            return ((count - first) / (ended - began),)

    return run


def peer(
    lab: Lab, form: Form, count: int, verify: Callable[[Path], None], name: str, *more: object, without: str = ""
) -> Side:
    """A peer's process, from the moment a full list is there until it says that all is written."""

    def run() -> tuple[float, ...]:
        with lab.folder() as folder:
            lab.fill(form, count)
            with lab.peer(folder, name, *more, without=without) as process:
                lab.await_file(folder / "ready", process)
                began = lab.release()
                ended = float(lab.await_file(folder / "ended", process))
                process.wait()
            verify(folder)
            return (count / (ended - began),)

    return run


def verifying(
    lab: Lab, who: str, count: int, form: Form = bare, spelling: Callable[[bytes], bytes] = check.exactly
) -> Callable[[Path], None]:
    """Compares the lines of all `.jsonl` files with what was put in."""

    def verify(folder: Path) -> None:
        check.agree(who, check.total(check.lines_in(folder), spelling), lab.sum_of(form, count, spelling))

    return verify


def _row(
    number: str,
    what: str,
    goal: float,
    peer_name: str,
    size: tuple[int, int],
    theirs: Callable[[Lab, int], Side],
    *,
    written: Form = bare,
    **flow: Any,
) -> Row:
    @contextlib.contextmanager
    def sides(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
        yield ours(lab, count, verifying(lab, f"row {number}, ours", count, written), **flow), theirs(lab, count)

    return Row(number, what, "millrace consume", peer_name, (Figure("records/s", Goal(goal)),), size, sides)


def _seed(lab: Lab, count: int) -> Side:
    return peer(lab, bare, count, verifying(lab, "seed", count, spelling=check.as_json), "seed", "consume", count)


def _faststream(
    what: str, spelling: Callable[[bytes], bytes], *, without: str = "orjson"
) -> Callable[[Lab, int], Side]:
    def side(lab: Lab, count: int) -> Side:
        from bench.peers.faststream_batch import formed

        verify = verifying(lab, "FastStream", count, spelling=spelling)
        return peer(lab, formed, count, verify, "faststream_batch", what, count, without=without)

    return side


def _unsafe(what: str, written: Form) -> Callable[[Lab, int], Side]:
    def side(lab: Lab, count: int) -> Side:
        return peer(lab, enveloped, count, verifying(lab, "unsafe", count, written), "unsafe", what, count, BATCH)

    return side


@contextlib.contextmanager
def _two_and_one(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
    verify = verifying(lab, "row 10", count)
    yield ours(lab, count, verify, consumers=2, model=MODEL), ours(lab, count, verify, model=MODEL)


ROWS = [
    _row("1", "consume to JSONL", 25, "one by one, json (the tutorial)", (50_000, 5_000), _seed),
    _row("2a", "consume to JSONL", 6, "FastStream batch", (100_000, 20_000), _faststream("consume", check.as_json)),
    _row(
        "2b",
        "consume to JSONL",
        2,
        "FastStream batch, with orjson",
        (100_000, 20_000),
        _faststream("consume", check.as_json, without=""),
    ),
    _row(
        "3",
        "consume to JSONL",
        0.95,
        "unsafe RPOP 500, same decode, same write",
        (200_000, 50_000),
        _unsafe("decoded", bare),
    ),
    _row(
        "4",
        "pass bytes through",
        0.65,
        "unsafe RPOP 500, no decode, same write",
        (200_000, 50_000),
        _unsafe("bytes", enveloped),
        written=enveloped,
        sink={**JSONL, "envelope": True},
    ),
    _row(
        "5",
        "with a pydantic model",
        3.5,
        "FastStream batch, same model",
        (50_000, 10_000),
        _faststream("consume-model", check.only_its_id),
        model=MODEL,
    ),
    Row(
        "10",
        "two consumers, pydantic model",
        "2 × millrace consume",
        "one of them",
        (Figure("records/s", Goal(1.4)),),
        (100_000, 20_000),
        _two_and_one,
    ),
]
