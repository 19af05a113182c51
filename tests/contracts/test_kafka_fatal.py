"""Every call into Kafka's client library may raise the error that ends it: that comes out as the contract's own."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient  # type: ignore[attr-defined]

from millrace_consumer.sinks import kafkasession
from millrace_consumer.sinks.base import SinkUnavailable
from millrace_consumer.sinks.kafka import KafkaSink
from millrace_producer.sources import kafkareading
from millrace_producer.sources.base import SourceUnavailable
from millrace_producer.sources.kafka import KafkaSource
from tests.contracts.sink_records import batch_of
from tests.kafka_cluster import PRODUCE, KafkaCluster

INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN, END_TXN = 22, 24, 26


def calls(module: object, client: str) -> list[str]:
    """Every method of the client that the module calls."""
    return sorted({*re.findall(rf"\b_?{client}\.(\w+)\(", inspect.getsource(module))})  # type: ignore[arg-type]


SINK_CALLS = [
    *((Producer, call) for call in calls(kafkasession, "producer")),
    *((Consumer, call) for call in calls(kafkasession, "consumer")),
    *((AdminClient, call) for call in calls(kafkasession, "admin")),
]
SOURCE_CALLS = calls(kafkareading, "consumer")
RIGHT_AFTER_A_REFUSAL = ("poll", "abort_transaction", "flush")
LEAVING = ("purge", "close")
"""What is called to let go of a client: who lets go of one that is at its end doesn't mind."""


def failing(client: type[Any], call: str) -> type[Any]:
    """The client, whose `call` raises a fatal error the first time, and goes on raising it in that client."""
    broken: list[object] = []

    def fail(self: object, *arguments: Any, **options: Any) -> Any:
        if not broken:
            broken.append(self)
        if broken[0] is self:
            raise KafkaException(KafkaError(KafkaError._FENCED, "fenced by a newer one", fatal=True))
        return getattr(client, call)(self, *arguments, **options)

    return type(client.__name__, (client,), {call: fail})


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    with KafkaCluster() as cluster:
        yield cluster


@pytest.fixture
def topic(request: pytest.FixtureRequest, cluster: KafkaCluster) -> str:
    name = re.sub(r"\W", "-", request.node.name)[-80:]
    cluster.create_topic(name, 1)
    cluster.create_topic(f"{name}.ledger", 1)
    return name


def values(cluster: KafkaCluster, topic: str) -> list[Any]:
    return [json.loads(message.value() or b"") for message in cluster.messages(topic, fetch_wait_max_ms=10)]


# -- the sink ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("client", "call"), SINK_CALLS, ids=lambda part: getattr(part, "__name__", part))
def test_a_fatal_error_of_any_call_of_the_sink_is_unavailable_and_it_begins_anew(
    cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch, client: type[Any], call: str
) -> None:
    before = KafkaSink(brokers=cluster.brokers, topic=topic, timeout=30)
    before.write(batch_of("s-000001", [{"n": 0}]))  # so that there is a note to read
    before.close()
    monkeypatch.setattr(kafkasession, client.__name__, failing(client, call))
    kafka = KafkaSink(brokers=cluster.brokers, topic=topic, timeout=30)
    batch = batch_of("s-000002", [{"n": 1}])
    if call in RIGHT_AFTER_A_REFUSAL:
        cluster.fail_next(PRODUCE, *[KafkaError.INVALID_RECORD] * 2)  # of the message, and of the note
    if call == "purge":
        kafka.write(batch)
        kafka.close()
    else:
        with pytest.raises(SinkUnavailable, match=r"fenced by a newer one"):
            kafka.write(batch)
        cluster.clear_failures(PRODUCE)
    kafka.write(batch)
    assert kafka.has_batch(batch.id)
    kafka.close()
    assert values(cluster, topic)[-1:] == [{"n": 1}]


@pytest.mark.parametrize("kind", [INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN, PRODUCE, END_TXN])
def test_whatever_the_cluster_says_that_a_producer_is_fenced_at_it_is_unavailable(
    cluster: KafkaCluster, topic: str, kind: int
) -> None:
    kafka = KafkaSink(brokers=cluster.brokers, topic=topic, timeout=30)
    if kind != INIT_PRODUCER_ID:
        kafka.write(batch_of("s-000001", [{"n": 1}]))
    fenced = KafkaError.INVALID_PRODUCER_EPOCH if kind == PRODUCE else KafkaError.PRODUCER_FENCED
    cluster.fail_next(kind, *[fenced] * 3)
    with pytest.raises(SinkUnavailable, match=r"(?i)fenced|epoch|fatal"):
        kafka.write(batch_of("s-000002", [{"n": 2}]))
    cluster.clear_failures(kind)
    kafka.write(batch_of("s-000002", [{"n": 2}]))
    assert values(cluster, topic)[-1] == {"n": 2}
    kafka.close()


# -- the source -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", SOURCE_CALLS)
def test_a_fatal_error_of_any_call_of_the_source_is_unavailable_and_it_begins_anew(
    cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(kafkareading, "Consumer", failing(Consumer, call))
    monkeypatch.setattr(kafkareading, "METADATA_SECONDS", 0 if call == "incremental_assign" else 60)
    group = call in ("subscribe", "store_offsets")
    options: dict[str, Any] = {"group": topic} if group else {}
    if call == "get_watermark_offsets":
        options["start"] = "latest"
    source = KafkaSource(
        brokers=cluster.brokers,
        topics=[topic],
        timeout=30,
        config={"session.timeout.ms": 1100, "heartbeat.interval.ms": 50, "fetch.wait.max.ms": 10},
        **options,
    )
    cluster.send(topic, [b"1", b"2"], partition=0, batch=1)
    if call in LEAVING:
        reading = source.read(None)
        assert next(reading).data == b"1"
        source.close()
    else:

        def read() -> None:
            for record in source.read(None):
                if call == "incremental_assign":
                    cluster.add_partition(topic, 2)
                source.published([record])

        with pytest.raises(SourceUnavailable, match=r"fenced by a newer one"):
            read()
    again = source.read({f"{topic}:0": 0} if call == "get_watermark_offsets" else None)
    if call == "incremental_assign":  # what was in it went with the partition that was added
        cluster.send(topic, [b"1"], partition=0)
    assert next(again).data == b"1"
    source.close()
