"""How many records to ask for."""

from __future__ import annotations

import zlib

from millrace_consumer.sizing import RECORD_BYTES, Sizing
from millrace_pipeline.flows.options import BatchOptions


def sizing(**options: object) -> Sizing:
    return Sizing(BatchOptions.model_validate({"records": 10_000, "bytes": 10_000_000, **options}))


def test_a_batch_has_at_most_so_many_records_and_about_so_many_bytes() -> None:
    found = sizing(records=100, bytes=RECORD_BYTES * 50)
    assert found.room() == 50
    for _ in range(100):
        found.weigh([b"x" * 100] * 10)
    assert found.room() == 100
    assert found.room(99, 0) == 1
    assert found.room(100, 0) == found.room(1, RECORD_BYTES * 50) == 0


def test_batches_come_to_the_size_asked_for_as_the_sink_encodes_them() -> None:
    found = sizing(encoded=100_000)
    line = b'{"title":"the same, over and over","n":%d}'
    size = 0
    for _ in range(12):
        lines = [line % n for n in range(found.room())]
        found.weigh(lines)
        size = len(zlib.compress(b"\n".join(lines)))
        found.wrote(len(lines), size)
    assert found.room() <= 10_000
    assert 70_000 < size < 130_000 or len(lines) == 10_000


def test_a_sink_that_does_not_say_what_it_wrote_is_taken_to_write_what_it_got() -> None:
    found = sizing(encoded=RECORD_BYTES * 7)
    found.wrote(100, 0)
    assert found.room() == 7
