"""What a record costs, by batch size, record size, depth, consumers and flows: measured, and a model fitted to it.

    python -m bench.scale --json scale.json --plot docs/scale.svg

All is CPU time, of Redis' main thread, since one core is all that a Redis has, and of a consumer process; so what else
the machine does is not in it. docs/scale.md says what follows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import check, results
from bench.curves import draw
from bench.data import MOMENT_MS, chunks
from bench.lab import FLOW, KEY, Lab, Process
from bench.model import Model, Point, fit
from bench.rounds import WrongAnswer
from bench.rows.depth import CLAIMS, List
from bench.rows.drain import BATCH, JSONL
from bench.server import serving
from bench.usage import cpu_seconds
from millrace_pipeline import envelope
from millrace_pipeline.envelope import Record
from millrace_pipeline.moment import timestamp
from tests.queues import Queue

SIZES = (100, 1_000, 10_000)
BATCHES = (1, 10, 100, 500, 2_000)
SERVICE_BATCHES = (10, 100, 500, 2_000)
DEPTHS = (1_000, 10_000, 100_000, 1_000_000)
CONSUMERS = (1, 2, 4, 8)
FLOWS = (1, 4, 16)
EVENT_BYTES = 1_200
ROUNDS = 3
MOST_BYTES = 150_000_000


@dataclass
class Measured:
    """All points of one run."""

    redis: list[Point] = field(default_factory=list)
    """Redis' CPU for a record: its publish, its claim and its ack."""
    consumer: list[Point] = field(default_factory=list)
    """A consumer process' CPU for a record: claimed, written to JSONL, acked."""
    depth: list[tuple[int, float]] = field(default_factory=list)
    """Redis' CPU for a claim of 500, its ack, and a push of as many, by records waiting."""
    consumers: list[tuple[int, float]] = field(default_factory=list)
    """Redis' CPU for a record delivered, by number of consumers of one list."""
    flows: list[tuple[int, float]] = field(default_factory=list)
    """The same by number of flows that one consumer has."""


def measure(lab: Lab) -> Measured:
    """Takes all points. Raises WrongAnswer."""
    found = Measured()
    for size in SIZES:
        for batch in BATCHES:
            lab.say(f"Redis: batches of {batch}, records of {size} bytes")
            micros = _least(lambda b=batch, s=size: _through_redis(lab, b, s))
            found.redis.append(Point(batch, size, micros))
    for size in SIZES:
        for batch in SERVICE_BATCHES:
            lab.say(f"a consumer: batches of {batch}, records of {size} bytes")
            micros = _least(lambda b=batch, s=size: _delivered(lab, b, s)[0])
            found.consumer.append(Point(batch, size, micros))
    for depth in DEPTHS:
        with contextlib.closing(List(lab, depth)) as waiting:
            found.depth.append((depth, _least(lambda waiting=waiting: _at_depth(lab, waiting))))
        lab.empty()
    for number in CONSUMERS:
        lab.say(f"{number} consumers")
        found.consumers.append((number, _least(lambda n=number: _delivered(lab, BATCH, EVENT_BYTES, consumers=n)[1])))
    for number in FLOWS:
        lab.say(f"{number} flows")
        found.flows.append((number, _least(lambda n=number: _delivered(lab, BATCH, EVENT_BYTES, flows=n)[1])))
    return found


def _least(measure_once: Callable[[], float]) -> float:
    """Of some rounds: what it takes where nothing else spoils the caches."""
    return min(measure_once() for _ in range(ROUNDS))


def _at_depth(lab: Lab, waiting: List) -> float:
    """Microseconds of Redis for a claim and its ack, and for what puts the records back."""
    before = redis_cpu(lab)
    waiting.claims()
    return (redis_cpu(lab) - before) * 1e6 / CLAIMS


def _through_redis(lab: Lab, batch: int, size: int) -> float:
    """Microseconds of Redis for a record that is published with a checkpoint, claimed and acked."""
    count = _count(batch, size)
    lab.empty()
    lines = list(records(count, size))
    queue = Queue(lab.url, KEY)
    with contextlib.closing(queue):
        queue.publish([lines[0]])  # the first of each connects, and makes the scripts known
        queue.ack(_claimed(queue, 1), delivered=1)
        before = redis_cpu(lab)
        for number, chunk in enumerate(chunks(lines, batch)):
            queue.publish(chunk, checkpoint=(FLOW, number))
        got = 0
        while got < count:
            claim = _claimed(queue, batch)
            queue.ack(claim, delivered=len(claim.lines))
            got += len(claim.lines)
        used = redis_cpu(lab) - before
        books = queue.books()
    if (books.published, books.delivered, books.lag, books.difference) != (count + 1, count + 1, 0, 0):
        raise WrongAnswer(f"the books after {count} records: {books}")
    return used * 1e6 / count


