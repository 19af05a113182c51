"""A topic of Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, PrivateAttr

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected
from millrace_consumer.sinks.kafkanotes import session_of
from millrace_consumer.sinks.kafkaoptions import KafkaOptions
from millrace_consumer.sinks.namedfield import NamedField
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.kafkacluster import told_of
from millrace_pipeline.killpoints import killpoint

if TYPE_CHECKING:
    from millrace_consumer.sinks.kafkasession import KafkaSession

MESSAGE_BYTES = 1_000_000
"""How large a message may be unless `message.max.bytes` says otherwise."""

OVERHEAD_BYTES = 512
"""What a message weighs besides its key and value, at most."""

SESSIONS = 2
"""Transactional producers that are kept: our own consumer's, and that of one whose batches were taken over."""


class KafkaSink(KafkaOptions):
    """Exactly once for readers of committed messages: a batch and a note of its id are one transaction.

    One message a record, in the order of the batch within each partition. Before a batch is written that may have been
    written before, the notes of its consumer are read back.
    """

    _sessions: dict[str, KafkaSession] = PrivateAttr(default_factory=dict)

    def check(self, model: type[BaseModel] | None) -> None:  # noqa: ARG002 - it takes any record
        """Refuses settings that librdkafka doesn't know, and notes among the messages."""
        from millrace_consumer.sinks.kafkasession import settings_mistake

        if self.notes == self.topic:
            raise ConfigError("ledger: expected another topic than the messages'")
        if mistake := settings_mistake(self.config):
            raise ConfigError(f"config: {mistake}")

    def probe(self) -> str | None:
        """See `Sink.probe`."""
        return told_of(self.brokers, self.config, [self.topic], self.timeout)

    def write(self, batch: Batch) -> None:
        """Writes the batch in one transaction, unless a note says that it is there."""
        if not len(batch):
            return
        messages = self._messages(batch)
        killpoint("sink.before_write")
        from millrace_consumer.sinks.kafkasession import Unwritable

        try:
            self._session(batch.id).deliver(batch.id, messages)
        except Unwritable as error:
            self._forget(batch.id)  # a producer whose messages were refused has lost count of them
            raise RecordsRejected(error.reasons) from None
        except BaseException:
            # What became of the transaction shows when the next producer of its name is made, and not before.
            self._forget(batch.id)
            raise
        killpoint("sink.after_write")

    def has_batch(self, batch_id: str) -> bool:
        """Whether there is a note of this batch."""
        try:
            return self._session(batch_id).has(batch_id)
        except BaseException:
            self._forget(batch_id)
            raise

    def close(self) -> None:
        """Lets go of the producers. What was not committed is aborted by the cluster."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def _session(self, batch_id: str) -> KafkaSession:
        """The producer for the batches of the consumer that claimed this one. Raises SinkUnavailable."""
        from millrace_consumer.sinks.kafkasession import KafkaSession

        name = session_of(batch_id)
        if name not in self._sessions:
            while len(self._sessions) >= SESSIONS:
                self._sessions.pop(next(iter(self._sessions))).close()
            self._sessions[name] = KafkaSession.open(self, name)
        else:
            self._sessions[name] = self._sessions.pop(name)  # the one that was not used for longest is the first to go
        return self._sessions[name]

    def _forget(self, batch_id: str) -> None:
        if (session := self._sessions.pop(session_of(batch_id), None)) is not None:
            session.close()

    def _messages(self, batch: Batch) -> list[tuple[bytes | None, bytes]]:
        """Key and value of each record. Raises RecordsRejected for those that are too large for the topic."""
        values = batch.envelope_lines if self.envelope else batch.lines
        messages = list(zip(self._keys(batch), values, strict=True))
        limit = int(self.config.get("message.max.bytes", MESSAGE_BYTES)) - OVERHEAD_BYTES
        large = {
            index: f"{size:,} bytes are too many for a message: message.max.bytes is {limit + OVERHEAD_BYTES:,}"
            for index, (key, value) in enumerate(messages)
            if (size := len(value) + len(key or b"")) > limit
        }
        if large:
            raise RecordsRejected(large)
        return messages

    def _keys(self, batch: Batch) -> list[bytes | None]:
        if self.key is None:
            return [id.encode() for id in batch.ids]
        key = NamedField("key", self.key)
        return [_key(key.of(record)) for record in batch.records]


def _key(found: Any) -> bytes | None:
    if found is None:
        return None
    return found.encode() if isinstance(found, str) else encode_json(found)
