"""What a source must do that has no positions, but acknowledges at its origin what was published.

In the place of "reading on from a position" it has: what was published does not come again, what was not comes again
under the same key, so that dedupe knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec
import pytest

from millrace.testing.faults import FaultyOrigin, FaultySourceContract
from millrace.testing.source import Origin, value_of
from millrace.testing.waiting import eventually
from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceUnavailable
from millrace_producer.sources.base import Source


class AcknowledgingSourceContract(FaultySourceContract):
    """Claims about a source that acknowledges. Subclass it, and give it a fixture `origin`: a `FaultyOrigin`.

    Its `source` is to give each message within a few seconds.
    """

    @pytest.mark.parametrize("count", [1, 3, 5])
    def test_reading_on_from_any_record_gives_exactly_what_follows(  # type: ignore[override]
        self, origin: FaultyOrigin, count: int
    ) -> None:
        """What was published is not given again; what was given and not published is."""
        source = origin.source()
        reading = source.read(None)
        taken = list(islice(reading, count + 1))
        assert {record.position for record in taken} == {None}
        tell(source, taken[:count])
        reading.close()  # type: ignore[attr-defined]  # a generator
        source.close()
        self.same([value_of(record) for record in taken[:count]] + published(origin.source()), origin.expected)
        assert published(origin.source()) == []

    @pytest.mark.parametrize("after", [0, 1, 3])
    def test_a_source_that_breaks_off_neither_loses_nor_doubles_a_record(
        self, origin: FaultyOrigin, after: int
    ) -> None:
        """Nor would dedupe let through what came a second time."""
        origin.break_off(after)
        by_key = {
            record.key: value_of(record) for record in acknowledged(origin.source()) if isinstance(record, Record)
        }
        self.same(list(by_key.values()), origin.expected)

    def test_bad_input_becomes_a_dead_letter_and_what_follows_still_arrives(self, origin: FaultyOrigin) -> None:
        original = origin.spoil(3)
        came = acknowledged(origin.source())
        (letter,) = [record for record in came if isinstance(record, DeadLetter)]
        assert letter.reason
        assert original is None or letter.original == original
        self.same([value_of(record) for record in came if isinstance(record, Record)], origin.expected)
        assert list(origin.source().read(None)) == []

    def test_the_same_source_reads_again_from_the_start(self, origin: Origin) -> None:
        """As long as nothing is known to be published, and under the same keys."""
        source = origin.source()
        keys = []
        for _ in range(2):
            reading = source.read(None)
            records = list(islice(reading, len(origin.expected)))
            reading.close()  # type: ignore[attr-defined]  # a generator
            self.same([value_of(record) for record in records], origin.expected)
            keys.append(sorted(str(record.key) for record in records if isinstance(record, Record)))
        source.close()
        assert keys[0] == keys[1]
        assert len(set(keys[0])) == len(origin.expected)
        self.same(published(source), origin.expected)

    def test_a_read_abandoned_in_the_middle_releases_what_it_held(self, origin: FaultyOrigin) -> None:
        """What it gave it may still acknowledge; closing the source releases that, too."""
        source = origin.source()
        reading = source.read(None)
        next(reading)
        reading.close()  # type: ignore[attr-defined]  # a generator
        source.close()
        eventually(lambda: origin.held() == 0)

    def test_a_read_that_came_to_its_end_holds_nothing(self, origin: FaultyOrigin) -> None:
        """Once it could acknowledge what it gave."""
        source = origin.source()
        tell(source, list(source.read(None)))
        source.close()
        eventually(lambda: origin.held() == 0)

    def test_what_is_published_after_the_reading_ended_is_acknowledged(self, origin: FaultyOrigin) -> None:
        source = origin.source()
        records = list(source.read(None))
        for record in records:
            tell(source, [record])
        source.close()
        assert published(origin.source()) == []

    def test_it_has_dedupe_by_default(self, origin: FaultyOrigin) -> None:
        assert origin.source().redelivers


def tell(source: Source, records: Sequence[Record | DeadLetter]) -> None:
    """Tell the source that these are published, as the runner does: without data where it needs none."""
    if not source.acknowledges_data:
        records = [msgspec.structs.replace(one, data=None) if isinstance(one, Record) else one for one in records]
    source.published(records)


def published(source: Source) -> list[Any]:
    """Everything the source gives, as Python values; it is told that all of it was published."""
    records = list(source.read(None))
    tell(source, records)
    source.close()
    return [value_of(record) for record in records]


def acknowledged(source: Source) -> list[Record | DeadLetter]:
    """Reads as the runner does, and says of each record at once that it was published."""
    came: list[Record | DeadLetter] = []
    for _ in range(5):
        try:
            for record in source.read(None):
                came.append(record)
                tell(source, [record])
        except SourceUnavailable:
            continue
        source.close()
        return came
    raise AssertionError(f"unavailable five times: {source!r}")
