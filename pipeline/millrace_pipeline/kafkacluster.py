"""A Kafka cluster, for the source and the sink alike: how it is reached, and what its brokers say of a topic."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.extras import Extra
from millrace_pipeline.flows.units import Duration


class ClusterOptions(BaseModel):
    """Which cluster, and how librdkafka is to talk to it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    extra: ClassVar[Extra | None] = Extra("kafka", module="confluent_kafka")
    ours: ClassVar[Mapping[str, str | None]] = {}
    """Settings of librdkafka that follow from these options, or from what is promised."""

    brokers: str = Field(min_length=1, description="Where to begin: `host:port`, or several with commas between them.")
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
            if name in cls.ours:
                option = cls.ours[name]
                raise ValueError(f"{name} is managed by Millrace" + (f": see the option {option}" if option else ""))
        return config


def told_of(brokers: str, config: Mapping[str, Any], topics: Sequence[str], timeout: float) -> str:
    """Return what the cluster says of these topics. Raises OSError where no broker answers.

    All topics are asked for: a broker may make a topic that is asked for by its name.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    log = logging.getLogger("millrace.kafka")
    log.setLevel(logging.CRITICAL + 1)
    ours = {name: value for name, value in config.items() if not name.startswith(("group.", "enable.", "auto."))}
    try:
        settings: dict[str, Any] = {**ours, "bootstrap.servers": brokers, "logger": log}
        admin = AdminClient(settings)
        found = admin.list_topics(timeout=timeout)
    except KafkaException as error:
        said = error.args[0]
        raise OSError(f"Kafka at {brokers}: {said.str() if hasattr(said, 'str') else said}") from None
    words = [f"{len(found.brokers)} broker{'' if len(found.brokers) == 1 else 's'}"]
    for topic in topics:
        if topic.startswith("^"):
            continue
        there = found.topics.get(topic)
        words.append(f"topic {topic}: " + (f"{len(there.partitions)} partitions" if there else "not there yet"))
    return "; ".join(words)


def check_settings(config: Mapping[str, Any]) -> None:
    """Raise ConfigError with what librdkafka has against these settings."""
    from confluent_kafka import Consumer, KafkaException

    log = logging.getLogger("millrace.kafka")
    log.setLevel(logging.CRITICAL + 1)
    try:
        # An empty password is one that this machine needn't know.
        known = {name: value if value != "" else "-" for name, value in config.items()}
        Consumer({**known, "bootstrap.servers": "", "group.id": "check", "logger": log}).close()
    except KafkaException as error:
        said = error.args[0]
        raise ConfigError(f"config: {said.str() if hasattr(said, 'str') else said}") from None
