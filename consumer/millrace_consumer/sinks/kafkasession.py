"""A transactional producer for the batches of one consumer's session, and the notes of those that are written.

A session (the first part of a batch's id) has one transactional id, whoever delivers its batches. So a consumer that
takes a batch over ends whatever transaction its former holder had open, and finds by the notes what was committed. A
note is a message on a topic beside, in the transaction of the batch: the session as key, as value all batches of it
that are written, so that the newest says it all and the topic can be compacted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from millrace_consumer.sinks.base import SinkUnavailable
from millrace_consumer.sinks.kafkanotes import Written
from millrace_pipeline.killpoints import killpoint

if TYPE_CHECKING:
    from millrace_consumer.sinks.kafkaoptions import KafkaOptions

RECORD_TO_BLAME = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})
"""What a broker says of a single message."""

PARTITION = 0
"""The partition of the notes."""


class Unwritable(Exception):
    """The cluster won't have these messages: `reasons` by index. Nothing was written."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} messages")
        self.reasons = dict(reasons)


@contextmanager
def _telling() -> Iterator[None]:
    """Says in our words what the client library raises within: any call may raise that its producer was fenced."""
    try:
        yield
    except KafkaException as error:
        raise SinkUnavailable(f"Kafka: {_reason(error)}") from None
    except TimeoutError:  # of a future of the admin client
        raise SinkUnavailable("Kafka: no answer in time") from None