def _claimed(queue: Queue, records: int) -> Any:
    claim = queue.claim(records)
    if claim is None:
        raise WrongAnswer("nothing to claim on a list that holds records")
    return claim


def _delivered(lab: Lab, batch: int, size: int, *, consumers: int = 1, flows: int = 1) -> tuple[float, float]:
    """Microseconds of CPU for a record that `millrace consume` writes to JSONL: its own, and of Redis."""
    each = max(batch, _count(batch, size) * 2 // flows // batch * batch)
    keys = [f"{KEY}-{number}" for number in range(flows)]
    lab.empty()
    for key in keys:
        for chunk in chunks(records(each, size, key), 500):
            lab.redis.lpush(f"{key}-filled", *chunk)
    with lab.folder() as folder, contextlib.ExitStack() as stack:
        options = {
            f"{FLOW}-{number}": {
                "source": {"type": "sse", "url": "http://127.0.0.1:9/"},
                "queue": {"key": key},
                "batch": {"records": batch, "bytes": "512MiB"},
                "sink": {**JSONL, "path": f"output/{number}"},
            }
            for number, key in enumerate(keys)
        }
        (folder / "flows.yaml").write_text(json.dumps({"flows": options}))
        arguments = ["-P", "-m", "millrace", "consume"]
        started = [stack.enter_context(Process(arguments, folder, {"REDIS_URL": lab.url})) for _ in range(consumers)]
        lab.await_blocked(consumers * flows, *started)
        before, began = redis_cpu(lab), sum(cpu_seconds(process.pid) for process in started)
        for key in keys:
            lab.redis.rename(f"{key}-filled", key)
        lab.await_delivered(keys, each, *started)
        used, ended = redis_cpu(lab) - before, sum(cpu_seconds(process.pid) for process in started)
        for process in started:
            process.stop()
        expected = check.total(text for _ in keys for text in _texts(each, size))
        check.agree("millrace consume", check.total(check.lines_in(folder)), expected)
    return (ended - began) * 1e6 / each / flows, used * 1e6 / each / flows


def _count(batch: int, size: int) -> int:
    """How many records make a measurement of about a second, in whole batches."""
    return max(batch, min(2_000 + 200 * batch, 40_000, MOST_BYTES // size) // batch * batch)


def _texts(count: int, size: int) -> Iterator[bytes]:
    """JSON texts of that size, no two of them the same."""
    for number in range(count):
        begin = b'{"n":%d,"text":"' % number
        yield begin + b"x" * (size - len(begin) - 2) + b'"}'


def records(count: int, size: int, mark: str = KEY) -> Iterator[bytes]:
    """Envelopes whose data has that size."""
    moment = timestamp(datetime.fromtimestamp(MOMENT_MS / 1000, UTC))
    for number, text in enumerate(_texts(count, size)):
        yield envelope.encode(Record(text), id=f"{number}", source=FLOW, time=moment, mark=mark)


def redis_cpu(lab: Lab) -> float:
    """CPU seconds of the server's main thread so far."""
    used = lab.redis.info("cpu")
    kind = "main_thread" if "used_cpu_user_main_thread" in used else ""
    user, system = (f"used_cpu_{mode}_{kind}".rstrip("_") for mode in ("user", "sys"))
    return float(used[user]) + float(used[system])


def report(lab: Lab, found: Measured) -> dict[str, Any]:
    """The points and the models, for the file and the picture."""
    return {
        "machine": results.machine(lab),
        "model": {"redis": fit(found.redis).as_dict(), "consumer": fit(found.consumer).as_dict()},
        "redis": found.redis,
        "consumer": found.consumer,
        "depth": found.depth,
        "consumers": found.consumers,
        "flows": found.flows,
    }


def main() -> int:
    """Exit codes: 0, or 1 for a wrong answer."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale", description="What a record costs, and a model of it."
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="millrace-scale-") as scratch,
        serving(Path(scratch)) as url,
        console.status("starting") as status,
    ):
        lab = Lab(url, Path(scratch), rounds=ROUNDS, quick=False, say=status.update)
        try:
            made = report(lab, measure(lab))
        except WrongAnswer as wrong:
            console.print(f"[bold red]wrong answer[/bold red]: {wrong}", soft_wrap=True)
            return 1
    for name, coefficients in made["model"].items():
        model = Model(**coefficients)
        console.print(
            f"{name}: µs a record = {model.a:.1f} / batch + {model.b:.2f} + {model.c * 1000:.2f} × kB   "
            f"(points lie {model.error:.0%} from it); batches of 500 of 1.2 kB: {model.micros(500, 1200):.1f} µs"
        )
    for name in ("depth", "consumers", "flows"):
        console.print(f"{name}: " + ", ".join(f"{number:,}: {micros:.1f} µs" for number, micros in made[name]))
    if options.json:
        options.json.write_text(json.dumps(made, indent=1) + "\n")
    if options.plot:
        options.plot.write_text(draw(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
