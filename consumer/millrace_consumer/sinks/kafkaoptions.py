"""Options of the kafka sink."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, field_validator

from millrace_consumer.sinks.base import Sink
from millrace_pipeline.extras import Extra
from millrace_pipeline.flows.units import Duration

OURS = {
    "bootstrap.servers": "brokers",
    "metadata.broker.list": "brokers",
    "transactional.id": None,
    "enable.idempotence": None,
    "isolation.level": None,
    "delivery.report.only.error": None,
}
"""Settings of librdkafka that follow from our options, or from what is promised."""


class KafkaOptions(Sink):
    """Which cluster, which topic of it, and where the notes of what was written are."""

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "on to the next"
    guarantee: ClassVar[str] = "exactly once for readers of committed messages, as long as the notes are kept"
    guaranteed_by: ClassVar[str] = "a note of the batch's id in the same transaction"
    extra: ClassVar[Extra | None] = Extra("kafka", module="confluent_kafka")

    brokers: str = Field(min_length=1, description="Where to begin: `host:port`, or several with commas between them.")
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
    timeout: Annotated[Duration, Field(gt=0, le=600)] = Field(
        10, description="How long to wait for a broker before the cluster counts as unavailable."
    )
    config: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        repr=False,
        description="Further settings of librdkafka, such as `security.protocol` or `sasl.password`.",
    )

    @field_validator("config")
    @classmethod
    def _not_ours(cls, config: dict[str, Any]) -> dict[str, Any]:
        for name in config:
            if name in OURS:
                option = OURS[name]
                raise ValueError(f"{name} is managed by Millrace" + (f": see the option {option}" if option else ""))
        return config

    @property
    def notes(self) -> str:
        """The topic of the notes."""
        return self.ledger or f"{self.topic}.ledger"
