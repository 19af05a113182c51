"""Row 22: how long a person waits for a command. Row 23: the memory of services that have little to do."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

from bench.data import enveloped
from bench.lab import ROOT, Lab, Process
from bench.rounds import Figure, Goal, Row, Side
from bench.rows import parquet
from bench.rows.drain import JSONL, verifying
from bench.usage import resident_bytes

MEBIBYTE = 2**20

Sides: TypeAlias = Callable[[Lab, int], AbstractContextManager[tuple[Side, None]]]
Verifying: TypeAlias = Callable[[Lab, str, int], Callable[[Path], None]]

PARQUET = {
    "batch": {"records": parquet.BATCH},
    "model": "bench.ours.change:Change",
    "sink": {"type": "parquet", "path": "output"},
}
"""What row 11 consumes with."""


def _command(*words: str) -> Sides:
    """A command beside the shipped flows, from its start to its end."""

    @contextlib.contextmanager
    def sides(lab: Lab, _: int) -> Iterator[tuple[Side, None]]:
        def run() -> tuple[float, ...]:
            with lab.folder() as folder:
                for name in ("flows.yaml", "flows.py"):
                    shutil.copy(ROOT / name, folder)
                began = time.monotonic()
                with Process(["-P", "-m", "millrace", *words], folder, {"REDIS_URL": lab.url}) as process:
                    process.wait()
                return (time.monotonic() - began,)

        yield run, None

    return sides


@contextlib.contextmanager
def _first_delivery(lab: Lab, count: int) -> Iterator[tuple[Side, None]]:
    """From the start of `millrace run`, with its default options, until what a file holds is delivered."""

    def run() -> tuple[float, ...]:
        with lab.folder() as folder:
            lab.empty()
            (folder / "input.jsonl").write_bytes(b"".join(b"%s\n" % event for event in lab.events.some(count)))
            source = {"type": "files", "path": "input.jsonl"}
            began = time.monotonic()
            with lab.millrace(folder, "run", source=source, sink=JSONL) as process:
                ended = lab.await_counter("delivered", count, process)
                process.stop()
            (folder / "input.jsonl").unlink()
            verifying(lab, "row 22c", count)(folder)
            return (ended - began,)

    yield run, None


def _consumer(verifying: Verifying, number: str, *, idle: bool, **flow: Any) -> Sides:
    """A consumer that is `idle`, or else has delivered what there was."""

    @contextlib.contextmanager
    def sides(lab: Lab, count: int) -> Iterator[tuple[Side, None]]:
        def run() -> tuple[float, ...]:
            with lab.folder() as folder:
                lab.fill(enveloped, count)
                with lab.millrace(folder, "consume", **flow) as consumer:
                    lab.await_idle(consumer)
                    before = resident_bytes(consumer.pid)
                    lab.release()
                    lab.await_counter("delivered", count, consumer)
                    after = resident_bytes(consumer.pid)
                    consumer.stop()
                verifying(lab, f"row {number}", count)(folder)
                return ((before if idle else after) / MEBIBYTE,)

        yield run, None

    return sides


@contextlib.contextmanager
def _idle_producer(lab: Lab, count: int) -> Iterator[tuple[Side, None]]:
    """One that has published so many events of a stream which then is silent."""

    def run() -> tuple[float, ...]:
        with lab.folder() as folder, _silent_stream(list(lab.events.some(count))) as url:
            lab.empty()
            with lab.millrace(folder, "produce", "events", source={"type": "sse", "url": url}, sink=JSONL) as producer:
                lab.await_counter("published", count, producer)
                held = resident_bytes(producer.pid)
                producer.stop()
            return (held / MEBIBYTE,)

    yield run, None


@contextlib.contextmanager
def _silent_stream(events: list[bytes]) -> Iterator[str]:
    """The URL of an event stream that sends these and holds the connection."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for number, event in enumerate(events):
                self.wfile.write(b"id: %d\ndata: %s\n\n" % (number, event))
            over.wait()

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        over.set()
        server.shutdown()
        server.server_close()


def _row(
    number: str,
    what: str,
    command: str,
    goal: tuple[float, str],
    sides: Sides,
    size: tuple[int, int] = (1_000, 1_000),
) -> Row:
    bound, unit = goal
    return Row(number, what, command, "", (Figure(unit, Goal(bound, unit, at_least=False)),), size, sides)


ROWS = [
    _row("22a", "the list of commands", "millrace --help", (0.15, "s"), _command("--help")),
    _row("22b", "the shipped flows, checked", "millrace check", (0.4, "s"), _command("check")),
    _row(
        "22c",
        "from the start of a flow to its first records delivered",
        "millrace run",
        (1.5, "s"),
        _first_delivery,
    ),
    _row(
        "23a",
        "memory of an idle consumer",
        "millrace consume",
        (45, "MiB"),
        _consumer(verifying, "23a", idle=True, sink=JSONL),
    ),
    _row(
        "23b",
        "memory of a consumer that writes Parquet",
        "millrace consume",
        (110, "MiB"),
        _consumer(parquet.verifying, "23b", idle=False, **PARQUET),
        (100_000, 20_000),
    ),
    _row("23c", "memory of an idle producer of an event stream", "millrace produce", (40, "MiB"), _idle_producer),
]
