"""What every source must do, whatever it reads.

A source's tests subclass `SourceContract`, name themselves `Test…`, and give it an `origin` fixture: a real place with
known records that can be made to misbehave. A source that can't go on in the middle says `replays = False`, one whose
records come in no fixed order `in_order = False`, one for which there is no such thing as bad input
`has_bad_input = False`; the claims below then say what holds for it instead.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import pytest

from millrace_pipeline.envelope import DeadLetter, Record, encode, encode_json, now
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_producer.sources.base import Source
from tests.conftest import eventually


class Origin(ABC):
    """A place with known records. Each of the methods is called before, or between, reads; never during one.

    `expected` is the data of its records as Python values, in order; at least six.
    """

    expected: list[Any]

    @abstractmethod
    def source(self) -> Source:
        """The source that reads this place to its end, with backoff short enough for a test."""

    @abstractmethod
    def break_off(self, after: int) -> None:
        """The next connection (or process) breaks off after so many records; the one after that is whole."""

    @abstractmethod
    def spoil(self, at: int) -> bytes | None:
        """Puts bad input before record `at`. Returns its bytes as they are there, None if those aren't kept."""

    @abstractmethod
    def refuse(self) -> None:
        """From now on it says no in a way that trying again won't change."""

    @abstractmethod
    def fall_over(self) -> None:
        """It can't be read until `recover`."""

    @abstractmethod
    def recover(self) -> None:
        """It can be read again."""

    @abstractmethod
    def held(self) -> int:
        """How many connections or processes a source holds here now."""


class SourceContract:
    """Subclass it, and give it a fixture `origin`."""

    replays: ClassVar[bool] = True
    in_order: ClassVar[bool] = True
    has_bad_input: ClassVar[bool] = True

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

    @pytest.mark.parametrize("after", [0, 1, 3])
    def test_a_source_that_breaks_off_neither_loses_nor_doubles_a_record(self, origin: Origin, after: int) -> None:
        origin.break_off(after)
        records = list(read_on(origin.source()))
        if self.replays:
            self.same([value_of(record) for record in records], origin.expected)
        else:
            missing = [data for data in origin.expected if data not in [value_of(record) for record in records]]
            assert missing == []

    def test_bad_input_becomes_a_dead_letter_and_what_follows_still_arrives(self, origin: Origin) -> None:
        if not self.has_bad_input:
            self.same(read(origin.source()), origin.expected)
            return
        original = origin.spoil(3)
        came = list(origin.source().read(None))
        letters = [record for record in came if isinstance(record, DeadLetter)]
        assert len(letters) == 1
        assert letters[0].reason
        assert original is None or letters[0].original == original
        self.same([value_of(record) for record in came if isinstance(record, Record)], origin.expected)
        if self.replays:
            self.same(read(origin.source(), letters[0].position), origin.expected[3:])

    def test_every_record_fits_an_envelope(self, origin: Origin) -> None:
        for record in origin.source().read(None):
            assert isinstance(record, Record)
            assert encode(record, id="an id", source="a flow", time=now())

    def test_a_read_abandoned_in_the_middle_releases_what_it_held(self, origin: Origin) -> None:
        reading = origin.source().read(None)
        next(reading)
        reading.close()  # type: ignore[attr-defined]  # a generator
        eventually(lambda: origin.held() == 0)

    def test_a_read_that_came_to_its_end_holds_nothing(self, origin: Origin) -> None:
        read(origin.source())
        eventually(lambda: origin.held() == 0)

    def test_the_same_source_reads_again_from_the_start(self, origin: Origin) -> None:
        source = origin.source()
        next(iter(source.read(None)))
        self.same(read(source), origin.expected)
        self.same(read(source), origin.expected)

    def test_a_no_that_stays_a_no_is_refused_at_once(self, origin: Origin) -> None:
        origin.refuse()
        with pytest.raises(SourceRefused) as refused:
            read(origin.source())
        assert str(refused.value)
        eventually(lambda: origin.held() == 0)

    def test_a_source_that_is_down_is_unavailable_and_reads_on_once_it_is_back(self, origin: Origin) -> None:
        origin.fall_over()
        began = time.monotonic()
        with pytest.raises(SourceUnavailable) as unavailable:
            read(origin.source())
        assert time.monotonic() - began < 60
        assert str(unavailable.value)
        origin.recover()
        self.same(read(origin.source()), origin.expected)

    def test_every_option_says_what_it_is_for(self, origin: Origin) -> None:
        kind = type(origin.source())
        assert kind.__doc__
        assert [name for name, field in kind.model_fields.items() if not field.description] == []

    def same(self, came: list[Any], expected: list[Any]) -> None:
        """Asserts that these are the expected records, in the order that the source promises."""
        if self.in_order:
            assert came == expected
        else:
            assert sorted(map(encode_json, came)) == sorted(map(encode_json, expected))


def value_of(record: Record | DeadLetter) -> Any:
    """The record's data as Python values. Fails for a dead letter."""
    assert isinstance(record, Record), record
    return json.loads(record.data if isinstance(record.data, bytes) else encode_json(record.data))


def read(source: Source, resume_from: Any = None) -> list[Any]:
    """Everything the source gives, as Python values."""
    try:
        return [value_of(record) for record in source.read(resume_from)]
    finally:
        source.close()


def read_on(source: Source) -> Iterator[Record | DeadLetter]:
    """Reads as the runner does: from the last position again where the source became unavailable."""
    position = None
    for _ in range(5):
        try:
            reading: Iterable[Record | DeadLetter] = source.read(position)
            for record in reading:
                position = record.position
                yield record
        except SourceUnavailable:
            continue
        return
    pytest.fail("unavailable five times")
