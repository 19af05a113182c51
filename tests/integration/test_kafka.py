"""Kafka as a source, by real producers: killed, stopped, held back, and dealing out the partitions among themselves."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from confluent_kafka import KafkaError

from millrace_pipeline.envelope import Record
from millrace_pipeline.errors import ConfigError, SourceRefused, SourceUnavailable
from millrace_pipeline.flows.component import Component
from millrace_producer.sources import SOURCES, kafkareading
from millrace_producer.sources.base import Source
from millrace_producer.sources.kafka import KafkaSource
from tests.conftest import eventually
from tests.kafka_cluster import KafkaCluster
from tests.services import PATIENCE, QUICKLY, Place, Service

QUICK = {
    "session.timeout.ms": 3000,
    "heartbeat.interval.ms": 100,
    "fetch.wait.max.ms": 20,
    "auto.commit.interval.ms": 20,
}
"""A group that notices a death in three seconds, and a leaving in two; what may be committed is committed at once."""


@pytest.fixture
def cluster() -> Iterator[KafkaCluster]:
    with KafkaCluster() as cluster:
        cluster.create_topic("numbers", partitions=4)
        yield cluster


def source(cluster: KafkaCluster, **options: Any) -> dict[str, Any]:
    return {"type": "kafka", "brokers": cluster.brokers, "topics": ["numbers"], "config": QUICK, **options}


def send(cluster: KafkaCluster, numbers: range) -> None:
    cluster.send("numbers", [b'{"n": %d}' % number for number in numbers], batch=7)


def envelopes(client: redis.Redis, place: Place) -> list[dict[str, Any]]:
    """Every record on the list, oldest first."""
    return [json.loads(line) for line in reversed(client.lrange(place.key_of(), 0, -1))]


def numbers(client: redis.Redis, place: Place) -> list[int]:
    return sorted(envelope["data"]["n"] for envelope in envelopes(client, place))


def until_published(place: Place, producer: Service, count: int) -> None:
    producer.until(lambda: place.books().published >= count)


class Trickle:
    """Sends numbers without end, for as long as the block lasts. `sent` is how many."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self.sent = 0
        self._cluster = cluster

    def __enter__(self) -> Trickle:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            send(self._cluster, range(self.sent, self.sent + 8))
            self.sent += 8


@pytest.mark.parametrize(
    ("group", "point"),
    [
        (None, "producer.after_publish:4"),
        ("readers", "producer.before_publish:4"),
        ("readers", "producer.after_publish:4"),
    ],
)
def test_a_producer_killed_around_a_publish_loses_no_message_and_doubles_none(
    place: Place, client: redis.Redis, cluster: KafkaCluster, point: str, group: str | None
) -> None:
    send(cluster, range(100))
    config = QUICK | {"max.partition.fetch.bytes": 1}  # many polls, so that what is not to be committed could be
    place.flow(source=source(cluster, group=group, until_empty=True, config=config))
    killed = place.produce(MILLRACE_KILLPOINT=point)
    assert killed.wait() == -signal.SIGKILL, killed.said
    assert place.books().published in (30, 40)
    again = place.produce()
    assert again.wait() == 0, again.said
    assert numbers(client, place) == list(range(100))
    assert place.books().difference == 0
    if group:
        assert sum(cluster.committed(group, "numbers").values()) == 100
        assert place.books().checkpoints == {}
    else:
        offsets = place.books().checkpoints["numbers"]
        assert offsets.keys() == {f"numbers:{partition}" for partition in range(4)}
        assert sum(offsets.values()) == 100


