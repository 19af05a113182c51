"""The kafka sink keeps the sink contract, and its own claims.

librdkafka's cluster shows what was not committed to every reader and aborts nothing, so what rests on that, a process
killed in the midst of a transaction, can't be seen on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import pytest
from confluent_kafka import KafkaError, Message
from pydantic import ValidationError

from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.kafka import KafkaSink
from millrace_consumer.sinks.kafkanotes import Written
from millrace_consumer.sinks.kafkasession import KafkaSession, Unwritable
from millrace_pipeline.errors import ConfigError
from tests.contracts.sink_contract import SinkContract
from tests.contracts.sink_records import batch_of, bulk
from tests.kafka_cluster import PRODUCE, KafkaCluster

ADD_PARTITIONS_TO_TXN = 24
SESSION = "20261121T013000Z-0123456789"


@cache
def cluster() -> KafkaCluster:
    """One cluster for the module; each test has a topic of its own there."""
    return KafkaCluster().__enter__()


@cache
def topic_of(name: object, partitions: int = 1) -> str:
    """The topic of a test or a destination, with its notes beside it."""
    topic = blake2b(str(name).encode(), digest_size=8).hexdigest()
    cluster().create_topic(topic, partitions)
    cluster().create_topic(f"{topic}.ledger", 1)
    return topic


class TestKafkaSink(SinkContract):
    sink = "millrace_consumer.sinks.kafka:KafkaSink"
    kill_points: ClassVar[tuple[str, ...]] = ("sink.after_write",)

    def options(self, destination: Path) -> dict[str, Any]:
        return {"brokers": cluster().brokers, "topic": topic_of(destination), "timeout": "30s"}

    def read_back(self, destination: Path) -> list[Any]:
        return values(topic_of(destination))

    @contextmanager
    def full(self, destination: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
        """Notes that nobody may write, which shows before a message is sent."""
        notes = f"{topic_of(destination)}.ledger"

        def free() -> None:
            cluster().refuse_topic(notes, 0)

        cluster().refuse_topic(notes, KafkaError.TOPIC_AUTHORIZATION_FAILED)
        try:
            yield destination, free
        finally:
            free()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return topic_of(request.node.nodeid)


def sink(topic: str, **options: Any) -> KafkaSink:
    return KafkaSink.model_validate({"brokers": cluster().brokers, "topic": topic, "timeout": 30, **options})


def messages(topic: str) -> list[Message]:
    return cluster().messages(topic, fetch_wait_max_ms=10)


def values(topic: str) -> list[Any]:
    return [json.loads(message.value() or b"") for message in messages(topic)]


def notes(topic: str) -> str:
    return (messages(f"{topic}.ledger")[-1].value() or b"").decode()


# -- once -------------------------------------------------------------------------------------------------------------


def test_who_takes_a_batch_over_finds_by_the_notes_what_its_former_holder_had_committed(topic: str) -> None:
    first, second = sink(topic), sink(topic)
    for number in (1, 2, 4):
        first.write(batch_of(f"{SESSION}-{number:06d}", [{"n": number}]))
    for number in (2, 3, 4):
        second.write(batch_of(f"{SESSION}-{number:06d}", [{"n": number}]))
    assert values(topic) == [{"n": 1}, {"n": 2}, {"n": 4}, {"n": 3}]
    assert notes(topic) == "1-4"
    assert [second.has_batch(f"{SESSION}-{number:06d}") for number in (4, 5)] == [True, False]
    first.close()
    second.close()


def test_a_producer_that_was_fenced_by_who_took_over_is_made_anew_and_reads_the_notes_again(topic: str) -> None:
    first, second = sink(topic), sink(topic)
    first.write(batch_of(f"{SESSION}-000001", [{"n": 1}]))
    second.write(batch_of(f"{SESSION}-000002", [{"n": 2}]))
    cluster().fail_next(ADD_PARTITIONS_TO_TXN, KafkaError.PRODUCER_FENCED)  # as a cluster does now by itself
    with pytest.raises(SinkUnavailable, match="fenced"):
        first.write(batch_of(f"{SESSION}-000003", [{"n": 3}]))
    for number in (2, 3):
        first.write(batch_of(f"{SESSION}-{number:06d}", [{"n": number}]))
    assert values(topic) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert notes(topic) == "1-3"


def test_each_session_has_notes_of_its_own_and_so_has_each_half_of_a_batch(topic: str) -> None:
    kafka = sink(topic)
    names = [f"{session}-000001{half}" for session in ("s", "t", "u") for half in ("", "a", "ab")]
    for name in names * 2:  # three sessions, of which the sink keeps two open
        kafka.write(batch_of(name, [{"name": name}]))
    assert values(topic) == [{"name": name} for name in names]
    assert not sink(topic).has_batch("s-000001b")


def test_however_many_batches_are_written_a_note_stays_short() -> None:
    written = Written()
    for number in [*range(1, 5000), *range(5001, 9000)]:
        written = written.with_(f"s-{number:06d}")
    written = written.with_("s-005000ab").with_("s-009001")
    assert str(written) == "1-4999,5001-8999,9001,5000ab"
    again = Written(str(written))
    assert "s-000777" in again
    assert "s-005000ab" in again
    assert "s-005000" not in again
    assert "s-005000a" not in again
    assert str(again.with_("s-005000")) == "1-8999,9001,5000ab"


def test_a_cluster_that_is_away_makes_it_unavailable_until_it_is_back(topic: str) -> None:
    with KafkaCluster() as away:
        for name in ("out", "out.ledger"):
            away.create_topic(name, 1)
        kafka = KafkaSink(brokers=away.brokers, topic="out", timeout=1)
        kafka.write(batch_of("s-000001", bulk(5, 10)))
        away.go_down()
        for _ in range(2):
            with pytest.raises(SinkUnavailable, match="Kafka"):
                kafka.write(batch_of("s-000002", bulk(5, 10)))
        away.come_up()
        patient = KafkaSink(brokers=away.brokers, topic="out", timeout=60)
        patient.write(batch_of("s-000002", bulk(5, 10)))
        assert len(away.messages("out")) == 10
        patient.close()
        kafka.close()


def test_notes_that_may_not_be_written_are_named_with_the_mend(topic: str) -> None:
    cluster().refuse_topic(f"{topic}.ledger", KafkaError.UNKNOWN_TOPIC_OR_PART)
    with pytest.raises(SinkUnavailable, match=rf"{topic}\.ledger: .*create it, with one partition"):
        sink(topic).write(batch_of("s-000001", bulk(1)))


# -- messages ---------------------------------------------------------------------------------------------------------


def test_the_key_of_a_message_is_the_record_s_id_or_a_field(topic: str) -> None:
    records = [{"a": "x"}, {"a": 7}, {"a": None}, {"a": [1]}, {}]
    sink(topic).write(batch_of("s-000001", records))
    sink(topic, key="/a").write(batch_of("s-000002", records))
    found = [message.key() for message in messages(topic)]
    assert found[:5] == [b"s-000001-%d" % index for index in range(5)]
    assert found[5:] == [b"x", b"7", None, b"[1]", None]


def test_records_of_one_key_are_in_one_partition_in_their_order() -> None:
    topic = topic_of("records of one key", partitions=4)
    sink(topic, key="k").write(batch_of("s-000001", [{"k": f"{n % 10}", "n": n} for n in range(200)]))
    places: dict[bytes | None, set[int | None]] = {}
    numbers: dict[bytes | None, list[int]] = {}
    for message in messages(topic):
        places.setdefault(message.key(), set()).add(message.partition())
        numbers.setdefault(message.key(), []).append(json.loads(message.value() or b"")["n"])
    assert all(len(found) == 1 for found in places.values())
    assert len(set().union(*places.values())) > 1
    assert all(found == sorted(found) for found in numbers.values())


def test_a_message_that_is_too_large_is_named_before_anything_is_written(topic: str) -> None:
    with pytest.raises(RecordsRejected) as rejection:
        sink(topic, config={"message.max.bytes": 10_000}).write(
            batch_of("s-000001", [{"t": "x"}, {"t": "x" * 10_000}, {"t": "y"}])
        )
    assert list(rejection.value.reasons) == [1]
    assert "message.max.bytes is 10,000" in rejection.value.reasons[1]
    assert values(topic) == []


def test_what_the_cluster_refuses_is_named_after_each_was_offered_by_itself(topic: str) -> None:
    kafka = sink(topic)
    kafka.write(batch_of("s-000001", bulk(1)))
    cluster().fail_next(PRODUCE, *[KafkaError.MSG_SIZE_TOO_LARGE] * 20)
    with pytest.raises(RecordsRejected, match="too large") as rejection:
        kafka.write(batch_of("s-000002", bulk(3, 10)))
    cluster().clear_failures(PRODUCE)
    assert sorted(rejection.value.reasons) == [0, 1, 2]
    kafka.write(batch_of("s-000002", [{"n": 1}]))
    assert (notes(topic), values(topic)[-1]) == ("1-2", {"n": 1})


def test_of_messages_that_were_refused_together_those_to_blame_are_found(topic: str) -> None:
    session = KafkaSession.open(sink(topic), "s")
    cluster().fail_next(PRODUCE, KafkaError.NO_ERROR, KafkaError.INVALID_RECORD, KafkaError.NO_ERROR)
    with pytest.raises(Unwritable) as refusal:
        session._narrow([2, 5, 7], [(None, b"%d" % n) for n in range(9)])
    assert list(refusal.value.reasons) == [5]
    session._narrow([2, 5, 7], [(None, b"%d" % n) for n in range(9)])
    session.close()


def test_envelopes_are_written_whole_when_asked(topic: str) -> None:
    sink(topic, envelope=True, ledger=f"{topic}.ledger").write(batch_of("s-000001", [{"n": 1}]))
    (envelope,) = values(topic)
    assert (envelope["specversion"], envelope["id"], envelope["data"]) == ("1.0", "s-000001-0", {"n": 1})


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transactional.id", "bootstrap.servers", "enable.idempotence", "isolation.level"])
def test_settings_that_the_promise_rests_on_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} is managed by Millrace"):
        KafkaSink(brokers="h:1", topic="t", config={name: "x"})


def test_settings_that_librdkafka_does_not_know_are_refused_when_the_flow_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"config: .*no\.such\.thing"):
        KafkaSink(brokers="h:1", topic="t", config={"no.such.thing": "s3cret"}).check(None)
    with pytest.raises(ConfigError, match="ledger"):
        KafkaSink(brokers="h:1", topic="t", ledger="t").check(None)
    KafkaSink(brokers="h:1", topic="t", config={"compression.type": "lz4"}).check(None)


def test_a_password_is_in_no_error_and_no_repr() -> None:
    config = {
        "sasl.password": "s3cret",
        "sasl.username": "me",
        "sasl.mechanism": "PLAIN",
        "security.protocol": "SASL_PLAINTEXT",
    }
    kafka = KafkaSink(brokers=cluster().brokers, topic="t", timeout=0.5, config=config)
    with pytest.raises(SinkUnavailable) as unavailable:
        kafka.write(batch_of("s-000001", bulk(1)))
    assert "s3cret" not in f"{unavailable.value!r} {kafka!r}"
