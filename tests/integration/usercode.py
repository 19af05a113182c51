"""A user's module with sinks and transforms that go wrong, and the gate that one of them waits at."""

from __future__ import annotations

import signal

from tests.services import Place, Service

THEIRS = '''\
import os, threading
from pathlib import Path
from millrace_consumer.sinks.base import RecordsRejected
from millrace_consumer.sinks.jsonl import JsonlSink


class Gated(JsonlSink):
    """Says `writing-<pid>` and then waits for somebody to open the gate."""

    def write(self, batch):
        Path(f"writing-{os.getpid()}").touch()
        while not Path("gate").exists():
            threading.Event().wait(0.01)
        super().write(batch)


class Broken(JsonlSink):
    """Has a bug until it is mended."""

    names: int | None = None

    def write(self, batch):
        if not Path("mended").exists():
            if self.names is None:
                raise KeyError("no such column")
            raise RecordsRejected({self.names: "which is none of the batch"} if self.names else {})
        super().write(batch)


def kill_at_seven(record):
    if record["n"] == 7:
        os._exit(9)
    return record


def leave_at_seven(record):
    if record["n"] == 7:
        raise SystemExit("no more")
    return record
'''

GATED = {"type": "theirs:Gated", "path": "out/numbers"}


def in_the_sink(place: Place, consumer: Service) -> bool:
    """Whether this consumer's gated sink has been given a batch."""
    return (place.folder / f"writing-{consumer.pid}").exists()


def open_the_gate(place: Place) -> None:
    (place.folder / "gate").touch()


def terminate_twice(consumer: Service) -> None:
    """Two signals that are heard as two: the kernel makes one of those that wait."""
    consumer.signal(signal.SIGTERM)
    consumer.await_event("service_stopping")
    consumer.signal(signal.SIGTERM)
