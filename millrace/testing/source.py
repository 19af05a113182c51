"""What every source must do, whatever it reads.

A source's tests subclass `SourceContract`, name themselves `Test…`, and give it an `origin` fixture: a real place with
known records. A source that can't go on in the middle says `replays = False`, one whose records come in no fixed order
`in_order = False`; the claims below then say what holds for it instead. `FaultySourceContract` asks more.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.moment import now
from millrace_producer.sources.base import Source


class Origin(ABC):
    """A place with known records. `expected` is their data as Python values, in order; at least six."""

    expected: list[Any]

    @abstractmethod
    def source(self) -> Source:
        """Return the source that reads this place to its end, with backoff short enough for a test."""


class SourceContract:
    """Claims about any source. Subclass it, and give it a fixture `origin`: an `Origin`.

    A source that can't go on in the middle says `replays = False`, one whose records come in no fixed order `in_order =
    False`.
    """

    replays: ClassVar[bool] = True
    in_order: ClassVar[bool] = True

    def test_every_record_comes_once_and_in_order(self, origin: Origin) -> None:
        self.same(read(origin.source()), origin.expected)

    def test_reading_on_from_any_record_gives_exactly_what_follows(self, origin: Origin) -> None:
        records = list(origin.source().read(None))
        if not self.replays:
            assert {record.position for record in records} == {None}
            self.same(read(origin.source()), origin.expected)
            return
        for count, record in enumerate(records, 1):
            assert record.position is not None
            # As Redis gives it back: a position is JSON.
            position = json.loads(encode_json(record.position))
            self.same(read(origin.source(), position), origin.expected[count:])

    def test_every_record_fits_an_envelope(self, origin: Origin) -> None:
        for record in origin.source().read(None):
            assert isinstance(record, Record)
            assert encode(record, id="an id", source="a flow", time=now())

    def test_the_same_source_reads_again_from_the_start(self, origin: Origin) -> None:
        source = origin.source()
        next(iter(source.read(None)))
        self.same(read(source), origin.expected)
        self.same(read(source), origin.expected)

    def test_a_read_that_was_left_in_the_middle_disturbs_no_other(self, origin: Origin) -> None:
        source = origin.source()
        reading = source.read(None)
        next(reading)
        reading.close()  # type: ignore[attr-defined]  # a generator
        source.close()
        self.same(read(origin.source()), origin.expected)

    def test_every_option_says_what_it_is_for(self, origin: Origin) -> None:
        kind = type(origin.source())
        assert kind.__doc__
        assert [name for name, field in kind.model_fields.items() if not field.description] == []

    def same(self, came: list[Any], expected: list[Any]) -> None:
        """Assert that these are the expected records, in the order that the source promises."""
        if self.in_order:
            assert came == expected
        else:
            assert sorted(map(encode_json, came)) == sorted(map(encode_json, expected))


def value_of(record: Record | DeadLetter) -> Any:
    """Return the record's data as Python values. Fails for a dead letter."""
    assert isinstance(record, Record), record
    return json.loads(record.data if isinstance(record.data, bytes) else encode_json(record.data))


def read(source: Source, resume_from: Any = None) -> list[Any]:
    """Return everything that the source gives, as Python values."""
    try:
        return [value_of(record) for record in source.read(resume_from)]
    finally:
        source.close()
