"""Real consumers that write to Kafka, killed once a batch is committed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.kafka_cluster import KafkaCluster
from tests.services import Place


@pytest.fixture
def cluster() -> Iterator[KafkaCluster]:
    with KafkaCluster() as cluster:
        cluster.create_topic("out", 4)
        cluster.create_topic("out.ledger", 1)
        yield cluster


def test_a_consumer_killed_once_a_batch_is_committed_leaves_it_there_once(place: Place, cluster: KafkaCluster) -> None:
    place.flow(sink={"type": "kafka", "brokers": cluster.brokers, "topic": "out", "key": "n", "timeout": "60s"})
    place.publish(range(25))
    assert place.consume(MILLRACE_KILLPOINT="consumer.after_write").wait() < 0
    place.deliver_the_rest()
    found = cluster.messages("out", isolation_level="read_committed")
    assert sorted(json.loads(message.value() or b"")["n"] for message in found) == list(range(25))
    assert (place.books().delivered, place.books().difference) == (25, 0)
