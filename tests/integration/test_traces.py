"""Traces: what a receiver of OpenTelemetry's spans is sent of publishes and deliveries, over lists and deaths."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import pytest
import redis

from tests.conftest import eventually
from tests.integration.ports import refusing, swallowing
from tests.services import PATIENCE, Place, Service
from tests.span_receiver import SpanReceiver

T = TypeVar("T")

STDIN = {"type": "stdin"}
"""A source that a test hands its records to."""


@pytest.fixture
def receiver() -> Iterator[SpanReceiver]:
    with SpanReceiver() as receiver:
        yield receiver


def produce(place: Place, count: int, **environ: str) -> Service:
    """A producer that has read so many records and ended."""
    producer = place.produce(stdin=subprocess.PIPE, **environ)
    assert producer.process.stdin is not None
    with producer.process.stdin as lines:
        lines.write(b"".join(b'{"n":%d}\n' % number for number in range(count)))
    assert producer.wait() == 0, producer.said
    return producer


def consume(place: Place, **environ: str) -> Service:
    consumer = place.consume("--until-empty", **environ)
    assert consumer.wait() == 0, consumer.said
    return consumer


def at(receiver: SpanReceiver, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, **more}


def one(found: list[T]) -> T:
    (it,) = found
    return it


def test_a_delivery_links_to_the_publishes_of_its_records(place: Place, receiver: SpanReceiver) -> None:
    place.flow(source=STDIN, traces={}, batch={"records": 100})
    produce(place, 30, **at(receiver))
    published = receiver.spans("publish numbers")
    assert sum(span.attributes["millrace.published"] for span in published) == 30
    assert {span.service for span in published} == {"millrace-producer"}
    consume(place, **at(receiver))
    delivery = one(receiver.spans("deliver numbers"))
    assert {link.ids for link in delivery.links} == {span.ids for span in published}
    assert delivery.service == "millrace-consumer"
    assert delivery.attributes["messaging.destination.name"] == place.key_of()
    assert delivery.attributes["messaging.batch.message_count"] == 30
    assert delivery.attributes["millrace.attempt"] == 1
    assert (delivery.attributes["millrace.outcome"], delivery.attributes["millrace.delivered"]) == ("delivered", 30)
    waited = [link.attributes["millrace.list_seconds"] for link in delivery.links]
    assert 0 < delivery.attributes["millrace.list_seconds"] == max(waited) < PATIENCE
    assert not delivery.failed


def test_a_trace_goes_on_where_a_consumer_was_killed(place: Place, receiver: SpanReceiver) -> None:
    place.flow(source=STDIN, traces={})
    produce(place, 10, **at(receiver))
    killed = place.consume(MILLRACE_KILLPOINT="consumer.after_write", **at(receiver))
    killed.wait()
    assert not receiver.spans("deliver numbers")
    consume(place, **at(receiver))
    second = one(receiver.spans("deliver numbers"))
    assert (second.attributes["millrace.attempt"], second.attributes["millrace.outcome"]) == (2, "delivered")
    (before,) = (link for link in second.links if "millrace.attempt" in link.attributes)
    assert (before.trace_id, before.attributes["millrace.attempt"]) == (second.trace_id, 1)
    assert before.span_id != second.span_id
    assert {link.ids for link in second.links if link is not before} == {
        span.ids for span in receiver.spans("publish numbers")
    }


def test_an_attempt_that_was_only_frozen_is_what_the_next_links_to(place: Place, receiver: SpanReceiver) -> None:
    place.module(
        "import threading\ndef slowly(batch):\n    if not open('once', 'a').tell():\n"
        "        open('once', 'w').write('1')\n        threading.Event().wait()\n"
    )
    place.flow(source=STDIN, traces={}, sink={"type": "python", "function": "theirs:slowly"})
    produce(place, 10, **at(receiver))
    first = place.consume(**at(receiver))
    eventually(lambda: (place.folder / "once").exists(), PATIENCE)
    first.freeze()
    consume(place, **at(receiver))
    second = one(receiver.spans("deliver numbers"))
    (before,) = (link for link in second.links if "millrace.attempt" in link.attributes)
    assert before.attributes["millrace.attempt"] == 1
    assert before.trace_id == second.trace_id


def test_the_halves_of_a_batch_that_kills_stay_in_its_trace(place: Place, receiver: SpanReceiver) -> None:
    place.module(
        "import os\nfrom millrace_pipeline.process.span import close\n"
        "def fatal(record):\n    if record['n'] == 3:\n        close(); os._exit(9)\n    return record\n"
    )
    place.flow(source=STDIN, traces={}, max_attempts=1, transforms=["theirs:fatal"], lease="300ms")
    produce(place, 4, **at(receiver))
    while place.consume("--until-empty", **at(receiver)).wait():
        pass
    spans = receiver.spans("deliver numbers")
    assert sum(span.attributes["millrace.delivered"] for span in spans) == 3
    assert len({span.trace_id for span in spans}) == 1
    ids = {span.span_id for span in spans}
    assert len(ids) == len(spans)
    assert {link.trace_id for span in spans for link in span.links if "millrace.attempt" in link.attributes} == {
        spans[0].trace_id
    }


def test_what_is_logged_in_a_span_bears_its_ids(place: Place, receiver: SpanReceiver) -> None:
    place.module(
        "import logging\ndef told(record):\n    logging.getLogger('theirs').warning('seen')\n    return record\n"
    )
    place.flow(source=STDIN, traces={}, transforms=["theirs:told"])
    producer = produce(place, 1, MILLRACE_LOG_LEVEL="debug", **at(receiver))
    consumer = consume(place, **at(receiver))
    for service, event, span in (
        (producer, "records_published", "publish numbers"),
        (consumer, "batch_delivered", "deliver numbers"),
        (consumer, "seen", "deliver numbers"),
    ):
        sent = one(receiver.spans(span))
        logged = service.events(event)[0]
        assert (logged["trace_id"], logged["span_id"]) == sent.ids
    assert not [event for event in consumer.events("service_stopped") if "trace_id" in event]


def test_what_is_not_sampled_goes_over_the_list_as_ever(
    place: Place, receiver: SpanReceiver, client: redis.Redis
) -> None:
    place.flow(source=STDIN, traces={"sample": "0.000001%"})
    produce(place, 50, **at(receiver))
    assert not [line for line in client.lrange(place.key_of(), 0, -1) if b"traceparent" in line]
    consume(place, **at(receiver))
    assert receiver.spans() == []


def test_a_share_is_sampled_with_all_that_becomes_of_it(place: Place, receiver: SpanReceiver) -> None:
    place.flow(source=STDIN, traces={"sample": "20%"}, publish={"records": 1, "linger": 0}, batch={"records": 1})
    produce(place, 200, **at(receiver))
    published = {span.ids for span in receiver.spans("publish numbers")}
    assert 10 < len(published) < 90
    consume(place, **at(receiver))
    linked = {link.ids for span in receiver.spans("deliver numbers") for link in span.links}
    assert linked == published


def test_at_most_128_links_are_kept_of_a_delivery(place: Place, receiver: SpanReceiver) -> None:
    place.flow(source=STDIN, traces={}, publish={"records": 1, "linger": 0}, batch={"records": 1000})
    produce(place, 300, **at(receiver))
    consume(place, **at(receiver))
    delivery = one(receiver.spans("deliver numbers"))
    assert (len(delivery.links), delivery.attributes["millrace.publishes"]) == (127, 300)


def test_a_cloudevent_from_elsewhere_is_linked_to_its_own_span(
    place: Place, receiver: SpanReceiver, client: redis.Redis
) -> None:
    place.flow(traces={})
    event = {"specversion": "1.0", "id": "1", "source": "x", "type": "y", "data": {"n": 1}}
    parent = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "theirs=1"}
    odd = [{"traceparent": 7}, {"traceparent": "what?"}, {"traceparent": f"00-{'0' * 32}-{'b' * 16}-01"}, {}]
    client.lpush(place.key_of(), *(json.dumps(event | more) for more in (parent, *odd)))
    consume(place, **at(receiver))
    delivery = one(receiver.spans("deliver numbers"))
    assert [link.ids for link in delivery.links] == [("a" * 32, "b" * 16)]
    assert delivery.attributes["millrace.delivered"] == 5


def test_the_variables_of_opentelemetry_are_heeded(place: Place, receiver: SpanReceiver) -> None:
    place.flow(source=STDIN, traces={})
    produce(place, 5, **at(receiver, OTEL_TRACES_SAMPLER="always_off"))
    produce(place, 5, **at(receiver, OTEL_SDK_DISABLED="true"))
    assert receiver.spans() == []
    produce(place, 5, **at(receiver, OTEL_SERVICE_NAME="theirs"))
    assert {span.service for span in receiver.spans()} == {"theirs"}


def test_a_variable_has_all_flows_traced(place: Place, receiver: SpanReceiver) -> None:
    place.flow(source=STDIN)
    produce(place, 5, **at(receiver, MILLRACE_TRACES="100%"))
    assert one(receiver.spans()).name == "publish numbers"


@pytest.mark.parametrize("away", [refusing, swallowing])
def test_a_receiver_that_is_away_holds_nobody_up(place: Place, away: Callable[[], AbstractContextManager[int]]) -> None:
    with away() as port:
        place.flow(source=STDIN, traces={"endpoint": f"http://127.0.0.1:{port}"})
        produce(place, 200)
        consumer = consume(place, OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert len(consumer.events("batch_delivered")) == 20
    told = one(consumer.events("spans_not_sent"))
    assert told["reason"] in ("Connection refused", "no connection within 1 s", "silent for 1 s")
    assert "Traceback" not in consumer.said
    assert '"event": "Transient' not in consumer.said


@pytest.mark.parametrize("status", [302, 400, 503])
def test_a_receiver_that_refuses_is_told_of(place: Place, receiver: SpanReceiver, status: int) -> None:
    receiver.answer(status)
    place.flow(source=STDIN, traces={})
    producer = produce(place, 5, **at(receiver, OTEL_EXPORTER_OTLP_TIMEOUT="1"))
    assert str(status) in one(producer.events("spans_not_sent"))["reason"]


def test_a_sink_that_fails_is_noted_in_the_span(place: Place, receiver: SpanReceiver) -> None:
    place.module(
        "def once(batch):\n    if not open('once', 'a').tell():\n"
        "        open('once', 'w').write('1'); raise OSError('no room')\n"
    )
    place.flow(source=STDIN, traces={}, sink={"type": "python", "function": "theirs:once"})
    produce(place, 5, **at(receiver))
    consume(place, **at(receiver))
    delivery = one(receiver.spans("deliver numbers"))
    assert (delivery.events, delivery.attributes["millrace.outcome"]) == (("sink_unavailable",), "delivered")
