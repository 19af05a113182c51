"""Options of the kafka sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from millrace_consumer.sinks.base import Sink
from millrace_pipeline.kafkacluster import ClusterOptions


class KafkaOptions(ClusterOptions, Sink):
    """Which cluster, which topic of it, and where the notes of what was written are."""

    about: ClassVar[str] = "on to the next"
    guarantee: ClassVar[str] = "exactly once for readers of committed messages, as long as the notes are kept"
    guaranteed_by: ClassVar[str] = "a note of the batch's id in the same transaction"
    ours: ClassVar[Mapping[str, str | None]] = {
        "bootstrap.servers": "brokers",
        "metadata.broker.list": "brokers",
        "transactional.id": None,
        "enable.idempotence": None,
        "isolation.level": None,
        "delivery.report.only.error": None,
    }

    topic: str = Field(min_length=1, max_length=249, description="The topic to write to.")
    key: str | None = Field(
        None,
        min_length=1,
        description="Field or JSON pointer of the message's key, which says its partition. Default: the record's id.",
    )
    envelope: bool = Field(
        False, description="Write whole CloudEvents envelopes, with id, source, type and time, not only their data."
    )
    ledger: str | None = Field(
        None, min_length=1, max_length=249, description="The topic of the notes. Default: `<topic>.ledger`."
    )

    @property
    def notes(self) -> str:
        """The topic of the notes."""
        return self.ledger or f"{self.topic}.ledger"
