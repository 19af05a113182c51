"""Kafka: topics of a cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import PrivateAttr

from millrace_pipeline.kafkacluster import check_settings, told_of
from millrace_producer.sources.base import DeadLetter, Position, Record, SourceRefused
from millrace_producer.sources.kafkaoptions import KafkaOptions

if TYPE_CHECKING:
    from millrace_producer.sources.kafkareading import KafkaReading


class KafkaSource(KafkaOptions):
    """Reads topics of a Kafka cluster.

    Without `group` one producer reads all partitions, and the offsets are kept beside the list, in the same step as the
    records: each message is on the list once. With `group` the flow's producers share the partitions as a consumer
    group, and commit a message once it is on the list: it may come again, and dedupe, on by default then, leaves it
    out.

    A record's key is `topic:partition:offset`, its type the topic, its time the message's timestamp.
    """

    _reading: list[KafkaReading] = PrivateAttr(default_factory=list)

    @property
    def ends(self) -> bool:
        """See `Source.ends`."""
        return self.until_empty

    def check(self) -> None:
        """Refuse settings that librdkafka doesn't know."""
        check_settings(self.config)

    def probe(self) -> str | None:
        """See `Source.probe`."""
        return told_of(self.brokers, self.config, self.topics, self.timeout)

    def describe(self, position: Position) -> str:
        """See `Source.describe`. With a group its offsets are the broker's, and a checkpoint says nothing."""
        if self.group:
            raise SourceRefused(f"the group {self.group} keeps its place itself: move it with Kafka's own tools")
        places = ", ".join(f"{place} from offset {offset:,}" for place, offset in sorted(_offsets(position).items()))
        return f"{places or 'nothing'}, and other partitions as at the first start"

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """See `Source.read`. Positions are the next offsets: `{"topic:partition": 42}`; a group has none."""
        from millrace_producer.sources.kafkareading import KafkaReading

        self.close()  # an earlier reading stayed open, so that what it gave could still be acknowledged
        reading = KafkaReading(self, {} if self.group else _offsets(resume_from))
        self._reading.append(reading)
        try:
            yield from reading.records()
        except GeneratorExit:
            self.close()
            raise
        if not self.group:
            self.close()

    def published(self, records: Sequence[Record | DeadLetter]) -> None:
        """Commits, with a group; else the checkpoint has been saved with the records."""
        if self.group:
            for reading in self._reading:
                reading.acknowledge(records)

    def close(self) -> None:
        """Leaves the group, so that the others get our partitions at once."""
        readings, self._reading[:] = self._reading[:], []
        for reading in readings:
            reading.close()


_PLACE = re.compile(r"[\w.-]+:\d+")


def _offsets(position: Position | None) -> dict[str, int]:
    if position is None:
        return {}
    if not isinstance(position, dict) or not all(
        _PLACE.fullmatch(place) and isinstance(offset, int) for place, offset in position.items()
    ):
        raise SourceRefused("the checkpoint is not offsets of Kafka, but of another source")
    return position