def test_producers_of_a_group_share_the_partitions_while_one_after_the_other_comes_goes_and_dies(
    place: Place, client: redis.Redis, cluster: KafkaCluster
) -> None:
    # What was given is published late, so that there is always something on its way when a partition is taken away.
    place.flow(source=source(cluster, group="readers"), publish={"records": 1000, "linger": "400ms"})

    def owned(producer: Service) -> set[str]:
        places: set[str] = set()
        for event in map(json.loads, producer.said.splitlines()):
            if event["event"] == "kafka_partitions_assigned":
                places |= set(event["partitions"])
            elif event["event"] in ("kafka_partitions_revoked", "kafka_partitions_lost"):
                places -= set(event["partitions"])
        return places

    def all_published() -> bool:
        return place.books().published >= trickle.sent

    with Trickle(cluster) as trickle:
        first = place.produce()
        until_published(place, first, 50)
        second = place.produce()
        second.until(lambda: len(owned(second)) == 2 and len(owned(first)) == 2)
        until_published(place, second, trickle.sent + 50)
        assert not first.events("kafka_partitions_lost")
        assert first.terminate() == 0, first.said
        second.until(lambda: len(owned(second)) == 4)
    second.until(all_published)
    assert numbers(client, place) == list(range(trickle.sent))
    (told,) = first.events("producer_done")
    assert told["published"] > 0
    revoked = first.events("kafka_partitions_revoked")
    assert [event["all_published"] for event in revoked] == [True] * len(revoked)

    third = place.produce()
    third.until(lambda: len(owned(third)) == 2)
    third.kill()
    with trickle:
        second.until(lambda: len(owned(second)) == 4)
    second.until(all_published)
    assert numbers(client, place) == list(range(trickle.sent))
    assert second.terminate() == 0, second.said
    assert sum(cluster.committed("readers", "numbers").values()) == trickle.sent


def test_sigterm_commits_what_is_on_the_list_and_leaves_the_group_at_once(
    place: Place, client: redis.Redis, cluster: KafkaCluster
) -> None:
    send(cluster, range(50))
    place.flow(source=source(cluster, group="readers"), dedupe=None)
    producer = place.produce()
    until_published(place, producer, 50)
    assert producer.terminate(QUICKLY) == 0, producer.said
    assert sum(cluster.committed("readers", "numbers").values()) == 50
    send(cluster, range(50, 60))
    again = place.produce()
    until_published(place, again, 60)
    assert numbers(client, place) == list(range(60))


def test_a_full_list_holds_the_reading_back_and_what_waits_is_not_committed(
    place: Place, client: redis.Redis, cluster: KafkaCluster
) -> None:
    send(cluster, range(2000))
    place.flow(source=source(cluster, group="readers", until_empty=True), queue={"max_ready": 100}, lease="30s")
    producer = place.produce()
    producer.await_event("producer_held_back")
    assert 100 <= place.books().ready <= 120
    producer.until(lambda: cluster.committed("readers", "numbers"))
    assert sum(cluster.committed("readers", "numbers").values()) <= place.books().published
    consumer = place.consume()
    assert producer.wait() == 0, producer.said
    consumer.until(lambda: place.books().delivered == 2000)
    place.assert_once(range(2000))


def test_without_a_group_one_producer_reads_and_another_goes_on_exactly_where_it_died(
    place: Place, client: redis.Redis, cluster: KafkaCluster
) -> None:
    place.flow(source=source(cluster))
    first = place.produce()
    first.await_event("source_opened")
    second = place.produce()
    second.await_event("producer_stands_by")
    send(cluster, range(300))
    until_published(place, first, 300)
    first.kill()
    send(cluster, range(300, 500))
    until_published(place, second, 500)
    assert numbers(client, place) == list(range(500))
    assert max(Counter(envelope["id"] for envelope in envelopes(client, place)).values()) == 1


def test_brokers_that_went_away_are_waited_for_and_the_reading_goes_on(
    place: Place, client: redis.Redis, cluster: KafkaCluster
) -> None:
    send(cluster, range(20))
    place.flow(source=source(cluster, group="readers", timeout="1s"))
    producer = place.produce(http=True)
    until_published(place, producer, 20)
    cluster.go_down()
    producer.await_event("source_failed")
    assert producer.get("/readyz")[0] == 503
    cluster.come_up()
    send(cluster, range(20, 40))
    until_published(place, producer, 40)
    assert producer.terminate() == 0, producer.said
    assert numbers(client, place) == list(range(40))


