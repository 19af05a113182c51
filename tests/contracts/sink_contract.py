"""What each of Millrace's own sinks must do besides what `millrace.testing` asks of any."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from millrace import testing
from millrace_consumer.sinks.base import SinkUnavailable
from millrace_pipeline.flows.reference import load_object
from tests.contracts.sink_records import ORDINARY, LooseThing, batch_of, bulk

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534


class SinkContract(testing.SinkContract):
    """The claims, on records with whatever JSON can say, and on a destination that is full."""

    ordinary: ClassVar[list[dict[str, Any]]] = ORDINARY  # type: ignore[assignment]  # in place of a property
    unwritable: ClassVar[list[Any]] = [object(), {"id": "x", "text": object()}]

    @contextmanager
    def full(self, destination: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
        """A destination with no room left, and what makes room."""
        with no_room_for_files() as free:
            yield destination, free

    def test_a_field_of_any_type_may_hold_null(self, tmp_path: Path) -> None:
        records = [{"id": "null", "anything": None}, {"id": "object", "anything": {"n": 1}}]
        with self.reaching(tmp_path):
            self.make(tmp_path).write(batch_of("batch-1", records, LooseThing if self.model else None))
        assert sorted(record["id"] for record in self.read_back(tmp_path)) == ["null", "object"]

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

    def test_the_docs_table_says_its_guarantee(self) -> None:
        told = load_object(self.sink).guarantee
        assert told.startswith("exactly once") or (
            told.startswith("at least once") and (not self.idempotent or "once " in told[13:])
        )


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