class KafkaSession:
    """A producer of ours, and the notes of what it wrote. Once a method raises, another is to be opened."""

    def __init__(self, sink: KafkaOptions, name: str) -> None:
        self._sink = sink
        self._key = f"{sink.topic}/{name}".encode()
        self._refused: list[tuple[KafkaError, bytes | None, bytes | None]] = []
        self._written = Written()
        self._producer = Producer(
            {
                "client.id": "millrace",
                "partitioner": "murmur2_random",  # as Java's clients have it
                **sink.config,
                "bootstrap.servers": sink.brokers,
                "transactional.id": f"millrace/{sink.topic}/{name}",
                "enable.idempotence": True,
                "delivery.report.only.error": True,
                "on_delivery": self._told,
                "logger": _silent(),
            }
        )

    @classmethod
    def open(cls, sink: KafkaOptions, name: str) -> KafkaSession:
        """Return one that may write: older transactions of its name are ended. Raises SinkUnavailable."""
        with _telling():
            session = cls(sink, name)
            try:
                session._producer.init_transactions(sink.timeout)
                session._written = session._read_back()
            except BaseException:
                session.close()  # or it would go on by itself, and fence its successor
                raise
        return session

    def has(self, batch_id: str) -> bool:
        """Whether the batch is written."""
        return batch_id in self._written

    def deliver(self, batch_id: str, messages: Sequence[tuple[bytes | None, bytes]]) -> None:
        """Writes the batch and its note, unless it is written. Raises Unwritable, or SinkUnavailable: then nobody knows
        whether it was written until another is made of this session."""
        if self.has(batch_id):
            return
        written = self._written.with_(batch_id)
        self._refused.clear()
        with _telling():
            try:
                self._transact(messages, written)
            except KafkaException as error:
                if suspects := self._suspects(error, messages):
                    self._narrow(suspects, messages)
                raise
        self._written = written

    def close(self) -> None:
        """Lets go of the producer."""
        with suppress(KafkaException):
            self._producer.purge()
        del self._producer

    def _transact(self, messages: Sequence[tuple[bytes | None, bytes]], written: Written) -> None:
        producer, sink = self._producer, self._sink
        producer.begin_transaction()
        for key, value in messages:
            self._produce(sink.topic, value, key)
        self._produce(sink.notes, str(written).encode(), self._key, PARTITION)
        killpoint("sink.before_commit")
        producer.commit_transaction(sink.timeout)

    def _produce(self, *message: Any) -> None:
        try:
            return self._producer.produce(*message)
        except BufferError:  # full of what is on its way
            pass
        until = time.monotonic() + self._sink.timeout
        while time.monotonic() < until:
            self._producer.poll(0.05)
            try:
                return self._producer.produce(*message)
            except BufferError:
                continue
        raise SinkUnavailable(f"no broker takes messages within {self._sink.timeout:g} s")

    def _told(self, error: KafkaError | None, message: Message) -> None:
        """What became of a message, where it failed. Of those that went well nobody asks: that would cost more."""
        if error is not None and error.code() in RECORD_TO_BLAME and message.topic() == self._sink.topic:
            self._refused.append((error, message.key(), message.value()))

    def _suspects(self, error: KafkaException, messages: Sequence[tuple[bytes | None, bytes]]) -> list[int]:
        """The records that were in the requests that the cluster refused for what some message in them is."""
        self._producer.poll(0)
        if not (self._refused and error.args[0].txn_requires_abort()):
            return []
        self._producer.abort_transaction(self._sink.timeout)
        refused = {(key, value) for _, key, value in self._refused}
        return [index for index, message in enumerate(messages) if message in refused]

    def _narrow(self, suspects: Sequence[int], messages: Sequence[tuple[bytes | None, bytes]]) -> None:
        """Offers each by itself, in a transaction that is aborted. Raises Unwritable, if any is refused then."""
        reasons = {}
        for index in suspects:
            key, value = messages[index]
            self._refused.clear()
            self._producer.begin_transaction()
            self._produce(self._sink.topic, value, key)
            self._producer.flush(self._sink.timeout)
            if self._refused:
                reasons[index] = f"Kafka: {self._refused[0][0].str()}"
            self._producer.abort_transaction(self._sink.timeout)
        if reasons:
            raise Unwritable(reasons)

    def _read_back(self) -> Written:
        """What the newest committed note of this session says.

        Read to the very end, as it was after older transactions had been ended. A transaction of another session that
        is still open may hide what is behind it: then it waits for that one, too.
        """
        sink = self._sink
        place = TopicPartition(sink.notes, PARTITION, OFFSET_BEGINNING)
        end = self._end_of(place)
        consumer = Consumer(
            {
                "client.id": "millrace",
                "fetch.wait.max.ms": 20,
                "check.crcs": True,
                **sink.config,
                "bootstrap.servers": sink.brokers,
                "group.id": "millrace",  # which is never joined: the partition is assigned, nothing committed
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "logger": _silent(),
            }
        )
        newest, until = Written(), time.monotonic() + sink.timeout
        try:
            consumer.assign([place])
            at = 0
            while at < end:
                for message in consumer.consume(500, 0.05):
                    at, until = (message.offset() or 0), time.monotonic() + sink.timeout
                    if (error := message.error()) is None:
                        at += 1
                        if message.key() == self._key:
                            newest = Written((message.value() or b"").decode())
                    elif error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                if time.monotonic() > until:
                    raise SinkUnavailable(f"topic {sink.notes} could not be read to its end within {sink.timeout:g} s")
        finally:
            consumer.close()
        return newest

    def _end_of(self, place: TopicPartition) -> int:
        sink = self._sink
        admin = AdminClient({**sink.config, "bootstrap.servers": sink.brokers, "logger": _silent()})
        found = admin.list_topics(sink.notes, timeout=sink.timeout).topics[sink.notes]
        if found.error is not None:
            mend = f"create it, with one partition and cleanup.policy=compact, for the notes of {sink.topic}"
            raise SinkUnavailable(f"topic {sink.notes}: {found.error.str()}: {mend}")
        asked = admin.list_offsets(
            {place: OffsetSpec.latest()},  # type: ignore[no-untyped-call]
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=sink.timeout,
        )
        return int(asked[place].result(sink.timeout).offset)


def settings_mistake(config: Mapping[str, Any]) -> str:
    """What librdkafka has against these settings; empty if nothing."""
    try:
        Producer({**config, "bootstrap.servers": "", "transactional.id": "check", "logger": _silent()})
    except KafkaException as error:
        return _reason(error)
    return ""


def _reason(error: KafkaException) -> str:
    said = error.args[0]
    return str(said.str() if isinstance(said, KafkaError) else said)


def _silent() -> Any:
    """A logger for librdkafka's own words: what matters of them is raised."""
    logger = logging.getLogger("millrace.kafka")
    logger.setLevel(logging.CRITICAL + 1)
    return logger
