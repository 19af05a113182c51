"""The source contract, by the Kafka source: with its offsets beside the list, and in a consumer group."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from confluent_kafka import Consumer, KafkaError

from millrace.testing import AcknowledgingSourceContract, FaultyOrigin, FaultySourceContract
from millrace_producer.sources import kafkareading
from millrace_producer.sources.kafka import KafkaSource
from tests.contracts.named_records import NamedRecords
from tests.kafka_cluster import FETCH, KafkaCluster

RECORDS: list[Any] = [
    {"n": 0, "text": "plain"},
    {"n": 1, "text": "žluťoučký 水車 🦆"},
    {"n": 2, "text": "a\u2028b\u0085c"},
    {"n": 3, "big": 2**64 - 1},
    ["a list"],
    "a string",
    None,
    {"n": 7, "text": "x" * 70_000},
    {"n": 8},
    {"n": 90, "text": "cut in half \ud83d, the other \ude00", "\udc00": 1},
]
VALUES = [
    None if record is None else json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace")
    for record in RECORDS
]


class TopicOrigin(FaultyOrigin):
    """A topic of one partition, so that the order is known."""

    def __init__(self, cluster: KafkaCluster, **options: Any) -> None:
        self.cluster = cluster
        self.expected = list(RECORDS)
        self.options = options
        self.timeout = 30.0
        self.topic = "records"
        self._fill(VALUES)

    def _fill(self, values: list[bytes | None]) -> None:
        self.cluster.create_topic(self.topic, partitions=1)
        self.cluster.send(self.topic, values, partition=0, batch=1)

    def source(self) -> KafkaSource:
        config = {
            "max.partition.fetch.bytes": 1,  # a message a request
            "fetch.error.backoff.ms": 10,
            "fetch.wait.max.ms": 10,
            "session.timeout.ms": 1100,  # this cluster lets whoever comes after us wait for one second less
            "heartbeat.interval.ms": 50,
        }
        return KafkaSource(
            brokers=self.cluster.brokers,
            topics=[self.topic],
            until_empty=True,
            timeout=self.timeout,
            config=config,
            **self.options,
        )

    def break_off(self, after: int) -> None:
        self.cluster.fail_next(FETCH, *[KafkaError.NO_ERROR] * after, KafkaError.UNKNOWN)

    def spoil(self, at: int) -> bytes:
        bad = b'{"n": NaN, "\xff'
        self.topic = "spoilt"
        self._fill([*VALUES[:at], bad, *VALUES[at:]])
        return bad

    def refuse(self) -> None:
        self.cluster.refuse_topic(self.topic, KafkaError.TOPIC_AUTHORIZATION_FAILED)

    def fall_over(self) -> None:
        self.cluster.go_down()
        self.timeout = 1.0

    def recover(self) -> None:
        self.cluster.come_up()
        self.timeout = 30.0

    def held(self) -> int:
        return len(OpenConsumer.there_are)


class OpenConsumer(Consumer):
    """Is counted until it is closed."""

    there_are: ClassVar[set[int]] = set()

    def __init__(self, *config: Any, **more: Any) -> None:
        super().__init__(*config, **more)
        self.there_are.add(id(self))

    def close(self) -> bool:
        closed = super().close()
        self.there_are.discard(id(self))
        return closed


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaCluster]:
    monkeypatch.setattr(kafkareading, "Consumer", OpenConsumer)
    OpenConsumer.there_are.clear()
    with KafkaCluster() as cluster:
        yield cluster


class TestKafkaSource(NamedRecords, FaultySourceContract):
    @pytest.fixture
    def origin(self, cluster: KafkaCluster) -> TopicOrigin:
        return TopicOrigin(cluster)


class TestKafkaSourceInAGroup(NamedRecords, AcknowledgingSourceContract):
    @pytest.fixture
    def origin(self, cluster: KafkaCluster) -> TopicOrigin:
        return TopicOrigin(cluster, group="readers")


class TestKafkaSourceOfChosenPartitions(NamedRecords, AcknowledgingSourceContract):
    @pytest.fixture
    def origin(self, cluster: KafkaCluster) -> TopicOrigin:
        return TopicOrigin(cluster, group="readers", partitions=[0])
