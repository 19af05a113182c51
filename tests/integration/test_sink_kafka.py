"""Real consumers that write to Kafka, killed once a batch is committed, and the examples that do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sqs.models import sqs_backends

from tests.kafka_cluster import KafkaCluster
from tests.moto_server import REGION, MotoServer
from tests.services import Place


@pytest.fixture
def cluster() -> Iterator[KafkaCluster]:
    with KafkaCluster() as cluster:
        for topic in ("out", "large-orders", "orders"):
            cluster.create_topic(topic, 4)
            cluster.create_topic(f"{topic}.ledger", 1)
        yield cluster


def sent(cluster: KafkaCluster) -> list[dict[str, int]]:
    """Orders, on their topic."""
    orders = [{"n": n, "customer": n % 7, "total": 10 * n} for n in range(40)]
    cluster.send("orders", [json.dumps(order).encode() for order in orders])
    return orders


def test_a_consumer_killed_once_a_batch_is_committed_leaves_it_there_once(place: Place, cluster: KafkaCluster) -> None:
    place.flow(sink={"type": "kafka", "brokers": cluster.brokers, "topic": "out", "key": "n", "timeout": "60s"})
    place.publish(range(25))
    assert place.consume(MILLRACE_KILLPOINT="consumer.after_write").wait() < 0
    place.deliver_the_rest()
    found = cluster.messages("out", isolation_level="read_committed")
    assert sorted(json.loads(message.value() or b"")["n"] for message in found) == list(range(25))
    assert (place.books().delivered, place.books().difference) == (25, 0)


def test_the_example_passes_large_orders_from_topic_to_topic(place: Place, cluster: KafkaCluster) -> None:
    place.example("kafka-to-kafka")
    large = [order for order in sent(cluster) if order["total"] >= 100]
    running = [place.start(command, "large-orders", BROKERS=cluster.brokers) for command in ("produce", "consume")]
    running[0].until(lambda: place.books("large-orders").delivered == len(large))
    assert [service.terminate() for service in running] == [0, 0]
    found = cluster.messages("large-orders", isolation_level="read_committed")
    assert sorted((json.loads(message.value() or b"") for message in found), key=lambda order: order["n"]) == large
    assert {message.key() for message in found} == {b"%d" % order["customer"] for order in large}
    assert place.books("large-orders").filtered == 10


def test_the_example_passes_orders_from_kafka_to_sqs(place: Place, cluster: KafkaCluster) -> None:
    place.example("kafka-to-sqs")
    orders = sent(cluster)
    name = f"orders-{os.getpid()}.fifo"
    with MotoServer() as server:
        url = server.client("sqs").create_queue(QueueName=name, Attributes={"FifoQueue": "true"})["QueueUrl"]
        environ = {**server.environ, "BROKERS": cluster.brokers, "QUEUE": url}
        running = [place.start(command, "orders", **environ) for command in ("produce", "consume")]
        running[0].until(lambda: place.books("orders").delivered == len(orders))
        assert [service.terminate() for service in running] == [0, 0]
    messages = sqs_backends[DEFAULT_ACCOUNT_ID][REGION].queues[name].messages
    found = [json.loads(message.body) for message in messages]
    assert sorted(found, key=lambda order: order["n"]) == orders
    assert all(message.group_id == str(order["customer"]) for message, order in zip(messages, found, strict=True))
