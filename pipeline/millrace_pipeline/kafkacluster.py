"""A Kafka cluster, looked at without a change: what its brokers say of a topic, for the source and the sink alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from millrace_pipeline.errors import ConfigError


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
