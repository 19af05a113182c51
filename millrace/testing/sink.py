"""What every sink must do. Its test is a subclass of `SinkContract` that says how to make it and read it back."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from millrace.testing.batches import batch_of, bulk, named, sink_of
from millrace.testing.killing import ended
from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, Sink

MANY_LINES = 200
"""A write that runs longer than this in its own module is killed at some of its lines only."""


class SinkContract:
    """Claims about any sink. `destination` is an empty directory of the test's own, for the sink to write into.

    Say `sink`, `options`, `records` and `read_back`; the rest where yours differs.
    """

    sink: ClassVar[str]
    """`module:Class`, as `type` in flows.yaml."""
    model: ClassVar[type[BaseModel] | None] = None
    """The flow's model, a class that can be imported."""
    idempotent: ClassVar[bool] = True
    """True where the same batch twice is there once. A sink that can't promise it says False, and its docs say so."""
    in_order: ClassVar[bool] = True
    """True where records are read back in the order of their batch."""
    kill_points: ClassVar[tuple[str, ...]] = ()
    """Points of a write at which the process is killed; without any, before each line of the sink's own module."""
    many: ClassVar[int] = 1000
    """Records of a batch that shall not go out at once."""
    unwritable: ClassVar[list[Any]] = []
    """Records that this sink must reject."""

    @property
    def ordinary(self) -> list[dict[str, Any]]:
        """A few records that the sink must give back as they were given."""
        return self.records(8)

    def options(self, destination: Path) -> dict[str, Any]:
        """Return the sink's options, as JSON."""
        return {"path": str(destination)}

    def records(self, count: int, size: int = 1000) -> list[dict[str, Any]]:
        """Return so many records that the sink takes, all different, the same ones every time, of some `size` each."""
        return bulk(count, size)

    def read_back(self, destination: Path) -> list[Any]:
        """Return every record that a reader finds now, none where nothing was written yet.

        Fails on anything half written.
        """
        raise NotImplementedError("a sink's test says how to read it back")

    def expected(self, record: dict[str, Any]) -> Any:
        """Return what a reader finds of a record."""
        return record

    def reaching(self, destination: Path) -> AbstractContextManager[object]:  # noqa: ARG002
        """Return a context in which the sink, in this process, writes to the destination."""
        return nullcontext()

    def stdout_of_child(self, destination: Path) -> Path | None:  # noqa: ARG002
        """Return the file that a process that runs the sink has as its standard output; None for none."""
        return None

    # ── What is used below ──────────────────────────────────────────────────────────────────────────────────────────

    def make(self, destination: Path) -> Sink:
        """Return the sink, as another consumer would make it."""
        return sink_of(self.sink, self.options(destination))

    def batch(self, id: str, records: list[Any]) -> Batch:
        """Return a batch of these records, as the runner hands it over."""
        return batch_of(id, records, self.model)

    def write(self, destination: Path, id: str, records: list[Any]) -> None:
        """Write by a sink of its own, as another consumer would."""
        with self.reaching(destination):
            sink = self.make(destination)
            sink.write(self.batch(id, records))

    def found(self, destination: Path) -> list[Any]:
        """Return what is read back, sorted."""
        return sorted(self.read_back(destination), key=repr)

    def wanted(self, *batches: list[dict[str, Any]]) -> list[Any]:
        """Return what is to be found of these batches, sorted."""
        return sorted((self.expected(record) for records in batches for record in records), key=repr)

    def write_and_be_killed(self, destination: Path, point: str, id: str, records: list[Any]) -> None:
        """Write in a process that gets SIGKILL at the point."""
        assert self._ended(destination, point, id, records) == -signal.SIGKILL, f"not killed at {point}"

    def _ended(self, destination: Path, point: str, id: str, records: list[Any]) -> int:
        job = {"sink": self.sink, "options": self.options(destination), "id": id, "records": records, "point": point}
        job |= {"model": f"{self.model.__module__}:{self.model.__qualname__}" if self.model else ""}
        return ended(job | {"stdout": str(self.stdout_of_child(destination) or os.devnull)})

    def _same(self, came: list[Any], expected: list[Any]) -> None:
        assert came == expected if self.in_order else sorted(came, key=repr) == sorted(expected, key=repr)

    # ── The claims ──────────────────────────────────────────────────────────────────────────────────────────────────

    def test_what_is_read_back_is_what_was_written(self, tmp_path: Path) -> None:
        self.write(tmp_path, "batch-1", self.ordinary)
        assert self.found(tmp_path) == self.wanted(self.ordinary)

    def test_records_keep_their_order(self, tmp_path: Path) -> None:
        records = self.records(50, 10)
        self.write(tmp_path, "batch-1", records)
        self._same(self.read_back(tmp_path), [self.expected(record) for record in records])

    def test_two_batches_are_both_there(self, tmp_path: Path) -> None:
        self.write(tmp_path, "batch-1", self.ordinary)
        self.write(tmp_path, "batch-2", self.records(3))
        assert self.found(tmp_path) == self.wanted(self.ordinary, self.records(3))

    def test_the_same_batch_twice_is_there_once(self, tmp_path: Path) -> None:
        for _ in range(2):
            self.write(tmp_path, "batch-1", self.ordinary)
        times = 1 if self.idempotent else 2
        assert self.found(tmp_path) == self.wanted(*[self.ordinary] * times)

    def test_an_empty_batch_leaves_nothing(self, tmp_path: Path) -> None:
        self.write(tmp_path, "batch-1", [])
        assert self.read_back(tmp_path) == []

    def test_a_write_that_was_killed_anywhere_and_is_delivered_again_is_whole(self, tmp_path: Path) -> None:
        records = self.records(self.many)
        for point in self.kill_points:
            destination = self._begun(tmp_path / point)
            self.write_and_be_killed(destination, point, "batch-1", records)
            self._is_whole_again(destination, point, records)
        if not self.kill_points:
            few = self.records(3)
            for number in range(1, MANY_LINES):
                point = f"line:{number}"
                destination = self._begun(tmp_path / str(number))
                if self._ended(destination, point, "batch-1", few) != -signal.SIGKILL:
                    assert number > 1, "no line of the sink's own module was run"
                    break
                self._is_whole_again(destination, point, few)

    def _begun(self, destination: Path) -> Path:
        destination.mkdir()
        self.write(destination, "batch-0", self.records(2))
        return destination

    def _is_whole_again(self, destination: Path, point: str, records: list[dict[str, Any]]) -> None:
        before = self.records(2)
        after_kill = self.found(destination)
        if self.idempotent or self.kill_points:
            assert after_kill in (self.wanted(before), self.wanted(before, records)), f"half a batch after {point}"
        self.write(destination, "batch-1", records)
        if self.idempotent:
            assert self.found(destination) == self.wanted(before, records), point
        else:
            assert len(self.found(destination)) == len(after_kill) + len(records), point

    def test_records_that_cannot_be_written_are_named_and_nothing_is_written(self, tmp_path: Path) -> None:
        good = self.records(len(self.unwritable) + 1, 10)
        mixed = [good[0]]
        for bad, record in zip(self.unwritable, good[1:], strict=True):
            mixed += [bad, record]
        if self.unwritable:
            with pytest.raises(RecordsRejected) as rejection:
                self.write(tmp_path, "batch-1", mixed)
            assert sorted(rejection.value.reasons) == [i for i in range(len(mixed)) if i % 2]
            assert all(rejection.value.reasons.values())
            assert self.read_back(tmp_path) == []
        self.write(tmp_path, "batch-1", good)
        self._same(self.read_back(tmp_path), [self.expected(record) for record in good])

    def test_its_docstring_begins_with_its_guarantee(self) -> None:
        first = (named(self.sink).__doc__ or "").split("\n", 1)[0].lower()
        assert first.startswith("exactly once" if self.idempotent else "at least once")
