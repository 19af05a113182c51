"""A Kafka cluster for tests: the one inside librdkafka, which speaks the protocol over TCP to any client.

It keeps the newest 5 MB of a partition, creates topics on demand with four partitions, balances groups, checks
transactions, and can be told to misbehave. When a group's member leaves or dies, the others (and who joins next) wait
for its session timeout less a second, and who has not come back by then is out: `config` of a flow may say how long.
Python has no way to it of its own, so its C functions are called.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import signal
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, Message, Producer, TopicPartition, cimpl

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, JOIN_GROUP, HEARTBEAT = 0, 1, 2, 3, 8, 9, 11, 12
"""Kinds of requests, for `fail_next`."""

_QUIET = {"log_level": 0, "broker.address.family": "v4"}


class KafkaCluster:
    """Brokers on loopback for as long as the block lasts. `brokers` is what a client's `bootstrap.servers` wants."""

    def __init__(self, brokers: int = 1) -> None:
        self._c = _librdkafka()
        error = ctypes.create_string_buffer(512)
        conf = self._c.rd_kafka_conf_new()
        self._c.rd_kafka_conf_set(conf, b"log_level", b"0", error, len(error))
        self._client = self._c.rd_kafka_new(0, conf, error, len(error))
        assert self._client, error.value
        with _no_signals():
            self._cluster = self._c.rd_kafka_mock_cluster_new(self._client, brokers)
        assert self._cluster, "no mock cluster"
        self._c.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self._numbers = range(1, brokers + 1)
        self.brokers: str = self._c.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def __enter__(self) -> KafkaCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._c.rd_kafka_mock_cluster_destroy(self._cluster)
        self._c.rd_kafka_destroy(self._client)

    def create_topic(self, topic: str, partitions: int = 4) -> None:
        code = self._c.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, len(self._numbers))
        assert code == 0, confluent_kafka.KafkaError(code)

    def add_partition(self, topic: str, partitions: int) -> None:
        """The topic has so many partitions from now on. What was in it is gone: this cluster has no other way."""
        self._c.rd_kafka_mock_topic_delete(self._cluster, topic.encode())
        self.create_topic(topic, partitions)

    def fail_next(self, kind: int, *codes: int) -> None:
        """The next requests of this kind are answered with these error codes, `confluent_kafka.KafkaError.…`."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._c.rd_kafka_mock_push_request_errors_array(self._cluster, kind, len(codes), array)

    def clear_failures(self, kind: int) -> None:
        """Takes back what `fail_next` asked for and did not come to pass."""
        self._c.rd_kafka_mock_clear_request_errors(self._cluster, kind)

    def refuse_topic(self, topic: str, code: int) -> None:
        """From now on whoever asks for this topic gets this error code; 0 for none."""
        self._c.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), code)

    def go_down(self) -> None:
        """Every broker drops its connections and takes no new ones until `come_up`."""
        for number in self._numbers:
            self._c.rd_kafka_mock_broker_set_down(self._cluster, number)

    def come_up(self) -> None:
        for number in self._numbers:
            self._c.rd_kafka_mock_broker_set_up(self._cluster, number)

    def producer(self, **options: Any) -> Producer:
        """A client of the tests' own."""
        return Producer({"bootstrap.servers": self.brokers, **_QUIET, **options})

    def consumer(self, **options: Any) -> Consumer:
        """A client of the tests' own, in no group that anybody else is in."""
        defaults = {"group.id": "a reader of the tests", "auto.offset.reset": "earliest", "enable.auto.commit": False}
        return Consumer({"bootstrap.servers": self.brokers, **_QUIET, **defaults, **options})

    def send(self, topic: str, values: Iterable[bytes | None], *, batch: int = 10_000, **how: Any) -> None:
        """Puts these values on the topic, with `partition`, `key`, `headers` or `timestamp` as the client has them.

        A fetch gives whole batches: one that is to give a message at a time wants batches of one.
        """
        producer = self.producer(**{"batch.num.messages": batch})
        for value in values:
            while True:
                try:
                    producer.produce(topic, value, **how)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0, "not delivered"

    def messages(self, topic: str, **options: Any) -> list[Message]:
        """All that is on the topic, partition by partition; `isolation_level` and other options of the consumer."""
        consumer = self.consumer(**{name.replace("_", "."): value for name, value in options.items()})
        with contextlib.closing(consumer):
            left = {
                partition: end
                for partition in self.partitions(topic, consumer)
                for start, end in [consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)]
                if end > start
            }
            consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
            found: list[Message] = []
            while left:
                message = consumer.poll(1)
                if message is not None and not message.error():
                    found.append(message)
                for place in consumer.position([TopicPartition(topic, partition) for partition in left]):
                    if place.offset >= left[place.partition]:
                        del left[place.partition]
        return sorted(found, key=lambda message: (message.partition(), message.offset()))

    def partitions(self, topic: str, client: Any = None) -> list[int]:
        return sorted((client or self.producer()).list_topics(topic, timeout=30).topics[topic].partitions)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The offsets that a group has committed for this topic, by partition; those without one are left out."""
        with contextlib.closing(self.consumer(**{"group.id": group})) as consumer:
            places = [TopicPartition(topic, partition) for partition in self.partitions(topic, consumer)]
            return {place.partition: place.offset for place in consumer.committed(places, 30) if place.offset >= 0}


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    """Threads that begin here get no signal: one that interrupts its poll would end the cluster's, and the cluster."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@functools.cache
def _librdkafka() -> ctypes.CDLL:
    """The library that confluent-kafka brings along, found through its extension module."""
    c = ctypes.CDLL(cimpl.__file__)
    pointer, text, number, short = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int16
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ("rd_kafka_mock_topic_delete", number, [pointer, text]),
        ("rd_kafka_mock_topic_set_error", None, [pointer, text, number]),
        ("rd_kafka_mock_push_request_errors_array", None, [pointer, short, ctypes.c_size_t, pointer]),
        ("rd_kafka_mock_clear_request_errors", None, [pointer, short]),
        ("rd_kafka_mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", number, [pointer, ctypes.c_int32]),
    ):
        function = getattr(c, name)
        function.restype, function.argtypes = result, arguments
    return c


@contextlib.contextmanager
def kafka_cluster(topic: str, partitions: int = 4, brokers: int = 1) -> Iterator[KafkaCluster]:
    """A cluster that has this topic."""
    with KafkaCluster(brokers) as cluster:
        cluster.create_topic(topic, partitions)
        yield cluster
