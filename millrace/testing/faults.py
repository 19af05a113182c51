"""What a source must do where its origin breaks off, sends rubbish, says no, or is down.

An origin that can be made to do all that is a `FaultyOrigin`. A source for which there is no such thing as bad input
says `has_bad_input = False`.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar

import pytest

from millrace.testing.source import Origin, SourceContract, read, value_of
from millrace.testing.waiting import eventually
from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_producer.sources.base import Source


class FaultyOrigin(Origin):
    """A place that can be made to misbehave. Each method is called before, or between, reads; never during one."""

    @abstractmethod
    def break_off(self, after: int) -> None:
        """Break off the next connection (or process) after so many records; the one after that is whole."""

    @abstractmethod
    def spoil(self, at: int) -> bytes | None:
        """Put bad input before record `at`. Returns its bytes as they are there, None if those aren't kept."""

    @abstractmethod
    def refuse(self) -> None:
        """Say no from now on, in a way that trying again won't change."""

    @abstractmethod
    def fall_over(self) -> None:
        """Be out of reach until `recover`."""

    @abstractmethod
    def recover(self) -> None:
        """Be in reach again."""

    @abstractmethod
    def held(self) -> int:
        """Return the number of connections or processes that a source holds here now."""


class FaultySourceContract(SourceContract):
    """Claims about a source whose origin misbehaves, a `FaultyOrigin`. Give it a fixture `origin`."""

    has_bad_input: ClassVar[bool] = True

    @pytest.mark.parametrize("after", [0, 1, 3])
    def test_a_source_that_breaks_off_neither_loses_nor_doubles_a_record(
        self, origin: FaultyOrigin, after: int
    ) -> None:
        origin.break_off(after)
        records = list(read_on(origin.source()))
        if self.replays:
            self.same([value_of(record) for record in records], origin.expected)
        else:
            missing = [data for data in origin.expected if data not in [value_of(record) for record in records]]
            assert missing == []

    def test_bad_input_becomes_a_dead_letter_and_what_follows_still_arrives(self, origin: FaultyOrigin) -> None:
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

    def test_a_read_abandoned_in_the_middle_releases_what_it_held(self, origin: FaultyOrigin) -> None:
        reading = origin.source().read(None)
        next(reading)
        reading.close()  # type: ignore[attr-defined]  # a generator
        eventually(lambda: origin.held() == 0)

    def test_a_read_that_came_to_its_end_holds_nothing(self, origin: FaultyOrigin) -> None:
        read(origin.source())
        eventually(lambda: origin.held() == 0)

    def test_a_no_that_stays_a_no_is_refused_at_once(self, origin: FaultyOrigin) -> None:
        origin.refuse()
        with pytest.raises(SourceRefused) as refused:
            read(origin.source())
        assert str(refused.value)
        eventually(lambda: origin.held() == 0)

    def test_a_source_that_is_down_is_unavailable_and_reads_on_once_it_is_back(self, origin: FaultyOrigin) -> None:
        origin.fall_over()
        began = time.monotonic()
        with pytest.raises(SourceUnavailable) as unavailable:
            read(origin.source())
        assert time.monotonic() - began < 60
        assert str(unavailable.value)
        origin.recover()
        self.same(read(origin.source()), origin.expected)


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