def test_an_envelope_has_place_topic_and_time_of_its_message(
    place: Place, client: redis.Redis, cluster: KafkaCluster
) -> None:
    moment = datetime(2026, 11, 21, 1, 30, 0, 123000, UTC)
    cluster.send("numbers", [b'{"n": 1.0000000000000000001}'], partition=2, timestamp=int(moment.timestamp() * 1000))
    place.flow(source=source(cluster, until_empty=True))
    assert place.produce().wait() == 0
    (line,) = client.lrange(place.key_of(), 0, -1)
    envelope = json.loads(line)
    assert (envelope["id"], envelope["type"]) == ("numbers:2:0", "numbers")
    assert envelope["time"] == "2026-11-21T01:30:00.123000Z"
    assert b'"data":{"n": 1.0000000000000000001}' in line


def read(cluster: KafkaCluster, **options: Any) -> list[Any]:
    options = {"topics": ["numbers"], "until_empty": True, "config": QUICK, **options}
    reading = KafkaSource(brokers=cluster.brokers, **options)
    return [record.data if isinstance(record, Record) else record for record in reading.read(None)]


def test_the_whole_message_holds_key_headers_offset_and_partition(cluster: KafkaCluster) -> None:
    headers = [("trace", b"abc"), ("trace", b"\xff"), ("empty", None)]
    cluster.send("numbers", [b'{"n": 1}'], partition=3, key="k\u00e9y", headers=headers, timestamp=1_790_000_000_000)
    cluster.send("numbers", [None], partition=3, key=b"\xff")
    one, tombstone = map(json.loads, read(cluster, data="message"))
    assert one == {
        "topic": "numbers",
        "partition": 3,
        "offset": 0,
        "timestamp": "2026-09-21T14:13:20Z",
        "key": "kéy",
        "headers": [["trace", "abc"], ["trace", {"base64": "/w=="}], ["empty", None]],
        "value": {"n": 1},
    }
    assert (tombstone["key"], tombstone["value"], tombstone["offset"]) == ({"base64": "/w=="}, None, 1)


def test_text_is_taken_as_text_and_what_is_none_is_set_aside(cluster: KafkaCluster) -> None:
    cluster.send("numbers", ["{kein JSON é".encode(), b"\xff"], partition=0)
    text, letter = read(cluster, format="text")
    assert json.loads(text) == "{kein JSON é"
    assert (letter.original, letter.reason) == (b"\xff", "message numbers:0:1: not UTF-8: byte 0xff at offset 0")


def test_several_topics_and_a_pattern_are_read(cluster: KafkaCluster) -> None:
    for topic in ("orders-eu", "orders-us", "other"):
        cluster.create_topic(topic, partitions=1)
        cluster.send(topic, [json.dumps(topic).encode()])
    assert sorted(map(json.loads, read(cluster, topics=["orders-eu", "other"]))) == ["orders-eu", "other"]
    assert sorted(map(json.loads, read(cluster, topics=["^orders-.*"], group="g"))) == ["orders-eu", "orders-us"]


def test_latest_begins_at_the_end_and_a_restart_goes_on_there_in_every_partition(cluster: KafkaCluster) -> None:
    send(cluster, range(40))
    reading = KafkaSource(brokers=cluster.brokers, topics=["numbers"], start="latest", config=QUICK)
    came: list[Any] = []
    thread = threading.Thread(target=lambda: came.extend(reading.read(None)), daemon=True)
    thread.start()

    def one_came() -> bool:
        cluster.send("numbers", [b'{"n": 40}'], partition=1)  # until the reading has begun nobody hears it
        return bool(came)

    eventually(one_came, PATIENCE)
    reading.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    cluster.send("numbers", [b'{"n": 41}'], partition=0)
    again = KafkaSource(brokers=cluster.brokers, topics=["numbers"], until_empty=True, config=QUICK)
    rest = list(again.read(came[0].position))
    data = [json.loads(record.data)["n"] for record in (*came, *rest) if isinstance(record, Record)]
    assert set(data) == {40, 41}
    assert data.count(41) == 1


