"""One reading of a Kafka cluster: its consumer, what it owns, and what of that is on the list."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_STORED,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from millrace_producer import trouble
from millrace_producer.sources.base import DeadLetter, Record, SourceRefused, SourceUnavailable
from millrace_producer.sources.kafkaerrors import REFUSALS, error_of, said, telling
from millrace_producer.sources.kafkamessage import KafkaLetter, KafkaRecord, Place, name_of, record_of

if TYPE_CHECKING:
    from millrace_producer.sources.kafkaoptions import KafkaOptions

log = structlog.get_logger(__name__)

BATCH = 500
"""Messages taken from the client at once."""

WAIT_SECONDS = 0.25
"""How long to wait for a message: how late a stop is noticed."""

REVOKED_SECONDS = 10.0
"""How long others wait for a partition that is taken from us, so that what we gave of it gets on the list first."""

METADATA_SECONDS = 60.0
"""How often to look for new partitions where nobody tells us of them."""

HELD_BACK_MS = 24 * 60 * 60 * 1000
"""How long the list may hold us back before the group takes our partitions away: as long as librdkafka allows.
A member that died is noticed by its silence, long before."""


class KafkaReading:
    """Reads from `offsets`, or from where the group stopped. Other threads may call `acknowledge` and `close`."""

    def __init__(self, source: KafkaOptions, offsets: dict[str, int]) -> None:
        self._source, self._fields = source, source.fields(source.format)
        self._offsets = dict(offsets)
        self._owned: set[Place] = set()
        self._at_end: set[Place] = set()
        self._joined = False
        self._given: dict[Place, int] = {}  # behind the last message that was yielded
        self._acknowledged: dict[Place, int] = {}  # behind the last one that is on the list, and not stored yet
        self._stored: dict[Place, int] = {}
        self._changed = threading.Condition()
        self._polling = threading.Lock()  # the client must not be closed under who uses it
        self._closing = False
        self._closed = False
        self._silent = False
        self._failure: SourceRefused | SourceUnavailable | None = None
        self._looked = time.monotonic()
        try:
            self._consumer = Consumer(self._config(), logger=_Log())
        except KafkaException as error:
            raise SourceRefused(f"config: {said(error).str()}") from None

    def records(self) -> Iterator[Record | DeadLetter]:
        """See `Source.read`."""
        with self._polling, telling():
            self._open()
        while not self._closing:
            if (message := self._poll()) is not None:
                yield from self._taken([message])
                yield from self._taken(self._more())  # after the yield: a poll may take away what we have not given yet
            if self._source.until_empty and self._joined and self._owned <= self._at_end:
                return

    def acknowledge(self, records: Sequence[Record | DeadLetter]) -> None:
        """These are on the list: they may be committed. Raises SourceUnavailable.

        The client can't poll and be told that at once. If it polls, it is told before the next poll; if the list holds
        us back, there may be none for long, so it is told here.
        """
        ends = {record.place: record.offset + 1 for record in records if isinstance(record, KafkaRecord | KafkaLetter)}
        with self._changed:
            self._acknowledged |= ends
            self._changed.notify_all()
        if self._polling.acquire(blocking=False):
            try:
                if not self._closed:
                    with telling():
                        self._store()
            finally:
                self._polling.release()

    def close(self) -> None:
        """Commits what was acknowledged and leaves the group. What can't be committed any more comes again."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        with self._polling:
            if self._closed:
                return
            self._closed = True
            for farewell in (self._store, self._consumer.close):
                try:
                    with telling():
                        farewell()
                except (SourceRefused, SourceUnavailable) as error:
                    log.warning("kafka_not_left_in_good_order", reason=str(error))

    def _config(self) -> dict[str, Any]:
        source = self._source
        return {
            "client.id": "millrace",
            "session.timeout.ms": 10_000,
            "max.poll.interval.ms": HELD_BACK_MS,
            "auto.commit.interval.ms": 1000,
            "isolation.level": "read_committed",
            "check.crcs": True,
            **({"partition.assignment.strategy": "cooperative-sticky"} if source.shares else {}),
            **source.config,
            "bootstrap.servers": source.brokers,
            "group.id": source.group or "millrace",
            "enable.auto.commit": source.group is not None,
            "enable.auto.offset.store": False,
            "enable.partition.eof": source.until_empty,
            "auto.offset.reset": source.start if source.group else "earliest",
            "error_cb": self._heard,
            "on_commit": _committed,
        }

    def _open(self) -> None:
        source = self._source
        if source.shares:
            for topic in source.topics:
                self._partitions_of(topic)
            self._consumer.subscribe(
                source.topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
            )
            return
        places = self._places()
        if not source.group and not self._offsets and source.start == "latest":
            # A partition that stays silent for now has its place, too: what it says during a restart is new.
            self._offsets = {name_of(place): self._end_of(place) for place in places}
        self._consumer.assign([self._start_of(place) for place in places])
        self._owned, self._joined = set(places), True

    def _places(self) -> list[Place]:
        wanted = self._source.partitions
        places = []
        for topic in self._source.topics:
            there = self._partitions_of(topic)
            if lacking := set(wanted or ()) - there:
                raise SourceUnavailable(f"topic {topic} has no partition {', '.join(map(str, sorted(lacking)))}")
            places += [(topic, partition) for partition in (wanted or sorted(there))]
        return places

    def _partitions_of(self, topic: str) -> set[int]:
        is_pattern, timeout = topic.startswith("^"), self._source.timeout
        try:
            found = self._consumer.list_topics(timeout=timeout, **({} if is_pattern else {"topic": topic}))
        except KafkaException as error:
            self._consumer.poll(0)  # which is when it tells us of what else it heard
            self._raise_failure()
            raise error_of(said(error), f"brokers {self._source.brokers}") from None
        trouble.over()  # who answers this would tell of what there is to read
        if is_pattern:
            return set()
        if (refused := found.topics[topic].error) is not None:
            raise error_of(refused, f"topic {topic}")
        return set(found.topics[topic].partitions)

    def _start_of(self, place: Place) -> TopicPartition:
        if self._source.group:
            return TopicPartition(*place, OFFSET_STORED)
        return TopicPartition(*place, self._offsets.get(name_of(place), OFFSET_BEGINNING))

    def _end_of(self, place: Place) -> int:
        _, end = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=self._source.timeout)
        return int(end)

    def _poll(self) -> Message | None:
        """The next message, or None if none came for a while."""
        with self._polling, telling():
            if self._closing:
                return None
            self._store()
            message = self._consumer.poll(WAIT_SECONDS)
            self._raise_failure()
            if message is not None:
                self._silent = False
            elif self._silent:
                self._partitions_of(self._source.topics[0])  # raises if nobody answers
                self._silent = False
            if not self._source.shares and time.monotonic() - self._looked > METADATA_SECONDS:
                self._look_for_partitions()
            return message

    def _store(self) -> None:
        """Lets the client commit what is on the list: it does so every second, and when a partition is taken away."""
        with self._changed:
            ends, self._acknowledged = self._acknowledged, {}
            self._stored |= ends
        for (topic, partition), end in ends.items():
            try:
                self._consumer.store_offsets(offsets=[TopicPartition(topic, partition, end)])
            except KafkaException as error:
                if said(error).code() not in (KafkaError._STATE, KafkaError._UNKNOWN_PARTITION):
                    raise
                # else it is another's by now, who reads it again from what was committed

    def _more(self) -> list[Message]:
        """What the client has by now."""
        with self._polling, telling():
            return [] if self._closing else self._consumer.consume(BATCH - 1, 0)

    def _taken(self, messages: list[Message]) -> Iterator[Record | DeadLetter]:
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._at_end.add(place)
                elif error.code() != KafkaError._MAX_POLL_EXCEEDED:  # of which `_lost` hears
                    raise error_of(error)
            elif place in self._owned:
                self._at_end.discard(place)
                self._given[place] = (message.offset() or 0) + 1
                yield self._record(message, place)

    def _record(self, message: Message, place: Place) -> Record | DeadLetter:
        position = None
        if not self._source.group:
            self._offsets[name_of(place)] = self._given[place]
            position = dict(self._offsets)  # of this moment: it is read when the record is published
        return record_of(message, place, position, self._fields, self._source.data)

    def _look_for_partitions(self) -> None:
        self._looked = time.monotonic()
        if new := set(self._places()) - self._owned:
            self._consumer.incremental_assign([self._start_of(place) for place in sorted(new)])
            self._owned |= new

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        places = {(partition.topic, partition.partition) for partition in partitions}
        self._owned |= places
        self._joined = True
        log.info("kafka_partitions_assigned", partitions=sorted(map(name_of, places)))

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Returning lets the next owner begin at what was committed: so what we gave gets on the list first."""
        places = {(partition.topic, partition.partition) for partition in partitions}

        def on_the_list() -> bool:
            return self._closing or all(
                max(self._acknowledged.get(place, 0), self._stored.get(place, 0)) >= self._given.get(place, 0)
                for place in places
            )

        with self._changed:
            done = self._changed.wait_for(on_the_list, REVOKED_SECONDS)
        self._store()
        log.info("kafka_partitions_revoked", partitions=sorted(map(name_of, places)), all_published=done)
        self._forget(places)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        places = {(partition.topic, partition.partition) for partition in partitions}
        log.warning("kafka_partitions_lost", partitions=sorted(map(name_of, places)))
        self._forget(places)

    def _forget(self, places: set[Place]) -> None:
        self._owned -= places
        self._at_end -= places
        for place in places:
            self._given.pop(place, None)
            self._stored.pop(place, None)

    def _heard(self, error: KafkaError) -> None:
        """What the client says besides: it goes on by itself, and we decide for how long."""
        if error.code() in REFUSALS or error.fatal():
            self._failure = error_of(error)
        elif error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE):
            self._silent = True

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


class _Log:
    """Takes what librdkafka logs."""

    def log(self, level: int, form: str, *values: object) -> None:
        log.debug("kafka_client", said=form % values, level=level)


def _committed(error: KafkaError | None, partitions: list[TopicPartition]) -> None:
    if error is not None and error.code() != KafkaError._NO_OFFSET:
        log.warning("kafka_commit_failed", reason=error.str(), partitions=len(partitions))
