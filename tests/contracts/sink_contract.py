"""What every sink must do. Its test is a subclass of `SinkContract` that says how to make it and read it back."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, Sink, SinkUnavailable
from tests.contracts.sink_records import ORDINARY, batch_of, bulk, sink_of

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534


class SinkContract:
    """The claims. `destination` is an empty directory of the test's own, for the sink to write into."""

    sink: ClassVar[str]
    """`module:Class`."""
    model: ClassVar[type[BaseModel] | None] = None
    """The flow's model, one of `sink_records`."""
    idempotent: ClassVar[bool] = True
    """Whether the same batch twice is there once. A sink that can't promise it is told apart here, and by its docs."""
    kill_points: ClassVar[tuple[str, ...]] = ()
    """Where in a write the process is killed."""
    many: ClassVar[int] = 1000
    """How many records a batch has that shall not go out at once."""
    ordinary: ClassVar[list[dict[str, Any]]] = ORDINARY
    unwritable: ClassVar[list[Any]] = [object(), {"id": "x", "text": object()}]
    """Records that this sink must reject."""

    def options(self, destination: Path) -> dict[str, Any]:
        """The sink's options, as JSON."""
        return {"path": str(destination)}

    def read_back(self, destination: Path) -> list[Any]:
        """Every record that a reader finds now. Fails on anything half written."""
        raise AssertionError("a sink's test says how to read it back")

    def expected(self, record: dict[str, Any]) -> Any:
        """What a reader finds of a record."""
        return record

    def reaching(self, destination: Path) -> AbstractContextManager[object]:
        """Within it the sink, in this process, writes to the destination."""
        return nullcontext()

    def stdout_of_child(self, destination: Path) -> Path | None:
        """Where a process that runs the sink has its standard output."""
        return None

    @contextmanager
    def full(self, destination: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
        """A destination with no room left, and what makes room."""
        with no_room_for_files() as free:
            yield destination, free

    # ── What is used below ──────────────────────────────────────────────────────────────────────────────────────────

    def make(self, destination: Path) -> Sink:
        return sink_of(self.sink, self.options(destination))

    def batch(self, id: str, records: list[Any]) -> Batch:
        return batch_of(id, records, self.model)

    def write(self, destination: Path, id: str, records: list[Any]) -> None:
        """By a sink of its own, as another consumer would."""
        with self.reaching(destination):
            self.make(destination).write(self.batch(id, records))

    def found(self, destination: Path) -> list[Any]:
        return sorted(self.read_back(destination), key=repr)

    def wanted(self, *batches: list[dict[str, Any]]) -> list[Any]:
        return sorted((self.expected(record) for records in batches for record in records), key=repr)

    def write_and_be_killed(self, destination: Path, point: str, id: str, records: list[Any]) -> None:
        """In a process that gets SIGKILL at the point."""
        job = {
            "sink": self.sink,
            "options": self.options(destination),
            "model": self.model.__name__ if self.model else "",
        }
        job |= {"id": id, "records": records, "point": point}
        job |= {"stdout": str(self.stdout_of_child(destination) or os.devnull)}
        assert ended(job) == -signal.SIGKILL, f"not killed at {point}"

    # ── The claims ──────────────────────────────────────────────────────────────────────────────────────────────────

    def test_what_is_read_back_is_what_was_written(self, tmp_path: Path) -> None:
        self.write(tmp_path, "batch-1", self.ordinary)
        assert self.found(tmp_path) == self.wanted(self.ordinary)

    def test_records_keep_their_order(self, tmp_path: Path) -> None:
        records = bulk(50, 10)
        self.write(tmp_path, "batch-1", records)
        assert self.read_back(tmp_path) == [self.expected(record) for record in records]

    def test_two_batches_are_both_there(self, tmp_path: Path) -> None:
        self.write(tmp_path, "batch-1", self.ordinary)
        self.write(tmp_path, "batch-2", bulk(3))
        assert self.found(tmp_path) == self.wanted(self.ordinary, bulk(3))

    def test_the_same_batch_twice_is_there_once(self, tmp_path: Path) -> None:
        for _ in range(2):
            self.write(tmp_path, "batch-1", self.ordinary)
        times = 1 if self.idempotent else 2
        assert self.found(tmp_path) == self.wanted(*[self.ordinary] * times)

    def test_an_empty_batch_leaves_nothing(self, tmp_path: Path) -> None:
        self.write(tmp_path, "batch-1", [])
        assert self.read_back(tmp_path) == []

    def test_a_write_that_was_killed_anywhere_and_is_delivered_again_is_whole(self, tmp_path: Path) -> None:
        records = bulk(self.many)
        for point in self.kill_points:
            destination = tmp_path / point
            destination.mkdir()
            self.write(destination, "batch-0", bulk(2))
            self.write_and_be_killed(destination, point, "batch-1", records)
            after_kill = self.found(destination)
            assert after_kill in (self.wanted(bulk(2)), self.wanted(bulk(2), records)), f"half a batch after {point}"
            self.write(destination, "batch-1", records)
            if self.idempotent:
                assert self.found(destination) == self.wanted(bulk(2), records), point
            else:
                assert len(self.found(destination)) == len(after_kill) + len(records), point

    def test_records_that_cannot_be_written_are_named_and_nothing_is_written(self, tmp_path: Path) -> None:
        good = bulk(len(self.unwritable) + 1, 10)
        mixed = [good[0]]
        for bad, record in zip(self.unwritable, good[1:], strict=True):
            mixed += [bad, record]
        with pytest.raises(RecordsRejected) as rejection:
            self.write(tmp_path, "batch-1", mixed)
        assert sorted(rejection.value.reasons) == [i for i in range(len(mixed)) if i % 2]
        assert all(rejection.value.reasons.values())
        assert self.read_back(tmp_path) == []
        self.write(tmp_path, "batch-1", good)
        assert self.read_back(tmp_path) == [self.expected(record) for record in good]

    def test_a_full_destination_takes_the_batch_once_it_has_room(self, tmp_path: Path) -> None:
        records = bulk(5)
        with self.full(tmp_path) as (destination, free), self.reaching(destination):
            sink = self.make(destination)
            with pytest.raises(SinkUnavailable) as refusal:
                sink.write(self.batch("batch-1", records))
            assert str(refusal.value)
            free()
            sink.write(self.batch("batch-1", records))
            assert self.found(destination) == self.wanted(records)

    def test_its_docstring_begins_with_its_guarantee(self) -> None:
        first = (sink_class(self.sink).__doc__ or "").split("\n", 1)[0].lower()
        assert first.startswith("exactly once" if self.idempotent else "at least once")


@cache
def forker() -> subprocess.Popen[str]:
    """The process that forks those that are killed; it ends when this one does, with its standard input."""
    command = [sys.executable, "-m", "tests.contracts.sink_records"]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ended(job: dict[str, Any]) -> int:
    """How a process that did the job ended."""
    process = forker()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def sink_class(dotted: str) -> type[Sink]:
    module, name = dotted.split(":")
    found = getattr(sys.modules.get(module) or __import__(module, fromlist=[name]), name)
    assert issubclass(found, Sink)
    return found


@contextmanager
def no_room_for_files() -> Iterator[Callable[[], None]]:
    """Within it this process can write no byte to any file, until what it yields is called."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def free() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield free
    finally:
        free()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Within it this process is no administrator, whom no permission would stop."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