def test_a_partition_that_is_added_is_read_too(cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafkareading, "METADATA_SECONDS", 0.0)
    cluster.create_topic("grows", partitions=1)
    cluster.send("grows", [b"1"], partition=0)
    reading = KafkaSource(brokers=cluster.brokers, topics=["grows"], config=QUICK)
    records = reading.read(None)
    assert json.loads(next(records).data) == 1  # type: ignore[union-attr]
    cluster.add_partition("grows", 2)
    cluster.send("grows", [b"2"], partition=1)
    record = next(records)
    assert isinstance(record, Record)
    assert (json.loads(record.data), record.position) == (2, {"grows:0": 1, "grows:1": 1})
    reading.close()


def test_a_topic_that_is_not_there_is_unavailable_for_it_may_come(cluster: KafkaCluster) -> None:
    cluster.refuse_topic("nowhere", KafkaError.UNKNOWN_TOPIC_OR_PART)
    for options in ({}, {"group": "g"}):
        with pytest.raises(SourceUnavailable, match=r"topic nowhere: .*Unknown topic"):
            read(cluster, topics=["nowhere"], **options)


def test_a_partition_that_is_not_there_is_named(cluster: KafkaCluster) -> None:
    with pytest.raises(SourceUnavailable, match="topic numbers has no partition 4, 9"):
        read(cluster, partitions=[0, 4, 9])


def test_the_checkpoint_of_another_source_is_refused(cluster: KafkaCluster) -> None:
    with pytest.raises(SourceRefused, match="not offsets of Kafka"):
        list(KafkaSource(brokers=cluster.brokers, topics=["numbers"]).read("an event id"))


def test_a_setting_that_librdkafka_does_not_know_is_refused_and_named(cluster: KafkaCluster) -> None:
    with pytest.raises(SourceRefused, match=r'No such configuration property: "sasl\.pasword"'):
        read(cluster, config={"sasl.pasword": "hush"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"config": {"enable.auto.commit": True}}, "enable.auto.commit is managed by Millrace"),
        ({"config": {"group.id": "x"}}, "group.id is managed by Millrace: see the option group"),
        ({"topics": ["^a"]}, "a pattern among the topics needs a group"),
        ({"topics": []}, "topics"),
        ({"partitions": [-1]}, "partitions"),
    ],
)
def test_options_that_make_no_sense_are_said_when_the_flow_is_checked(options: dict[str, Any], said: str) -> None:
    declared = {"type": "kafka", "brokers": "b:9092", "topics": ["t"], "config": {"sasl.password": "hush"}} | options
    with pytest.raises(ConfigError, match=said) as refused:
        Component.model_validate(declared).build(SOURCES, Source)
    assert "hush" not in str(refused.value)


def test_a_password_is_not_shown(cluster: KafkaCluster) -> None:
    declared = KafkaSource(brokers="b:9092", topics=["t"], config={"sasl.password": "hush"})
    assert "hush" not in repr(declared)


def test_without_the_client_library_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ConfigError, match=r"source kafka needs confluent_kafka: pip install 'millrace\[kafka\]'"):
        Component.model_validate({"type": "kafka", "brokers": "b:9092", "topics": ["t"]}).build(SOURCES, Source)


def test_the_example_puts_two_topics_into_files(place: Place, cluster: KafkaCluster) -> None:
    place.example("kafka")
    for topic in ("orders", "clicks"):
        cluster.create_topic(topic)
        cluster.send(topic, [b'{"n": %d}' % number for number in range(20)], key=topic)
    environ = {"BROKERS": cluster.brokers, "DATA": "out"}
    assert place.start("check", **environ).wait() == 0
    running = [
        place.start(command, flow, **environ) for flow in ("orders", "clicks") for command in ("produce", "consume")
    ]
    running[0].until(lambda: len(place.records("orders")) == len(place.records("clicks")) == 20)
    assert [service.terminate() for service in running] == [0] * 4
    assert place.numbers("orders") == list(range(20))
    assert sorted(record["value"]["n"] for record in place.records("clicks")) == list(range(20))
    assert {record["key"] for record in place.records("clicks")} == {"clicks"}
